//! Where the results of many items come in: for who waits for them in order, for a stream, for a map that nobody waits for.

use crate::async_result::{Payload, Slot};
use crate::callbacks::ToCallback;
use crate::error::TaskError;
use crate::inbox::Shared;
use crate::job::{AtomicWish, Raw, Sink, Wish};
use crate::pack::{Packed, Piece, Pieces};
use crate::pool::Pool;
use crate::wakers;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub(crate) type Numbered = (usize, Result<Raw, TaskError>);

/// Sends pieces, with the number of the first item of each, to who waits for them.
pub(crate) struct ToPieces {
    came: Mutex<Vec<(usize, Piece)>>,
    /// Somebody waits, for so many items or an error.
    waits: AtomicUsize,
    items: AtomicUsize,
    there: Arc<Condvar>,
    wish: AtomicWish,
}

impl ToPieces {
    pub(crate) fn new() -> Arc<ToPieces> {
        Arc::new(ToPieces {
            came: Mutex::default(),
            waits: AtomicUsize::new(usize::MAX),
            items: AtomicUsize::new(0),
            there: Arc::default(),
            wish: AtomicWish::default(),
        })
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&self, shared: &Shared) {
        self.wish.lower(Wish::Unwanted);
        shared.tell(|inbox| inbox.unwanted = true);
    }

    fn came(&self) -> MutexGuard<'_, Vec<(usize, Piece)>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, first: usize, piece: Piece) {
        let failed = matches!(piece, Piece::One(Err(_)));
        let mut came = self.came();
        let items = self.items.load(Relaxed) + piece.len();
        came.push((first, piece));
        self.items.store(if failed { usize::MAX / 2 } else { items }, Relaxed);
        let enough = self.items.load(Relaxed) >= self.waits.load(Relaxed);
        drop(came);
        if enough {
            wakers::notify(&self.there);
        }
    }

    fn has(&self, items: usize) -> bool {
        self.items.load(Relaxed) >= items
    }

    /// Waits for so many items, or an error.
    pub(crate) fn take(&self, shared: &Shared, items: usize) -> Vec<(usize, Piece)> {
        if !self.has(items) {
            shared.assist(|| self.has(items));
        }
        let mut came = self.came();
        self.waits.store(items, Relaxed);
        while !self.has(items) {
            came = self.there.wait(came).unwrap_or_else(PoisonError::into_inner);
        }
        self.waits.store(usize::MAX, Relaxed);
        self.items.store(0, Relaxed);
        std::mem::take(&mut *came)
    }
}

impl Sink for ToPieces {
    fn settle(&self, index: usize, result: Result<Raw, TaskError>) {
        self.push(index, Piece::One(result));
    }

    fn settle_many(&self, first: usize, results: Packed) {
        self.push(first, Piece::Many(results));
    }

    fn wish(&self) -> Wish {
        self.wish.get()
    }
}

/// Sends each item's result with its number to who waits for them.
pub(crate) struct ToStream {
    sender: Sender<Numbered>,
    wish: AtomicWish,
}

impl ToStream {
    pub(crate) fn new() -> (Arc<ToStream>, Receiver<Numbered>) {
        let (sender, receiver) = mpsc::channel();
        (Arc::new(ToStream { sender, wish: AtomicWish::default() }), receiver)
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&self, pool: &Pool) {
        self.wish.lower(Wish::Unwanted);
        pool.shared().tell(|inbox| inbox.unwanted = true);
    }
}

impl Sink for ToStream {
    fn settle(&self, index: usize, result: Result<Raw, TaskError>) {
        // Nobody there: the stream was dropped, and the result is not wanted.
        let _ = self.sender.send((index, result));
    }

    fn wish(&self) -> Wish {
        self.wish.get()
    }
}

/// Where the whole of a map goes.
pub(crate) enum Whole {
    Slot(Arc<Slot>),
    Callback(ToCallback<Pieces>, AtomicWish),
}

impl Whole {
    fn fill(&self, result: Result<Pieces, TaskError>) {
        match self {
            Whole::Slot(slot) => slot.fill(result.map(Payload::Many)),
            Whole::Callback(callback, _) => callback.fill(result),
        }
    }

    fn forget(&self) {
        match self {
            Whole::Slot(slot) => slot.lower(Wish::Unwanted),
            Whole::Callback(_, wish) => wish.lower(Wish::Unwanted),
        }
    }
}

/// Gathers the results of a map that nobody waits for; the first error ends it.
pub(crate) struct Gather {
    whole: Whole,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    pieces: Pieces,
    missing: isize,
    /// Their number is known.
    expected: bool,
    over: bool,
}

impl Gather {
    pub(crate) fn new(whole: Whole) -> Arc<Gather> {
        Arc::new(Gather { whole, found: Mutex::default() })
    }

    /// So many items will come.
    pub(crate) fn expect(&self, items: usize) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.expected = true;
        found.missing += isize::try_from(items).unwrap_or(isize::MAX);
        drop(found);
        self.came(0, |_| {});
    }

    /// So many items less are missing.
    fn came(&self, items: usize, enter: impl FnOnce(&mut Found)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.over {
            enter(&mut found);
        }
        // Below zero as long as their number is not known.
        found.missing -= isize::try_from(items).unwrap_or(isize::MAX);
        if found.missing > 0 || !found.expected || found.over {
            return;
        }
        found.over = true;
        let pieces = std::mem::take(&mut found.pieces);
        drop(found);
        self.whole.fill(Ok(pieces));
    }

    fn failed(&self, error: TaskError) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.missing -= 1;
        let first = !std::mem::replace(&mut found.over, true);
        let pieces = std::mem::take(&mut found.pieces);
        drop(found);
        drop(pieces);
        if first {
            self.whole.fill(Err(error));
            self.whole.forget();
        }
    }
}

impl Sink for Gather {
    fn settle(&self, index: usize, result: Result<Raw, TaskError>) {
        match result {
            Ok(raw) => self.came(1, |found| drop(found.pieces.insert(index, Piece::One(Ok(raw))))),
            Err(error) => self.failed(error),
        }
    }

    fn settle_many(&self, first: usize, results: Packed) {
        self.came(results.count, |found| drop(found.pieces.insert(first, Piece::Many(results))));
    }

    fn wish(&self) -> Wish {
        match &self.whole {
            Whole::Slot(slot) => slot.wish(),
            Whole::Callback(_, wish) => wish.get(),
        }
    }
}
