//! Writes `known.toml` and `packages.txt`.

use super::budgets::{Findings, Known, Tables};
use std::fs;
use std::path::PathBuf;

/// The packages that `known.toml` and `docs/cards.md` were made with.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cards/packages.txt");

const HEADER: &str = "\
# Figures that break a budget of budgets.rs today, by model, kernel and card: none may get worse.
# One that got better fails the tests until it is written here, by `make cards ARGS=--record`.
";

/// Puts what was found in the place of what was known of the same cards, and writes that down with
/// the packages, as `scripts/cards.sh` lists them, that it was found with.
///
/// # Errors
/// A file cannot be written.
pub fn record(mut known: Known, found: &Findings, versions: &str) -> Result<(), String> {
    known.0.retain(|place, _| !found.cards.contains(&place.card));
    known.0.extend(found.broken.clone());
    let mut tables = Tables::new();
    for (place, value) in known.0 {
        let subjects = tables.entry(place.model).or_default();
        let figures = subjects.entry(place.subject).or_default();
        figures.entry(place.figure.name().into()).or_default().insert(place.card, value);
    }
    let mut text = HEADER.to_owned();
    for (model, subjects) in tables {
        for (subject, figures) in subjects {
            for (figure, values) in figures {
                text.push_str(&format!("\n[\"{model}\".{subject}.{figure}]\n"));
                for (card, value) in values {
                    text.push_str(&format!("\"{card}\" = {value}\n"));
                }
            }
        }
    }
    for (path, text) in [(Known::path(), &*text), (PathBuf::from(PACKAGES), versions)] {
        fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))?;
    }
    Ok(())
}
