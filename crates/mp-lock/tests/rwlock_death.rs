//! A reader or writer of an `RwLock` is killed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{given, killed_at, start, stay};
use mp_lock::{AcquireError, RwLock};
use mp_test::{guarded, role, say};

#[test]
fn a_killed_writer_is_news_until_recovered() {
    if role().is_some() {
        let lock: RwLock<[u32; 2]> = given();
        lock.write().unwrap().with(|value| {
            value[0] += 1;
            say("half-way");
            stay();
        });
    }
    guarded(|| {
        let lock = RwLock::new([1_u32, 1]).unwrap();
        let mut writer = start("a_killed_writer_is_news_until_recovered", "writer", &lock);
        writer.expect("half-way");
        writer.kill();
        let reader = lock.read().unwrap_err().into_guard().unwrap();
        assert!(reader.is_poisoned() && reader.get() == [2, 1]);
        drop(reader);
        let mut guard = lock.write().unwrap_err().into_guard().unwrap();
        guard.set([2, 2]);
        guard.mark_recovered();
        drop(guard);
        assert_eq!(lock.read().unwrap().get(), [2, 2]);
    });
}

#[test]
fn a_killed_reader_gives_its_share_back_without_news() {
    if role().is_some() {
        let lock: RwLock<u32> = given();
        let _twice = (lock.read().unwrap(), lock.read().unwrap());
        say("reading");
        stay();
    }
    guarded(|| {
        let lock = RwLock::new(7_u32).unwrap();
        let mut reader = start("a_killed_reader_gives_its_share_back_without_news", "reader", &lock);
        reader.expect("reading");
        assert!(lock.try_write().is_err(), "the living are not robbed");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| lock.write().unwrap().set(8));
            reader.kill();
            writer.join().unwrap();
        });
        assert_eq!(lock.read().unwrap().get(), 8);
    });
}

#[test]
fn a_writer_killed_while_it_waits_for_readers_is_no_news() {
    if role().is_some() {
        let lock: RwLock<u32> = given();
        say("waiting");
        let _guard = lock.write().unwrap();
        stay();
    }
    guarded(|| {
        let lock = RwLock::new(7_u32).unwrap();
        let reader = lock.read().unwrap();
        let mut writer = start("a_writer_killed_while_it_waits_for_readers_is_no_news", "writer", &lock);
        writer.expect("waiting");
        std::thread::scope(|scope| {
            let kept_out = || scope.spawn(|| lock.try_read().is_err()).join().unwrap();
            mp_test::until("it keeps new readers out", kept_out);
        });
        writer.kill();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(lock.read().unwrap()));
        });
        drop(reader);
        drop(lock.write().unwrap());
    });
}

/// Kills at `rwlock.read:1..=4` and `rwlock.write:1..=4`: the next one gets in, with the news exactly if the dead one wrote.
#[test]
fn a_death_at_any_step_keeps_nobody_out() {
    if role().is_some() {
        let lock: RwLock<u32> = given();
        drop(lock.read().unwrap());
        drop(lock.write().unwrap());
        say("survived");
        return;
    }
    guarded(|| {
        let test = "a_death_at_any_step_keeps_nobody_out";
        let steps = ["rwlock.read:1..=4", "rwlock.write:1..=4"];
        killed_at(
            test,
            &steps,
            || RwLock::new(0_u32).unwrap(),
            |step, lock| {
                let news = match lock.write() {
                    Ok(_) => false,
                    Err(AcquireError::OwnerDied(_)) => true,
                    Err(error) => panic!("{step}: {error}"),
                };
                assert_eq!(news, step == "rwlock.write:3", "{step}");
            },
        );
    });
}
