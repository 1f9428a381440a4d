//! A file of settings in TOML.

use super::settings::{Overrides, Setting, Settings};
use crate::error::{Error, Result};
use crate::files;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

/// What such a file says: settings, and what is trained on what.
#[derive(Clone, Default)]
pub struct SettingsFile {
    /// The model's name.
    pub model: Option<String>,
    /// The data's name.
    pub data: Option<String>,
    /// The run directory.
    pub output: Option<PathBuf>,
    /// The settings.
    pub overrides: Overrides,
}

/// Keys that are not settings.
const OTHERS: [&str; 3] = ["model", "data", "output"];
/// How like a key must be to a name to be meant by it, from 0 to 1.
const ALIKE: f64 = 0.8;

impl SettingsFile {
    /// Reads a TOML file. Its keys are the names of the settings, with dashes or underscores, and
    /// `model`, `data` and `output`.
    ///
    /// # Errors
    /// No file, no TOML, a key that is unknown or there twice, a value of another kind: names the
    /// file and the line.
    pub fn load(path: &Path) -> Result<Self> {
        let text = files::read_text(path)?;
        let table: BTreeMap<Spanned<String>, Value> = toml::from_str(&text)
            .map_err(|why| Error::input(format!("{}: {why}", path.display())))?;
        let mut file = Self::default();
        for (key, value) in table {
            let line = 1 + text[..key.span().start].matches('\n').count();
            file.add(
                key.get_ref(),
                value,
                format!("{}, line {line}: {}", path.display(), key.get_ref()),
            )?;
        }
        Ok(file)
    }

    fn add(&mut self, key: &str, value: Value, place: String) -> Result<()> {
        let text = match value {
            Value::String(text) => text,
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
            other => {
                let kind = other.type_str();
                return Err(Error::input(format!("{place}: it is one value, and here a {kind}")));
            }
        };
        match key {
            "model" => self.model = Some(text),
            "data" => self.data = Some(text),
            "output" => self.output = Some(text.into()),
            _ => {
                let Some(setting) = Setting::named(key) else { return Err(unknown(key, &place)) };
                if self.overrides.has(setting) {
                    return Err(Error::input(format!("{place}: it is there twice")));
                }
                self.overrides.add(setting, text, place)?;
            }
        }
        Ok(())
    }
}

/// There is no such key; perhaps one that is like it.
fn unknown(key: &str, place: &str) -> Error {
    let error = Error::input(format!("{place}: there is no such setting"));
    let key = key.replace('_', "-");
    let names = Settings::ALL.iter().map(|setting| setting.name.replace('_', "-"));
    let alike = names
        .chain(OTHERS.map(String::from))
        .map(|name| (strsim::jaro_winkler(&key, &name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= ALIKE);
    error.remedy(match alike {
        Some((_, name)) => format!("Is `{name}` meant?"),
        None => "Keys are the names of the settings, e.g. `batch-size = 16`.".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<SettingsFile> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        std::fs::write(&path, text).unwrap();
        SettingsFile::load(&path)
    }

    #[test]
    fn keys_have_dashes_or_underscores() {
        let file = load(
            "model = \"m\"\nbatch-size = 4\nmax_length = 0x20\nlearning-rate = 5e-5\n\
             clip = 1\nshuffle = false\nsparsity = \"topk:0.5\"\n",
        )
        .unwrap();
        assert_eq!((file.model.as_deref(), file.data), (Some("m"), None));
        let settings = file.overrides.over(Settings::default()).unwrap();
        let wanted = Settings {
            batch_size: 4,
            max_length: 32,
            shuffle: false,
            sparsity: "topk:0.5".parse().unwrap(),
            ..Settings::default()
        };
        assert_eq!(settings, wanted);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, words) in [
            ("clip = 1\nbatch_sise = 4\n", &["run.toml, line 2: batch_sise", "`batch-size`"][..]),
            ("modle = \"m\"\n", &["line 1: modle", "`model`"]),
            ("colour = 1\n", &["line 1: colour", "e.g. `batch-size"]),
            ("\n\nseed = [1]\n", &["line 3: seed", "array"]),
            ("seed = 1.5\n", &["line 1: seed", "'1.5'"]),
            ("max-steps = 1\nmax_steps = 2\n", &["line 2: max_steps", "twice"]),
            ("sparsity = \"much\"\n", &["line 1: sparsity", "'much'"]),
            ("seed = \n", &["run.toml", "line 1"]),
        ] {
            let error = load(text).err().unwrap().to_string();
            words.iter().for_each(|word| assert!(error.contains(word), "{error}"));
        }
        let error = load("batch-size = 0\n").unwrap().overrides.over(Settings::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("run.toml, line 1: batch-size 0: it must be"), "{error}");
    }
}
