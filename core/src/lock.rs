//! Locks and waits that panic, with one sentence, if another thread has panicked while it held the lock.
//!
//! A poisoned lock guards a state that a bug has left half changed: no caller can go on from there, so none gets a
//! `Result`. All functions here panic in that case and in no other; the panic is located at the caller.
//!
//! ```
//! use std::sync::Mutex;
//! use usher_core::lock::lock;
//!
//! let count = Mutex::new(0);
//! *lock(&count) += 1;
//! assert_eq!(*lock(&count), 1);
//! ```

use std::sync::{Condvar, LockResult, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// Locks a mutex.
#[track_caller]
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    sound(mutex.lock())
}

/// Locks for reading, together with other readers.
#[track_caller]
pub fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    sound(lock.read())
}

/// Locks for writing, alone.
#[track_caller]
pub fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    sound(lock.write())
}

/// Waits for a notification, which may be spurious.
#[track_caller]
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    sound(condvar.wait(guard))
}

/// Waits as long as `condition` holds.
#[track_caller]
pub fn wait_while<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    condition: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    sound(condvar.wait_while(guard, condition))
}

/// Waits for a notification, which may be spurious, for at most `timeout`.
#[track_caller]
pub fn wait_timeout<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
    sound(condvar.wait_timeout(guard, timeout)).0
}

/// Waits as long as `condition` holds, for at most `timeout`.
#[track_caller]
pub fn wait_timeout_while<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
    condition: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    sound(condvar.wait_timeout_while(guard, timeout, condition)).0
}

#[track_caller]
fn sound<T>(result: LockResult<T>) -> T {
    match result {
        Ok(guard) => guard,
        Err(_) => panic!("another thread panicked while it held this lock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    fn message(run: impl FnOnce()) -> &'static str {
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("a poisoned lock panics");
        panic.downcast_ref::<&str>().expect("the message is a literal")
    }

    #[test]
    fn a_lock_under_which_a_thread_panicked_panics_with_one_sentence() {
        let (mutex, rw_lock, condvar) = (Mutex::new(1), RwLock::new(1), Condvar::new());
        *lock(&mutex) += 1;
        *write(&rw_lock) += 1;
        assert_eq!((*lock(&mutex), *read(&rw_lock)), (2, 2));
        assert_eq!(*wait_while(&condvar, lock(&mutex), |_| false), 2);
        let both = || {
            let _held = (lock(&mutex), write(&rw_lock));
            panic!("a bug");
        };
        assert_eq!(message(both), "a bug");
        let sentence = "another thread panicked while it held this lock";
        assert_eq!(message(|| drop(lock(&mutex))), sentence);
        assert_eq!(message(|| drop(read(&rw_lock))), sentence);
        assert_eq!(message(|| drop(write(&rw_lock))), sentence);
    }

    #[test]
    fn waits_end_by_a_notification_or_in_time() {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let other = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for _ in 0..3 {
                *lock(&other.0) += 1;
                other.1.notify_all();
            }
        });
        let (mutex, condvar) = &*shared;
        let mut count = lock(mutex);
        while *count < 1 {
            count = wait(condvar, count);
        }
        count = wait_while(condvar, count, |count| *count < 2);
        count = wait_timeout_while(condvar, count, Duration::from_secs(60), |count| *count < 3);
        count = wait_timeout_while(condvar, count, Duration::from_millis(1), |count| *count < 4);
        count = wait_timeout(condvar, count, Duration::from_millis(1));
        assert_eq!(*count, 3);
        drop(count);
        thread.join().expect("the thread ends");
    }
}
