//! Looking again and again in a future, for what has no descriptor to wait for.
//!
//! No kernel object tells a poller that a word in shared memory has changed, and a thread that sleeps for the future would have to be
//! woken by whoever changes it, who may be dead. So a future looks, ever more rarely: it costs some 30 looks a second once it has waited
//! for a while, and needs neither a thread of its own nor anybody who outlives it.

use async_io::Timer;
use std::time::Duration;

/// The first rest, and the longest.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(32);

/// As the waits that sleep: so that with all delays the dead are noticed within a slice.
const LOOK: Duration = Duration::from_millis(60);

/// How long a future rests before it looks again.
#[derive(Debug)]
pub(crate) struct Pace {
    rest: Duration,
    since_look: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { rest: SHORTEST, since_look: Duration::ZERO }
    }
}

impl Pace {
    /// Rests once.
    pub(crate) async fn rest(&mut self) {
        Timer::after(self.rest).await;
        self.since_look += self.rest;
        self.rest = LONGEST.min(self.rest * 2);
    }

    /// Whether it is time to look after the dead, which costs more than to look at a word.
    pub(crate) fn look_due(&mut self) -> bool {
        let due = self.since_look >= LOOK;
        if due {
            self.since_look = Duration::ZERO;
        }
        due
    }
}
