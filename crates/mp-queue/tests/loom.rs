//! Every interleaving of the state machines in `raw`: bells, and claims.
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, reason = "each machine is included whole")]

/// What the machines find in the place of the crate's own atomics.
mod sync {
    pub(crate) type AtomicU32 = loom::sync::atomic::AtomicU32;
    pub(crate) type AtomicU64 = loom::sync::atomic::AtomicU64;
}

#[path = "../src/raw/bell.rs"]
mod bell;
#[path = "../src/raw/claim.rs"]
mod claim;

use claim::{State, Words, state, ticket};
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::fence;
use loom::sync::{Arc, Mutex};
use loom::thread;
use sync::{AtomicU32, AtomicU64};

fn model(body: impl Fn() + Sync + Send + 'static) {
    loom::model(body);
}

/// A queue as its bell sees it: a count, the put lock, and the bell.
struct Line {
    lock: Mutex<()>,
    inside: AtomicU32,
    polled: AtomicU32,
    bell: AtomicU32,
}

impl Line {
    fn new() -> Arc<Line> {
        let word = || AtomicU32::new(0);
        Arc::new(Line { lock: Mutex::new(()), inside: word(), polled: word(), bell: word() })
    }

    fn ring(&self) {
        self.bell.store(1, SeqCst);
    }

    fn put(&self) {
        let _held = self.lock.lock().unwrap();
        bell::announce(&self.polled, || self.inside.load(Acquire) == 0, || self.ring());
        self.inside.fetch_add(1, Release);
    }

    /// Without the put lock, as a consumer is.
    fn get(&self) -> bool {
        self.inside.fetch_update(SeqCst, SeqCst, |inside| inside.checked_sub(1)).is_ok()
    }

    /// What a poller does between two sleeps; false when it may sleep.
    fn look(&self) -> bool {
        let _held = self.lock.lock().unwrap();
        !bell::silence(|| self.inside.load(Acquire) > 0, || self.bell.store(0, SeqCst))
    }

    fn assert_nothing_is_missed(&self) {
        assert!(
            self.inside.load(SeqCst) == 0 || self.polled.load(SeqCst) == 0 || self.bell.load(SeqCst) == 1,
            "a value is inside and the bell is silent"
        );
    }
}

#[test]
fn whoever_begins_to_poll_misses_nothing() {
    model(|| {
        let line = Line::new();
        let producer = thread::spawn({
            let line = Arc::clone(&line);
            move || line.put()
        });
        // This one may die here or there: it does nothing more.
        bell::begin(&line.polled, || line.ring());
        let _ = line.look();
        producer.join().unwrap();
        line.assert_nothing_is_missed();
    });
}

#[test]
fn a_poller_that_drains_and_is_gone_leaves_the_bell_to_others() {
    model(|| {
        let line = Line::new();
        bell::begin(&line.polled, || line.ring());
        let gone = thread::spawn({
            let line = Arc::clone(&line);
            move || _ = line.look()
        });
        let consumer = thread::spawn({
            let line = Arc::clone(&line);
            move || _ = line.get()
        });
        line.put();
        line.put();
        gone.join().unwrap();
        consumer.join().unwrap();
        line.assert_nothing_is_missed();
    });
}

/// The words of one claim, and whether a joiner was woken.
struct Slot {
    ticket: AtomicU64,
    owner: AtomicU64,
    waited: AtomicU32,
    woken: AtomicU32,
}

const ME: u64 = 7;
const OTHER: u64 = 8;

impl Slot {
    fn claimed() -> Arc<Slot> {
        let slot = Slot {
            ticket: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            waited: AtomicU32::new(0),
            woken: AtomicU32::new(0),
        };
        slot.words().claim(ME, ticket(1, 1));
        Arc::new(slot)
    }

    fn words(&self) -> Words<'_> {
        Words { ticket: &self.ticket, owner: &self.owner, waited: &self.waited }
    }

    fn settle(&self, ticket: u64) -> bool {
        self.words().settle(ME, ticket, || fence(SeqCst), || self.woken.store(1, SeqCst), || ())
    }
}

#[test]
fn a_joiner_is_woken_or_does_not_sleep() {
    model(|| {
        let slot = Slot::claimed();
        let settler = thread::spawn({
            let slot = Arc::clone(&slot);
            move || assert!(slot.settle(ticket(1, 1)))
        });
        let sleeps = slot.words().announce_sleep(|| fence(SeqCst));
        settler.join().unwrap();
        assert!(!sleeps || slot.woken.load(SeqCst) == 1, "it sleeps and nobody woke it");
    });
}

#[test]
fn a_claim_is_settled_or_given_back_once() {
    model(|| {
        let slot = Slot::claimed();
        let others = [0, 1].map(|which| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                if which == 0 { slot.settle(ticket(1, 1)) } else { slot.words().give_back(ticket(1, 1)) }
            })
        });
        let [settled, returned] = others.map(|other| other.join().unwrap());
        assert!(settled != returned);
        let expected = if settled { State::Free } else { State::Returned };
        assert_eq!(state(slot.ticket.load(SeqCst)), expected);
    });
}

#[test]
fn an_old_ticket_settles_no_newer_claim() {
    model(|| {
        let slot = Slot::claimed();
        // Settled twice by one process: by its token and in its turn. Meanwhile the place is claimed for another message.
        let again = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.settle(ticket(1, 1))
        });
        let settled = slot.settle(ticket(1, 1));
        if settled {
            slot.words().claim(ME, ticket(2, 1));
        }
        let again = again.join().unwrap();
        assert!(settled != again);
        if settled {
            assert_eq!(slot.ticket.load(SeqCst), ticket(2, 1));
        }
    });
}

#[test]
fn who_claims_what_was_given_back_sees_whose_it_was_and_its_bytes() {
    model(|| {
        let slot = Slot::claimed();
        let bytes = Arc::new(AtomicU32::new(0));
        let giver = thread::spawn({
            let (slot, bytes) = (Arc::clone(&slot), Arc::clone(&bytes));
            move || {
                bytes.store(5, Relaxed);
                assert!(slot.words().give_back(ticket(1, 1)));
            }
        });
        // Under the get lock.
        if state(slot.words().ticket()) == State::Returned {
            assert_eq!(bytes.load(Relaxed), 5);
            slot.words().claim(OTHER, ticket(1, 2));
            assert!(!slot.settle(ticket(1, 1)), "the old owner's");
        }
        giver.join().unwrap();
    });
}
