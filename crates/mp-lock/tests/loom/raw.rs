//! The machines again, beside a `sync` of the models' own.

#![allow(dead_code, reason = "the models need less than the types")]

#[path = "../../src/raw/done.rs"]
pub(crate) mod done;
#[path = "../../src/raw/flag.rs"]
pub(crate) mod flag;
#[path = "../../src/raw/gate.rs"]
pub(crate) mod gate;
#[path = "../../src/raw/meeting.rs"]
pub(crate) mod meeting;
#[path = "../../src/raw/owner.rs"]
pub(crate) mod owner;
#[path = "../../src/raw/permits.rs"]
pub(crate) mod permits;
#[path = "../../src/raw/shares.rs"]
pub(crate) mod shares;
#[path = "sync.rs"]
pub(crate) mod sync;
#[path = "../../src/raw/table.rs"]
pub(crate) mod table;
#[path = "../../src/raw/tickets.rs"]
pub(crate) mod tickets;
#[path = "../../src/raw/turn.rs"]
pub(crate) mod turn;
