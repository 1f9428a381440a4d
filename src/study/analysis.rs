//! What the finished runs of a study say: means, paired differences, operations.

use super::collected::{Collected, CollectedRun};
use super::design::{Configuration, Run};
use super::statistics::{
    Interval, PairedDifference, Summary, discordant, mcnemar, median, paired, summary,
    unseen_disagreement, verdict,
};
use crate::engine::AttentionPairs;
use crate::error::{Error, Result};
use crate::train::RunResult;
use serde::Serialize;

/// Bootstrap resamples, and fewer where that would be more than so many additions.
const RESAMPLES: u32 = 10_000;
const ADDITIONS: usize = 2_000_000_000;
/// The generator of the bootstrap starts from this, so that a report can be made again.
const SEED: u64 = 1;

/// What is said of a study: `report.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// What the others are compared with.
    pub baseline: String,
    /// For each configuration that has finished runs.
    pub configurations: Vec<ConfigurationResult>,
    /// Each but the first against the first, over the seeds that both have.
    pub comparisons: Vec<Comparison>,
    /// Runs that are not done.
    pub missing: Vec<String>,
    /// Those of them that have diverged.
    pub diverged: Vec<String>,
}

/// One configuration over its seeds. All are of the model after the last step: the best of a run
/// was chosen by the data that it would be judged on.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigurationResult {
    /// Which it is.
    pub configuration: Configuration,
    /// The seeds whose runs are done.
    pub seeds: Vec<u64>,
    /// Validation accuracy.
    pub accuracy: Summary,
    /// Validation loss.
    pub loss: Summary,
    /// Training accuracy less validation accuracy.
    pub accuracy_gap: Option<Summary>,
    /// Validation loss less training loss.
    pub loss_gap: Option<Summary>,
    /// Seconds of a training step: the median of each run.
    pub step_seconds: Summary,
    /// Seconds of attention in one training step, masks included, on the device.
    pub attention_seconds: Option<Summary>,
    /// Operations of attention in a training step, forward and backward, mean over all steps: as
    /// computed, and what dense attention would take; by layer.
    pub step_operations: Vec<[f64; 2]>,
    /// Share of the pairs of query and key that was left out in training, over all heads.
    pub training_sparsity: f64,
    /// Likewise in the last evaluation, `[layers][heads]`.
    pub evaluation_sparsity: Vec<Vec<f64>>,
}

/// A configuration against the first, seed by seed and sentence by sentence.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The configuration.
    pub name: String,
    /// Seeds that both have.
    pub seeds: Vec<u64>,
    /// Difference of accuracy, as a share.
    pub accuracy: PairedDifference,
    /// Difference of loss.
    pub loss: PairedDifference,
    /// For each seed McNemar's test on the two models' predictions.
    pub discordance: Vec<Discordance>,
    /// What it means, in words.
    pub verdict: String,
}

/// Sentences that only one of two models has right.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Discordance {
    /// The seed of both.
    pub seed: u64,
    /// Only the first configuration's model.
    pub only_first: u64,
    /// Only the other's.
    pub only_other: u64,
    /// Exact two-sided p.
    pub p: f64,
}

impl Comparison {
    /// The interval that the verdict rests on, in points of accuracy. It is never narrower than
    /// what examples without any disagreement would leave open.
    pub fn interval_points(&self) -> Option<Interval> {
        let interval = if self.seeds.len() > 1 {
            self.accuracy.over_both
        } else {
            self.accuracy.over_examples
        };
        let least = unseen_disagreement(self.accuracy.examples);
        let estimate = self.accuracy.estimate;
        interval.map(|interval| {
            let low = interval.low.min(estimate - least).max(-1.0);
            let high = interval.high.max(estimate + least).min(1.0);
            Interval { low, high }.scaled(100.0)
        })
    }
}

impl Analysis {
    /// Looks at the runs that are done.
    ///
    /// # Errors
    /// None is done; runs that were evaluated on different sentences.
    pub fn of(collected: &Collected) -> Result<Self> {
        let study = &collected.study;
        check_alike(&collected.runs)?;
        let runs_of = |configuration: usize| -> Vec<&CollectedRun> {
            collected.runs.iter().filter(|run| run.run.configuration == configuration).collect()
        };
        let configurations: Vec<ConfigurationResult> = study
            .configurations
            .iter()
            .enumerate()
            .filter_map(|(number, configuration)| {
                ConfigurationResult::of(configuration, &runs_of(number))
            })
            .collect();
        if configurations.is_empty() {
            return Err(Error::input("no run of the study is done yet")
                .remedy("Run `crisp reproduce` with the same --output first."));
        }
        let baseline = runs_of(0);
        let comparisons = (1..study.configurations.len())
            .filter_map(|number| {
                Comparison::of(&study.configurations[number].name, &baseline, &runs_of(number))
            })
            .collect();
        let names = |runs: &[Run]| runs.iter().map(|run| run.name.clone()).collect();
        Ok(Self {
            baseline: study.configurations[0].name.clone(),
            configurations,
            comparisons,
            missing: names(&collected.missing),
            diverged: names(&collected.diverged),
        })
    }
}

/// Refuses runs that were trained or evaluated on different sentences, or began with other weights.
fn check_alike(runs: &[CollectedRun]) -> Result<()> {
    let Some(first) = runs.first() else { return Ok(()) };
    for other in runs {
        let mut differences = other.record.other_origin(&first.record);
        if other.predictions.len() != first.predictions.len() {
            differences.push("another number of predictions".into());
        }
        if !differences.is_empty() {
            return Err(Error::input(format!(
                "{} and {} cannot be compared: {}",
                first.run.name,
                other.run.name,
                differences.join("; ")
            ))
            .remedy("Remove the directory of the one that is wrong, and run it again."));
        }
    }
    Ok(())
}

impl ConfigurationResult {
    fn of(configuration: &Configuration, runs: &[&CollectedRun]) -> Option<Self> {
        let results: Vec<&RunResult> =
            runs.iter().filter_map(|run| run.record.result.as_ref()).collect();
        let over = |value: &dyn Fn(&RunResult) -> Option<f64>| {
            let values: Vec<f64> = results.iter().filter_map(|result| value(result)).collect();
            summary(&values)
        };
        let mut training = AttentionPairs::default();
        let mut evaluation = AttentionPairs::default();
        let mut steps = 0.0;
        for result in &results {
            training.merge(&result.training_pairs);
            evaluation.merge(&result.evaluation_pairs);
            steps += f64::from(result.steps);
        }
        let head_dim = results.first()?.head_dim;
        let operations = training.operations(head_dim);
        let medians: Vec<f64> = runs.iter().map(|run| median_step(run)).collect();
        let counted: u64 = training.kept.iter().flatten().sum();
        let all = training.all * training.kept.iter().map(|heads| heads.len() as u64).sum::<u64>();
        Some(Self {
            configuration: configuration.clone(),
            seeds: runs.iter().map(|run| run.run.seed).collect(),
            accuracy: over(&|result| Some(result.eval_accuracy))?,
            loss: over(&|result| Some(result.eval_loss))?,
            accuracy_gap: over(&|result| Some(result.training.accuracy - result.eval_accuracy)),
            loss_gap: over(&|result| Some(result.eval_loss - result.training.loss)),
            step_seconds: summary(&medians)?,
            attention_seconds: over(&|result| result.attention_seconds),
            step_operations: operations
                .iter()
                .map(|layer| layer.map(|operations| operations as f64 / steps.max(1.0)))
                .collect(),
            training_sparsity: 1.0 - counted as f64 / all as f64,
            evaluation_sparsity: evaluation.sparsity(),
        })
    }
}

/// Which sentences a run's model has right.
fn right(run: &CollectedRun) -> Vec<bool> {
    run.predictions.iter().map(|line| line.predicted == line.label as usize).collect()
}

fn median_step(run: &CollectedRun) -> f64 {
    median(run.curves.steps.iter().map(|step| step.seconds).collect())
}

impl Comparison {
    fn of(name: &str, baseline: &[&CollectedRun], others: &[&CollectedRun]) -> Option<Self> {
        let mut pairs: Vec<(&CollectedRun, &CollectedRun)> = Vec::new();
        for other in others {
            let partner = baseline.iter().find(|run| run.run.seed == other.run.seed);
            pairs.extend(partner.map(|partner| (*partner, *other)));
        }
        let scores = |run: &CollectedRun| -> Vec<f64> {
            right(run).iter().map(|right| f64::from(u8::from(*right))).collect()
        };
        let losses = |run: &CollectedRun| -> Vec<f64> {
            run.predictions.iter().map(|line| line.loss).collect()
        };
        let compare = |values: &dyn Fn(&CollectedRun) -> Vec<f64>| {
            let first: Vec<Vec<f64>> = pairs.iter().map(|pair| values(pair.0)).collect();
            let other: Vec<Vec<f64>> = pairs.iter().map(|pair| values(pair.1)).collect();
            let scores = first.iter().map(Vec::len).sum::<usize>().max(1);
            let affordable = u32::try_from(ADDITIONS / scores).unwrap_or(RESAMPLES);
            paired(&first, &other, RESAMPLES.min(affordable).max(1000), SEED)
        };
        let discordance = pairs
            .iter()
            .filter_map(|(first, other)| {
                let (only_first, only_other) = discordant(&right(first), &right(other))?;
                let p = mcnemar(only_first, only_other);
                Some(Discordance { seed: first.run.seed, only_first, only_other, p })
            })
            .collect();
        let mut comparison = Self {
            name: name.into(),
            seeds: pairs.iter().map(|(first, _)| first.run.seed).collect(),
            accuracy: compare(&scores)?,
            loss: compare(&losses)?,
            discordance,
            verdict: String::new(),
        };
        comparison.verdict = verdict(
            name,
            comparison.accuracy.estimate * 100.0,
            comparison.interval_points(),
            pairs.len(),
            comparison.accuracy.examples,
        );
        Some(comparison)
    }
}
