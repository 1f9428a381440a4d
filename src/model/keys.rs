//! Typed access to the keys of a `config.json`.

use crate::error::{Error, Result};
use crate::kernels::matmul::Activation;
use serde_json::{Map, Value};
use std::path::Path;

/// Typed access to the keys of one file; `null` counts as absent, as Python's `None` does.
pub(super) struct Keys<'a> {
    pub path: &'a Path,
    pub map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The first of several names for the same thing.
    pub(super) fn first<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &'a Value)> {
        keys.iter().find_map(|key| self.get(key).map(|value| (*key, value)))
    }

    pub(super) fn wrong(&self, key: &str, value: &Value, needed: &str) -> Error {
        Error::input(format!(
            "{}: `{key}` is {}, and must be {needed}",
            self.path.display(),
            shown(value)
        ))
    }

    pub(super) fn whole(&self, keys: &[&str], default: usize) -> Result<usize> {
        let Some((key, value)) = self.first(keys) else {
            return Ok(default);
        };
        value
            .as_u64()
            .filter(|&number| number < 1 << 31)
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.wrong(key, value, "a whole number from 0 and below 2147483648"))
    }

    pub(super) fn size(&self, keys: &[&str], default: usize) -> Result<usize> {
        match (self.whole(keys, default)?, self.first(keys)) {
            (0, Some((key, value))) => Err(self.wrong(key, value, "at least 1")),
            (size, _) => Ok(size),
        }
    }

    pub(super) fn number<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &'a Value, Option<f32>)> {
        let (key, value) = self.first(keys)?;
        let number = value.as_f64().map(|number| number as f32);
        Some((key, value, number))
    }

    pub(super) fn probability(&self, keys: &[&str], default: f32) -> Result<f32> {
        match self.number(keys) {
            None => Ok(default),
            Some((_, _, Some(number))) if (0.0..1.0).contains(&number) => Ok(number),
            Some((key, value, _)) => {
                Err(self.wrong(key, value, "a probability from 0 and below 1"))
            }
        }
    }

    /// A positive number that float32 can hold: neither rounded to zero nor infinite.
    pub(super) fn positive(&self, keys: &[&str], default: f32) -> Result<f32> {
        match self.number(keys) {
            None => Ok(default),
            Some((_, _, Some(number))) if number > 0.0 && number.is_finite() => Ok(number),
            Some((key, value, _)) => Err(self.wrong(key, value, "a number above 0")),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value) => Err(self.wrong(key, value, "a string")),
        }
    }

    pub(super) fn crisp(&self) -> Result<Keys<'a>> {
        static EMPTY: std::sync::OnceLock<Map<String, Value>> = std::sync::OnceLock::new();
        let map = match self.get("crisp") {
            None => EMPTY.get_or_init(Map::new),
            Some(Value::Object(map)) => map,
            Some(value) => return Err(self.wrong("crisp", value, "an object")),
        };
        Ok(Keys { path: self.path, map })
    }

    pub(super) fn activation(&self, key: &str) -> Result<Activation> {
        match self.get(key) {
            None => Ok(Activation::Gelu),
            Some(Value::String(name)) if name == "gelu" => Ok(Activation::Gelu),
            Some(Value::String(name)) if name == "relu" => Ok(Activation::Relu),
            Some(value) => {
                let error = self.wrong(key, value, "\"gelu\" or \"relu\"");
                Err(match value.as_str() {
                    Some(name) if name.contains("gelu") => error.remedy(format!(
                        "\"gelu\" here is the exact function, {} another one: results would \
                         differ from those the model was trained for.",
                        shown(value)
                    )),
                    _ => error,
                })
            }
        }
    }
}

/// A value for a message, cut where it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
