//! What can be meant as an id on the hub.

use crate::data::dataset::names::Format;
use std::path::Path;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `config.json`, weights in safetensors, and the tokenizer's files.
    Model,
    /// Files of examples: train, validation (or dev) and test, in TSV, CSV, JSONL or Parquet.
    Dataset,
}

impl Kind {
    /// Plural, as in the hub's API and in the cache's directory names.
    #[cfg(feature = "hub")]
    pub(super) fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }

    pub(super) fn noun(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        }
    }
}

/// Whether `text` can only be meant as an id on the hub: `NAME` or `ORG/NAME`, where no file or
/// directory is called that, and it does not end like a file.
pub fn looks_like_id(text: &str) -> bool {
    let path = Path::new(text);
    let others = ["txt", "toml", "safetensors", "bin"];
    let other = path.extension().is_some_and(|end| others.iter().any(|other| end == *other));
    is_id(text) && Format::of(path).is_none() && !other && !path.exists()
}

/// Whether `text` has the form of an id.
pub(super) fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        part.len() <= 96
            && part.chars().all(inner)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.ends_with(['.', '-'])
            // "--" stands for "/" in the cache.
            && !part.contains("..")
            && !part.contains("--")
    };
    text.split('/').count() <= 2 && text.split('/').all(part)
}
