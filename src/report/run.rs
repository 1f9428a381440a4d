//! The page of one run, and the parts that the page of a study has in common with it.

use super::attention_map::AttentionMap;
use super::chart::{LineChart, Series};
use super::page::{Page, Table};
use crate::engine::{AttentionPairs, HeadLook, Inspection, Look};
use crate::error::Result;
use crate::train::{Curves, RunDirectory, RunRecord};
use serde_json::Value;

/// Points of a smoothed curve.
const POINTS: usize = 60;

/// A curve in so few points that it can be read: each is the mean of as many consecutive values, and stands
/// at their mean x.
pub fn curve(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let per = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(per)
        .map(|chunk| {
            let count = chunk.len() as f64;
            let sum =
                chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (sum.0 / count, sum.1 / count)
        })
        .collect()
}

/// The page of a run, from what its directory holds.
///
/// # Errors
/// Records that are missing or damaged.
pub fn run_page(directory: &RunDirectory) -> Result<String> {
    let record = RunRecord::read(&directory.record())?;
    let curves = Curves::read(&directory.metrics())?;
    let settings = &record.settings;
    let mut page = Page::new(
        format!("{}, {} attention", record.model, settings.sparsity),
        format!("One run of crisp {} on {}", record.crisp, adapter_name(&record.adapter)),
    );
    if let Some(result) = &record.result {
        page.verdict(&format!(
            "{:.2} % of {} validation sentences are classified right after {} steps (loss {:.4}).",
            result.eval_accuracy * 100.0,
            result.examples,
            result.steps,
            result.eval_loss,
        ));
        page.text(
            "One run says little about a configuration: with another seed the accuracy would be another. \
             The command “crisp reproduce” compares several seeds.",
        );
        let mut rows = vec![vec![
            "validation".into(),
            format!("{:.4}", result.eval_accuracy),
            format!("{:.4}", result.eval_loss),
            result.examples.to_string(),
        ]];
        rows.push(vec![
            "training sentences".into(),
            format!("{:.4}", result.training.accuracy),
            format!("{:.4}", result.training.loss),
            result.training.examples.to_string(),
        ]);
        rows.push(vec![
            format!("best validation (step {})", result.best_step),
            format!("{:.4}", result.best_accuracy),
            String::new(),
            result.examples.to_string(),
        ]);
        page.section("Result").table(&Table {
            caption: "After the last step, without dropout. The best of the run was chosen by the \
                      sentences that it is measured on."
                .into(),
            columns: ["", "accuracy", "loss", "sentences"].map(String::from).to_vec(),
            rows,
        });
    }
    page.section("Training");
    let steps: Vec<(f64, f64)> =
        curves.steps.iter().map(|line| (f64::from(line.step), f64::from(line.loss))).collect();
    let evaluated = |of: fn(&crate::train::EvaluationLine) -> f64| -> Vec<(f64, f64)> {
        curves.evaluations.iter().map(|line| (f64::from(line.step), of(line))).collect()
    };
    let series = |name: &str, points| Series { name: name.into(), points, band: vec![] };
    let loss = LineChart {
        title: "Loss".into(),
        x: "step".into(),
        y: "cross-entropy".into(),
        series: vec![
            series("training", curve(&steps)),
            series("validation", evaluated(|line| line.eval_loss)),
        ],
    };
    let accuracy = LineChart {
        title: "Validation accuracy".into(),
        x: "step".into(),
        y: "accuracy".into(),
        series: vec![series("", evaluated(|line| line.eval_accuracy))],
    };
    page.figures(&[
        (
            loss.small_svg(),
            "Training loss is the mean of consecutive batches, with dropout; validation without.",
        ),
        (accuracy.small_svg(), "Validation accuracy at each evaluation."),
    ]);
    let seconds: Vec<(f64, f64)> =
        curves.steps.iter().map(|line| (f64::from(line.step), line.seconds)).collect();
    let rate: Vec<(f64, f64)> = curves
        .steps
        .iter()
        .map(|line| (f64::from(line.step), f64::from(line.learning_rate)))
        .collect();
    page.fold("Time and learning rate", |page| {
        let small = |title: &str, y: &str, points| {
            LineChart {
                title: title.into(),
                x: "step".into(),
                y: y.into(),
                series: vec![series("", points)],
            }
            .small_svg()
        };
        page.figures(&[
            (small("Time of a step", "seconds", curve(&seconds)), "Means of consecutive steps."),
            (small("Learning rate", "rate", curve(&rate)), ""),
        ]);
    });
    if let Some(result) = &record.result {
        page.section("Attention: what was left out");
        let per_step = |pairs: &AttentionPairs| -> Vec<[f64; 2]> {
            let layers = pairs.operations(result.head_dim);
            let steps = f64::from(result.steps.max(1));
            layers.iter().map(|layer| layer.map(|of| of as f64 / steps)).collect()
        };
        page.table(&operations_table(&[(
            settings.sparsity.to_string(),
            per_step(&result.training_pairs),
        )]));
        SparsityTable(&result.evaluation_pairs.sparsity()).add(&mut page);
    }
    let attention = directory.attention();
    if attention.exists() {
        let inspection = Inspection::read(&attention)?;
        page.section("Attention: where heads look");
        for look in &inspection.sentences {
            page.text(&format!("“{}”", look.tokens.join(" ")));
            page.figures(&layers_figures(look));
            page.fold("Every head", |page| heads_figures(page, look));
        }
    }
    page.section("Settings");
    page.pairs(&record_pairs(&record));
    Ok(page.finish())
}

/// The page of `predict --attention`: what each head kept of each sentence.
pub fn attention_page(model: &str, inspection: &Inspection, labels: &[(String, f64)]) -> String {
    let mut page =
        Page::new("Where attention looks", format!("{model}, attention {}", inspection.sparsity));
    page.text(
        "A row is a query, a column a key; the darker, the more weight the query gives the key. Pairs that \
         the policy left out stay blank, with a dot.",
    );
    for (number, look) in inspection.sentences.iter().enumerate() {
        page.section(&format!("“{}”", look.tokens.join(" ")));
        if let Some((label, probability)) = labels.get(number) {
            page.text(&format!("Classified as {label} (probability {probability:.4})."));
        }
        page.figures(&layers_figures(look));
        if let Some(last) = look.heads.len().checked_sub(1) {
            let head = look.mean(last);
            let svg = map(look, &head, true);
            page.figure(
                &svg,
                &format!(
                    "Layer {last}, mean of all heads; blank where none of them keeps the pair. Each head keeps \
                     {} of {} pairs.",
                    kept_range(&look.heads[last]),
                    look.len() * look.len()
                ),
            );
        }
        heads_figures(&mut page, look);
    }
    page.finish()
}

/// `28`, or `19 to 28` where heads differ.
fn kept_range(heads: &[HeadLook]) -> String {
    let kept = heads.iter().map(|head| head.mask().iter().filter(|kept| **kept).count());
    let (least, most) =
        kept.fold((usize::MAX, 0), |(least, most), kept| (least.min(kept), most.max(kept)));
    if least == most { most.to_string() } else { format!("{} to {most}", least.min(most)) }
}

fn map(look: &Look, head: &HeadLook, labelled: bool) -> String {
    let kept = head.mask();
    // A dense head has nothing to mark.
    let all = kept.iter().all(|kept| *kept);
    let map = AttentionMap {
        tokens: &look.tokens,
        weights: &head.weights,
        kept: (!all).then_some(kept.as_slice()),
    };
    map.svg(labelled)
}

/// A small map for each layer: the mean of its heads.
pub fn layers_figures(look: &Look) -> Vec<(String, String)> {
    let of = |layer: usize| (map(look, &look.mean(layer), false), format!("layer {layer}, mean"));
    (0..look.heads.len()).map(of).collect()
}

/// A small map for each head, layer by layer.
pub fn heads_figures(page: &mut Page, look: &Look) {
    for (layer, heads) in look.heads.iter().enumerate() {
        page.text(&format!("Layer {layer}"));
        let of = |(number, head)| (map(look, head, false), format!("head {number}"));
        let figures: Vec<(String, String)> = heads.iter().enumerate().map(of).collect();
        page.figures(&figures);
    }
}

/// Operations of attention in a training step, by layer, for each configuration.
pub fn operations_table(configurations: &[(String, Vec<[f64; 2]>)]) -> Table {
    let layers = configurations.iter().map(|(_, layers)| layers.len()).max().unwrap_or(0);
    let mut columns = vec!["".to_owned()];
    columns.extend((0..layers).map(|layer| format!("layer {layer}")));
    columns.extend(["all layers", "dense", "saved"].map(String::from));
    let giga = |operations: f64| format!("{:.4}", operations / 1e9);
    let rows = configurations
        .iter()
        .map(|(name, of_layers)| {
            let sum = |which: usize| of_layers.iter().map(|layer| layer[which]).sum::<f64>();
            let mut row = vec![name.clone()];
            row.extend(of_layers.iter().map(|layer| giga(layer[0])));
            row.resize(1 + layers, String::new());
            row.extend([giga(sum(0)), giga(sum(1))]);
            row.push(format!("{:.1} %", 100.0 * (1.0 - sum(0) / sum(1).max(1.0))));
            row
        })
        .collect();
    Table {
        caption: "GFLOP of attention (scores, softmax and values, without the projections) in a training \
                  step, forward and backward, mean over the run: 14 operations for each pair of query and key \
                  that counts and each component of a head."
            .into(),
        columns,
        rows,
    }
}

/// The share of pairs that each head left out, `[layers][heads]`.
pub struct SparsityTable<'a>(pub &'a [Vec<f64>]);

impl SparsityTable<'_> {
    /// Adds it to a page: a row a layer; the heads apart where they differ.
    pub fn add(&self, page: &mut Page) {
        page.table(
            &self.table("Share of the pairs of query and key left out in the last evaluation."),
        );
    }

    /// The table.
    pub fn table(&self, caption: &str) -> Table {
        let percent = |share: &f64| format!("{:.1} %", 100.0 * share);
        let uniform = self.0.iter().all(|heads| heads.iter().all(|head| *head == heads[0]));
        let columns = match uniform {
            true => vec![String::new(), "each head".into()],
            false => {
                let heads = self.0.iter().map(Vec::len).max().unwrap_or(0);
                std::iter::once(String::new())
                    .chain((0..heads).map(|head| format!("head {head}")))
                    .collect()
            }
        };
        let rows = self.0.iter().enumerate().map(|(layer, heads)| {
            let shown = if uniform { &heads[..heads.len().min(1)] } else { heads.as_slice() };
            std::iter::once(format!("layer {layer}")).chain(shown.iter().map(percent)).collect()
        });
        Table { caption: caption.into(), rows: rows.collect(), columns }
    }
}

/// Name and driver of an adapter.
pub fn adapter_name(adapter: &Value) -> String {
    let of = |key: &str| adapter[key].as_str().unwrap_or_default().to_owned();
    let parts = [of("name"), of("driver"), of("backend")];
    let parts: Vec<&str> =
        parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// Everything that identifies a run, as names and values.
pub fn record_pairs(record: &RunRecord) -> Vec<(String, String)> {
    let mut pairs = vec![
        ("crisp".into(), record.crisp.clone()),
        ("model".into(), record.model.clone()),
        ("adapter".into(), adapter_name(&record.adapter)),
        ("kernels for".into(), record.shaders.clone()),
    ];
    for (name, data) in
        [("training data", &record.data.train), ("validation data", &record.data.validation)]
    {
        pairs.push((name.into(), format!("{}, {} sentences", data.path.display(), data.examples)));
        pairs.push((format!("{name}, SHA-256"), data.fingerprint.clone()));
    }
    for (name, value) in record.settings.pairs() {
        pairs.push((name.replace('_', " "), value));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_of_many_points_is_their_means_and_one_of_few_itself() {
        let points: Vec<(f64, f64)> = (0..600).map(|i| (f64::from(i), f64::from(i % 10))).collect();
        let short = curve(&points);
        assert_eq!(short.len(), 60);
        assert_eq!(short[0], (4.5, 4.5));
        assert_eq!(curve(&points[..7]), points[..7]);
        assert!(curve(&[]).is_empty());
    }

    #[test]
    fn heads_are_shown_apart_only_where_they_differ() {
        let uniform = SparsityTable(&[vec![0.8; 3], vec![0.0; 3]]).table("");
        assert_eq!(uniform.rows, [["layer 0", "80.0 %"], ["layer 1", "0.0 %"]]);
        let apart = SparsityTable(&[vec![0.8, 0.75], vec![0.0; 2]]).table("");
        assert_eq!(apart.columns.len(), 3);
        assert_eq!(apart.rows[0], ["layer 0", "80.0 %", "75.0 %"]);
    }
}
