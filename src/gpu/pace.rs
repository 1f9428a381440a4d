//! How much a device is given to do at a time. A watchdog resets a card that computes for seconds
//! without a pause, and a desktop that shares it stands still meanwhile. So a submission is closed
//! after what the device does in a twentieth of a second, by its own measured speed: the first
//! ones are small and waited for, each twice the one before, until one took long enough to tell.

use std::sync::Mutex;

/// Seconds that a submission is meant to take. Kernels differ in speed by some factor, and nothing
/// may come near [`Pace::LIMIT`].
const WANTED: f64 = 0.05;
/// Work of the first submission: well below a millisecond on a card, a hundredth of a second on a
/// processor.
const FIRST: u64 = 500_000_000;

/// What is known of a device's speed. Work is counted in floating-point operations.
#[derive(Debug)]
pub struct Pace(Mutex<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    /// Work of a submission.
    allowed: u64,
    /// Whether submissions are still timed.
    measuring: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(State { allowed: FIRST, measuring: true }))
    }
}

impl Pace {
    /// Seconds that no submission is to take.
    pub const LIMIT: f64 = 0.2;

    fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Work after which a submission is closed.
    pub fn allowed(&self) -> u64 {
        self.state().allowed
    }

    /// Whether the next submission is to be waited for and [noted](Pace::note).
    pub fn is_measuring(&self) -> bool {
        self.state().measuring
    }

    /// Notes that so much work took so many seconds.
    pub fn note(&self, work: u64, seconds: f64) {
        let mut state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A submission has a cost of its own, which small ones must not be taken to be slow for.
        if seconds < WANTED / 2.0 {
            state.allowed = state.allowed.max(work.saturating_mul(2));
        } else {
            state.allowed = ((work as f64 * WANTED / seconds) as u64).max(1);
            state.measuring = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of this speed, given as much as the pace allows.
    fn settled(operations_per_second: f64, overhead: f64) -> (u64, f64) {
        let pace = Pace::default();
        let mut longest: f64 = 0.0;
        for _ in 0..64 {
            let work = pace.allowed();
            let seconds = overhead + work as f64 / operations_per_second;
            longest = longest.max(seconds);
            if pace.is_measuring() {
                pace.note(work, seconds);
            }
        }
        assert!(!pace.is_measuring());
        (pace.allowed(), longest)
    }

    #[test]
    fn submissions_grow_to_what_the_device_does_in_time() {
        for speed in [2e10, 1e11, 1e12, 2e13, 1e15] {
            let (work, longest) = settled(speed, 1e-4);
            let seconds = work as f64 / speed;
            assert!((0.04..0.06).contains(&seconds), "{speed}: {seconds} s a submission");
            assert!(longest < Pace::LIMIT / 2.0, "{speed}: {longest} s on the way there");
        }
    }
}
