//! A bounded queue between producers and one thread that works on what they push.
//!
//! The thread takes a batch ([`Handoff::take`]), works on it and calls [`Handoff::done`]; at last it calls
//! [`Handoff::end`]. What the thread counts meanwhile, its report, is kept beside the queue under the same lock.
//!
//! Promises:
//! 1. Items are taken in the order in which they were pushed, each once.
//! 2. A batch counts against the bound until it is done: a slow thread does not make memory grow.
//! 3. The first error ends the queue: what is queued is dropped, and each later push returns the error.
//! 4. [`Handoff::committed`] is the latest mark of [`Handoff::push_until`] before which all is done.
//!
//! Refuses, by a panic: an item after [`Handoff::close`] or [`Handoff::abandon`], a batch before the last one is done.
//!
//! ```
//! use std::sync::Arc;
//! use usher_core::handoff::{Handoff, Load, Pace, Taken};
//!
//! // Of numbers, with errors in words, and their sum as the report.
//! let numbers: Arc<Handoff<u64, String, u64>> = Arc::new(Handoff::new(1000));
//! let theirs = Arc::clone(&numbers);
//! let thread = std::thread::spawn(move || {
//!     while let Taken::Batch(batch) = theirs.take(Pace::AT_ONCE) {
//!         theirs.done(|sum| *sum += batch.iter().sum::<u64>());
//!     }
//!     theirs.end(Ok(()));
//! });
//! for number in 1..=100 {
//!     numbers.push(number, Load { weight: 8, count: 1 })?;
//! }
//! numbers.close();
//! thread.join().expect("the thread does not panic");
//! assert_eq!(numbers.status().report, 5050);
//! # Ok::<(), String>(())
//! ```

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::lock::{lock, wait, wait_timeout, wait_timeout_while, wait_while};

/// A queue of `T` that ends with an `E`, beside a report `R`.
pub struct Handoff<T, E, R = ()> {
    bound: usize,
    state: Mutex<State<T, E, R>>,
    /// The thread waits here for items, for the close, and to be abandoned.
    filled: Condvar,
    /// Producers wait here for room and for the end.
    emptied: Condvar,
}

struct State<T, E, R> {
    queue: VecDeque<Queued<T>>,
    /// Of what is queued or in the batch.
    load: Load,
    batch: Option<Batch>,
    committed: u64,
    closed: bool,
    abandoned: bool,
    ended: bool,
    error: Option<E>,
    report: R,
}

struct Queued<T> {
    item: T,
    load: Load,
    /// What is committed when it is done.
    mark: Option<u64>,
}

/// What the thread works on.
#[derive(Default)]
struct Batch {
    load: Load,
    mark: Option<u64>,
}

/// What an item, or several, amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Of the queue's bound, in its unit: bytes, changes.
    pub weight: usize,
    /// Of a batch's size and of what is pending, in things.
    pub count: usize,
}

impl Load {
    fn add(&mut self, other: Load) {
        self.weight += other.weight;
        self.count += other.count;
    }

    fn remove(&mut self, other: Load) {
        self.weight -= other.weight;
        self.count -= other.count;
    }
}

/// When a batch is due, and how large it is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Not before this time, unless there is a full batch or the queue is closed.
    pub not_before: Option<Instant>,
    /// The count of a full batch. One item may have more, then it goes alone.
    pub count_max: usize,
    /// How long an empty queue is waited for. None: without end.
    pub idle: Option<Duration>,
}

impl Pace {
    /// All that is queued, as soon as there is something.
    pub const AT_ONCE: Pace = Pace { not_before: None, count_max: usize::MAX, idle: None };
}

/// What [`Handoff::take`] returns.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// At least one item.
    Batch(Vec<T>),
    /// The queue stayed empty.
    Nothing,
    /// Nothing comes any more: the queue is closed and empty, is abandoned, or has ended.
    Over,
}

/// How far a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status<R> {
    /// The count of what is pushed and not done.
    pub pending: usize,
    /// As [`Handoff::committed`].
    pub committed: u64,
    /// The thread's report.
    pub report: R,
}

impl<T, E: Clone, R: Default> Handoff<T, E, R> {
    /// Returns an empty queue. `bound` is a weight.
    pub fn new(bound: usize) -> Handoff<T, E, R> {
        let state = State {
            queue: VecDeque::new(),
            load: Load::default(),
            batch: None,
            committed: 0,
            closed: false,
            abandoned: false,
            ended: false,
            error: None,
            report: R::default(),
        };
        Handoff { bound, state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }
}

/// The producers' side.
impl<T, E: Clone, R> Handoff<T, E, R> {
    /// Pushes an item; waits as long as the queue holds something and would be beyond its bound with it.
    ///
    /// # Errors
    ///
    /// The one by which the thread has ended.
    ///
    /// # Panics
    ///
    /// If the queue is closed or abandoned.
    pub fn push(&self, item: T, load: Load) -> Result<(), E> {
        let full = |state: &mut State<T, E, R>| {
            !state.ended && state.load.weight > 0 && state.load.weight + load.weight > self.bound
        };
        let mut state = wait_while(&self.emptied, lock(&self.state), full);
        state.writable()?;
        state.push(item, load);
        self.filled.notify_one();
        Ok(())
    }

    /// Pushes all items and does not wait, whatever the bound: the caller asks [`Handoff::ready`] first.
    ///
    /// With them all before the mark `until` is pushed: it is committed when nothing that was pushed so far is pending.
    ///
    /// # Errors
    ///
    /// The one by which the thread has ended.
    ///
    /// # Panics
    ///
    /// If the queue is closed or abandoned.
    pub fn push_until(&self, items: impl IntoIterator<Item = (T, Load)>, until: u64) -> Result<(), E> {
        let mut state = lock(&self.state);
        state.writable()?;
        for (item, load) in items {
            state.push(item, load);
        }
        state.mark(until);
        self.filled.notify_one();
        Ok(())
    }

    /// Returns whether the queue is within its bound, what is being worked on included.
    pub fn ready(&self) -> bool {
        lock(&self.state).load.weight <= self.bound
    }

    /// Returns the latest mark before which all is done; 0 if there is none.
    pub fn committed(&self) -> u64 {
        lock(&self.state).committed
    }

    /// Nothing is pushed any more. The thread still gets what is queued, without delay.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
    }

    /// Nothing is pushed or taken any more.
    pub fn abandon(&self) {
        lock(&self.state).abandoned = true;
        self.filled.notify_all();
    }

    /// Waits until a batch is done or the thread ends, for at most `timeout`. Returns whether the thread has ended.
    ///
    /// May return early.
    pub fn wait_done(&self, timeout: Duration) -> bool {
        let state = lock(&self.state);
        state.ended || wait_timeout(&self.emptied, state, timeout).ended
    }

    /// Returns the error by which the thread has ended.
    pub fn error(&self) -> Option<E> {
        lock(&self.state).error.clone()
    }

    /// Returns the count of what is pushed and not done. What an error has dropped stays counted.
    pub fn pending(&self) -> usize {
        lock(&self.state).load.count
    }

    /// Returns how far the queue is, all of it at one moment.
    pub fn status(&self) -> Status<R>
    where
        R: Clone,
    {
        let state = lock(&self.state);
        Status { pending: state.load.count, committed: state.committed, report: state.report.clone() }
    }
}

/// The thread's side.
impl<T, E, R> Handoff<T, E, R> {
    /// Waits until a batch is due, and takes it.
    ///
    /// # Panics
    ///
    /// If the batch before is not done.
    pub fn take(&self, pace: Pace) -> Taken<T> {
        let wake = pace.idle.map(|idle| Instant::now() + idle);
        let mut state = lock(&self.state);
        assert!(state.batch.is_none(), "a batch is taken before the last one is done");
        loop {
            if state.abandoned || state.ended || state.closed && state.queue.is_empty() {
                return Taken::Over;
            }
            let now = Instant::now();
            let until = if state.queue.is_empty() {
                if wake.is_some_and(|wake| wake <= now) {
                    return Taken::Nothing;
                }
                wake
            } else {
                let full = state.closed || state.load.count >= pace.count_max;
                match pace.not_before {
                    Some(at) if at > now && !full => Some(at),
                    _ => return Taken::Batch(state.take(pace.count_max)),
                }
            };
            state = match until {
                Some(until) => wait_timeout(&self.filled, state, until - now),
                None => wait(&self.filled, state),
            };
        }
    }

    /// The batch is done, and `report` takes it into account.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn done(&self, report: impl FnOnce(&mut R)) {
        let mut state = lock(&self.state);
        let batch = state.batch.take().expect("a batch is taken before it is done");
        state.load.remove(batch.load);
        state.committed = batch.mark.unwrap_or(state.committed);
        report(&mut state.report);
        drop(state);
        self.emptied.notify_all();
    }

    /// Changes the report.
    pub fn report(&self, change: impl FnOnce(&mut R)) {
        change(&mut lock(&self.state).report);
    }

    /// The thread ends: what is queued is dropped, and of several errors the first counts.
    pub fn end(&self, result: Result<(), E>) {
        let mut state = lock(&self.state);
        state.ended = true;
        if let Err(error) = result {
            state.error.get_or_insert(error);
        }
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        self.emptied.notify_all();
        drop(dropped);
    }

    /// Waits for `time`, or until the queue is abandoned. Returns whether it is.
    pub fn pause(&self, time: Duration) -> bool {
        wait_timeout_while(&self.filled, lock(&self.state), time, |state| !state.abandoned).abandoned
    }

    /// Returns whether nothing is to be taken any more.
    pub fn abandoned(&self) -> bool {
        lock(&self.state).abandoned
    }
}

impl<T, E, R> State<T, E, R> {
    fn writable(&self) -> Result<(), E>
    where
        E: Clone,
    {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        assert!(!self.closed && !self.abandoned && !self.ended, "an item is pushed after the end");
        Ok(())
    }

    fn push(&mut self, item: T, load: Load) {
        self.load.add(load);
        self.queue.push_back(Queued { item, load, mark: None });
    }

    /// Makes a batch of the first items, of at most `count_max` in all; of one at least.
    fn take(&mut self, count_max: usize) -> Vec<T> {
        let mut batch = Batch::default();
        let mut items = Vec::new();
        while let Some(next) =
            self.queue.pop_front_if(|next| items.is_empty() || batch.load.count + next.load.count <= count_max)
        {
            batch.load.add(next.load);
            batch.mark = next.mark.or(batch.mark);
            items.push(next.item);
        }
        self.batch = Some(batch);
        items
    }

    /// All before `until` is pushed: it is committed with the last item that is not done.
    fn mark(&mut self, until: u64) {
        match (self.queue.back_mut(), &mut self.batch) {
            (Some(last), _) => last.mark = Some(until),
            (None, Some(batch)) => batch.mark = Some(until),
            (None, None) => self.committed = until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    type Numbers = Handoff<usize, &'static str, usize>;

    const SECONDS: Duration = Duration::from_secs(60);

    fn loads(items: &[usize]) -> Vec<(usize, Load)> {
        items.iter().map(|&item| (item, Load { weight: item, count: 1 })).collect()
    }

    fn pace(count_max: usize) -> Pace {
        Pace { count_max, idle: Some(Duration::ZERO), ..Pace::AT_ONCE }
    }

    #[test]
    fn marks_are_committed_when_all_before_them_is_done() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let numbers = Numbers::new(20);
            // All items pushed, the mark of each write with the number of items before it, how many are taken and done.
            let (mut pushed, mut marks) = (Vec::new(), vec![(0, 0)]);
            let (mut taken, mut done, mut sum) = (0, 0, 0);
            for mark in 1..random.u64(2..60) {
                if random.bool() {
                    let items: Vec<usize> = (0..random.usize(0..4)).map(|_| random.usize(0..9)).collect();
                    numbers.push_until(loads(&items), mark).expect("nothing has failed");
                    pushed.extend(items);
                    marks.push((pushed.len(), mark));
                } else if taken > done {
                    numbers.done(|report| *report += sum);
                    done = taken;
                } else {
                    let count = random.usize(1..5);
                    match numbers.take(pace(count)) {
                        Taken::Batch(batch) => {
                            assert!((1..=count).contains(&batch.len()), "seed {seed}");
                            assert_eq!(batch, pushed[taken..taken + batch.len()], "seed {seed}");
                            taken += batch.len();
                            sum = batch.iter().sum();
                        }
                        other => assert_eq!((other, taken), (Taken::Nothing, pushed.len()), "seed {seed}"),
                    }
                }
                let committed = marks.iter().filter(|(before, _)| *before <= done).map(|(_, mark)| *mark).max();
                let report = pushed[..done].iter().sum();
                let expected = Status { pending: pushed.len() - done, committed: committed.unwrap_or(0), report };
                assert_eq!(numbers.status(), expected, "seed {seed}");
                assert_eq!(numbers.committed(), expected.committed, "seed {seed}");
                assert_eq!(numbers.ready(), pushed[done..].iter().sum::<usize>() <= 20, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_producer_waits_at_the_bound_and_an_item_beyond_it_goes_alone() {
        let numbers = Arc::new(Numbers::new(100));
        let thread = {
            let numbers = numbers.clone();
            std::thread::spawn(move || {
                let mut heaviest = 0;
                while let Taken::Batch(batch) = numbers.take(Pace::AT_ONCE) {
                    // At first it fills until the producer waits: 14 items of 7.
                    while heaviest == 0 && numbers.pending() < 14 {
                        std::thread::yield_now();
                    }
                    let weight = lock(&numbers.state).load.weight;
                    assert!(weight <= 100 || batch == [500]);
                    heaviest = heaviest.max(weight);
                    numbers.done(|sum| *sum += batch.iter().sum::<usize>());
                }
                numbers.end(Ok(()));
                heaviest
            })
        };
        for item in std::iter::repeat_n(7, 5600).chain([500]) {
            numbers.push(item, Load { weight: item, count: 1 }).expect("nothing has failed");
        }
        numbers.close();
        assert_eq!(thread.join().expect("the thread does not panic"), 500);
        assert!(numbers.wait_done(SECONDS));
        assert_eq!(numbers.status(), Status { pending: 0, committed: 0, report: 39_700 });
    }

    #[test]
    fn a_batch_waits_for_its_time_unless_it_is_full_or_the_queue_closed() {
        let numbers = Numbers::new(100);
        let later = |count_max| Pace { not_before: Some(Instant::now() + SECONDS), count_max, idle: None };
        numbers.push_until(loads(&[1, 2, 3]), 1).expect("nothing has failed");
        assert_eq!(numbers.take(later(2)), Taken::Batch(vec![1, 2]));
        numbers.done(|_| ());
        numbers.push_until([(4, Load { weight: 1, count: 10 })], 2).expect("nothing has failed");
        assert_eq!(numbers.take(later(5)), Taken::Batch(vec![3]));
        numbers.done(|_| ());
        assert_eq!(numbers.committed(), 1);
        assert_eq!(numbers.take(later(5)), Taken::Batch(vec![4]));
        numbers.done(|_| ());
        let soon = Pace { not_before: Some(Instant::now() + Duration::from_millis(5)), ..Pace::AT_ONCE };
        numbers.push_until(loads(&[5]), 3).expect("nothing has failed");
        assert_eq!(numbers.take(soon), Taken::Batch(vec![5]));
        assert!(soon.not_before <= Some(Instant::now()));
        numbers.done(|_| ());
        assert_eq!(numbers.take(Pace { idle: Some(Duration::from_millis(1)), ..later(5) }), Taken::Nothing);
        numbers.push_until(loads(&[6]), 4).expect("nothing has failed");
        numbers.close();
        assert_eq!(numbers.take(later(5)), Taken::Batch(vec![6]));
        numbers.done(|_| ());
        assert_eq!(numbers.take(later(5)), Taken::Over);
    }

    #[test]
    fn an_error_drops_what_is_queued_and_reaches_every_producer() {
        let numbers = Arc::new(Numbers::new(10));
        numbers.push_until(loads(&[1]), 1).expect("nothing has failed");
        assert_eq!(numbers.take(Pace::AT_ONCE), Taken::Batch(vec![1]));
        numbers.done(|_| ());
        numbers.push_until(loads(&[2, 9]), 2).expect("nothing has failed");
        assert_eq!(numbers.take(pace(1)), Taken::Batch(vec![2]));
        let waiting = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.push(3, Load { weight: 3, count: 1 }))
        };
        numbers.end(Err("the disk is full"));
        numbers.end(Err("the thread has ended"));
        assert_eq!(waiting.join().expect("it does not panic"), Err("the disk is full"));
        assert_eq!(numbers.push(3, Load::default()), Err("the disk is full"));
        assert_eq!(numbers.push_until([], 9), Err("the disk is full"));
        assert_eq!(numbers.error(), Some("the disk is full"));
        assert!(numbers.wait_done(SECONDS));
        assert_eq!(numbers.status(), Status { pending: 2, committed: 1, report: 0 });
    }

    #[test]
    fn an_abandoned_queue_ends_the_thread_and_its_pauses() {
        let numbers = Arc::new(Numbers::new(10));
        numbers.push_until(loads(&[1, 2]), 1).expect("nothing has failed");
        assert!(!numbers.pause(Duration::from_millis(1)));
        let thread = {
            let numbers = numbers.clone();
            std::thread::spawn(move || {
                let abandoned = numbers.pause(SECONDS);
                assert_eq!(numbers.take(Pace::AT_ONCE), Taken::Over);
                numbers.end(Ok(()));
                abandoned
            })
        };
        assert!(!numbers.wait_done(Duration::from_millis(1)));
        numbers.abandon();
        assert!(thread.join().expect("it does not panic"));
        assert!(numbers.abandoned());
        assert_eq!((numbers.committed(), numbers.error()), (0, None));
    }

    #[test]
    #[should_panic(expected = "an item is pushed after the end")]
    fn nothing_is_pushed_to_a_closed_queue() {
        let numbers = Numbers::new(10);
        numbers.close();
        let _ = numbers.push(1, Load::default());
    }

    #[test]
    #[should_panic(expected = "a batch is taken before the last one is done")]
    fn one_batch_is_worked_on_at_a_time() {
        let numbers = Numbers::new(10);
        numbers.push_until(loads(&[1, 2]), 1).expect("nothing has failed");
        let _ = numbers.take(pace(1));
        let _ = numbers.take(pace(1));
    }
}
