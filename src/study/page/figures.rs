//! The figures of a study.

use crate::report::chart::{IntervalChart, IntervalRow, LineChart, Series};
use crate::report::curve;
use crate::study::analysis::{Analysis, Comparison};
use crate::study::collected::{Collected, CollectedRun};
use crate::study::statistics::PAPER_GAIN_POINTS;
use crate::train::EvaluationLine;

/// How a line over several seeds is to be read.
const SPREAD: &str =
    "The line is the mean over seeds, the band reaches from the lowest to the highest.";

/// A figure, in the page and as a file of its own.
pub struct Figure {
    /// The name of its file, without extension.
    pub name: &'static str,
    /// The picture.
    pub svg: String,
    /// What stands below it.
    pub caption: String,
}

/// The figures of a study.
pub struct StudyFigures {
    /// The intervals of the differences in accuracy.
    pub difference: Figure,
    /// Losses and accuracy over the steps, with their spread over seeds.
    pub curves: [Figure; 3],
}

impl StudyFigures {
    /// The figures of what was collected and what it says.
    pub fn new(collected: &Collected, analysis: &Analysis) -> Self {
        Self {
            difference: difference(analysis),
            curves: [
                training_loss(collected),
                evaluation(
                    collected,
                    "validation-loss",
                    "Validation loss",
                    "cross-entropy",
                    |line| line.eval_loss,
                ),
                evaluation(
                    collected,
                    "validation-accuracy",
                    "Validation accuracy",
                    "accuracy",
                    |line| line.eval_accuracy,
                ),
            ],
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Figure> {
        std::iter::once(&self.difference).chain(&self.curves)
    }
}

fn difference(analysis: &Analysis) -> Figure {
    let row = |comparison: &Comparison| {
        let interval = comparison.interval_points();
        IntervalRow {
            label: comparison.name.clone(),
            estimate: comparison.accuracy.estimate * 100.0,
            low: interval.map_or(f64::NEG_INFINITY, |interval| interval.low),
            high: interval.map_or(f64::INFINITY, |interval| interval.high),
        }
    };
    let chart = IntervalChart {
        title: format!("Accuracy less that of {}", analysis.baseline),
        x: "percentage points, with 95 % interval".into(),
        rows: analysis.comparisons.iter().map(row).collect(),
        marks: vec![
            (0.0, "no difference".into()),
            (PAPER_GAIN_POINTS, format!("paper, +{PAPER_GAIN_POINTS}")),
        ],
    };
    Figure {
        name: "difference",
        svg: chart.svg(),
        caption:
            "Intervals for other seeds and other sentences (for one seed: other sentences only)."
                .into(),
    }
}

fn training_loss(collected: &Collected) -> Figure {
    let series = over_seeds(collected, |run| {
        let steps = run.curves.steps.iter();
        let points: Vec<(f64, f64)> =
            steps.map(|line| (f64::from(line.step), f64::from(line.loss))).collect();
        curve(&points)
    });
    Figure {
        name: "training-loss",
        svg: chart("Training loss", "cross-entropy", series),
        caption: format!("Loss of the training batches, means of consecutive steps. {SPREAD}"),
    }
}

/// A value of the evaluations over the steps.
fn evaluation(
    collected: &Collected,
    name: &'static str,
    title: &str,
    y: &str,
    value: fn(&EvaluationLine) -> f64,
) -> Figure {
    let series = over_seeds(collected, |run| {
        run.curves.evaluations.iter().map(|line| (f64::from(line.step), value(line))).collect()
    });
    Figure { name, svg: chart(title, y, series), caption: SPREAD.into() }
}

fn chart(title: &str, y: &str, series: Vec<Series>) -> String {
    LineChart { title: title.into(), x: "step".into(), y: y.into(), series }.svg()
}

/// A line for each configuration that has runs, and its spread over them.
fn over_seeds(
    collected: &Collected,
    points: impl Fn(&CollectedRun) -> Vec<(f64, f64)>,
) -> Vec<Series> {
    let mut series = Vec::new();
    for (number, configuration) in collected.study.configurations.iter().enumerate() {
        let runs = collected.runs.iter().filter(|run| run.run.configuration == number);
        let curves: Vec<Vec<(f64, f64)>> = runs.map(&points).collect();
        if !curves.is_empty() {
            series.push(spread(configuration.name.clone(), &curves));
        }
    }
    series
}

/// Mean, lowest and highest of some curves over the x that all of them have.
fn spread(name: String, curves: &[Vec<(f64, f64)>]) -> Series {
    let mut series = Series { name, ..Series::default() };
    for (x, _) in curves.first().into_iter().flatten() {
        let at =
            |curve: &Vec<(f64, f64)>| curve.iter().find(|point| point.0 == *x).map(|point| point.1);
        let Some(values) = curves.iter().map(at).collect::<Option<Vec<f64>>>() else { continue };
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        series.points.push((*x, values.iter().sum::<f64>() / values.len() as f64));
        series.band.push((*x, low, high));
    }
    series
}
