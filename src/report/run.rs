//! The page of one run, and that of `predict --attention`.

use super::chart::{LineChart, Series};
use super::page::{Page, Table};
use super::parts::{
    adapter_name, attention_map, curve, heads_figures, layers_figures, operations_table,
    record_pairs, sparsity_table,
};
use crate::engine::{HeadLook, Inspection};
use crate::error::Result;
use crate::train::{Curves, EvaluationLine, RunDirectory, RunRecord, RunResult, StepLine};

/// The page of a run, from what its directory holds.
///
/// # Errors
/// Records that are missing or damaged.
pub fn run_page(directory: &RunDirectory) -> Result<String> {
    let record = RunRecord::read(&directory.record())?;
    let curves = Curves::read(&directory.metrics())?;
    let attention = directory.attention();
    let inspection = attention.exists().then(|| Inspection::read(&attention)).transpose()?;
    let mut page = Page::new(
        format!("{}, {} attention", record.model, record.settings.sparsity),
        format!("One run of crisp {} on {}", record.crisp, adapter_name(&record.adapter)),
    );
    if let Some(result) = &record.result {
        add_result(&mut page, result);
    }
    add_curves(&mut page, &curves);
    add_pace(&mut page, &curves);
    if let Some(result) = &record.result {
        add_operations(&mut page, &record.settings.sparsity.to_string(), result);
    }
    if let Some(inspection) = &inspection {
        add_attention(&mut page, inspection);
    }
    page.section("Settings");
    page.pairs(&record_pairs(&record));
    Ok(page.finish())
}

/// What the run came to.
fn add_result(page: &mut Page, result: &RunResult) {
    page.verdict(&format!(
        "{:.2} % of {} validation sentences are classified right after {} steps (loss {:.4}).",
        result.eval_accuracy * 100.0,
        result.examples,
        result.steps,
        result.eval_loss,
    ));
    page.text(
        "One run says little about a configuration: with another seed the accuracy would be \
         another. The command “crisp reproduce” compares several seeds.",
    );
    let row = |name: String, accuracy: f64, loss: String, sentences: usize| {
        vec![name, format!("{accuracy:.4}"), loss, sentences.to_string()]
    };
    let loss = |loss: f64| format!("{loss:.4}");
    let (accuracy, examples) = (result.eval_accuracy, result.examples);
    let training = &result.training;
    let best = format!("best validation (step {})", result.best_step);
    let rows = vec![
        row("validation".into(), accuracy, loss(result.eval_loss), examples),
        row("training sentences".into(), training.accuracy, loss(training.loss), training.examples),
        row(best, result.best_accuracy, String::new(), examples),
    ];
    page.section("Result").table(&Table {
        caption: "After the last step, without dropout. The best of the run was chosen by the \
                  sentences that it is measured on."
            .into(),
        columns: ["", "accuracy", "loss", "sentences"].map(String::from).to_vec(),
        rows,
    });
}

/// Loss and accuracy over the steps.
fn add_curves(page: &mut Page, curves: &Curves) {
    page.section("Training");
    let evaluated = |value: fn(&EvaluationLine) -> f64| -> Vec<(f64, f64)> {
        curves.evaluations.iter().map(|line| (f64::from(line.step), value(line))).collect()
    };
    let training = smooth(curves, |line| f64::from(line.loss));
    let validation = evaluated(|line| line.eval_loss);
    let loss = [("training", training), ("validation", validation)];
    let loss = small_chart("Loss", "cross-entropy", loss.into());
    let accuracy = vec![("", evaluated(|line| line.eval_accuracy))];
    let accuracy = small_chart("Validation accuracy", "accuracy", accuracy);
    page.figures(&[
        (
            loss,
            "Training loss is the mean of consecutive batches, with dropout; validation without.",
        ),
        (accuracy, "Validation accuracy at each evaluation."),
    ]);
}

/// Seconds of a step and learning rate over the steps, folded away.
fn add_pace(page: &mut Page, curves: &Curves) {
    let seconds = vec![("", smooth(curves, |line| line.seconds))];
    let rate = vec![("", smooth(curves, |line| f64::from(line.learning_rate)))];
    page.fold("Time and learning rate", |page| {
        page.figures(&[
            (small_chart("Time of a step", "seconds", seconds), "Means of consecutive steps."),
            (small_chart("Learning rate", "rate", rate), ""),
        ]);
    });
}

/// Operations of attention, and the pairs that it left out.
fn add_operations(page: &mut Page, sparsity: &str, result: &RunResult) {
    page.section("Attention: what was left out");
    let steps = f64::from(result.steps.max(1));
    let layers = result.training_pairs.operations(result.head_dim);
    let per_step =
        layers.iter().map(|layer| layer.map(|operations| operations as f64 / steps)).collect();
    page.table(&operations_table(&[(sparsity.to_owned(), per_step)]));
    page.table(&sparsity_table(
        &result.evaluation_pairs.sparsity(),
        "Share of the pairs of query and key left out in the last evaluation.",
    ));
}

/// Maps of attention for some sentences.
fn add_attention(page: &mut Page, inspection: &Inspection) {
    page.section("Attention: where heads look");
    for look in &inspection.sentences {
        page.text(&format!("“{}”", look.tokens.join(" ")));
        page.figures(&layers_figures(look));
        page.fold("Every head", |page| heads_figures(page, look));
    }
}

/// Some value of the steps, smoothed, over the steps.
fn smooth(curves: &Curves, value: fn(&StepLine) -> f64) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        curves.steps.iter().map(|line| (f64::from(line.step), value(line))).collect();
    curve(&points)
}

/// Lines over the steps, each with its name.
fn small_chart(title: &str, y: &str, lines: Vec<(&str, Vec<(f64, f64)>)>) -> String {
    let series = lines
        .into_iter()
        .map(|(name, points)| Series { name: name.into(), points, band: vec![] })
        .collect();
    LineChart { title: title.into(), x: "step".into(), y: y.into(), series }.small_svg()
}

/// The page of `predict --attention`: what each head kept of each sentence.
pub fn attention_page(model: &str, inspection: &Inspection, labels: &[(String, f64)]) -> String {
    let mut page =
        Page::new("Where attention looks", format!("{model}, attention {}", inspection.sparsity));
    page.text(
        "A row is a query, a column a key; the darker, the more weight the query gives the key. \
         Pairs that the policy left out stay blank, with a dot.",
    );
    for (number, look) in inspection.sentences.iter().enumerate() {
        page.section(&format!("“{}”", look.tokens.join(" ")));
        if let Some((label, probability)) = labels.get(number) {
            page.text(&format!("Classified as {label} (probability {probability:.4})."));
        }
        page.figures(&layers_figures(look));
        if let Some(last) = look.heads.len().checked_sub(1) {
            let head = look.mean(last);
            let svg = attention_map(look, &head, &head.mask()).svg();
            page.figure(
                &svg,
                &format!(
                    "Layer {last}, mean of all heads; blank where none of them keeps the pair. \
                     Each head keeps {} of {} pairs.",
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
    let counts = heads.iter().map(|head| head.mask().iter().filter(|kept| **kept).count());
    let (least, most) =
        counts.fold((usize::MAX, 0), |(least, most), kept| (least.min(kept), most.max(kept)));
    if least == most { most.to_string() } else { format!("{} to {most}", least.min(most)) }
}
