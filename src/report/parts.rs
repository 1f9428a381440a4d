//! Parts that the page of a run and that of a study have in common.

use super::attention_map::AttentionMap;
use super::page::{Page, Table};
use crate::engine::{HeadLook, Look};
use crate::train::RunRecord;
use serde_json::Value;

/// Points of a smoothed curve.
const POINTS: usize = 60;

/// A curve in so few points that it can be read: each is the mean of as many consecutive values,
/// and stands at their mean x.
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

/// The map of a head; one that is dense has nothing to mark.
pub(super) fn attention_map<'a>(
    look: &'a Look,
    head: &'a HeadLook,
    kept: &'a [bool],
) -> AttentionMap<'a> {
    let all = kept.iter().all(|kept| *kept);
    AttentionMap { tokens: &look.tokens, weights: &head.weights, kept: (!all).then_some(kept) }
}

fn thumbnail(look: &Look, head: &HeadLook) -> String {
    attention_map(look, head, &head.mask()).thumbnail()
}

/// A small map for each layer: the mean of its heads.
pub fn layers_figures(look: &Look) -> Vec<(String, String)> {
    let figure =
        |layer: usize| (thumbnail(look, &look.mean(layer)), format!("layer {layer}, mean"));
    (0..look.heads.len()).map(figure).collect()
}

/// A small map for each head, layer by layer.
pub fn heads_figures(page: &mut Page, look: &Look) {
    for (layer, heads) in look.heads.iter().enumerate() {
        page.text(&format!("Layer {layer}"));
        let figure = |(number, head)| (thumbnail(look, head), format!("head {number}"));
        let figures: Vec<(String, String)> = heads.iter().enumerate().map(figure).collect();
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
        caption: "GFLOP of attention (scores, softmax and values, without the projections) in a \
                  training step, forward and backward, mean over the run: 14 operations for each \
                  pair of query and key that counts and each component of a head."
            .into(),
        columns,
        rows,
    }
}

/// The share of pairs that each head left out, `[layers][heads]`: a row a layer; the heads apart
/// where they differ.
pub fn sparsity_table(shares: &[Vec<f64>], caption: &str) -> Table {
    let percent = |share: &f64| format!("{:.1} %", 100.0 * share);
    let uniform = shares.iter().all(|heads| heads.iter().all(|head| *head == heads[0]));
    let mut columns = vec![String::new()];
    if uniform {
        columns.push("each head".into());
    } else {
        let heads = shares.iter().map(Vec::len).max().unwrap_or(0);
        columns.extend((0..heads).map(|head| format!("head {head}")));
    }
    let rows = shares.iter().enumerate().map(|(layer, heads)| {
        let apart = if uniform { heads.len().min(1) } else { heads.len() };
        let shares = heads[..apart].iter().map(percent);
        std::iter::once(format!("layer {layer}")).chain(shares).collect()
    });
    Table { caption: caption.into(), rows: rows.collect(), columns }
}

/// Name and driver of an adapter.
pub fn adapter_name(adapter: &Value) -> String {
    let values = ["name", "driver", "backend"].map(|key| adapter[key].as_str());
    let known: Vec<&str> = values.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    known.join(", ")
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
        let uniform = sparsity_table(&[vec![0.8; 3], vec![0.0; 3]], "");
        assert_eq!(uniform.rows, [["layer 0", "80.0 %"], ["layer 1", "0.0 %"]]);
        let apart = sparsity_table(&[vec![0.8, 0.75], vec![0.0; 2]], "");
        assert_eq!(apart.columns.len(), 3);
        assert_eq!(apart.rows[0], ["layer 0", "80.0 %", "75.0 %"]);
    }
}
