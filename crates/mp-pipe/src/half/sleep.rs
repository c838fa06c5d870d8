//! How a half waits, and how it ends the other side's wait.

use crate::link::Link;
use crate::ring::{Found, Ring};
use mp_core::deadline::Deadline;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// For so long whoever waits sleeps on a word in memory first, where a wake costs least; but nobody learns there that the other end has died.
/// Longer than the time between two ticks of a kernel's clock (1 to 10 ms): a shorter sleep sets the core's timer and resets it, which in a virtual
/// machine costs more than the sleep.
const DOZE: Duration = Duration::from_millis(12);

/// Sleeps at most a slice while there is `reason` to; true when the other end is gone. That is announced in `asleep`, to who was last seen on core
/// `peer`. What begins a wait, one that has not `waited` yet, is a doze.
pub(super) fn sleep_while(
    ring: &Ring,
    words: [&AtomicU32; 2],
    link: &Link,
    deadline: Deadline,
    waited: &mut bool,
    reason: impl Fn() -> bool,
) -> io::Result<bool> {
    if !std::mem::replace(waited, true) && link.may_doze() {
        let [asleep, peer] = words;
        ring.doze(asleep, peer, deadline.slice(DOZE), &reason);
        if !reason() {
            return Ok(false);
        }
    }
    sleep_until_rung(ring, words, link, deadline, reason)
}

/// Where bells are heard.
fn sleep_until_rung(
    ring: &Ring,
    [asleep, peer]: [&AtomicU32; 2],
    link: &Link,
    deadline: Deadline,
    reason: impl Fn() -> bool,
) -> io::Result<bool> {
    let mut drained = Ok(());
    // Rung for nothing: left in the socket, such bells would take the room of handles.
    if ring.may_sleep(asleep, peer, reason, || drained = link.drain()) {
        let gone = link.sleep(deadline);
        asleep.store(0, Relaxed);
        return gone;
    }
    drained.map(|()| false)
}

/// Wakes the other side if it sleeps, after something was published for it; false when it is gone.
#[inline]
pub(super) fn wake(ring: &Ring, asleep: &AtomicU32, link: &Link) -> bool {
    match ring.wake(asleep) {
        Found::Awake => true,
        Found::Asleep => link.ring(),
        Found::Nobody => !link.hung_up(),
    }
}

/// The core on which the peer was last seen.
pub(super) fn peer_core(peer: &AtomicU32) -> u32 {
    peer.load(Relaxed).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{self, Inbox};
    use crate::ring::{Direction, Table};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::Ordering::AcqRel;

    const FORMAT: mp_shm::Format = mp_shm::Format::plain(*b"TEST", 1);

    /// A ring, an end of its link, and the socket at the other.
    fn side() -> (Ring, Link, OwnedFd) {
        let (left, right) = packet::pair().unwrap();
        let memory = mp_shm::Growable::create(FORMAT, Table::Short.fixed()).unwrap();
        let ring = Ring::new(memory, mp_shm::HEADER, Direction::There, Table::Short);
        (ring, Link::new(left, Inbox::default()), right)
    }

    #[test]
    fn who_is_woken_from_a_doze_is_rung_for_by_nobody() {
        let (ring, link, right) = side();
        let asleep = ring.reader_asleep();
        let sleeping = std::cell::Cell::new(true);
        let reason = || {
            // The other side publishes before this one is on the word, and finds nobody there.
            if sleeping.replace(false) {
                assert_eq!(ring.wake(asleep), Found::Nobody);
                return true;
            }
            false
        };
        let gone =
            sleep_while(&ring, [asleep, ring.writer_core()], &link, Deadline::NEVER, &mut false, reason)
                .unwrap();
        assert!(!gone && ring.wake(asleep) == Found::Awake);
        drop(link);
        assert!(packet::hung_up(&right));
    }

    #[test]
    fn who_died_in_a_doze_is_missed_when_he_is_to_be_woken() {
        let (ring, link, right) = side();
        // Where the dead left it.
        ring.reader_asleep().store(2, Relaxed);
        assert!(wake(&ring, ring.reader_asleep(), &link));
        ring.reader_asleep().store(2, Relaxed);
        drop(right);
        assert!(!wake(&ring, ring.reader_asleep(), &link));
    }

    #[test]
    fn a_missed_wake_costs_a_doze_and_a_death_in_it_is_learnt_of_behind_it() {
        let (ring, link, right) = side();
        drop(right);
        let words = [ring.reader_asleep(), ring.writer_core()];
        // Nobody wakes.
        assert!(sleep_while(&ring, words, &link, Deadline::NEVER, &mut false, || true).unwrap());
        assert_eq!(ring.reader_asleep().load(Relaxed), 0);
    }

    #[test]
    fn bells_for_one_who_did_not_sleep_take_no_room() {
        let (ring, link, right) = side();
        let asleep = ring.reader_asleep();
        for _ in 0..1000 {
            // The other side publishes and rings between the announcement and the last look.
            let reason = || {
                assert_eq!(asleep.swap(0, AcqRel), 1);
                assert!(packet::ring_bell(&right));
                false
            };
            assert!(
                !sleep_until_rung(&ring, [asleep, ring.writer_core()], &link, Deadline::NEVER, reason)
                    .unwrap()
            );
        }
        let null = std::fs::File::open("/dev/null").unwrap();
        packet::send_handles(&right, 1, &[std::os::fd::AsFd::as_fd(&null)]).unwrap();
    }
}
