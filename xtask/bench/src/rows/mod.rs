//! What is measured, and who takes part: one file a row.

mod attach;
mod crowd;
mod fetch_add;
mod first_line;
pub(crate) mod frozen;
mod hand_over;
mod hand_over_one_core;
mod lock;
mod lock_fight;
mod pool_busy;
mod pool_chunks;
pub(crate) mod pool_echo;
mod pool_idle;
mod pool_kill;
mod pool_one;
mod pool_start;
mod pool_stream;
pub(crate) mod pool_timeout;
mod round_trip;
mod round_trip_one_core;
mod sizes;
mod start;
mod start_beside_much;
mod stream;
mod stream_many;
mod stream_typed;
mod waiting;
mod waiting_one_core;

use std::time::Duration;

use crate::contestant::Contestant;
use crate::cores::Place;

/// One comparison.
#[derive(Debug)]
pub(crate) struct Row {
    /// As the command line names it.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What an operation is, and how it is arranged, in a sentence.
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) place: Place,
    /// How long one batch lasts.
    pub(crate) batch: Duration,
    /// The most operations of a batch, where each holds memory until its end.
    pub(crate) most_ops: u64,
    pub(crate) contestants: &'static [Contestant],
}

/// How a row's figures are shown; they are kept as nanoseconds of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Time of one operation: less is better.
    Time,
    /// Operations a second: more is better.
    Rate,
    /// Part of what all cores would do if one operation took this long on one, and nothing else ran: more is better.
    Ideal { one: Duration },
}

/// Every row, in the order of the tables; the command line counts from one. New rows go to the end.
pub(crate) static ROWS: &[Row] = &[
    start::ROW,
    round_trip::ROW,
    stream::ROW,
    lock::ROW,
    pool_one::ROW,
    pool_stream::ROW,
    round_trip_one_core::ROW,
    fetch_add::ROW,
    attach::ROW,
    frozen::ROW,
    lock_fight::ROW,
    hand_over::ROW,
    hand_over_one_core::ROW,
    start_beside_much::ROW,
    first_line::ROW,
    sizes::STREAM_1MIB,
    stream_typed::ROW,
    sizes::STREAM_8B,
    sizes::STREAM_1KIB,
    sizes::STREAM_64KIB,
    sizes::STREAM_64MIB,
    crowd::ROW,
    waiting::ROW,
    waiting_one_core::ROW,
    pool_start::ROW,
    pool_chunks::ROW,
    pool_busy::ROW,
    stream_many::TWO,
    stream_many::EIGHT,
    stream_many::TYPED,
    pool_echo::ROW,
    pool_kill::ROW,
    pool_timeout::ROW,
    pool_idle::ROW,
];
