//! What several of the tests need.

pub mod binary;
pub mod transformer;
pub mod trial;

use crisp::data::Tokenizer;
use crisp::model::{Config, Model, checkpoint};
use std::path::Path;

/// The smallest of the fixtures, with a tokenizer.
pub fn tiny() -> Model {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    let config = Config::load(&directory).unwrap();
    let weights = checkpoint::load(&directory, &config, 0).unwrap();
    let letters: String = ('a'..='z').map(|letter| format!("{letter}\n##{letter}\n")).collect();
    let vocabulary = format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n{letters}");
    let words: Vec<&str> = vocabulary.lines().take(config.encoder.vocab_size).collect();
    let tokenizer = Tokenizer::from_vocabulary(&words.join("\n"), true).unwrap();
    Model::new(config, tokenizer, weights).unwrap()
}
