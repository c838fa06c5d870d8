//! Measuring a loop: how often it must run to be measured, and what one operation took, batch by batch.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::arena::Arena;
use crate::contestant::Measured;
use crate::cpu;

/// Batches of one sample: fewer say little about the spread, more say nothing new.
const FEWEST: usize = 3;
const MOST: usize = 200;
/// What one of a crowd does before it says so.
const COUNTED: u64 = 16;

/// What one sample found.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Nanoseconds of one operation, for each batch.
    pub(crate) batches: Vec<f64>,
    /// Operations measured.
    pub(crate) ops: u64,
    /// Nanoseconds of CPU that all processes of the contestant used for them; unknown on some kernels.
    pub(crate) cpu: Option<u64>,
    /// Where two fought: what part of all turns the slower one had.
    #[serde(default)]
    pub(crate) share: Option<f64>,
    /// Of all processes that were to be idle.
    #[serde(default)]
    pub(crate) switches: Option<u64>,
}

/// Measures one contestant once.
#[derive(Debug)]
pub(crate) struct Meter {
    /// All batches together.
    pub(crate) budget: Duration,
    /// One batch: far above what the clock resolves and what ends a batch.
    pub(crate) batch: Duration,
    /// Bounds what a batch holds in memory.
    pub(crate) most_ops: u64,
    pub(crate) sample: Sample,
    /// Nothing is measured here: the loop runs, and is counted, until all are told to stop.
    crowd: Option<(Arena, usize)>,
}

impl Meter {
    pub(crate) fn new(budget: Duration, batch: Duration, most_ops: u64) -> Self {
        Self { budget, batch, most_ops, sample: Sample::default(), crowd: None }
    }

    /// For one pair of a crowd.
    pub(crate) fn of_a_crowd(arena: Arena, pair: usize) -> Self {
        Self { crowd: Some((arena, pair)), ..Self::new(Duration::ZERO, Duration::ZERO, u64::MAX) }
    }

    /// Runs `run(n)`, which does `n` operations, until the budget is used up.
    pub(crate) fn measure(&mut self, mut run: impl FnMut(u64) -> Measured) -> Measured {
        if let Some((arena, pair)) = &self.crowd {
            while !arena.is_stopped() {
                run(COUNTED)?;
                arena.did(*pair, COUNTED);
            }
            return Ok(());
        }
        let ops = self.warm_up(&mut run)?;
        let cpu = cpu::used();
        let start = Instant::now();
        while self.wants_more(start.elapsed()) {
            let batch = Instant::now();
            run(ops)?;
            self.sample.batches.push(batch.elapsed().as_nanos() as f64 / ops as f64);
            self.sample.ops += ops;
        }
        self.sample.cpu = cpu::used().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        Ok(())
    }

    /// Runs `run`, which measures itself and gives nanoseconds, until the budget is used up.
    pub(crate) fn measure_each<E: Into<crate::contestant::Stop>>(
        &mut self,
        mut run: impl FnMut() -> Result<u64, E>,
    ) -> Measured {
        let warm_up = Instant::now();
        for _ in 0..20 {
            run().map_err(Into::into)?;
            if warm_up.elapsed() * 4 >= self.budget {
                break;
            }
        }
        let cpu = cpu::used();
        let start = Instant::now();
        while self.wants_more(start.elapsed()) {
            let nanoseconds = run().map_err(Into::into)?;
            self.sample.batches.push(nanoseconds as f64);
            self.sample.ops += 1;
        }
        self.sample.cpu = cpu::used().zip(cpu).map(|(after, before)| after.saturating_sub(before));
        Ok(())
    }

    /// A sample of long batches has one, or a few: those of the other rounds come to it.
    pub(crate) fn wants_more(&self, elapsed: Duration) -> bool {
        match self.sample.batches.len() {
            0 => true,
            count if count < FEWEST => elapsed < self.budget * 2,
            count => count < MOST && elapsed < self.budget,
        }
    }

    /// Warms up, and finds how many operations make a batch.
    fn warm_up(&self, run: &mut impl FnMut(u64) -> Measured) -> Result<u64, crate::contestant::Stop> {
        let mut ops = 1;
        loop {
            let took = self.quickest(ops, run)?;
            if took * 2 >= self.batch || ops >= self.most_ops {
                let fitting = self.batch.as_secs_f64() / took.as_secs_f64().max(1e-9) * ops as f64;
                return Ok((fitting as u64).clamp(1, self.most_ops));
            }
            ops = (ops * 4).min(self.most_ops);
        }
    }

    /// Of up to three times, where one is too long: what starts only when it is first used says nothing about the next.
    fn quickest(
        &self,
        ops: u64,
        run: &mut impl FnMut(u64) -> Measured,
    ) -> Result<Duration, crate::contestant::Stop> {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            run(ops)?;
            let took = start.elapsed();
            quickest = quickest.min(took);
            if took * 2 < self.batch || took >= self.budget || ops == self.most_ops {
                break;
            }
        }
        Ok(quickest)
    }
}

/// Nanoseconds on a clock that all processes share.
pub(crate) fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_ran() {
        let mut meter = Meter::new(Duration::from_millis(5), Duration::from_millis(1), 1000);
        let mut ran = 0;
        meter
            .measure(|n| {
                ran += n;
                std::thread::sleep(Duration::from_micros(n));
                Ok(())
            })
            .expect("nothing in it fails");
        assert!(!meter.sample.batches.is_empty());
        assert!(meter.sample.ops > 0 && meter.sample.ops < ran, "the warm-up is not counted");
        assert!(meter.sample.batches.iter().all(|&one| one >= 1000.0), "each operation slept a microsecond");
    }
}
