//! Which turn a barrier is in, as one word, so that a turn ends by one exchange.
//!
//! | bits | field |
//! | --- | --- |
//! | 0..2 | what it does: filling, acting, broken |
//! | 2..24 | how the last 22 turns ended, the latest lowest: 1 is broken |
//! | 24..64 | the number of the turn |
//!
//! | from | event | to |
//! | --- | --- | --- |
//! | filling | the last party arrives | the next turn, filling; or acting |
//! | acting | the action is done | the next turn, filling |
//! | filling, acting | time-out, death, abort | the next turn, broken; this one broke |
//! | filling, acting | reset while parties wait | the next turn, filling; this one broke |
//! | broken | reset | filling |

/// What a barrier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Parties arrive.
    Filling,
    /// All have arrived; one runs the action.
    Acting,
    /// Nobody passes until a reset.
    Broken,
}

/// How a turn ended, for one who waited in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Passed,
    Broke,
}

const NUMBER: u32 = 24;
const KEPT: u64 = 22;
const ENDINGS: u64 = ((1 << KEPT) - 1) << 2;

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(pub(crate) u64);

impl Turn {
    pub(crate) fn mode(self) -> Mode {
        match self.0 & 3 {
            0 => Mode::Filling,
            1 => Mode::Acting,
            _ => Mode::Broken,
        }
    }

    /// Its number, to be compared for equality.
    pub(crate) fn number(self) -> u64 {
        self.0 >> NUMBER
    }

    pub(crate) fn acting(self) -> Turn {
        Turn(self.0 & !3 | 1)
    }

    fn next(self, broke: bool, mode: u64) -> Turn {
        let number = self.number().wrapping_add(1) << NUMBER;
        let endings = ((self.0 & ENDINGS) << 1 | u64::from(broke) << 2) & ENDINGS;
        Turn(number | endings | mode)
    }

    pub(crate) fn passed(self) -> Turn {
        self.next(false, 0)
    }

    pub(crate) fn broken(self) -> Turn {
        if self.mode() == Mode::Broken { self } else { self.next(true, 2) }
    }

    /// `waiting`: somebody has arrived in this turn.
    pub(crate) fn reset(self, waiting: bool) -> Turn {
        match self.mode() {
            Mode::Broken => Turn(self.0 & !3),
            Mode::Filling if !waiting => self,
            _ => self.next(true, 0),
        }
    }

    /// How turn `number` ended; `None` while it lasts. So long ago that nobody knows any more counts as broken.
    pub(crate) fn ending_of(self, number: u64) -> Option<Ended> {
        let ago = self.number().wrapping_sub(number) & (u64::MAX >> NUMBER);
        match ago {
            0 => None,
            1..=KEPT if self.0 >> (1 + ago) & 1 == 0 => Some(Ended::Passed),
            _ => Some(Ended::Broke),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn endings_are_remembered_in_order() {
        let start = Turn(0);
        let now = start.passed().broken().reset(false).passed();
        assert_eq!(now.mode(), Mode::Filling);
        assert_eq!(now.ending_of(0), Some(Ended::Passed));
        assert_eq!(now.ending_of(1), Some(Ended::Broke));
        assert_eq!(now.ending_of(2), Some(Ended::Passed));
        assert_eq!(now.ending_of(3), None);
    }

    #[test]
    fn what_is_forgotten_counts_as_broken() {
        let mut now = Turn(0);
        for _ in 0..KEPT {
            now = now.passed();
        }
        assert_eq!(now.ending_of(0), Some(Ended::Passed));
        assert_eq!(now.passed().ending_of(0), Some(Ended::Broke));
    }

    #[test]
    fn the_number_wraps() {
        let last = Turn(u64::MAX << NUMBER);
        assert_eq!(last.passed().number(), 0);
        assert_eq!(last.passed().ending_of(last.number()), Some(Ended::Passed));
    }

    #[test]
    fn a_broken_one_stays_until_reset() {
        let broken = Turn(0).acting().broken();
        assert_eq!((broken.mode(), broken.broken()), (Mode::Broken, broken));
        assert_eq!(broken.reset(false).number(), broken.number());
        assert_eq!(Turn(0).reset(false), Turn(0), "nobody waits: nothing to break");
        assert_eq!(Turn(0).reset(true).ending_of(0), Some(Ended::Broke));
    }
}
