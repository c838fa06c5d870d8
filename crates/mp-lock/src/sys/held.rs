//! Taking and giving back a free robust mutex without a call into the C library.
//!
//! Purpose: the C library's own turns for a mutex that nobody else wants, word for word in the same memory, inlined and without what only
//! a debugger reads. Whatever is not such a turn (somebody else owns it, its owner died, the thread holds another mutex, a C library that
//! keeps its books otherwise) is left to the C library, in any mixture: what one has taken the other gives back.
//!
//! A thread that dies is found to own a mutex by the kernel, which reads the thread's own list: the mutexes it holds, and beside them the
//! one that it is about to take or give back.
//!
//! | step of `take` | the list | pending | word | a death after it |
//! | --- | --- | --- | --- | --- |
//! | 1 pending is the mutex | empty | mutex | not ours | nothing: the word is not ours |
//! | 2 the word is ours, if it was free | empty | mutex | ours | orphaned, by pending |
//! | 3 the mutex's links, then the list's head | mutex | mutex | ours | orphaned, once |
//! | 4 nothing is pending | mutex | – | ours | orphaned, by the list |
//!
//! | step of `give` | the list | pending | word | a death after it |
//! | --- | --- | --- | --- | --- |
//! | 1 pending is the mutex | mutex | mutex | ours | orphaned, once |
//! | 2 the list is empty | empty | mutex | ours | orphaned, by pending |
//! | 3 the word is 0 | empty | mutex | free | the kernel wakes a sleeper of a pending mutex that is free (Linux 5.5); else he finds it within a slice |
//! | 4 the sleeper is woken, if there is one | empty | mutex | free | as after 3 |
//! | 5 nothing is pending | empty | – | free | nothing |
//!
//! Invariants:
//! 1. The list's head and `pending` are words of the thread, written by nobody but the thread itself (here or in the C library).
//! 2. Here the list is empty before `take` and after `give`. That it was empty when the mutex became its first is remembered in the thread
//!    (`ALONE`); as long as the mutex is still the first, it is the only one, since new ones come in front. So of what lies in shared memory
//!    no pointer is followed, whatever was written there. Where the word was written over, the list forgets the mutex all the same:
//!    its memory may go.
//! 3. The mutex's links are written by its owner alone.
//!
//! Memory orderings: the kernel looks at the list in the thread's own order of instructions, at its death; so the compiler must keep that
//! order (`compiler_fence`), the processor does. Between threads only the word counts, see `raw/owner.rs`.
//!
//! Where it is known how the C library keeps its books (glibc with 64 bits) they are tried once per process on a mutex of its own, and
//! looked at once per thread; if they look different, all goes through the C library.

#![expect(unsafe_code, reason = "the list of held mutexes that the C library and the kernel share")]

use crate::raw::owner::{self, TID_MASK};
use mp_core::park;
use std::cell::Cell;
use std::mem::{offset_of, size_of};
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering, compiler_fence};

/// The kind of a mutex that is error-checking, robust and between processes.
pub(super) const KIND: i32 = libc::PTHREAD_MUTEX_ERRORCHECK | 16 | 128;
/// Instead of an owner: its owner died, and nobody has said that it is consistent.
const INCONSISTENT: i32 = i32::MAX;
/// It was given back so.
const NOT_RECOVERABLE: i32 = i32::MAX - 1;

/// A mutex as glibc lays it out where pointers have 64 bits.
#[repr(C)]
pub(super) struct Body {
    word: AtomicU32,
    _count: u32,
    owner: AtomicI32,
    _users: u32,
    pub(super) kind: AtomicI32,
    _spins: u32,
    previous: AtomicPtr<Link>,
    next: AtomicPtr<Link>,
}

const _: () = assert!(size_of::<Body>() <= size_of::<libc::pthread_mutex_t>() || !LAYOUT_IS_KNOWN);
const LAYOUT_IS_KNOWN: bool =
    cfg!(all(target_env = "gnu", target_pointer_width = "64", not(mp_force_fallback)));

/// What the list's pointers point to: the `next` of a mutex, or the list's head for its end.
type Link = AtomicPtr<()>;

/// What the kernel knows of a thread, `struct robust_list_head`, with what glibc has before it.
#[repr(C)]
struct Thread {
    id: AtomicU32,
    _unused: u32,
    _previous: AtomicPtr<Link>,
    next: AtomicPtr<Link>,
    /// From a `next` to the word of its mutex.
    to_word: isize,
    pending: AtomicPtr<Link>,
}

impl Thread {
    /// What stands in `next` while the thread holds nothing.
    #[inline(always)]
    fn end(&self) -> *mut Link {
        (&raw const self.next).cast_mut().cast()
    }

    #[inline(always)]
    fn now_pending(&self, link: *mut Link) {
        compiler_fence(Ordering::SeqCst);
        self.pending.store(link, Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    fn now_first(&self, link: *mut Link) {
        compiler_fence(Ordering::SeqCst);
        self.next.store(link, Relaxed);
        compiler_fence(Ordering::SeqCst);
    }
}

impl Body {
    #[inline(always)]
    fn link(&self) -> *mut Link {
        (&raw const self.next).cast_mut().cast()
    }
}

/// Instead of a thread whose list looks as it should.
const UNKNOWN: *const Thread = ptr::without_provenance(1);

thread_local! {
    /// The mutex that became the only one of the list, and for which thread (in a forked child, another one); null after it was given back.
    static ALONE: Cell<(*const Link, u32)> = const { Cell::new((ptr::null(), 0)) };
    /// Null before anybody has asked. In a forked child it is right, too: the same place, where the C library writes the new id.
    static THREAD: Cell<*const Thread> = const { Cell::new(ptr::null()) };
}

/// The calling thread, if its list is known.
#[inline(always)]
fn this_thread() -> Option<&'static Thread> {
    if !LAYOUT_IS_KNOWN {
        return None;
    }
    let mut known = THREAD.get();
    if known.addr() <= UNKNOWN.addr() {
        known = if known.is_null() { learn() } else { UNKNOWN };
        if known == UNKNOWN {
            return None;
        }
    }
    // SAFETY: `learn` found the words there, in the thread's own control block, which lives as long as the thread; atomics.
    Some(unsafe { &*known })
}

/// How taking a mutex here went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    Taken,
    /// This thread owns it already.
    Ours,
    /// Another thread owns it, who had not died.
    Held,
    /// It was given back after a death without having been marked as consistent: nobody gets it any more.
    Lost,
    /// The C library is to be asked; nothing has changed.
    Ask,
}

/// Takes the mutex, if it is free and the thread holds no other.
///
/// # Safety
///
/// At `mutex` must be one of kind [`KIND`] that stays mapped, also while it is held.
#[inline(always)]
pub(super) unsafe fn take(mutex: *mut libc::pthread_mutex_t) -> Take {
    let Some(thread) = this_thread() else { return Take::Ask };
    // SAFETY: it lies there, the caller promises; atomics, valid for any bytes.
    let body = unsafe { &*mutex.cast::<Body>() };
    let (link, end) = (body.link(), thread.end());
    let id = thread.id.load(Relaxed);
    if thread.next.load(Relaxed) != end {
        // Whatever the word says now: twice in the list, it would break the list.
        return if ALONE.get() == (link.cast_const(), id) { Take::Ours } else { Take::Ask };
    }
    mp_core::step!("mutex.take", 1);
    thread.now_pending(link);
    mp_core::step!("mutex.take", 2);
    if let Err(found) = owner::take(&body.word, id) {
        thread.now_pending(ptr::null_mut());
        let other = found & TID_MASK;
        return if other == 0 || other == id { Take::Ask } else { Take::Held };
    }
    mp_core::step!("mutex.take", 3);
    if body.owner.load(Relaxed) == NOT_RECOVERABLE {
        give_back(thread, body);
        return Take::Lost;
    }
    body.previous.store(end, Relaxed);
    body.next.store(end, Relaxed);
    mp_core::step!("mutex.take", 4);
    thread.now_first(link);
    mp_core::step!("mutex.take", 5);
    thread.now_pending(ptr::null_mut());
    ALONE.set((link, id));
    Take::Taken
}

/// Has the C library acquire the mutex or give it back, and remembers whether it is the only one that the thread holds.
///
/// # Safety
///
/// As [`take`].
pub(super) unsafe fn beside<R>(
    mutex: *mut libc::pthread_mutex_t,
    ask: impl FnOnce() -> R,
    is_held_after: impl FnOnce(&R) -> bool,
) -> R {
    let Some(thread) = this_thread() else { return ask() };
    // SAFETY: as in `take`.
    let link = unsafe { &*mutex.cast::<Body>() }.link();
    let was_empty = thread.next.load(Relaxed) == thread.end();
    let done = ask();
    let held = is_held_after(&done);
    if held && was_empty {
        ALONE.set((link, thread.id.load(Relaxed)));
    } else if ALONE.get().0 == link.cast_const() && (held || thread.next.load(Relaxed) != link) {
        ALONE.set((ptr::null(), 0));
    }
    done
}

/// How giving back a mutex here went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Give {
    Given,
    /// Somebody has written over it: whoever it belongs to now, it is not in this thread's list any more.
    Gone,
    /// The C library is to be asked; nothing has changed.
    Ask,
}

/// Gives the mutex back, if the thread holds it and no other.
///
/// # Safety
///
/// As [`take`].
#[inline(always)]
pub(super) unsafe fn give(mutex: *mut libc::pthread_mutex_t) -> Give {
    let Some(thread) = this_thread() else { return Give::Ask };
    // SAFETY: as in `take`.
    let body = unsafe { &*mutex.cast::<Body>() };
    let (link, end) = (body.link(), thread.end());
    // In a forked child the list is empty.
    if thread.next.load(Relaxed) != link || ALONE.get().0 != link.cast_const() {
        return Give::Ask;
    }
    ALONE.set((ptr::null(), 0));
    mp_core::step!("mutex.give", 1);
    thread.now_pending(link);
    mp_core::step!("mutex.give", 2);
    thread.now_first(end);
    mp_core::step!("mutex.give", 3);
    if body.word.load(Relaxed) & TID_MASK != thread.id.load(Relaxed) {
        thread.now_pending(ptr::null_mut());
        return Give::Gone;
    }
    if body.owner.load(Relaxed) == INCONSISTENT {
        body.owner.store(NOT_RECOVERABLE, Relaxed);
    }
    give_back(thread, body);
    Give::Given
}

/// The last steps, with the mutex pending and not in the list.
#[inline(always)]
fn give_back(thread: &Thread, body: &Body) {
    if owner::give(&body.word) {
        mp_core::step!("mutex.give", 4);
        park::wake(&body.word, 1);
    }
    mp_core::step!("mutex.give", 5);
    thread.now_pending(ptr::null_mut());
}

/// Whether the mutex is of the kind that was made there, and so nothing that the C library would do something else with.
///
/// # Safety
///
/// As [`take`], of any kind.
#[inline]
pub(super) unsafe fn is_of_kind(mutex: *mut libc::pthread_mutex_t, kind: i32) -> bool {
    // SAFETY: as in `take`.
    !LAYOUT_IS_KNOWN || unsafe { &*mutex.cast::<Body>() }.kind.load(Relaxed) == kind
}

/// Writes the kind again, if it was written over.
///
/// # Safety
///
/// As [`take`], by the mutex's owner.
#[inline]
pub(super) unsafe fn mend_kind(mutex: *mut libc::pthread_mutex_t) {
    if LAYOUT_IS_KNOWN {
        // SAFETY: as in `take`.
        unsafe { &*mutex.cast::<Body>() }.kind.store(KIND, Relaxed);
    }
}

/// Finds the calling thread's list, and remembers what came of it.
#[cold]
fn learn() -> *const Thread {
    static AS_EXPECTED: park::Answer = park::Answer::new();
    let found = find().filter(|thread| AS_EXPECTED.get(|| keeps_books_as_expected(thread)));
    let known = found.map_or(UNKNOWN, ptr::from_ref);
    THREAD.set(known);
    known
}

/// The calling thread's list, if the kernel knows it and it is where glibc has it: behind the thread's id.
fn find() -> Option<&'static Thread> {
    let (mut head, mut len) = (ptr::null_mut::<u8>(), 0_usize);
    // SAFETY: two live places for the answer; 0 is the calling thread.
    let answer = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    let expected = size_of::<Thread>() - offset_of!(Thread, next);
    if answer != 0 || head.is_null() || len != expected || !head.addr().is_multiple_of(align_of::<Thread>()) {
        return None;
    }
    // SAFETY: the head lies in the thread's control block, with more than so much before it: glibc is what this is compiled for.
    let thread = unsafe { head.sub(offset_of!(Thread, next)) }.cast::<Thread>();
    // SAFETY: as above, for as long as the thread lives; atomics, and a number that nobody changes.
    let thread = unsafe { &*thread };
    let id = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    let to_word = offset_of!(Body, word).cast_signed() - offset_of!(Body, next).cast_signed();
    (thread.id.load(Relaxed) == id && thread.to_word == to_word).then_some(thread)
}

/// Whether the C library does to a mutex and to the list just what `take` and `give` do; tried on one of its own.
fn keeps_books_as_expected(thread: &Thread) -> bool {
    let mut place = Box::new(std::mem::MaybeUninit::<libc::pthread_mutex_t>::zeroed());
    let mutex = place.as_mut_ptr();
    if super::pthread::init(mutex, libc::PTHREAD_MUTEX_ERRORCHECK).is_err() {
        return false;
    }
    // SAFETY: initialised above; atomics, valid for any bytes.
    let body = unsafe { &*mutex.cast::<Body>() };
    let (before, id) = (thread.next.load(Relaxed), thread.id.load(Relaxed));
    let is_free = || {
        let books = (body.word.load(Relaxed), body.owner.load(Relaxed), body.kind.load(Relaxed));
        let list = (thread.next.load(Relaxed), thread.pending.load(Relaxed));
        books == (0, 0, KIND) && list == (before, ptr::null_mut())
    };
    let was_free = is_free();
    // SAFETY: initialised above, and given back below.
    if unsafe { libc::pthread_mutex_trylock(mutex) } != 0 {
        return false;
    }
    let books = (body.word.load(Relaxed), body.owner.load(Relaxed).cast_unsigned());
    let links = (body.previous.load(Relaxed), body.next.load(Relaxed));
    let list = (thread.next.load(Relaxed), thread.pending.load(Relaxed));
    let was_held =
        books == (id, id) && links == (thread.end(), before) && list == (body.link(), ptr::null_mut());
    // SAFETY: taken above.
    let answer = unsafe { libc::pthread_mutex_unlock(mutex) };
    was_free && was_held && answer == 0 && is_free()
}

#[cfg(all(test, target_env = "gnu", target_pointer_width = "64", not(mp_force_fallback)))]
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "a mutex of the test's own")]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_of_this_machine_keeps_its_books_as_expected() {
        assert!(this_thread().is_some());
        std::thread::spawn(|| assert!(this_thread().is_some())).join().unwrap();
    }

    /// Of this process, and never freed.
    fn mutex() -> *mut libc::pthread_mutex_t {
        let place: *mut libc::pthread_mutex_t = Box::leak(Box::new(libc::PTHREAD_MUTEX_INITIALIZER));
        super::super::pthread::init(place, libc::PTHREAD_MUTEX_ERRORCHECK).expect("a mutex");
        place
    }

    /// # Safety
    ///
    /// As [`take`].
    unsafe fn beside_trylock(mutex: *mut libc::pthread_mutex_t) -> i32 {
        // SAFETY: the caller's promise.
        let ask = || unsafe { libc::pthread_mutex_trylock(mutex) };
        // SAFETY: as above.
        unsafe { beside(mutex, ask, |answer| [0, libc::EOWNERDEAD].contains(answer)) }
    }

    /// # Safety
    ///
    /// As [`take`].
    unsafe fn beside_unlock(mutex: *mut libc::pthread_mutex_t) -> i32 {
        // SAFETY: the caller's promise.
        let ask = || unsafe { libc::pthread_mutex_unlock(mutex) };
        // SAFETY: as above.
        unsafe { beside(mutex, ask, |answer| *answer != 0) }
    }

    #[test]
    fn what_one_took_the_other_gives_back() {
        let mutex = mutex();
        for _ in 0..3 {
            // SAFETY: initialised, of the right kind, and never freed.
            unsafe {
                assert_eq!(take(mutex), Take::Taken);
                assert_eq!(beside_unlock(mutex), 0);
                assert_eq!(beside_trylock(mutex), 0);
                assert_eq!(give(mutex), Give::Given);
                assert_eq!(give(mutex), Give::Ask);
            }
        }
    }

    #[test]
    fn a_second_mutex_is_left_to_the_c_library_and_the_first_then_too() {
        let (one, two) = (mutex(), mutex());
        // SAFETY: as above.
        unsafe {
            assert_eq!(take(one), Take::Taken);
            assert_eq!(take(two), Take::Ask);
            assert_eq!(beside_trylock(two), 0);
            assert_eq!((give(one), give(two)), (Give::Ask, Give::Ask));
            assert_eq!(beside_unlock(one), 0);
            // Again, now as the second: it was alone once, and is not now.
            assert_eq!((take(one), beside_trylock(one)), (Take::Ask, 0));
            assert_eq!((give(one), give(two)), (Give::Ask, Give::Ask));
            assert_eq!((beside_unlock(one), give(two), beside_unlock(two)), (0, Give::Ask, 0));
            assert_eq!((take(one), give(one)), (Take::Taken, Give::Given));
        }
    }

    #[test]
    fn another_threads_is_held_and_ones_own_is_ours() {
        let mutex = mutex();
        // SAFETY: as above.
        assert_eq!(unsafe { take(mutex) }, Take::Taken);
        // SAFETY: as above.
        assert_eq!(unsafe { take(mutex) }, Take::Ours);
        let place = mutex.expose_provenance();
        std::thread::spawn(move || {
            let mutex = ptr::with_exposed_provenance_mut(place);
            // SAFETY: as above.
            unsafe { assert_eq!((take(mutex), give(mutex)), (Take::Held, Give::Ask)) };
        })
        .join()
        .unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { give(mutex) }, Give::Given);
    }

    #[test]
    fn the_dead_owners_mutex_and_the_lost_one_are_the_c_librarys() {
        let mutex = mutex();
        let place = mutex.expose_provenance();
        // SAFETY: as above.
        let take_and_end = move || unsafe { take(ptr::with_exposed_provenance_mut(place)) };
        assert_eq!(std::thread::spawn(take_and_end).join().unwrap(), Take::Taken);
        // SAFETY: as above.
        unsafe {
            assert_eq!(take(mutex), Take::Ask);
            assert_eq!(beside_trylock(mutex), libc::EOWNERDEAD);
            assert_eq!(libc::pthread_mutex_consistent(mutex), 0);
            assert_eq!(give(mutex), Give::Given);
        }
        assert_eq!(std::thread::spawn(take_and_end).join().unwrap(), Take::Taken);
        // SAFETY: as above.
        unsafe {
            assert_eq!(beside_trylock(mutex), libc::EOWNERDEAD);
            assert_eq!(give(mutex), Give::Given, "though nobody has said that it is consistent");
            for _ in 0..2 {
                assert_eq!(take(mutex), Take::Lost);
            }
        }
    }
}
