//! The page of a study, and the same as text and figures.

use super::analysis::Analysis;
use super::statistics::{Interval, PAPER_GAIN_POINTS, Summary};
use super::sweep::{Collected, CollectedRun};
use crate::error::{Error, Result};
use crate::files;
use crate::report::chart::{self, IntervalChart, LineChart, Series, standalone};
use crate::report::page::{Page, Table};
use crate::report::{
    SparsityTable, adapter_name, curve, heads_figures, layers_figures, operations_table,
    record_pairs,
};
use crate::train::EvaluationLine;
use std::path::{Path, PathBuf};

/// Validation accuracy that the paper reports, in percent, by policy: dense, and the strongest sparsity.
const PAPER: [(&str, f64); 2] = [("dense", 90.62), ("topk:0.8", 91.59)];

/// What was written of a study.
pub struct Written {
    /// The page.
    pub report: PathBuf,
    /// The tables, as text.
    pub text: String,
}

struct Figure {
    name: &'static str,
    svg: String,
    caption: String,
}

/// Writes `report.html`, `report.md` (the tables), `report.json` (all figures) and `figures/*.svg` into a
/// study's directory.
///
/// # Errors
/// What the operating system refuses.
pub fn write(root: &Path, collected: &Collected, analysis: &Analysis) -> Result<Written> {
    let verdicts: Vec<&str> =
        analysis.comparisons.iter().map(|comparison| comparison.verdict.as_str()).collect();
    let tables = tables(analysis);
    let figures = figures(collected, analysis);
    let title = format!("Does sparse attention change {}?", collected.study.model);
    let subtitle = subtitle(collected);
    let notes = notes(collected, analysis);

    let mut page = Page::new(title.as_str(), subtitle.as_str());
    verdicts.iter().for_each(|verdict| {
        page.verdict(verdict);
    });
    page.section("Result");
    notes.iter().for_each(|note| {
        page.text(note);
    });
    let filled = |table: &&Table| !table.rows.is_empty();
    tables[..2].iter().filter(filled).for_each(|table| {
        page.table(table);
    });
    for figure in &figures[..1] {
        page.figure(&figure.svg, &figure.caption);
    }
    tables[2..4].iter().filter(filled).for_each(|table| {
        page.table(table);
    });
    page.section("Training");
    for figure in &figures[1..] {
        page.figure(&figure.svg, &figure.caption);
    }
    page.section("Operations and time");
    tables[4..].iter().for_each(|table| {
        page.table(table);
    });
    page.section("Sparsity realised, by layer and head");
    for result in &analysis.configurations {
        let caption = format!(
            "{}: share of the pairs of query and key left out in the last evaluation",
            result.configuration.name
        );
        let table = SparsityTable(&result.evaluation_sparsity).table(&caption);
        page.fold(&result.configuration.name, |page| {
            page.table(&table);
        });
    }
    attention(&mut page, collected);
    page.section("Settings and fingerprints");
    if let Some(first) = collected.runs.first() {
        let mut pairs = record_pairs(&first.record);
        pairs.retain(|(name, _)| {
            !["sparsity", "seed", "attention dropout"].contains(&name.as_str())
        });
        pairs.push(("seeds".into(), listed(collected.study.seeds.iter())));
        page.pairs(&pairs);
    }
    page.fold("Every run", |page| {
        page.table(&runs_table(collected));
    });
    let report = root.join("report.html");
    files::write(&report, page.finish().as_bytes())?;

    let mut text = format!("# {title}\n\n{subtitle}\n\n");
    for part in verdicts.iter().copied().chain(notes.iter().map(String::as_str)) {
        text.push_str(part);
        text.push_str("\n\n");
    }
    for table in tables.iter().chain([&runs_table(collected)]) {
        text.push_str(&table.text());
        text.push('\n');
    }
    files::write(&root.join("report.md"), text.as_bytes())?;
    let mut json = serde_json::to_string_pretty(analysis)
        .map_err(|why| Error::input(format!("report.json: {why}")))?;
    json.push('\n');
    files::write(&root.join("report.json"), json.as_bytes())?;
    files::create_dir(&root.join("figures"))?;
    for figure in &figures {
        let path = root.join("figures").join(format!("{}.svg", figure.name));
        files::write(&path, standalone(&figure.svg).as_bytes())?;
    }
    Ok(Written { report, text })
}

fn listed(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn subtitle(collected: &Collected) -> String {
    let study = &collected.study;
    let run = collected.runs.first();
    let sentences = run.map_or(0, |run| run.predictions.len());
    let steps = run.and_then(|run| run.record.result.as_ref()).map_or(0, |result| result.steps);
    format!(
        "{} on {}: {} configurations, {} seed{} each, {steps} steps of {} sentences, judged on {sentences} \
         validation sentences. {}.",
        study.model,
        study.data,
        study.configurations.len(),
        study.seeds.len(),
        if study.seeds.len() == 1 { "" } else { "s" },
        study.settings.batch_size,
        run.map_or(String::new(), |run| adapter_name(&run.record.adapter)),
    )
}

fn notes(collected: &Collected, analysis: &Analysis) -> Vec<String> {
    let mut notes = vec![
        "Runs of one seed share data order, fresh weights and dropout. All figures are of the model after the \
         last step, not of the best step: that one is chosen by the sentences that it is judged on."
            .to_owned(),
    ];
    if !analysis.missing.is_empty() {
        notes.push(format!(
            "Not finished: {} of {} runs ({}). What is shown is about the others.",
            analysis.missing.len(),
            analysis.missing.len() + collected.runs.len(),
            listed(analysis.missing.iter()),
        ));
    }
    if !analysis.diverged.is_empty() {
        notes.push(format!(
            "Diverged, and so without a result: {}. The others of such a configuration are those that did not, \
             which flatters it.",
            listed(analysis.diverged.iter())
        ));
    }
    let adapters: std::collections::BTreeSet<String> =
        collected.runs.iter().map(|run| adapter_name(&run.record.adapter)).collect();
    if adapters.len() > 1 {
        notes.push(format!(
            "The runs come from different adapters ({}): compare no times.",
            listed(adapters.iter())
        ));
    }
    if analysis.comparisons.len() > 1 {
        notes.push(
            "Each interval covers the truth in 95 % of studies on its own; of several, one is more likely to \
             miss it."
                .into(),
        );
    }
    notes
}

fn plus_minus(of: &Summary, scale: f64, digits: usize) -> String {
    let mean = of.mean * scale;
    match of.deviation {
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

/// Results, differences, tests, operations, times.
fn tables(analysis: &Analysis) -> Vec<Table> {
    let strings = |columns: &[&str]| columns.iter().map(|column| column.to_string()).collect();
    let results = Table {
        caption: "Validation accuracy and loss, and their distance from training sentences: mean and standard \
                  deviation over seeds. The paper's figures are single numbers for DistilBERT-base after 3 \
                  epochs on SST-2."
            .into(),
        columns: strings(&[
            "configuration",
            "seeds",
            "accuracy, %",
            "paper, %",
            "loss",
            "accuracy gap, points",
            "loss gap",
        ]),
        rows: analysis
            .configurations
            .iter()
            .map(|result| {
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
            })
            .collect(),
    };
    let first = &analysis.baseline;
    let differences = Table {
        caption: format!(
            "Accuracy less that of {first}, in points, paired by seed and sentence, with 95 % intervals: for \
             other seeds (Student's t; bootstrap, widened for few seeds), other sentences (bootstrap), and both, on which \
             the verdict rests. Ends are rounded outwards."
        ),
        columns: strings(&[
            "configuration",
            "difference",
            "seeds (t)",
            "seeds (bootstrap)",
            "sentences",
            "both",
        ]),
        rows: analysis
            .comparisons
            .iter()
            .map(|of| {
                let accuracy = &of.accuracy;
                vec![
                    of.name.clone(),
                    format!("{:+.2}", accuracy.estimate * 100.0),
                    between(accuracy.t.map(|t| t.interval), 100.0, 2),
                    between(accuracy.over_seeds, 100.0, 2),
                    between(accuracy.over_examples, 100.0, 2),
                    between(of.interval_points(), 1.0, 2),
                ]
            })
            .collect(),
    };
    let losses = Table {
        caption: format!(
            "Validation loss less that of {first}, likewise: negative is better than {first}."
        ),
        columns: strings(&["configuration", "difference", "seeds (t)", "sentences", "both"]),
        rows: analysis
            .comparisons
            .iter()
            .map(|of| {
                let loss = &of.loss;
                vec![
                    of.name.clone(),
                    format!("{:+.4}", loss.estimate),
                    between(loss.t.map(|t| t.interval), 1.0, 4),
                    between(loss.over_examples, 1.0, 4),
                    between(loss.over_both, 1.0, 4),
                ]
            })
            .collect(),
    };
    let only = format!("only {first}");
    let tests = Table {
        caption: format!(
            "McNemar's exact test, seed by seed: sentences that only {first} has right, that only the other has \
             right, and the chance of as uneven a split if neither were better."
        ),
        columns: strings(&["configuration", "seed", &only, "only it", "p"]),
        rows: analysis
            .comparisons
            .iter()
            .flat_map(|of| {
                of.discordance.iter().map(|seed| {
                    vec![
                        of.name.clone(),
                        seed.seed.to_string(),
                        seed.only_first.to_string(),
                        seed.only_other.to_string(),
                        format!("{:.3}", seed.p),
                    ]
                })
            })
            .collect(),
    };
    let by_layer: Vec<(String, Vec<[f64; 2]>)> = analysis
        .configurations
        .iter()
        .map(|result| (result.configuration.name.clone(), result.step_operations.clone()))
        .collect();
    let dense = analysis.configurations.iter().find(|result| result.configuration.name == *first);
    let dense = dense.map(|result| result.step_seconds.mean);
    let of_first = format!("of {first}");
    let times = Table {
        caption: "Time of a whole training step (median of each run, mean over seeds); of attention in one step \
                  of each run, masks included, by the device's clock; and what of it was left out in training."
            .into(),
        columns: strings(&[
            "configuration",
            "step, s",
            &of_first,
            "attention, ms",
            "pairs left out",
        ]),
        rows: analysis
            .configurations
            .iter()
            .map(|result| {
                let seconds = &result.step_seconds;
                vec![
                    result.configuration.name.clone(),
                    plus_minus(seconds, 1.0, 4),
                    dense.map_or("–".into(), |dense| {
                        format!("{:.1} %", 100.0 * seconds.mean / dense.max(1e-12))
                    }),
                    result
                        .attention_seconds
                        .map_or("–".into(), |seconds| plus_minus(&seconds, 1e3, 1)),
                    result.training_sparsity.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share)),
                ]
            })
            .collect(),
    };
    vec![results, differences, losses, tests, operations_table(&by_layer), times]
}

fn runs_table(collected: &Collected) -> Table {
    let columns = ["run", "accuracy, %", "loss", "best accuracy, %", "minutes", "adapter"];
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
    Table {
        caption: "Every run.".into(),
        columns: columns.map(String::from).to_vec(),
        rows: collected.runs.iter().filter_map(row).collect(),
    }
}

/// The intervals, and the curves of each configuration with their spread over seeds.
fn figures(collected: &Collected, analysis: &Analysis) -> Vec<Figure> {
    let rows = analysis
        .comparisons
        .iter()
        .map(|of| {
            let interval = of.interval_points();
            chart::Interval {
                label: of.name.clone(),
                estimate: of.accuracy.estimate * 100.0,
                low: interval.map_or(f64::NEG_INFINITY, |interval| interval.low),
                high: interval.map_or(f64::INFINITY, |interval| interval.high),
            }
        })
        .collect();
    let first = &analysis.baseline;
    let difference = IntervalChart {
        title: format!("Accuracy less that of {first}"),
        x: "percentage points, with 95 % interval".into(),
        rows,
        marks: vec![
            (0.0, "no difference".into()),
            (PAPER_GAIN_POINTS, format!("paper, +{PAPER_GAIN_POINTS}")),
        ],
    };
    let over_seeds = |points: &dyn Fn(&CollectedRun) -> Vec<(f64, f64)>| -> Vec<Series> {
        let of = |(number, configuration): (usize, &super::Configuration)| {
            let runs = collected.runs.iter().filter(|run| run.run.configuration == number);
            let curves: Vec<Vec<(f64, f64)>> = runs.map(points).collect();
            (!curves.is_empty()).then(|| spread(configuration.name.clone(), &curves))
        };
        collected.study.configurations.iter().enumerate().filter_map(of).collect()
    };
    let evaluated = |of: fn(&EvaluationLine) -> f64| {
        move |run: &CollectedRun| -> Vec<(f64, f64)> {
            run.curves.evaluations.iter().map(|line| (f64::from(line.step), of(line))).collect()
        }
    };
    let chart = |title: &str, y: &str, series| {
        LineChart { title: title.into(), x: "step".into(), y: y.into(), series }.svg()
    };
    let training = over_seeds(&|run| {
        let steps = run.curves.steps.iter();
        let points: Vec<(f64, f64)> =
            steps.map(|line| (f64::from(line.step), f64::from(line.loss))).collect();
        curve(&points)
    });
    let spread =
        "The line is the mean over seeds, the band reaches from the lowest to the highest.";
    vec![
        Figure {
            name: "difference",
            svg: difference.svg(),
            caption: "Intervals for other seeds and other sentences (for one seed: other sentences only)."
                .into(),
        },
        Figure {
            name: "training-loss",
            svg: chart("Training loss", "cross-entropy", training),
            caption: format!("Loss of the training batches, means of consecutive steps. {spread}"),
        },
        Figure {
            name: "validation-loss",
            svg: chart(
                "Validation loss",
                "cross-entropy",
                over_seeds(&evaluated(|line| line.eval_loss)),
            ),
            caption: spread.into(),
        },
        Figure {
            name: "validation-accuracy",
            svg: chart(
                "Validation accuracy",
                "accuracy",
                over_seeds(&evaluated(|line| line.eval_accuracy)),
            ),
            caption: spread.into(),
        },
    ]
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

/// The same sentences under each configuration, from the runs of the first seed that has any.
fn attention(page: &mut Page, collected: &Collected) {
    let Some(first) = collected.runs.iter().find(|run| run.attention.is_some()) else { return };
    let shown: Vec<&CollectedRun> = collected
        .runs
        .iter()
        .filter(|run| run.run.seed == first.run.seed && run.attention.is_some())
        .collect();
    let sentences = first.attention.as_ref().map_or(0, |attention| attention.sentences.len());
    page.section("Where attention looks");
    page.text(&format!(
        "The same sentences under each configuration, seed {}: for each layer the mean weights of its heads. \
         Rows are queries, columns keys; pairs that no head keeps are blank.",
        first.run.seed
    ));
    for number in 0..sentences {
        for run in &shown {
            let of = |run: &CollectedRun| run.attention.as_ref()?.sentences.get(number).cloned();
            let (Some(look), Some(same)) = (of(run), of(shown[0])) else { continue };
            // A run that was made to show other sentences has nothing to show beside these.
            if look.tokens != same.tokens {
                continue;
            }
            let look = &look;
            let name = &collected.study.configurations[run.run.configuration].name;
            if run.run.name == shown[0].run.name {
                page.text(&format!("“{}”", look.tokens.join(" ")));
            }
            page.text(name);
            page.figures(&layers_figures(look));
            // One sentence in full is enough: a map takes some kilobytes.
            if number == 0 {
                page.fold(&format!("{name}: every head"), |page| heads_figures(page, look));
            }
        }
    }
}
