//! The files of a split in a directory.

use super::names::{FileName, Split, Unfit, files_of};
use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The file of a split in a directory or its `data` directory, or all files of a series in order.
pub(super) fn find(directory: &Path, split: Split) -> Result<Vec<PathBuf>> {
    let mut files = data_files(directory)?;
    let inner = directory.join("data");
    if inner.is_dir() {
        files.extend(data_files(&inner)?);
    }
    match files_of(split, &files) {
        Ok(files) => Ok(files.into_iter().map(Path::to_path_buf).collect()),
        Err(unfit) => Err(refusal(&unfit, split).at(directory.display())),
    }
}

/// The files in a directory that are named like data.
fn data_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |why: std::io::Error| Error::io(directory, "list the directory", &why);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        if FileName::parse(&file).is_some() && file.is_file() {
            files.push(file);
        }
    }
    Ok(files)
}

fn refusal(unfit: &Unfit, split: Split) -> Error {
    let list = |files: &[PathBuf]| {
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    match unfit {
        Unfit::Missing => Error::input(format!("no file for the {split} split")).remedy(format!(
            "Looked for {} with the extension tsv, csv, jsonl or parquet, here and in data; \
                 give a file to use it whatever its name.",
            split.words().join(", ")
        )),
        Unfit::Several(files) => {
            Error::input(format!("more than one file for the {split} split: {}", list(files)))
                .remedy("Give the file itself, or move the others away.")
        }
        Unfit::Series { count, number, files } => Error::input(format!(
            "of the {count} shards counted from 0, number {number} is missing, or one is there \
             twice or too many; there are {}",
            list(files)
        ))
        .remedy("Download the data set again, or give one file to use it alone."),
    }
}
