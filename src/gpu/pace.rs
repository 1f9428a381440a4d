//! How much a device is given to do at a time. A watchdog resets a card that computes for seconds
//! without a pause, and a desktop that shares it stands still meanwhile. So a submission is closed
//! after what the device does in a twentieth of a second, and a dispatch that takes longer by itself
//! is cut. Both go by measured time: each kernel is timed by itself when it is new, when it gets
//! more to do than it ever had, and in the pieces of some of the dispatches that are cut.

use std::sync::{Mutex, MutexGuard};

/// Seconds that a submission is meant to take. How long a piece takes is foreseen from the one
/// before, and nothing may come near [`Pace::LIMIT`].
const WANTED: f64 = 0.05;
/// A dispatch is cut when it takes so many times as long: half of what none may take, as foreseen.
const LONG: u64 = 2;
/// Work that every device does in time: well below a millisecond on a card, a hundredth of a second
/// on a processor.
const FIRST: u64 = 200_000_000;
/// A kernel that was never timed is taken to be this much slower than the fastest.
const SLOWER: f64 = 8.0;
/// One of so many dispatches that are cut is timed, once it has been told how long a piece takes.
const TIMED: u32 = 16;
/// How much more than was ever timed a kernel is given at once.
const STRIDE: u64 = 4;

/// What is known of a device's speed. Work is counted in floating-point operations.
#[derive(Debug)]
pub struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Work a second of the fastest kernel.
    fastest: f64,
    /// What nothing may exceed, whatever is measured.
    most: u64,
}

/// What is known of one kernel's speed.
#[derive(Debug, Default)]
pub struct KernelPace(Mutex<Known>);

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// It has run before: drivers compile some of a kernel when it first runs.
    has_run: bool,
    /// Work a second, once it has been timed.
    speed: Option<f64>,
    /// The work that was timed.
    work: u64,
    /// How many dispatches were cut since it took long enough to tell.
    cut: u32,
}

impl Known {
    /// Whether what was timed took long enough to tell.
    fn tells(&self) -> bool {
        self.speed.is_some_and(|speed| self.work as f64 / speed > WANTED / 2.0)
    }

    /// Seconds that so much work takes.
    fn seconds(&self, work: u64, fastest: f64) -> f64 {
        let guess = (FIRST as f64 / WANTED).max(fastest / SLOWER);
        work as f64 / self.speed.unwrap_or(guess)
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl KernelPace {
    /// Its next run is to be taken for its first.
    pub(super) fn runs_anew(&self) {
        lock(&self.0).has_run = false;
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(State { fastest: 0.0, most: u64::MAX }))
    }
}

impl Pace {
    /// Seconds that no dispatch and no submission is to take.
    pub const LIMIT: f64 = 0.2;

    /// Gives no piece of a dispatch more work than this, and cuts every dispatch of more than twice
    /// as much: for looking whether that changes anything.
    pub fn at_most(&self, work: u64) {
        lock(&self.0).most = work;
    }

    /// The part of a submission that so much work of a kernel fills, as far as is known.
    pub fn share(&self, kernel: &KernelPace, work: u64) -> f64 {
        let known = *lock(&kernel.0);
        known.seconds(work, lock(&self.0).fastest) / WANTED
    }

    /// Whether a dispatch of so much work is to be cut.
    pub fn is_long(&self, kernel: &KernelPace, work: u64) -> bool {
        work / LONG > self.allowed(kernel)
    }

    /// Most work of a kernel that a piece of a dispatch is to have.
    pub fn allowed(&self, kernel: &KernelPace) -> u64 {
        let known = *lock(&kernel.0);
        let state = lock(&self.0);
        let in_time = (WANTED / known.seconds(1, state.fastest)) as u64;
        let foreseen = match known.speed {
            Some(_) => in_time.min(known.work.saturating_mul(STRIDE).max(FIRST)),
            None => in_time,
        };
        foreseen.clamp(1, state.most)
    }

    /// Whether so much work of a kernel is to be submitted by itself, and [noted](Pace::note).
    pub fn is_news(&self, kernel: &KernelPace, work: u64) -> bool {
        let known = *lock(&kernel.0);
        known.speed.is_none() || (work > known.work.saturating_mul(2) && !known.tells())
    }

    /// Whether the pieces of the next dispatch that is cut are to be waited for, and noted.
    pub fn is_due(&self, kernel: &KernelPace) -> bool {
        let mut known = lock(&kernel.0);
        let tells = known.tells();
        known.cut = if tells { (known.cut + 1) % TIMED } else { 0 };
        known.cut == 0
    }

    /// Notes that so much work of a kernel took so many seconds.
    pub fn note(&self, kernel: &KernelPace, work: u64, seconds: f64) {
        let mut known = lock(&kernel.0);
        if !std::mem::replace(&mut known.has_run, true) || work == 0 {
            return;
        }
        tracing::trace!("{work} operations in {seconds} s");
        // A submission has a cost of its own, which small ones must not be taken to be slow for.
        if seconds > WANTED / 2.0 || work >= known.work {
            let measured = work as f64 / seconds.max(1e-9);
            let speed = match known.speed {
                // Pieces differ: the next one may be as slow as any.
                Some(before) if known.tells() && measured > before => (before + measured) / 2.0,
                _ => measured,
            };
            known.speed = Some(speed);
            known.work = work.min((speed * WANTED) as u64);
            let mut state = lock(&self.0);
            state.fastest = state.fastest.max(speed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernels of these speeds, of which a step has a dispatch each of so much work: what the
    /// pieces of ten steps take, at most, and how many there are in the last step.
    fn steps(speeds: &[f64], work: u64, overhead: f64) -> (f64, usize) {
        let pace = Pace::default();
        let kernels: Vec<(f64, KernelPace)> =
            speeds.iter().map(|speed| (*speed, KernelPace::default())).collect();
        let (mut longest, mut pieces): (f64, usize) = (0.0, 0);
        for _ in 0..10 {
            pieces = 0;
            for (speed, kernel) in &kernels {
                let mut left = work;
                let is_long = pace.is_long(kernel, work);
                let is_timed = is_long && pace.is_due(kernel) || pace.is_news(kernel, work);
                while left > 0 {
                    let piece = if is_long { left.min(pace.allowed(kernel)) } else { left };
                    let seconds = overhead + piece as f64 / speed;
                    longest = longest.max(seconds);
                    if is_timed {
                        pace.note(kernel, piece, seconds);
                    }
                    left -= piece;
                    pieces += 1;
                }
            }
        }
        (longest, pieces)
    }

    #[test]
    fn dispatches_are_cut_to_what_the_device_does_in_time() {
        for speed in [1e10, 1e11, 1e12, 2e13, 1e15] {
            // Kernels that are slower than their operations tell, the slow ones first and last.
            let speeds = [speed, speed / 5.0, speed / 2.0];
            for speeds in [speeds, [speeds[1], speeds[2], speeds[0]]] {
                let work = (speed * 3.0) as u64;
                let (longest, pieces) = steps(&speeds, work, 1e-4);
                assert!(longest < Pace::LIMIT, "{speed}: {longest} s");
                // 3, 15 and 6 s in twentieths.
                assert!((480..=500).contains(&pieces), "{speed}: {pieces} pieces");
            }
        }
    }

    #[test]
    fn what_is_short_is_never_cut() {
        for speed in [1e11, 1e13, 1e15] {
            let (_, pieces) = steps(&[speed; 3], (speed * 0.09) as u64, 1e-4);
            assert_eq!(pieces, 3, "{speed}");
        }
    }

    #[test]
    fn a_kernel_that_was_held_up_once_recovers() {
        let (pace, kernel) = (Pace::default(), KernelPace::default());
        for seconds in [0.01, 0.01, 3.0] {
            pace.note(&kernel, FIRST, seconds);
        }
        assert!(pace.allowed(&kernel) < FIRST / 50);
        for _ in 0..10 {
            let work = pace.allowed(&kernel);
            pace.note(&kernel, work, 1e-4 + work as f64 / 1e11);
        }
        assert!(pace.allowed(&kernel) > 4_000_000_000);
    }

    /// Drivers compile at the first run, which says nothing of the kernel's speed.
    #[test]
    fn the_first_run_is_not_counted() {
        let (pace, kernel) = (Pace::default(), KernelPace::default());
        pace.note(&kernel, FIRST, 2.0);
        assert_eq!(pace.allowed(&kernel), FIRST);
        assert!(pace.is_news(&kernel, 1));
        pace.note(&kernel, FIRST, 0.01);
        assert!(!pace.is_news(&kernel, FIRST));
        assert!(pace.is_news(&kernel, 3 * FIRST));
        assert!((pace.share(&kernel, FIRST) - 0.2).abs() < 1e-6);
    }
}
