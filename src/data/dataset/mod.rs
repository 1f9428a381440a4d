//! Labelled sentences from TSV, CSV, JSON lines and Parquet files.

mod find;
mod json;
pub(crate) mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod tables;

pub use names::Split;
pub use rows::Example;

use crate::error::{Error, Result};
use crate::files;
use names::Format;
use rows::{Rows, text, utf8};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

/// Of one file without a second to evaluate on, one example in so many is held out.
const TENTH: usize = 10;

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
    /// file is named after the split: `train`, `dev` or `validation` or `valid` or `val`, `test`,
    /// with the extension `tsv`, `csv`, `jsonl` (`json-lines`, `ndjson`, `json`) or `parquet`, in
    /// whatever case; or a series of files, as Hugging Face's `train-00000-of-00002.parquet`.
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
                split.words().join(" or ")
            ))
        })?;
        let found = match about.is_dir() {
            true => find::find(path, split)?,
            false => vec![path.to_path_buf()],
        };

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

    /// Takes every tenth example out, to be evaluated on, and keeps the others in their order. Both
    /// parts have the path and the fingerprint of the whole.
    ///
    /// # Errors
    /// Fewer than ten examples.
    pub fn hold_out(&mut self) -> Result<Self> {
        if self.examples.len() < TENTH {
            return Err(Error::input(format!(
                "{}: {} examples are too few to hold a tenth of them out for evaluation",
                self.path.display(),
                self.examples.len()
            ))
            .remedy("Name a directory with a train and a dev file."));
        }
        let mut number = 0;
        let tenths = self.examples.extract_if(.., |_| {
            number += 1;
            number % TENTH == 0
        });
        let examples = tenths.collect();
        Ok(Self { path: self.path.clone(), examples, fingerprint: self.fingerprint.clone() })
    }
}

impl Rows<'_> {
    fn read_file(&mut self, file: &Path, bytes: Vec<u8>) -> Result<()> {
        match Format::of(file) {
            None => Err(Error::input("the extension does not say what is in the file")
                .remedy("Name it .tsv, .csv, .jsonl or .parquet after what it is.")),
            Some(_) if bytes.is_empty() => Err(Error::input("the file is empty")
                .remedy("It may not have been downloaded or written to the end; get it again.")),
            Some(Format::Parquet) => self.read_parquet(bytes),
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
        let fingerprint = format!("{:x}", hash.finalize());
        Ok(Dataset { path, examples: self.examples, fingerprint })
    }

    #[cfg(not(feature = "parquet"))]
    fn read_parquet(&mut self, _: Vec<u8>) -> Result<()> {
        Err(Error::input("this build of Crisp reads no Parquet files").remedy(
            "Build it with its feature `parquet`, or write the data as TSV, CSV or JSON lines.",
        ))
    }
}
