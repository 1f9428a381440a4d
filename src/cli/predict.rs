//! `crisp predict`: classify sentences.

use super::{Common, note, open, print, print_json, source};
use crate::data::Encoded;
use crate::engine::{Evaluator, Inspector, Prediction};
use crate::error::{Error, Result};
use crate::graph::{Precision, Session};
use crate::model::Model;
use crate::report;
use crate::sparsity::Policy;
use crate::train::Settings;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M")]
    model: String,
    /// Override the sparsity that the model was trained with.
    #[arg(long, value_name = "S")]
    sparsity: Option<String>,
    /// What activations are stored in: `f32` or `mixed`, which is float16.
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
    /// Word pieces kept of a sentence.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_length)]
    max_length: usize,
    /// One JSON object per sentence.
    #[arg(long)]
    json: bool,
    /// Writes a page that shows what each head looked at and kept (of the first sentences, 8 at
    /// most).
    #[arg(long, value_name = "FILE.html")]
    attention: Option<PathBuf>,
    /// The sentences; without any, the lines of stdin.
    text: Vec<String>,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    text: &'a str,
    label: &'a str,
    logits: &'a [f32],
    probabilities: &'a [f64],
}

/// Sentences that are classified together.
const BATCH: usize = 32;
/// Sentences on a page of attention.
const SHOWN: usize = 8;
/// Word pieces of the longest of them.
const READABLE: usize = 512;
/// Sentences read from stdin before their results are printed.
const CHUNK: usize = 1024;

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let settings = Settings { max_length: arguments.max_length, ..Settings::default() };
    super::recipe::check(&settings)?;
    let given: Option<Policy> = arguments.sparsity.as_deref().map(str::parse).transpose()?;
    let mut session = open(common)?;
    let model = source::model(&arguments.model, settings.seed)?;
    let policy = super::eval::policy_of(given, &model.config)?;
    model.upload(&mut session)?;

    let mut page = arguments.attention.clone();
    let mut classify = |texts: &[String]| -> Result<()> {
        let max_length = model.max_length(settings.max_length);
        let ids = model.tokenizer.encode_all(texts, max_length)?;
        let examples: Vec<Encoded> =
            ids.into_iter().map(|ids| Encoded { ids, label: None }).collect();
        let (config, precision) = (&model.config, arguments.precision);
        let mut evaluator =
            Evaluator::for_examples(&mut session, config, &policy, precision, &examples, BATCH)?;
        let predictions = evaluator.predict(&session, &examples, BATCH, |_| {})?;
        for (text, prediction) in texts.iter().zip(&predictions) {
            show(text, prediction, model.config.task.labels(), arguments.json)?;
        }
        // Of lines from stdin the first chunk: the page is written once.
        if let Some(path) = page.take() {
            let html = attention(
                &mut session,
                (&arguments.model, &model),
                &policy,
                &examples,
                &predictions,
            )?;
            crate::files::write(&path, html.as_bytes())?;
            let of = if examples.len() > SHOWN { " of the first 8 sentences" } else { "" };
            note(&format!("attention{of} in {}", path.display()));
        }
        Ok(())
    };
    if !arguments.text.is_empty() {
        return classify(&arguments.text);
    }
    if std::io::stdin().is_terminal() {
        return Err(Error::usage("there is nothing to classify")
            .remedy("Name sentences as arguments, or pipe lines in."));
    }
    let mut texts = Vec::new();
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|why| {
            Error::input(format!("stdin, line {}: {why}", number + 1))
                .remedy("Sentences are lines of UTF-8 text.")
        })?;
        if !line.trim().is_empty() {
            texts.push(line);
        }
        if texts.len() == CHUNK {
            classify(&texts)?;
            texts.clear();
        }
    }
    if texts.is_empty() { Ok(()) } else { classify(&texts) }
}

/// The page of what each head looked at in the first sentences.
fn attention(
    session: &mut Session,
    (name, model): (&str, &Model),
    policy: &Policy,
    examples: &[Encoded],
    predictions: &[Prediction],
) -> Result<String> {
    let shown = &examples[..examples.len().min(SHOWN)];
    if let Some(long) = shown.iter().find(|example| example.ids.len() > READABLE) {
        return Err(Error::usage(format!(
            "--attention: a sentence has {} word pieces, and {READABLE} can be looked at",
            long.ids.len()
        ))
        .remedy(format!("Cut it with --max-length {READABLE}, or leave --attention out.")));
    }
    let inspection =
        Inspector::new(session, &model.config, policy, shown)?.inspect(session, model, shown)?;
    let labels: Vec<(String, f64)> = predictions
        .iter()
        .map(|of| (model.config.task.labels()[of.label].clone(), of.probabilities[of.label]))
        .collect();
    Ok(report::attention_page(name, &inspection, &labels))
}

fn show(text: &str, prediction: &Prediction, labels: &[String], json: bool) -> Result<()> {
    let label = labels.get(prediction.label).map_or("", String::as_str);
    if json {
        return print_json(&Line {
            text,
            label,
            logits: &prediction.logits,
            probabilities: &prediction.probabilities,
        });
    }
    print(&format!("{label}\t{:.4}\t{text}", prediction.probabilities[prediction.label]))
}
