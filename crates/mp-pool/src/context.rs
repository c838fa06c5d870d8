//! What a task can ask about itself, and what a worker keeps between its tasks.
//!
//! A task may call `fork`, and its copy may come back from the task as the worker does. It has the worker's memory, line and slate, which
//! have one writer: so whatever comes back from users' code asks whether it is the worker itself ([`end_copies`]) before it
//! writes there.

use crate::control::Control;
use crate::line::{CONTROL, crash_word};
use mp_core::Identity;
use mp_shm::{Growable, HEADER};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Set once, in a worker.
static WORKER: OnceLock<(Growable, usize)> = OnceLock::new();
/// Which process that is.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// The task that runs now.
static TASK: AtomicU64 = AtomicU64::new(0);
static ATTEMPT: AtomicU32 = AtomicU32::new(0);

/// This process is a worker from now on.
pub(crate) fn enter(memory: Growable, worker: usize) {
    OWNER.store(Identity::current_packed(), Relaxed);
    // A second time: a worker runs its function once.
    let _ = WORKER.set((memory, worker));
}

/// Users' code has come back: in the worker nothing happens, a copy of it made by `fork` ends here. A few loads.
#[inline(always)]
pub(crate) fn end_copies() {
    if Identity::current_packed() != OWNER.load(Relaxed) {
        end_copy();
    }
}

#[cold]
fn end_copy() -> ! {
    let text = "mp-pool: a copy of a worker, made by `fork` in a task, has come back from the task and ends here; end it with `_exit`\n";
    // Not through the standard library, whose lock a thread may have held that the copy does not have.
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    mp_process::routine::leave_without_hooks(1)
}

/// From now on a crash of this worker is written to its line. Without it a crash is one without a backtrace.
pub(crate) fn watch_for_crashes() {
    let word = |index| WORKER.get().map(|(memory, _)| crash_word(memory, index));
    let _ = mp_process::backtrace::watch(word, || TASK.load(Relaxed));
}

/// A task begins.
pub(crate) fn begin(task: u64, attempt: u8) {
    TASK.store(task, Relaxed);
    ATTEMPT.store(attempt.into(), Relaxed);
}

/// Whether the task that runs in this worker shall stop: somebody [cancelled](crate::AsyncResult::cancel) it.
///
/// A long task that looks now and then, and returns, saves its worker from being killed. Costs a few nanoseconds; from any thread of the
/// worker. Outside of a worker always false.
#[must_use]
pub fn cancelled() -> bool {
    WORKER.get().is_some_and(|(memory, _)| {
        let asked = Control::new(memory.fixed(), HEADER + CONTROL).asked_to_stop();
        asked != 0 && asked == TASK.load(Relaxed)
    })
}

/// The number of this worker in its pool, from zero; a worker that replaces another has its number. `None` outside of workers.
#[must_use]
pub fn worker_index() -> Option<usize> {
    WORKER.get().map(|(_, worker)| *worker)
}

/// How often this task was tried before, for one that is [retried](crate::TaskOptions::retry): 0 in its first run. It stops at 255.
#[must_use]
pub fn attempt() -> u32 {
    ATTEMPT.load(Relaxed)
}

thread_local! {
    static STATE: RefCell<HashMap<TypeId, Rc<dyn Any>>> = RefCell::default();
}

/// Calls `body` with this worker's value of type `T`, which is made by its `Default` the first time and lives as long as the worker.
///
/// For what is dear to make and not sent: connections, caches, models. Together with [`key`](crate::TaskOptions::key) tasks find the
/// state that earlier ones with the same key have left. A worker that is replaced begins anew. Values belong to the thread
/// that runs tasks; other threads have their own.
///
/// ```
/// use std::cell::RefCell;
/// use std::collections::HashMap;
///
/// type Cache = RefCell<HashMap<u64, String>>;
///
/// fn name_of(id: u64) -> String {
///     mp_pool::with_state(|cache: &Cache| cache.borrow_mut().entry(id).or_insert_with(|| format!("number {id}")).clone())
/// }
/// # assert_eq!(name_of(3), "number 3");
/// ```
pub fn with_state<T: Default + 'static, R>(body: impl FnOnce(&T) -> R) -> R {
    let make = || Rc::new(T::default());
    let known = STATE.with_borrow(|state| state.get(&TypeId::of::<T>()).cloned());
    let value = known.and_then(|value| value.downcast::<T>().ok()).unwrap_or_else(|| {
        let value = make();
        STATE.with_borrow_mut(|state| state.insert(TypeId::of::<T>(), Rc::clone(&value) as Rc<dyn Any>));
        value
    });
    body(&value)
}

/// Sets this worker's value of type `T`, for an [initializer](crate::Builder::initializer).
pub fn set_state<T: 'static>(value: T) {
    let before = STATE.with_borrow_mut(|state| state.insert(TypeId::of::<T>(), Rc::new(value)));
    // Its drop may look at the state too.
    drop(before);
}
