//! Jobs that wait, those of the highest priority first, and among these in the order in which they came.

use crate::job::{Job, Wish};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most such a part of the time goes into looking for jobs whose time is over.
const SHARE: u32 = 20;

/// A level that has had more jobs at once gives its memory back.
const SPARE: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Highest priority first; levels that are empty are taken out.
    levels: Vec<(i32, VecDeque<Job>)>,
    /// Of a level that was taken out: where jobs come and go one by one, none is made anew for each.
    spare: VecDeque<Job>,
    jobs: usize,
    items: usize,
    /// When the first job's time may be over: never later than it is, often earlier.
    expiry: Option<Instant>,
    /// Not before this is it looked for again.
    next_look: Option<Instant>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    fn level(&mut self, job: &Job) -> &mut VecDeque<Job> {
        self.jobs += 1;
        self.items += job.items.len();
        self.expiry = [self.expiry, job.start_by].into_iter().flatten().min();
        let priority = job.terms.priority;
        let at = match self.levels.binary_search_by(|(level, _)| priority.cmp(level)) {
            Ok(at) => at,
            Err(at) => {
                self.levels.insert(at, (priority, std::mem::take(&mut self.spare)));
                at
            }
        };
        &mut self.levels[at].1
    }

    pub(crate) fn push_back(&mut self, job: Job) {
        self.level(&job).push_back(job);
    }

    /// Back to where it came from.
    pub(crate) fn push_front(&mut self, job: Job) {
        self.level(&job).push_front(job);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Job> {
        let (_, first) = self.levels.first_mut()?;
        let job = first.pop_front();
        if first.is_empty() {
            let (_, empty) = self.levels.remove(0);
            if empty.capacity() <= SPARE {
                self.spare = empty;
            }
        }
        self.jobs -= usize::from(job.is_some());
        self.items -= job.as_ref().map_or(0, |job| job.items.len());
        job
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Job> + use<> {
        (self.jobs, self.items) = (0, 0);
        self.expiry = None;
        std::mem::take(&mut self.levels).into_iter().flat_map(|(_, jobs)| jobs)
    }

    /// Drops what nobody wants: dropping an item settles it.
    pub(crate) fn drop_unwanted(&mut self) {
        for (_, jobs) in &mut self.levels {
            jobs.retain(|job| job.wish() == Wish::Wanted);
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.levels.retain(|(_, jobs)| !jobs.is_empty());
        self.jobs = self.levels.iter().map(|(_, jobs)| jobs.len()).sum();
        self.items = self.levels.iter().flat_map(|(_, jobs)| jobs).map(|job| job.items.len()).sum();
    }

    /// When to call [`expire`](Queue::expire).
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.max(self.expiry.and(self.next_look))
    }

    /// Takes out what has not started in time.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Job> {
        if self.next_expiry().is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut over = Vec::new();
        self.expiry = None;
        for (_, jobs) in &mut self.levels {
            let (out, kept): (VecDeque<Job>, VecDeque<Job>) =
                std::mem::take(jobs).into_iter().partition(|job| job.expired(now).is_some());
            over.extend(out);
            *jobs = kept;
            let next = jobs.iter().filter_map(|job| job.start_by).min();
            self.expiry = [self.expiry, next].into_iter().flatten().min();
        }
        self.tidy();
        self.next_look = now.checked_add(now.elapsed().max(Duration::from_micros(50)) * SHARE);
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Function;
    use crate::terms::Terms;
    use std::sync::Arc;

    fn job(priority: i32, start_by: Option<Instant>) -> Job {
        let function = Function::nameless();
        let terms = Terms { priority, ..Terms::default() };
        Job { start_by, ..Job::new(function, Arc::new(terms), VecDeque::new()) }
    }

    #[test]
    fn the_highest_priority_comes_first_and_the_first_of_it() {
        let mut queue = Queue::default();
        for priority in [0, 5, -1, 0, 5] {
            queue.push_back(job(priority, None));
        }
        queue.push_front(job(5, None));
        let order: Vec<i32> =
            std::iter::from_fn(|| queue.pop_front()).map(|job| job.terms.priority).collect();
        assert_eq!(order, [5, 5, 5, 0, 0, -1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_over_is_taken_out_alone() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.push_back(job(0, Some(now)));
        queue.push_back(job(0, None));
        queue.push_back(job(1, now.checked_add(Duration::from_secs(3600))));
        assert_eq!(queue.expire(now).len(), 1);
        assert_eq!(queue.len(), 2);
        assert!(queue.next_expiry().is_some_and(|at| at > now + Duration::from_secs(3599)));
        assert_eq!(queue.drain().count(), 2);
        assert_eq!(queue.next_expiry(), None);
    }
}
