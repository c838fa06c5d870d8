//! Every state machine in every interleaving: no wake is missed, nothing is given twice, no news is lost.
//!
//! The machines are compiled here a second time, on loom's atomics and a futex of the models' own (`loom/sync.rs`). A sleep lasts until
//! a wake, so a wake that is missing is a deadlock, which loom reports. Whoever dies in a model just stops there.

#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "loom/owner.rs"]
mod owner;
#[path = "loom/raw.rs"]
mod raw;

use loom::sync::{Arc, Mutex};
use loom::thread;
use raw::done::Done;
use raw::flag::{Bell, Flag};
use raw::gate::Gate;
use raw::meeting::{Meeting, Met};
use raw::permits::Permits;
use raw::shares::Shares;
use raw::sync::{AtomicU32, AtomicU64, Watch};
use raw::table::ABSENT;
use raw::tickets::Tickets;
use raw::turn::Turn;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

const ONE: u64 = 1;
const TWO: u64 = 2;
const THREE: u64 = 3;

fn word(value: u64) -> AtomicU64 {
    AtomicU64::new(value)
}

// ---- gate and permits

struct Seats {
    gate: AtomicU32,
    used: AtomicU32,
    words: [AtomicU64; 2],
    /// What a permit guards.
    inside: AtomicU32,
}

impl Seats {
    /// With `free` permits of two.
    fn new(free: u32) -> Arc<Seats> {
        let state = |place: u32| word(if place < free { 0 } else { ABSENT });
        Arc::new(Seats {
            gate: AtomicU32::new(0),
            used: AtomicU32::new(free),
            words: [state(0), state(1)],
            inside: AtomicU32::new(0),
        })
    }

    fn permits<'a>(&'a self) -> Permits<'a, impl Fn(usize) -> &'a AtomicU64> {
        Permits::new(Gate(&self.gate), &self.used, 2, |place| &self.words[place])
    }

    fn acquire(&self, me: u64) -> usize {
        self.permits().acquire(me, 0, Watch::default(), |_| true).unwrap()
    }

    fn give_back(&self, place: usize, me: u64) -> bool {
        let owed = self.permits().give_back(place, me);
        owed.map(|owed| Gate(&self.gate).wake(owed)).is_some()
    }

    fn add(&self) -> bool {
        self.permits().add().map(|owed| Gate(&self.gate).wake(owed)).is_some()
    }
}

#[test]
fn one_permit_is_one_and_no_waiter_is_forgotten() {
    loom::model(|| {
        let seats = Seats::new(1);
        let others: Vec<_> = [ONE, TWO]
            .map(|me| {
                let seats = Arc::clone(&seats);
                thread::spawn(move || {
                    let place = seats.acquire(me);
                    assert_eq!(seats.inside.fetch_add(1, SeqCst), 0, "two inside");
                    seats.inside.fetch_sub(1, SeqCst);
                    assert!(seats.give_back(place, me));
                })
            })
            .into_iter()
            .collect();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(seats.permits().table().free(), 1);
    });
}

#[test]
fn two_who_sleep_get_the_two_that_are_added() {
    loom::model(|| {
        let seats = Seats::new(0);
        let others = [ONE, TWO].map(|me| {
            let seats = Arc::clone(&seats);
            thread::spawn(move || seats.acquire(me))
        });
        assert!(seats.add() && seats.add());
        let places = others.map(|other| other.join().unwrap());
        assert_ne!(places[0], places[1]);
        assert!(!seats.add(), "there is room for two");
    });
}

#[test]
fn a_permit_of_the_dead_comes_back_once() {
    loom::model(|| {
        let seats = Seats::new(1);
        // The dead one has it.
        seats.acquire(THREE);
        let others = [ONE, TWO].map(|me| {
            let seats = Arc::clone(&seats);
            thread::spawn(move || seats.permits().acquire(me, 0, Watch::impatient(), |who| who != THREE))
        });
        let got = others.map(|other| other.join().unwrap());
        assert!(got.iter().flatten().count() == 1, "{got:?}");
    });
}

// ---- flag

struct Lamp {
    word: AtomicU32,
    bell: Ringing,
    pollers: Mutex<()>,
    said: AtomicU32,
}

/// The kernel's counter, which the kernel changes under a lock.
struct Ringing(Mutex<bool>);

impl Bell for Ringing {
    fn ring(&self) {
        *self.0.lock().unwrap() = true;
    }

    fn hush(&self) {
        *self.0.lock().unwrap() = false;
    }

    fn rings(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

impl Lamp {
    fn new() -> Arc<Lamp> {
        let (word, said) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Lamp { word, bell: Ringing(Mutex::new(false)), pollers: Mutex::new(()), said })
    }

    fn flag(&self) -> Flag<'_, Ringing> {
        Flag::new(&self.word, &self.bell)
    }

    fn poll(&self) {
        let _alone = self.pollers.lock().unwrap();
        self.flag().poll_from_now_on();
    }
}

#[test]
fn a_set_wakes_all_and_shows_what_was_written_before() {
    loom::model(|| {
        let lamp = Lamp::new();
        let waiters = [(); 2].map(|()| {
            let lamp = Arc::clone(&lamp);
            thread::spawn(move || {
                let first = lamp.flag().look();
                assert!(lamp.flag().wait(first, Watch::default()));
                assert_eq!(lamp.said.load(Relaxed), 7);
            })
        });
        lamp.said.store(7, Relaxed);
        lamp.flag().set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn a_set_that_is_cleared_at_once_is_missed_by_nobody_who_waits() {
    loom::model(|| {
        let lamp = Lamp::new();
        let first = lamp.flag().look();
        let waiter = thread::spawn({
            let lamp = Arc::clone(&lamp);
            move || assert!(lamp.flag().wait(first, Watch::default()))
        });
        lamp.flag().set();
        lamp.flag().clear();
        waiter.join().unwrap();
        assert!(!lamp.flag().is_set());
    });
}

#[test]
fn becoming_pollable_loses_no_set_and_no_clear() {
    loom::model(|| {
        let lamp = Lamp::new();
        let poller = thread::spawn({
            let lamp = Arc::clone(&lamp);
            move || lamp.poll()
        });
        let setter = thread::spawn({
            let lamp = Arc::clone(&lamp);
            move || lamp.flag().set()
        });
        poller.join().unwrap();
        setter.join().unwrap();
        assert!(lamp.flag().is_set() && lamp.bell.rings());
        lamp.flag().clear();
        assert!(!lamp.flag().is_set() && !lamp.bell.rings());
    });
}

#[test]
fn a_clear_while_it_becomes_pollable_is_a_clear() {
    loom::model(|| {
        let lamp = Lamp::new();
        lamp.flag().set();
        let poller = thread::spawn({
            let lamp = Arc::clone(&lamp);
            move || lamp.poll()
        });
        lamp.flag().clear();
        lamp.poll();
        poller.join().unwrap();
        assert!(!lamp.flag().is_set() && !lamp.bell.rings());
    });
}

#[test]
fn a_waiter_by_the_word_is_woken_by_a_set_of_a_polled_one() {
    loom::model(|| {
        let lamp = Lamp::new();
        let first = lamp.flag().look();
        let waiter = thread::spawn({
            let lamp = Arc::clone(&lamp);
            move || assert!(lamp.flag().wait(first, Watch::default()))
        });
        lamp.poll();
        lamp.flag().set();
        waiter.join().unwrap();
    });
}

// ---- condition

struct Line {
    number: AtomicU64,
    used: AtomicU32,
    owners: [AtomicU64; 2],
    states: [AtomicU64; 2],
    bells: [AtomicU32; 2],
    lock: Mutex<bool>,
}

impl Line {
    fn new() -> Arc<Line> {
        Arc::new(Line {
            number: word(0),
            used: AtomicU32::new(0),
            owners: [word(0), word(0)],
            states: [word(0), word(0)],
            bells: [AtomicU32::new(0), AtomicU32::new(0)],
            lock: Mutex::new(false),
        })
    }

    fn tickets<'a>(
        &'a self,
    ) -> Tickets<
        'a,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU32,
    > {
        Tickets {
            number: &self.number,
            used: &self.used,
            most: 2,
            owner: |place: usize| &self.owners[place],
            state: |place: usize| &self.states[place],
            bell: |place: usize| &self.bells[place],
        }
    }

    fn await_mark(&self, place: usize, me: u64, mut watch: Watch<'_>, alive: impl Fn(u64) -> bool) -> bool {
        loop {
            match self.tickets().ended(place, me, &mut watch, &alive) {
                Ok(notified) => return notified,
                Err(rung) => watch.sleep((self.tickets().bell)(place), rung),
            }
        }
    }

    /// Waits until the lock's value is true.
    fn wait(&self, me: u64) {
        let mut ready = self.lock.lock().unwrap();
        while !*ready {
            let place = self.tickets().enlist(me).unwrap();
            drop(ready);
            assert!(self.await_mark(place, me, Watch::default(), |_| true));
            self.tickets().free(place);
            ready = self.lock.lock().unwrap();
        }
    }
}

#[test]
fn who_waits_under_the_lock_is_told_of_the_change() {
    loom::model(|| {
        let line = Line::new();
        let waiters = [ONE, TWO].map(|me| {
            let line = Arc::clone(&line);
            thread::spawn(move || line.wait(me))
        });
        *line.lock.lock().unwrap() = true;
        line.tickets().notify(usize::MAX);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(line.tickets().taken(), 0);
    });
}

#[test]
fn one_notification_wakes_one_and_one_out_of_time_passes_none_by() {
    loom::model(|| {
        let line = Line::new();
        let patient = line.tickets().enlist(ONE).unwrap();
        let impatient = line.tickets().enlist(TWO).unwrap();
        let other = thread::spawn({
            let line = Arc::clone(&line);
            move || line.await_mark(impatient, TWO, Watch::impatient(), |_| true)
        });
        line.tickets().notify(1);
        // The longest waits for certain, and one mark was given.
        assert!(line.await_mark(patient, ONE, Watch::default(), |_| true));
        assert!(!other.join().unwrap());
    });
}

#[test]
fn a_mark_of_the_dead_goes_to_the_living() {
    loom::model(|| {
        let line = Line::new();
        // The dead one waited longest.
        line.tickets().enlist(THREE).unwrap();
        let living = line.tickets().enlist(ONE).unwrap();
        let notifier = thread::spawn({
            let line = Arc::clone(&line);
            move || line.tickets().notify(1)
        });
        let alive = |who| who != THREE;
        assert!(line.await_mark(living, ONE, Watch::watchful(), alive));
        notifier.join().unwrap();
    });
}

#[test]
fn a_ticket_that_changes_hands_while_its_bell_is_rung_wakes_its_new_owner() {
    loom::model(|| {
        let line = Line::new();
        let first = line.tickets().enlist(ONE).unwrap();
        let notifier = thread::spawn({
            let line = Arc::clone(&line);
            move || line.tickets().notify(1)
        });
        // Out of time, or marked this very moment; then somebody else takes the same ticket, and falls asleep on its bell.
        line.await_mark(first, ONE, Watch::impatient(), |_| true);
        line.tickets().free(first);
        let second = line.tickets().enlist(TWO).unwrap();
        let waiter = thread::spawn({
            let line = Arc::clone(&line);
            move || assert!(line.await_mark(second, TWO, Watch::default(), |_| true))
        });
        line.tickets().notify(usize::MAX);
        waiter.join().unwrap();
        notifier.join().unwrap();
    });
}

// ---- barrier

struct Hall {
    gate: AtomicU32,
    turn: AtomicU64,
    owners: [AtomicU64; 2],
    numbers: [AtomicU64; 2],
    registered: [AtomicU64; 2],
    looked: AtomicU64,
    arriving: Mutex<()>,
    done: AtomicU32,
}

impl Hall {
    fn new() -> Arc<Hall> {
        Arc::new(Hall {
            gate: AtomicU32::new(0),
            turn: word(Turn(0).passed().0),
            owners: [word(0), word(0)],
            numbers: [word(0), word(0)],
            registered: [word(0), word(0)],
            looked: word(0),
            arriving: Mutex::new(()),
            done: AtomicU32::new(0),
        })
    }

    fn meeting<'a>(
        &'a self,
    ) -> Meeting<
        'a,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
        impl Fn(usize) -> &'a AtomicU64,
    > {
        Meeting {
            gate: Gate(&self.gate),
            turn: &self.turn,
            parties: 2,
            owner: |place: usize| &self.owners[place],
            number: |place: usize| &self.numbers[place],
            registration: |place: usize| &self.registered[place],
            looked: |_| &self.looked,
        }
    }

    fn arrive(&self, me: u64) -> Option<(u64, usize)> {
        loop {
            let turn = self.meeting().now();
            if turn.mode() == raw::turn::Mode::Broken {
                return None;
            }
            let _alone = self.arriving.lock().unwrap();
            if let Some(place) = self.meeting().take_place(turn, false, me) {
                return Some((turn.number(), place));
            }
        }
    }

    fn wait(&self, me: u64, watch: Watch<'_>) -> Option<(usize, Met)> {
        let (number, place) = self.arrive(me)?;
        Some((place, self.meeting().await_ending(number, place, me, watch, |who| who != THREE)))
    }
}

#[test]
fn nobody_passes_before_all_have_come_and_all_pass_then() {
    loom::model(|| {
        let hall = Hall::new();
        let other = thread::spawn({
            let hall = Arc::clone(&hall);
            move || {
                hall.done.fetch_add(1, Relaxed);
                let passed = hall.wait(ONE, Watch::default()).unwrap();
                assert_eq!(hall.done.load(Relaxed), 2);
                passed
            }
        });
        hall.done.fetch_add(1, Relaxed);
        let own = hall.wait(TWO, Watch::default()).unwrap();
        assert_eq!(hall.done.load(Relaxed), 2);
        let other = other.join().unwrap();
        assert_eq!((own.1, other.1, own.0 + other.0), (Met::Passed, Met::Passed, 1));
    });
}

#[test]
fn one_out_of_time_and_one_who_comes_agree_how_the_turn_ended() {
    loom::model(|| {
        let hall = Hall::new();
        let late = thread::spawn({
            let hall = Arc::clone(&hall);
            move || hall.wait(ONE, Watch::default())
        });
        let own = hall.wait(TWO, Watch::impatient()).unwrap().1;
        let late = late.join().unwrap().map(|(_, met)| met);
        match own {
            Met::Passed => assert_eq!(late, Some(Met::Passed)),
            _ => assert!(matches!(late, None | Some(Met::Broken)), "{own:?} {late:?}"),
        }
    });
}

#[test]
fn an_abort_and_a_last_arrival_agree_how_the_turn_ended() {
    loom::model(|| {
        let hall = Hall::new();
        let (number, place) = hall.arrive(ONE).unwrap();
        let last = thread::spawn({
            let hall = Arc::clone(&hall);
            move || hall.wait(TWO, Watch::default()).map(|(_, met)| met)
        });
        hall.meeting().change(Turn::broken);
        let own = hall.meeting().await_ending(number, place, ONE, Watch::default(), |_| true);
        let last = last.join().unwrap();
        match own {
            Met::Passed => assert_eq!(last, Some(Met::Passed)),
            _ => assert!(matches!(last, None | Some(Met::Broken)), "{own:?} {last:?}"),
        }
    });
}

#[test]
fn a_dead_party_breaks_the_turn() {
    loom::model(|| {
        let hall = Hall::new();
        hall.registered[1].store(THREE, Relaxed);
        let breaker = thread::spawn({
            let hall = Arc::clone(&hall);
            move || hall.meeting().change(Turn::broken)
        });
        let met = hall.wait(ONE, Watch::watchful()).map(|(_, met)| met);
        assert!(matches!(met, None | Some(Met::Broken)));
        breaker.join().unwrap();
    });
}

#[test]
fn a_look_that_was_claimed_and_not_done_falls_to_another() {
    loom::model(|| {
        let hall = Hall::new();
        hall.registered[1].store(THREE, Relaxed);
        let claimant = thread::spawn({
            let hall = Arc::clone(&hall);
            // He goes no further.
            move || hall.meeting().claim(0, 1001).is_ok()
        });
        let met = hall.wait(ONE, Watch::watchful()).map(|(_, met)| met);
        assert_eq!(met, Some(Met::Broken));
        claimant.join().unwrap();
    });
}

// ---- readers and writers

struct Book {
    gate: AtomicU32,
    used: AtomicU32,
    owners: [AtomicU64; 2],
    depths: [AtomicU64; 2],
    mutex: Mutex<()>,
    /// Two words that are equal while nobody writes.
    pages: [AtomicU32; 2],
}

impl Book {
    fn new() -> Arc<Book> {
        Arc::new(Book {
            gate: AtomicU32::new(0),
            used: AtomicU32::new(0),
            owners: [word(0), word(0)],
            depths: [word(0), word(0)],
            mutex: Mutex::new(()),
            pages: [AtomicU32::new(0), AtomicU32::new(0)],
        })
    }

    fn shares<'a>(&'a self) -> Shares<'a, impl Fn(usize) -> &'a AtomicU64, impl Fn(usize) -> &'a AtomicU64> {
        Shares {
            gate: Gate(&self.gate),
            used: &self.used,
            most: 2,
            owner: |place: usize| &self.owners[place],
            depth: |place: usize| &self.depths[place],
        }
    }

    fn read(&self, me: u64) {
        let guard = self.mutex.lock().unwrap();
        let place = self.shares().take(me, 1, |_| true).unwrap();
        drop(guard);
        assert_eq!(self.pages[0].load(Relaxed), self.pages[1].load(Relaxed), "read while it was written");
        self.shares().give_back(place);
    }

    fn write(&self, watch: Watch<'_>) {
        let _guard = self.mutex.lock().unwrap();
        assert!(self.shares().await_none(watch, |who| who != THREE));
        for page in &self.pages {
            page.store(page.load(Relaxed) + 1, Relaxed);
        }
    }
}

#[test]
fn a_writer_has_it_alone_and_is_told_when_the_last_reader_leaves() {
    loom::model(|| {
        let book = Book::new();
        let readers = [ONE, TWO].map(|me| {
            let book = Arc::clone(&book);
            thread::spawn(move || book.read(me))
        });
        book.write(Watch::default());
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_share_of_the_dead_does_not_keep_a_writer_out() {
    loom::model(|| {
        let book = Book::new();
        book.shares().take(THREE, 1, |_| true).unwrap();
        let reader = thread::spawn({
            let book = Arc::clone(&book);
            move || book.read(ONE)
        });
        book.write(Watch::watchful());
        reader.join().unwrap();
    });
}

// ---- once

#[test]
fn it_is_done_once_and_seen_by_who_finds_it_done() {
    loom::model(|| {
        let state = Arc::new((AtomicU32::new(0), Mutex::new(()), AtomicU32::new(0)));
        let call = |state: &(AtomicU32, Mutex<()>, AtomicU32)| {
            let (word, mutex, effect) = state;
            if !Done(word).is_done() {
                let _running = mutex.lock().unwrap();
                Done(word).run(|| effect.store(effect.load(Relaxed) + 1, Relaxed));
            }
            assert_eq!(effect.load(Relaxed), 1);
        };
        let others = [(); 2].map(|()| {
            let state = Arc::clone(&state);
            thread::spawn(move || call(&state))
        });
        call(&state);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}
