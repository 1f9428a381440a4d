//! The names of the files in a model's directory, beside those of its
//! [tokenizer](crate::data::Tokenizer::FILES).

/// The sizes and settings.
pub const CONFIG: &str = "config.json";
/// All weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Which file has which weights, where they lie in several.
pub const INDEX: &str = "model.safetensors.index.json";
