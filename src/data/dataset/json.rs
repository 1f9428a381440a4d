//! JSON lines.

use super::rows::{LABEL, Label, Rows, lines, quoted, text_column};
use crate::error::{Error, Result};
use serde_json::Value;

impl Rows<'_> {
    /// One JSON object a line.
    pub(super) fn read_json_lines(&mut self, text: &str) -> Result<()> {
        for (line, content) in (1..).zip(lines(text.trim_end())) {
            self.push_json(content).map_err(|error| error.at(format!("line {line}")))?;
        }
        Ok(())
    }

    fn push_json(&mut self, line: &str) -> Result<()> {
        let remedy = "Each line is one object: {\"sentence\": \"a fine film\", \"label\": 1}";
        let value = serde_json::from_str(line).map_err(|why| {
            // A line of its own: of serde_json's place only the column says something.
            let why = why.to_string().replace("at line 1 column", "at column");
            Error::input(format!("not JSON: {why}: {}", quoted(line))).remedy(remedy)
        })?;
        let Value::Object(object) = value else {
            return Err(Error::input(format!("not a JSON object: {}", quoted(line))).remedy(remedy));
        };
        let keys: Vec<_> = object.keys().map(String::as_str).collect();
        let name = keys[text_column(&keys)?];
        let Value::String(text) = &object[name] else {
            let value = quoted(&object[name].to_string());
            return Err(Error::input(format!("{name} is not a string: {value}")).remedy(remedy));
        };
        let label = match object.get(LABEL) {
            None | Some(Value::Null) => Label::Missing,
            Some(Value::String(name)) => Label::Text(name),
            Some(value) => {
                value.as_i64().map_or_else(|| Label::Other(value.to_string()), Label::Index)
            }
        };
        self.push(text, label)
    }
}
