//! The learning rate of each step.

/// Linear warm-up, then linear decay to zero: `get_linear_schedule_with_warmup` of `transformers`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f32,
    /// Steps until it is reached.
    pub warmup: u32,
    /// Steps until zero is reached.
    pub total: u32,
}

impl Schedule {
    /// The rate of a step, counted from 1. The first step of a warm-up has rate zero, as there.
    pub fn rate(&self, step: u32) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_falls_and_ends_at_zero() {
        let schedule = Schedule { peak: 1.0, warmup: 2, total: 6 };
        let rates: Vec<f32> = (1..=7).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Schedule { warmup: 0, ..schedule }.rate(1), 1.0);
    }
}
