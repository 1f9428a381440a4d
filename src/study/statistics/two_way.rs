//! The two-way table of differences, a row for each example and a column for each seed, and what
//! the analysis of its variance says of other seeds and other examples.

use super::distribution::student_quantile;
use super::summary::{Interval, Summary, TAIL, summary};

/// The differences of two sets of scores, and their means.
pub(super) struct Differences {
    /// `[examples, seeds]`.
    pub(super) cells: Vec<f64>,
    /// `[seeds]`.
    pub(super) by_seed: Vec<f64>,
    /// `[examples]`.
    pub(super) by_example: Vec<f64>,
}

impl Differences {
    /// Takes the differences of rows that are `[seeds][examples]` on both sides.
    pub(super) fn new(
        dense: &[Vec<f64>],
        other: &[Vec<f64>],
        seeds: usize,
        examples: usize,
    ) -> Self {
        let mut cells = vec![0.0; seeds * examples];
        for (seed, (dense, other)) in dense.iter().zip(other).enumerate() {
            for (example, (dense, other)) in dense.iter().zip(other).enumerate() {
                cells[example * seeds + seed] = other - dense;
            }
        }
        let mut by_seed = vec![0.0; seeds];
        for row in cells.chunks_exact(seeds) {
            add(&mut by_seed, row);
        }
        by_seed.iter_mut().for_each(|sum| *sum /= examples as f64);
        let by_example =
            cells.chunks_exact(seeds).map(|row| row.iter().sum::<f64>() / seeds as f64).collect();
        Self { cells, by_seed, by_example }
    }

    /// The interval of [`super::paired()`] for other seeds and other examples.
    pub(super) fn over_both(&self, per_seed: &Summary) -> Option<Interval> {
        let per_example = summary(&self.by_example)?;
        let (mean, seeds, examples) =
            (per_seed.mean, per_seed.count as f64, per_example.count as f64);
        let (seed_deviation, example_deviation) = (per_seed.deviation?, per_example.deviation?);
        let mut residual = 0.0;
        for (row, by_example) in self.cells.chunks_exact(per_seed.count).zip(&self.by_example) {
            for (cell, by_seed) in row.iter().zip(&self.by_seed) {
                let left = (cell - by_seed) - (by_example - mean);
                residual += left * left;
            }
        }
        let a = examples * seed_deviation * seed_deviation;
        let b = seeds * example_deviation * example_deviation;
        let c = residual / ((seeds - 1.0) * (examples - 1.0));
        let t = student_quantile(1.0 - TAIL, per_seed.count - 1)?;
        let u = student_quantile(1.0 - TAIL, per_example.count - 1)?;
        let square = (t * t * a + u * u * (b - c).max(0.0)).max(u * u * b);
        Some(Interval::around(mean, (square / (seeds * examples)).sqrt()))
    }
}

/// Adds a row to sums, element by element.
pub(super) fn add(sums: &mut [f64], row: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}
