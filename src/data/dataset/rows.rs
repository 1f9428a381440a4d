//! What every format comes down to: a text and a label, checked row by row.

use super::names::Split;
use crate::error::{Error, Result};
use std::str;

/// The names that the text column may have.
const TEXT: [&str; 2] = ["sentence", "text"];
/// The name of the label's column.
pub(super) const LABEL: &str = "label";

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Exactly as in the file, spaces at its ends included.
    pub text: String,
    /// An index into the label names; nothing where a test split does not say.
    pub label: Option<u32>,
}

/// The label of a row, as the file has it.
pub(super) enum Label<'a> {
    Missing,
    /// A name, or an index written out.
    Text(&'a str),
    /// A number by its type, never a name.
    Index(i64),
    /// A value that cannot be a label, as a person would write it.
    Other(String),
}

/// Where the columns of a table are.
pub(super) struct Columns {
    pub(super) text: usize,
    pub(super) label: Option<usize>,
    pub(super) count: usize,
}

/// The examples that have been read so far, and what is asked of the next one.
pub(super) struct Rows<'a> {
    pub(super) split: Split,
    pub(super) label_names: &'a [String],
    pub(super) examples: Vec<Example>,
}

impl Rows<'_> {
    /// Finds the columns by their names.
    pub(super) fn columns(&self, names: &[&str]) -> Result<Columns> {
        let text = text_column(names)?;
        let mut labels = (0..names.len()).filter(|&at| names[at] == LABEL);
        let label = labels.next();
        if labels.next().is_some() {
            return Err(Error::input(format!("more than one column is called {LABEL}"))
                .remedy("Rename all but one."));
        }
        if label.is_none() && self.split != Split::Test {
            return Err(Error::input(format!(
                "no column {LABEL}, which the {} split needs; there are {}",
                self.split,
                quoted(&names.join(", "))
            ))
            .remedy("Add the column, or rename the one that holds the labels."));
        }
        Ok(Columns { text, label, count: names.len() })
    }

    /// Adds a row of a table.
    pub(super) fn push_fields(&mut self, columns: &Columns, fields: &[&str]) -> Result<()> {
        if fields.len() != columns.count {
            return Err(Error::input(format!(
                "{} fields where the header has {}: {}",
                fields.len(),
                columns.count,
                quoted(&fields.join(" | "))
            ))
            .remedy(
                "Give the line as many fields as the header; a blank line may only end a file.",
            ));
        }
        let label = match columns.label.map(|at| fields[at]) {
            None | Some("") => Label::Missing,
            Some(label) => Label::Text(label),
        };
        self.push(fields[columns.text], label)
    }

    /// Adds an example.
    pub(super) fn push(&mut self, text: &str, label: Label<'_>) -> Result<()> {
        let label = self.class(label)?;
        self.examples.push(Example { text: text.to_owned(), label });
        Ok(())
    }

    /// The index that a label stands for: a name goes before a number that is written the same.
    fn class(&self, label: Label<'_>) -> Result<Option<u32>> {
        let (index, shown) = match label {
            Label::Missing => (Some(-1), None),
            Label::Index(index) => (Some(index), Some(index.to_string())),
            Label::Other(value) => (None, Some(value)),
            Label::Text(text) => {
                let named = self.label_names.iter().position(|name| name == text);
                let index = named.map(|at| at as i64).or_else(|| text.trim().parse().ok());
                (index, Some(quoted(text)))
            }
        };
        if let Some(index) = index.filter(|&at| at >= 0 && at < self.label_names.len() as i64) {
            return Ok(Some(index as u32));
        }
        if index == Some(-1) {
            if self.split == Split::Test {
                return Ok(None);
            }
            let what = shown.map_or("the label is missing".into(), |_| {
                "the label is -1, which stands for an unpublished one".to_string()
            });
            return Err(Error::input(format!("{what}; the {} split needs it", self.split))
                .remedy("Add the label, or leave the line out."));
        }
        let names: Vec<_> = self.label_names.iter().map(|name| format!("{name:?}")).collect();
        Err(Error::input(format!(
            "the label {} is neither a number from 0 to {} nor one of {}",
            shown.unwrap_or_default(),
            self.label_names.len().saturating_sub(1),
            names.join(", ")
        ))
        .remedy("Correct the label, or use a model whose labels (id2label) fit the data."))
    }
}

/// Which of the names is the text's.
pub(super) fn text_column(names: &[&str]) -> Result<usize> {
    let mut found = (0..names.len()).filter(|&at| TEXT.contains(&names[at]));
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => Err(Error::input(format!(
            "no column sentence or text; there are {}",
            quoted(&names.join(", "))
        ))
        .remedy("Name the columns sentence and label (in TSV and CSV, in the first line).")),
        (Some(one), Some(other)) => Err(Error::input(format!(
            "two columns could be the text: {} and {}",
            names[one], names[other]
        ))
        .remedy("Rename the one that is not meant.")),
    }
}

/// The bytes of a file as text, without a byte order mark.
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    let text = utf8(bytes).map_err(|error| {
        let good = str::from_utf8(bytes).map_or_else(|why| why.valid_up_to(), str::len);
        let line = 1 + bytes[..good].iter().filter(|&&byte| byte == b'\n').count();
        error.at(format!("line {line}"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Bytes as text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes).map_err(|why| {
        let bad = &bytes[why.valid_up_to()..];
        let bad = &bad[..why.error_len().unwrap_or(bad.len())];
        Error::input(format!("not UTF-8 text (bytes {bad:02x?})"))
            .remedy("Convert the file to UTF-8.")
    })
}

/// The lines without their ends, `\n` or `\r\n`; blank lines at the end of the text are no lines.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim_end_matches(['\r', '\n']);
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// A value for a message: quoted, control characters escaped, cut where it is long.
pub(super) fn quoted(value: &str) -> String {
    const LONGEST: usize = 60;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}
