//! What the heads of a model that was just trained look at.

use super::{Outcome, Settings};
use crate::data::Encoded;
use crate::engine::{Inspection, Inspector};
use crate::error::Result;
use crate::graph::Session;
use crate::model::encode;

/// What the heads of a trained model look at in these sentences; without any, in the first few that
/// it was evaluated on of a length that can be read. The session must hold its parameters.
///
/// # Errors
/// As [`Inspector::new`] and [`Inspector::inspect`]; a text that the tokenizer refuses.
pub fn look(
    session: &mut Session,
    outcome: &Outcome,
    settings: &Settings,
    sentences: &[String],
) -> Result<Inspection> {
    let model = &outcome.model;
    let chosen: Vec<Encoded> = if sentences.is_empty() {
        let examples = encode(model, &outcome.validation, settings.max_length)?;
        let readable = |example: &Encoded| (8..=READABLE).contains(&example.ids.len());
        examples.into_iter().filter(readable).take(SENTENCES).collect()
    } else {
        let longest = model.max_length(settings.max_length).min(LONGEST);
        let ids = model.tokenizer.encode_all(sentences, longest)?;
        ids.into_iter().map(|ids| Encoded { ids, label: None }).collect()
    };
    if chosen.is_empty() {
        return Ok(Inspection { sparsity: settings.sparsity.to_string(), sentences: vec![] });
    }
    Inspector::new(session, &model.config, &settings.sparsity, &chosen)?
        .inspect(session, model, &chosen)
}

/// Sentences that a report shows.
const SENTENCES: usize = 2;
/// Tokens of the longest of them.
const READABLE: usize = 24;
/// Tokens that are shown of a sentence that was asked for.
const LONGEST: usize = 128;
