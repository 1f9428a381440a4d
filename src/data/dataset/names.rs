//! What the name of a data file says. One grammar for the directories that people name and for what
//! is fetched from the hub, so that whatever is fetched can be read.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, str};

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What it is measured on; files call it `dev`, `validation`, `valid` or `val`.
    Validation,
    /// What it is measured on last; its labels may be missing.
    Test,
}

impl Split {
    const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The words for this split in the names of files.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["dev", "validation", "valid", "val"],
            Self::Test => &["test"],
        }
    }

    /// The split that a word in the name of a file stands for, in whatever case.
    fn of(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|split| split.words().iter().any(|known| known.eq_ignore_ascii_case(word)))
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
        Self::ALL.into_iter().find(|split| split.words().contains(&name)).ok_or_else(|| {
            Error::usage(format!("there is no split {name:?}"))
                .remedy("Choose train, validation (or dev), or test.")
        })
    }
}

/// The extensions of data files, in any case. Of a data set on the hub that has several, the first
/// is fetched: the hub's own conversions, in Parquet, are the well-formed ones, and `.json` is as
/// often one long list as it is lines.
const EXTENSIONS: [(&str, Format); 7] = [
    ("parquet", Format::Parquet),
    ("jsonl", Format::JsonLines),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("ndjson", Format::JsonLines),
    ("json-lines", Format::JsonLines),
    ("json", Format::JsonLines),
];

/// How the examples of a file are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Tsv,
    Csv,
    JsonLines,
    Parquet,
}

impl Format {
    /// What the extension of a file says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        rank(path).map(|rank| EXTENSIONS[rank].1)
    }
}

/// The place of a file's extension among [`EXTENSIONS`].
fn rank(path: &Path) -> Option<usize> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS.iter().position(|(known, _)| *known == extension)
}

/// The name of a data file, taken apart: `train.tsv`, or a file of a series,
/// `train-00000-of-00002.parquet` or `train-00000-of-00002-HASH.parquet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName<'a> {
    pub(crate) split: Split,
    pub(crate) format: Format,
    /// Smaller where the hub's data sets have the better files; see [`EXTENSIONS`].
    pub(crate) rank: usize,
    shard: Option<Shard<'a>>,
}

/// One file of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard<'a> {
    /// Counted from 0.
    number: usize,
    /// How many there are.
    count: usize,
    /// What all of the series have in common, `train` and `00002`, as they are written.
    series: (&'a str, &'a str),
}

impl<'a> FileName<'a> {
    /// Takes a path's last part apart; nothing where it is not a data file's.
    pub(crate) fn parse(path: &'a Path) -> Option<Self> {
        let rank = rank(path)?;
        let stem = path.file_stem()?.to_str()?;
        let (word, shard) = match Shard::parse(stem) {
            Some(shard) => (shard.series.0, Some(shard)),
            None => (stem, None),
        };
        Some(Self { split: Split::of(word)?, format: EXTENSIONS[rank].1, rank, shard })
    }
}

impl<'a> Shard<'a> {
    fn parse(stem: &'a str) -> Option<Self> {
        let mut parts = stem.split('-');
        let (name, number) = (parts.next()?, parts.next()?);
        let count = parts.next().filter(|&word| word == "of").and_then(|_| parts.next())?;
        let series = (name, count);
        Some(Self { number: number.parse().ok()?, count: count.parse().ok()?, series })
    }
}

/// Why no file can be taken for a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// None is named after it.
    Missing,
    /// Several files, or series of files, are; all of them.
    Several(Vec<PathBuf>),
    /// Of a series of `count` files the one with this number is not there exactly once.
    Series { count: usize, number: usize, files: Vec<PathBuf> },
}

/// The files of a split among others, in their order: one, or all of a series.
pub(crate) fn files_of<P: AsRef<Path>>(
    split: Split,
    files: &[P],
) -> std::result::Result<Vec<&Path>, Unfit> {
    // By what to call them, a file's own path or its series, the files and their numbers.
    let mut sets: BTreeMap<PathBuf, Vec<(usize, &Path)>> = BTreeMap::new();
    let mut count = 1;
    for path in files.iter().map(AsRef::as_ref) {
        match FileName::parse(path).filter(|name| name.split == split) {
            None => {}
            Some(FileName { shard: None, .. }) => {
                sets.insert(path.to_path_buf(), vec![(0, path)]);
            }
            Some(FileName { shard: Some(shard), .. }) => {
                count = shard.count;
                let (name, of) = shard.series;
                let series = path.with_file_name(format!("{name}-*-of-{of}"));
                let extension = path.extension().unwrap_or_default();
                let all = series.with_extension(extension);
                sets.entry(all).or_default().push((shard.number, path));
            }
        }
    }
    if sets.len() > 1 {
        return Err(Unfit::Several(sets.into_keys().collect()));
    }
    let mut shards = sets.into_values().next().ok_or(Unfit::Missing)?;
    shards.sort();
    let wrong = (0..count.max(shards.len()))
        .find(|&at| at >= count || shards.get(at).is_none_or(|(number, _)| *number != at));
    let files = shards.into_iter().map(|(_, path)| path);
    match wrong {
        None => Ok(files.collect()),
        Some(number) => {
            Err(Unfit::Series { count, number, files: files.map(Path::to_path_buf).collect() })
        }
    }
}
