//! Labelled sentences from TSV, CSV, JSON lines and Parquet files.

use crate::error::{Error, Result};
use crate::files;
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, panic, str};

/// The names that the text column may have.
const TEXT: [&str; 2] = ["sentence", "text"];
const LABEL: &str = "label";

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What it is measured on; files call it `dev`, `validation` or `val`.
    Validation,
    /// What it is measured on last; its labels may be missing.
    Test,
}

impl Split {
    /// What a file of this split is called, without the extension.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["dev", "validation", "val"],
            Self::Test => &["test"],
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

impl str::FromStr for Split {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Train, Self::Validation, Self::Test]
            .into_iter()
            .find(|split| split.stems().contains(&name))
            .ok_or_else(|| {
                Error::usage(format!("there is no split {}", quoted(name)))
                    .remedy("Choose train, validation (or dev), or test.")
            })
    }
}

/// One sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Exactly as in the file, spaces at its ends included.
    pub text: String,
    /// An index into the label names; nothing where a test split does not say.
    pub label: Option<u32>,
}

/// All the sentences of a split, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The file, or, where the split lies in several, the directory that holds them.
    pub path: PathBuf,
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// SHA-256, in hex, of the bytes of the file, or of all the files in their order.
    pub fingerprint: String,
}

impl Dataset {
    /// Reads a split.
    ///
    /// `path` is a file, taken as it is, or a directory, where (or in whose `data` directory) the
    /// file is named after the split: `train`, `dev` or `validation` or `val`, `test`, with the
    /// extension `tsv`, `csv`, `jsonl` (`json-lines`, `ndjson`, `json`) or `parquet`; or Hugging
    /// Face's `train-00000-of-00002.parquet` and so on.
    ///
    /// A column `sentence` or `text` is the text; `label` is a name out of `label_names` or an
    /// index into them. Only the test split may do without, or say -1.
    ///
    /// # Errors
    /// No file for the split, or several to choose from (names them); a file that cannot be read or
    /// parsed, a value that is wrong (names file, line counted from 1 with the header, and value);
    /// no examples at all.
    pub fn load(path: &Path, split: Split, label_names: &[String]) -> Result<Self> {
        let about = fs::metadata(path).map_err(|why| {
            Error::io(path, "open the data set", &why).remedy(format!(
                "Give a file, or a directory that holds a {} file.",
                split.stems().join(" or ")
            ))
        })?;
        let found = if about.is_dir() { find(path, split)? } else { vec![path.to_path_buf()] };

        let mut rows = Rows { split, label_names, examples: Vec::new() };
        let mut hash = Sha256::new();
        for file in &found {
            let bytes = files::read(file)?;
            hash.update(&bytes);
            rows.read_file(file, bytes).map_err(|error| error.at(file.display()))?;
        }
        let path = match found.as_slice() {
            [file] => file.clone(),
            shards => shards[0].parent().unwrap_or(path).to_path_buf(),
        };
        rows.finish(path, hash)
    }

    /// Reads a labelled TSV file that is in memory already; `name` stands for its path.
    ///
    /// # Errors
    /// As [`load`](Self::load), for what is in the file.
    pub fn from_tsv(name: &Path, bytes: &[u8], label_names: &[String]) -> Result<Self> {
        let mut rows = Rows { split: Split::Train, label_names, examples: Vec::new() };
        utf8(bytes)
            .and_then(|text| rows.read_tsv(text))
            .map_err(|error| error.at(name.display()))?;
        rows.finish(name.to_path_buf(), Sha256::new_with_prefix(bytes))
    }

    /// Keeps the first `count` examples. The fingerprint stays that of the whole file.
    pub fn truncate(&mut self, count: usize) {
        self.examples.truncate(count);
    }
}

#[derive(Clone, Copy)]
enum Format {
    Tsv,
    Csv,
    JsonLines,
    Parquet,
}

fn format_of(file: &Path) -> Option<Format> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "tsv" => Some(Format::Tsv),
        "csv" => Some(Format::Csv),
        "jsonl" | "json-lines" | "ndjson" | "json" => Some(Format::JsonLines),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

/// The file of a split in a directory, or its shards in order.
fn find(directory: &Path, split: Split) -> Result<Vec<PathBuf>> {
    // A data set that could be read: its name for people, and its files by shard number.
    let mut found: BTreeMap<PathBuf, Vec<(usize, PathBuf)>> = BTreeMap::new();
    let inner = directory.join("data");
    for place in [Some(directory), inner.is_dir().then_some(inner.as_path())].into_iter().flatten()
    {
        let listing =
            fs::read_dir(place).map_err(|why| Error::io(place, "list the directory", &why))?;
        for entry in listing {
            let file = entry.map_err(|why| Error::io(place, "list the directory", &why))?.path();
            let Some(stem) = file.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let Some(format) = format_of(&file).filter(|_| file.is_file()) else { continue };
            if split.stems().contains(&stem) {
                found.insert(file.clone(), vec![(0, file)]);
            } else if let (Format::Parquet, Some((name, shard, of))) = (format, shard(stem))
                && split.stems().contains(&name)
            {
                let all = place.join(format!("{name}-*-of-{of}.parquet"));
                found.entry(all).or_default().push((shard, file));
            }
        }
    }

    let names: Vec<_> = found.keys().map(|name| name.display().to_string()).collect();
    let mut sets = found.into_values();
    match (sets.next(), sets.next()) {
        (None, _) => Err(Error::input(format!(
            "{}: no file for the {split} split",
            directory.display()
        ))
        .remedy(format!(
            "Looked for {} with the extension tsv, csv, jsonl or parquet, here and in data; give a \
             file to use it whatever its name.",
            split.stems().join(", ")
        ))),
        (Some(shards), None) => complete(directory, shards),
        (Some(_), Some(_)) => Err(Error::input(format!(
            "{}: more than one file for the {split} split: {}",
            directory.display(),
            names.join(", ")
        ))
        .remedy("Give the file itself, or move the others away.")),
    }
}

/// Takes `train-00000-of-00002`, or `train-00000-of-00002-HASH`, apart: name, shard, shards.
fn shard(stem: &str) -> Option<(&str, usize, &str)> {
    let mut parts = stem.split('-');
    let (name, shard) = (parts.next()?, parts.next()?);
    let of = parts.next().filter(|&word| word == "of").and_then(|_| parts.next())?;
    of.parse::<usize>().ok()?;
    Some((name, shard.parse().ok()?, of))
}

/// The shards in their order, once each of them is there exactly once.
fn complete(directory: &Path, mut shards: Vec<(usize, PathBuf)>) -> Result<Vec<PathBuf>> {
    shards.sort();
    let stem = shards[0].1.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let of = shard(stem).and_then(|(_, _, of)| of.parse().ok()).unwrap_or(1);
    let wrong = (0..of.max(shards.len()))
        .find(|&at| at >= of || shards.get(at).is_none_or(|(shard, _)| *shard != at));
    match wrong {
        None => Ok(shards.into_iter().map(|(_, file)| file).collect()),
        Some(at) => Err(Error::input(format!(
            "{}: of the {of} shards counted from 0, number {at} is missing, or one is there twice \
             or too many; there are {}",
            directory.display(),
            shards
                .iter()
                .map(|(_, file)| file.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .remedy("Download the data set again, or give one file to use it alone.")),
    }
}

/// The label of a row, as the file has it.
enum Label<'a> {
    Missing,
    /// A name, or an index written out.
    Text(&'a str),
    /// A number by its type, never a name.
    Index(i64),
    /// A value that cannot be a label, as a person would write it.
    Other(String),
}

/// Where the columns of a table are.
struct Columns {
    text: usize,
    label: Option<usize>,
    count: usize,
}

/// The examples that have been read so far, and what is asked of the next one.
struct Rows<'a> {
    split: Split,
    label_names: &'a [String],
    examples: Vec<Example>,
}

impl Rows<'_> {
    fn read_file(&mut self, file: &Path, bytes: Vec<u8>) -> Result<()> {
        match format_of(file) {
            None => Err(Error::input("the extension does not say what is in the file")
                .remedy("Name it .tsv, .csv, .jsonl or .parquet after what it is.")),
            Some(_) if bytes.is_empty() => Err(Error::input("the file is empty")
                .remedy("It may not have been downloaded or written to the end; get it again.")),
            Some(Format::Parquet) => self.read_parquet(bytes.into()),
            Some(Format::Tsv) => self.read_tsv(text(&bytes)?),
            Some(Format::Csv) => self.read_csv(text(&bytes)?),
            Some(Format::JsonLines) => self.read_json_lines(text(&bytes)?),
        }
    }

    fn finish(self, path: PathBuf, hash: Sha256) -> Result<Dataset> {
        if self.examples.is_empty() {
            return Err(Error::input(format!("{}: there are no examples", path.display()))
                .remedy("Put at least one sentence under the header."));
        }
        if u32::try_from(self.examples.len()).is_err() {
            return Err(Error::input(format!(
                "{}: {} examples are more than can be counted in 32 bits",
                path.display(),
                self.examples.len()
            ))
            .remedy("Split the file."));
        }
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Dataset { path, examples: self.examples, fingerprint })
    }

    /// TSV as GLUE has it: no quoting, a quote is text, spaces at the end of the text stay.
    fn read_tsv(&mut self, text: &str) -> Result<()> {
        let mut lines = lines(text);
        let header: Vec<_> = lines.next().unwrap_or_default().split('\t').collect();
        let columns = self.columns(&header).map_err(|error| error.at("line 1"))?;
        for (line, content) in (2..).zip(lines) {
            let fields: Vec<_> = content.split('\t').collect();
            self.push_fields(&columns, &fields)
                .map_err(|error| error.at(format!("line {line}")))?;
        }
        Ok(())
    }

    /// CSV with standard quoting: a quoted field may hold commas, quotes and line ends.
    fn read_csv(&mut self, text: &str) -> Result<()> {
        // The csv crate takes a quote that is never closed to run to the end of the file, and says
        // nothing. A last record that does not arrive in one piece gives it away.
        const END: &str = "end of the file";
        let marked = format!("{text}\n{END}");
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(marked.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut columns = None;
        let (mut line, mut counted) = (1, 0);
        while reader
            .read_record(&mut record)
            .map_err(|why| Error::input(format!("line {line}: not CSV: {why}")))?
        {
            // The record's own line, past line ends that the reader skipped on the way to it.
            let from = record.position().map_or(0, |position| position.byte() as usize);
            let start = from + marked[from..].bytes().take_while(|b| b"\r\n".contains(b)).count();
            line += marked[counted..start].matches('\n').count();
            counted = start;

            let fields: Vec<_> = record.iter().collect();
            if reader.position().byte() as usize == marked.len() {
                if fields == [END] {
                    break;
                }
                return Err(Error::input(format!(
                    "line {line}: a quote that opens in this record is never closed"
                ))
                .remedy("Close it, or double a quote that is text; quotes need none in .tsv."));
            }
            let pushed = match &columns {
                None => self.columns(&fields).map(|found| columns = Some(found)),
                Some(columns) => self.push_fields(columns, &fields),
            };
            pushed.map_err(|error| error.at(format!("line {line}")))?;
        }
        Ok(())
    }

    /// One JSON object a line.
    fn read_json_lines(&mut self, text: &str) -> Result<()> {
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

    /// Flat columns: the text in UTF-8, the label as an integer (Hugging Face's `ClassLabel`) or a
    /// name.
    fn read_parquet(&mut self, bytes: Bytes) -> Result<()> {
        // The parquet crate asserts some of what a file claims about itself; a broken file must
        // still end in a message.
        let read = panic::catch_unwind(panic::AssertUnwindSafe(|| self.push_parquet(bytes)));
        read.unwrap_or_else(|_| Err(broken_parquet(&"it contradicts itself")))
    }

    fn push_parquet(&mut self, bytes: Bytes) -> Result<()> {
        let reader = SerializedFileReader::new(bytes).map_err(|why| broken_parquet(&why))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let columns = self.columns(&names)?;
        let mut row = 0;
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group).map_err(|why| broken_parquet(&why))?;
            let column = |at: usize| {
                let packed = group.metadata().column(at).compression();
                if matches!(packed, Compression::ZSTD(_) | Compression::BROTLI(_)) {
                    return Err(Error::input(format!(
                        "the column {} is packed with {packed}",
                        names[at]
                    ))
                    .remedy("Write it with snappy, gzip, lz4 or no compression, or as TSV."));
                }
                let reader = group.get_column_reader(at).map_err(|why| broken_parquet(&why))?;
                values(reader, schema.column(at).max_def_level())
                    .map_err(|error| error.at(format!("column {}", names[at])))
            };
            let texts = column(columns.text)?;
            let labels = columns.label.map(column).transpose()?;
            if labels.as_ref().is_some_and(|labels| labels.len() != texts.len()) {
                return Err(broken_parquet(&"its columns differ in length"));
            }
            for (at, text) in texts.iter().enumerate() {
                row += 1;
                let label = labels.as_ref().map_or(&Cell::Null, |labels| &labels[at]);
                self.push_cells(text, label).map_err(|error| error.at(format!("row {row}")))?;
            }
        }
        Ok(())
    }

    fn push_cells(&mut self, text: &Cell, label: &Cell) -> Result<()> {
        let text = match text {
            Cell::Bytes(text) => utf8(text.data())?,
            Cell::Integer(number) => {
                return Err(Error::input(format!("the text is the number {number}"))
                    .remedy("Write the column again as a string."));
            }
            Cell::Null => {
                return Err(Error::input("the text is null").remedy("Leave rows without text out."));
            }
        };
        match label {
            Cell::Null => self.push(text, Label::Missing),
            Cell::Integer(index) => self.push(text, Label::Index(*index)),
            Cell::Bytes(name) => self.push(text, Label::Text(utf8(name.data())?)),
        }
    }

    /// Finds the columns by their names.
    fn columns(&self, names: &[&str]) -> Result<Columns> {
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

    fn push_fields(&mut self, columns: &Columns, fields: &[&str]) -> Result<()> {
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

    fn push(&mut self, text: &str, label: Label<'_>) -> Result<()> {
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
fn text_column(names: &[&str]) -> Result<usize> {
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

/// A value of a Parquet column.
enum Cell {
    Null,
    Integer(i64),
    Bytes(ByteArray),
}

/// All the values of a column in a row group; `present` is the definition level of a value.
fn values(reader: ColumnReader, present: i16) -> Result<Vec<Cell>> {
    match reader {
        ColumnReader::Int32ColumnReader(reader) => {
            cells(reader, present, |value| Cell::Integer(value.into()))
        }
        ColumnReader::Int64ColumnReader(reader) => cells(reader, present, Cell::Integer),
        ColumnReader::ByteArrayColumnReader(reader) => cells(reader, present, Cell::Bytes),
        _ => Err(Error::input("neither a string nor an integer")
            .remedy("Write the column again with one of the two types.")),
    }
}

fn cells<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    present: i16,
    cell: impl Fn(T::T) -> Cell,
) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    loop {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (records, _, _) = reader
            .read_records(4096, Some(&mut levels), None, &mut values)
            .map_err(|why| broken_parquet(&why))?;
        if records == 0 {
            return Ok(cells);
        }
        // A required column (definition level 0) stores no levels: every value is there.
        levels.resize(records, present);
        let mut values = values.into_iter();
        cells.extend(levels.into_iter().map(|level| {
            let value = if level == present { values.next() } else { None };
            value.map_or(Cell::Null, &cell)
        }));
    }
}

fn broken_parquet(why: &dyn fmt::Display) -> Error {
    Error::input(format!("not a Parquet file that can be read: {why}"))
        .remedy("It may not have been downloaded or written to the end; get it again.")
}

/// The bytes of a file as text, without a byte order mark.
fn text(bytes: &[u8]) -> Result<&str> {
    let text = utf8(bytes).map_err(|error| {
        let good = str::from_utf8(bytes).map_or_else(|why| why.valid_up_to(), str::len);
        let line = 1 + bytes[..good].iter().filter(|&&byte| byte == b'\n').count();
        error.at(format!("line {line}"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes).map_err(|why| {
        let bad = &bytes[why.valid_up_to()..];
        let bad = &bad[..why.error_len().unwrap_or(bad.len())];
        Error::input(format!("not UTF-8 text (bytes {bad:02x?})"))
            .remedy("Convert the file to UTF-8.")
    })
}

/// The lines without their ends, `\n` or `\r\n`; blank lines at the end of the text are no lines.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim_end_matches(['\r', '\n']);
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// A value for a message: quoted, control characters escaped, cut where it is long.
fn quoted(value: &str) -> String {
    const LONGEST: usize = 60;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}
