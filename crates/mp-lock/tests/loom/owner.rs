//! The owner's word of a mutex: taken and given back here, waited for as in the C library, left by the dead as the kernel leaves it.

use super::raw::owner;
use super::raw::sync::{AtomicU32, Watch, wake};
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// The word, and a number that whoever owns it adds to in two steps.
struct Owned {
    word: AtomicU32,
    inside: AtomicU32,
}

impl Owned {
    fn new() -> Arc<Owned> {
        Arc::new(Owned { word: AtomicU32::new(0), inside: AtomicU32::new(0) })
    }

    /// As the C library acquires a mutex that may be contended; whether its owner died.
    fn sleep_until_ours(&self, me: u32) -> bool {
        let (mut now, mut others) = (self.word.load(Relaxed), 0);
        loop {
            if now & owner::TID_MASK == 0 {
                let mine = me | now & owner::WAITERS | others;
                match self.word.compare_exchange(now, mine, SeqCst, Relaxed) {
                    Ok(_) => return now & owner::OWNER_DIED != 0,
                    Err(found) => now = found,
                }
                continue;
            }
            let waited_for = now | owner::WAITERS;
            if now != waited_for
                && let Err(found) = self.word.compare_exchange(now, waited_for, Relaxed, Relaxed)
            {
                now = found;
                continue;
            }
            Watch::default().sleep(&self.word, waited_for);
            // Others may sleep behind this one.
            others = owner::WAITERS;
            now = self.word.load(Relaxed);
        }
    }

    fn acquire(&self, me: u32) -> bool {
        owner::take(&self.word, me).is_err() && self.sleep_until_ours(me)
    }

    fn add(&self) {
        self.inside.store(self.inside.load(Relaxed) + 1, Relaxed);
    }

    fn release(&self) {
        if owner::give(&self.word) {
            wake(&self.word, 1);
        }
    }

    /// As the kernel, when `me` dies.
    fn bury(&self, me: u32) {
        loop {
            let now = self.word.load(Relaxed);
            if now & owner::TID_MASK != me {
                return;
            }
            let left = now & owner::WAITERS | owner::OWNER_DIED;
            if self.word.compare_exchange(now, left, SeqCst, Relaxed).is_ok() && now & owner::WAITERS != 0 {
                wake(&self.word, 1);
            }
        }
    }
}

#[test]
fn a_mutex_has_one_owner_and_whoever_sleeps_for_it_is_woken() {
    loom::model(|| {
        let owned = Owned::new();
        let others = [2, 3].map(|me| {
            let owned = Arc::clone(&owned);
            thread::spawn(move || {
                assert!(!owned.acquire(me));
                owned.add();
                owned.release();
            })
        });
        assert!(!owned.acquire(1));
        owned.add();
        owned.release();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!((owned.word.load(Relaxed), owned.inside.load(Relaxed)), (0, 3));
    });
}

#[test]
fn a_mutex_of_the_dead_comes_to_one_sleeper_with_the_news() {
    loom::model(|| {
        let owned = Owned::new();
        owner::take(&owned.word, 1).unwrap();
        let others = [2, 3].map(|me| {
            let owned = Arc::clone(&owned);
            thread::spawn(move || {
                let news = owned.acquire(me);
                owned.add();
                owned.release();
                u32::from(news)
            })
        });
        owned.bury(1);
        let news: u32 = others.into_iter().map(|other| other.join().unwrap()).sum();
        assert_eq!((news, owned.word.load(Relaxed), owned.inside.load(Relaxed)), (1, 0, 2));
    });
}
