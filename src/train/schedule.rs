//! What each step of a run does: its learning rate, and what follows it. Needs no device.

use super::Settings;
use crate::engine::UNDER_WAY;

/// Linear warm-up, then linear decay to zero: `get_linear_schedule_with_warmup` of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// The highest rate.
    pub peak: f32,
    /// Steps until it is reached.
    pub warmup: u32,
    /// Steps until zero is reached.
    pub total: u32,
}

impl LearningRate {
    /// The rate of a step, counted from 1. The first step of a warm-up has rate zero, as there.
    pub fn at(&self, step: u32) -> f32 {
        let done = f64::from(step - 1);
        let (warmup, total) = (f64::from(self.warmup), f64::from(self.total));
        let share = if done < warmup {
            done / warmup.max(1.0)
        } else {
            ((total - done) / (total - warmup).max(1.0)).max(0.0)
        };
        (f64::from(self.peak) * share) as f32
    }
}

/// What all steps of a run do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Steps of the run.
    pub total: u32,
    /// Steps of a pass over the training set.
    pub per_epoch: u32,
    /// The rate of each.
    pub learning_rate: LearningRate,
    eval_every: u32,
    save_every: Option<u32>,
    profiled: Option<u32>,
}

/// What one step does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Counted from 1.
    pub number: u32,
    /// Its learning rate.
    pub learning_rate: f32,
    /// It is timed kernel by kernel.
    pub profiles: bool,
    /// The model is evaluated after it.
    pub evaluates: bool,
    /// A checkpoint is written after it (and after the evaluation).
    pub saves: bool,
    /// No other step follows, though some are left.
    pub stops: bool,
    last: bool,
}

impl Schedule {
    /// The schedule of a run of `total` steps, of which `per_epoch` pass once over the training
    /// set.
    pub fn new(settings: &Settings, per_epoch: u32, total: u32) -> Self {
        let warmup = settings.warmup_steps.unwrap_or((f64::from(total) * 0.06).round() as u32);
        Self {
            total,
            per_epoch,
            learning_rate: LearningRate { peak: settings.learning_rate, warmup, total },
            eval_every: settings.eval_every.unwrap_or(per_epoch).max(1),
            save_every: settings.save_every,
            profiled: None,
        }
    }

    /// The same, with one step timed kernel by kernel. The first ones compile and warm up, so it is
    /// the third after those that are `done`.
    pub fn profiling_after(self, done: u32) -> Self {
        Self { profiled: Some(self.total.min(done + 3)), ..self }
    }

    /// The step that comes after `done` steps; none after the last.
    pub fn after(&self, done: u32) -> Option<Step> {
        let number = (done < self.total).then_some(done + 1)?;
        let last = number == self.total;
        let evaluates = last || number % self.eval_every == 0;
        let due = self.save_every.map_or(evaluates, |every| number % every.max(1) == 0);
        Some(Step {
            number,
            learning_rate: self.learning_rate.at(number),
            profiles: self.profiled == Some(number),
            evaluates,
            saves: last || due,
            stops: false,
            last,
        })
    }
}

impl Step {
    /// What the step does where the run is asked to stop: it saves, and no other follows. The last
    /// step does what it does anyway.
    pub fn stopping(self) -> Self {
        Self { saves: true, stops: !self.last, ..self }
    }

    /// Steps whose results may still be under way once it is submitted: none where something
    /// follows that is to see all of them.
    pub fn under_way(&self) -> usize {
        if self.evaluates || self.saves { 0 } else { UNDER_WAY - 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_falls_and_ends_at_zero() {
        let rate = LearningRate { peak: 1.0, warmup: 2, total: 6 };
        let rates: Vec<f32> = (1..=7).map(|step| rate.at(step)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(LearningRate { warmup: 0, ..rate }.at(1), 1.0);
    }

    fn schedule(eval_every: Option<u32>, save_every: Option<u32>) -> Schedule {
        let settings = Settings { eval_every, save_every, ..Settings::default() };
        Schedule::new(&settings, 4, 10)
    }

    fn steps(schedule: &Schedule, which: fn(&Step) -> bool) -> Vec<u32> {
        let mut numbers = Vec::new();
        let mut done = 0;
        while let Some(step) = schedule.after(done) {
            assert_eq!(step.number, done + 1);
            assert!(!step.stops);
            done = step.number;
            if which(&step) {
                numbers.push(done);
            }
        }
        assert_eq!(done, schedule.total);
        numbers
    }

    #[test]
    fn it_evaluates_and_saves_as_asked_and_in_any_case_at_the_end() {
        for (eval_every, save_every, evaluated, saved) in [
            (None, None, &[4, 8, 10][..], &[4, 8, 10][..]),
            (Some(5), None, &[5, 10], &[5, 10]),
            (Some(3), Some(4), &[3, 6, 9, 10], &[4, 8, 10]),
            (Some(100), Some(100), &[10], &[10]),
            (None, Some(1), &[4, 8, 10], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ] {
            let schedule = schedule(eval_every, save_every);
            assert_eq!(steps(&schedule, |step| step.evaluates), evaluated);
            assert_eq!(steps(&schedule, |step| step.saves), saved);
            // Before either of them every result has come back.
            let waits = steps(&schedule, |step| step.under_way() == 0);
            assert_eq!(waits, steps(&schedule, |step| step.evaluates || step.saves));
        }
    }

    #[test]
    fn a_resumed_run_does_the_same_steps_as_a_whole_one() {
        let schedule = schedule(Some(3), Some(4));
        assert_eq!(schedule.after(6).unwrap().number, 7);
        assert_eq!(schedule.after(9).unwrap().learning_rate, schedule.learning_rate.at(10));
        assert_eq!(schedule.after(10), None);
        assert_eq!(schedule.after(11), None);
    }

    #[test]
    fn a_step_that_is_asked_to_stop_saves_and_ends_the_run() {
        let schedule = schedule(Some(5), Some(5));
        let plain = schedule.after(1).unwrap();
        assert!(!plain.saves && plain.under_way() == 1);
        let stopping = plain.stopping();
        assert!(stopping.saves && stopping.stops && !stopping.evaluates);
        assert_eq!(stopping.under_way(), 0);
        // An evaluation that is due is not lost.
        assert!(schedule.after(4).unwrap().stopping().evaluates);
        // After the last step there is nothing to stop.
        let last = schedule.after(9).unwrap();
        assert_eq!(last.stopping(), last);
    }

    #[test]
    fn the_third_step_from_where_it_begins_is_timed() {
        let profiled = |done| steps(&schedule(None, None).profiling_after(done), |s| s.profiles);
        assert_eq!(profiled(0), [3]);
        assert_eq!(profiled(5), [8]);
        assert_eq!(profiled(9), [10]);
        assert!(steps(&schedule(None, None), |step| step.profiles).is_empty());
    }

    #[test]
    fn warm_up_is_six_percent_unless_it_is_set() {
        let warmup = |warmup_steps, total| {
            let settings = Settings { warmup_steps, ..Settings::default() };
            Schedule::new(&settings, 5, total).learning_rate.warmup
        };
        assert_eq!(warmup(None, 100), 6);
        assert_eq!(warmup(None, 8), 0);
        assert_eq!(warmup(Some(0), 100), 0);
    }
}
