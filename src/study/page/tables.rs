//! The tables of a study.

use crate::report::page::Table;
use crate::report::{adapter_name, operations_table};
use crate::study::analysis::{Analysis, Comparison, ConfigurationResult};
use crate::study::collected::{Collected, CollectedRun};
use crate::study::statistics::{Interval, Summary};

/// Validation accuracy that the paper reports, in percent, by policy: dense, and the strongest
/// sparsity.
const PAPER: [(&str, f64); 2] = [("dense", 90.62), ("topk:0.8", 91.59)];

/// The tables of a study.
pub struct StudyTables {
    /// Accuracy and loss of each configuration.
    pub results: Table,
    /// How their accuracy differs from the first one's.
    pub differences: Table,
    /// How their loss differs from the first one's.
    pub losses: Table,
    /// McNemar's test, seed by seed.
    pub tests: Table,
    /// Operations of attention in a training step, by layer.
    pub operations: Table,
    /// Time of a training step.
    pub times: Table,
    /// Every run.
    pub runs: Table,
}

impl StudyTables {
    /// The tables of what was collected and what it says.
    pub fn new(collected: &Collected, analysis: &Analysis) -> Self {
        Self {
            results: results(analysis),
            differences: differences(analysis),
            losses: losses(analysis),
            tests: tests(analysis),
            operations: operations(analysis),
            times: times(analysis),
            runs: runs(collected),
        }
    }

    /// All of them, in the order of the page.
    pub fn all(&self) -> [&Table; 7] {
        let Self { results, differences, losses, tests, operations, times, runs } = self;
        [results, differences, losses, tests, operations, times, runs]
    }
}

/// A table with a row for each item.
fn table<T>(
    caption: impl Into<String>,
    columns: &[&str],
    items: &[T],
    row: impl Fn(&T) -> Vec<String>,
) -> Table {
    Table {
        caption: caption.into(),
        columns: columns.iter().map(|column| column.to_string()).collect(),
        rows: items.iter().map(row).collect(),
    }
}

fn results(analysis: &Analysis) -> Table {
    let row = |result: &ConfigurationResult| {
        let name = &result.configuration.name;
        let paper = PAPER.iter().find(|(policy, _)| policy == name);
        let gap = |gap: &Option<Summary>, scale, digits| {
            gap.as_ref().map_or("–".into(), |gap| plus_minus(gap, scale, digits))
        };
        vec![
            name.clone(),
            result.seeds.len().to_string(),
            plus_minus(&result.accuracy, 100.0, 2),
            paper.map_or("–".into(), |(_, accuracy)| format!("{accuracy:.2}")),
            plus_minus(&result.loss, 1.0, 4),
            gap(&result.accuracy_gap, 100.0, 2),
            gap(&result.loss_gap, 1.0, 4),
        ]
    };
    table(
        "Validation accuracy and loss, and their distance from training sentences: mean and \
         standard deviation over seeds. The paper's figures are single numbers for DistilBERT-base \
         after 3 epochs on SST-2.",
        &[
            "configuration",
            "seeds",
            "accuracy, %",
            "paper, %",
            "loss",
            "accuracy gap, points",
            "loss gap",
        ],
        &analysis.configurations,
        row,
    )
}

fn differences(analysis: &Analysis) -> Table {
    let first = &analysis.baseline;
    let row = |comparison: &Comparison| {
        let accuracy = &comparison.accuracy;
        vec![
            comparison.name.clone(),
            format!("{:+.2}", accuracy.estimate * 100.0),
            between(accuracy.t.map(|t| t.interval), 100.0, 2),
            between(accuracy.over_seeds, 100.0, 2),
            between(accuracy.over_examples, 100.0, 2),
            between(comparison.interval_points(), 1.0, 2),
        ]
    };
    table(
        format!(
            "Accuracy less that of {first}, in points, paired by seed and sentence, with 95 % \
             intervals: for other seeds (Student's t; bootstrap, widened for few seeds), other \
             sentences (bootstrap), and both, on which the verdict rests. Ends are rounded \
             outwards."
        ),
        &["configuration", "difference", "seeds (t)", "seeds (bootstrap)", "sentences", "both"],
        &analysis.comparisons,
        row,
    )
}

fn losses(analysis: &Analysis) -> Table {
    let first = &analysis.baseline;
    let row = |comparison: &Comparison| {
        let loss = &comparison.loss;
        vec![
            comparison.name.clone(),
            format!("{:+.4}", loss.estimate),
            between(loss.t.map(|t| t.interval), 1.0, 4),
            between(loss.over_examples, 1.0, 4),
            between(loss.over_both, 1.0, 4),
        ]
    };
    table(
        format!("Validation loss less that of {first}, likewise: negative is better than {first}."),
        &["configuration", "difference", "seeds (t)", "sentences", "both"],
        &analysis.comparisons,
        row,
    )
}

fn tests(analysis: &Analysis) -> Table {
    let first = &analysis.baseline;
    let seeds: Vec<_> = analysis
        .comparisons
        .iter()
        .flat_map(|comparison| comparison.discordance.iter().map(|seed| (&comparison.name, seed)))
        .collect();
    table(
        format!(
            "McNemar's exact test, seed by seed: sentences that only {first} has right, that only \
             the other has right, and the chance of as uneven a split if neither were better."
        ),
        &["configuration", "seed", &format!("only {first}"), "only it", "p"],
        &seeds,
        |(name, seed)| {
            vec![
                name.to_string(),
                seed.seed.to_string(),
                seed.only_first.to_string(),
                seed.only_other.to_string(),
                format!("{:.3}", seed.p),
            ]
        },
    )
}

fn operations(analysis: &Analysis) -> Table {
    let by_layer: Vec<(String, Vec<[f64; 2]>)> = analysis
        .configurations
        .iter()
        .map(|result| (result.configuration.name.clone(), result.step_operations.clone()))
        .collect();
    operations_table(&by_layer)
}

fn times(analysis: &Analysis) -> Table {
    let first = &analysis.baseline;
    let baseline =
        analysis.configurations.iter().find(|result| result.configuration.name == *first);
    let baseline = baseline.map(|result| result.step_seconds.mean);
    let row = |result: &ConfigurationResult| {
        let seconds = &result.step_seconds;
        vec![
            result.configuration.name.clone(),
            plus_minus(seconds, 1.0, 4),
            baseline.map_or("–".into(), |baseline| {
                format!("{:.1} %", 100.0 * seconds.mean / baseline.max(1e-12))
            }),
            result.attention_seconds.map_or("–".into(), |seconds| plus_minus(&seconds, 1e3, 1)),
            format!("{:.1} %", 100.0 * result.training_sparsity),
        ]
    };
    table(
        "Time of a whole training step (median of each run, mean over seeds); of attention in one \
         step of each run, masks included, by the device's clock; and what of it was left out in \
         training.",
        &["configuration", "step, s", &format!("of {first}"), "attention, ms", "pairs left out"],
        &analysis.configurations,
        row,
    )
}

fn runs(collected: &Collected) -> Table {
    let row = |run: &CollectedRun| {
        let result = run.record.result.as_ref()?;
        Some(vec![
            run.run.name.clone(),
            format!("{:.2}", result.eval_accuracy * 100.0),
            format!("{:.4}", result.eval_loss),
            format!("{:.2}", result.best_accuracy * 100.0),
            format!("{:.1}", result.seconds / 60.0),
            adapter_name(&run.record.adapter),
        ])
    };
    let rows: Vec<Vec<String>> = collected.runs.iter().filter_map(row).collect();
    let columns = ["run", "accuracy, %", "loss", "best accuracy, %", "minutes", "adapter"];
    table("Every run.", &columns, &rows, Vec::clone)
}

/// Mean and standard deviation, in a unit `scale` times as small.
fn plus_minus(values: &Summary, scale: f64, digits: usize) -> String {
    let mean = values.mean * scale;
    match values.deviation {
        Some(deviation) => format!("{mean:.digits$} ± {:.digits$}", deviation * scale),
        None => format!("{mean:.digits$}"),
    }
}

/// The ends rounded outwards, as in the verdict.
fn between(interval: Option<Interval>, scale: f64, digits: usize) -> String {
    let unit = 10f64.powi(digits as i32);
    interval.map_or("–".into(), |interval| {
        let low = (interval.low * scale * unit + 1e-4).floor() / unit + 0.0;
        let high = (interval.high * scale * unit - 1e-4).ceil() / unit + 0.0;
        format!("{low:+.digits$} to {high:+.digits$}")
    })
}
