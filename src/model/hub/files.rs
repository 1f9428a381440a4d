//! Which of a repository's files make a model or a data set.

use super::id::Kind;
use crate::data::Tokenizer;
use crate::data::dataset::names::{FileName, Format, Split, Unfit, files_of};
use crate::model::files::{CONFIG, INDEX, WEIGHTS};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The names of the files that are wanted, or what is lacking, for an error.
type Wanted = std::result::Result<Vec<String>, String>;

/// The files that are wanted out of all that a repository has.
pub(super) fn wanted(kind: Kind, all: &[String]) -> Wanted {
    match kind {
        Kind::Model => model_files(all),
        Kind::Dataset => dataset_files(all),
    }
}

/// Whether a file is a data set's, by its name.
pub(super) fn is_data(file: &str) -> bool {
    FileName::parse(Path::new(file)).is_some()
}

/// The directory that a data set's files lie in; of a model, the snapshot itself.
pub(super) fn common_dir(kind: Kind, snapshot: &Path, files: &[String]) -> PathBuf {
    match (kind, files.first().and_then(|file| file.rsplit_once('/'))) {
        (Kind::Dataset, Some((dir, _))) => snapshot.join(dir),
        _ => snapshot.to_path_buf(),
    }
}

fn model_files(all: &[String]) -> Wanted {
    let has = |name: &&str| all.iter().any(|file| file == name);
    if !has(&CONFIG) {
        return Err(CONFIG.into());
    }
    let weights = [WEIGHTS, INDEX].into_iter().find(has).ok_or(WEIGHTS)?;
    if !Tokenizer::EITHER.iter().any(has) {
        return Err(Tokenizer::EITHER.join(" or "));
    }
    let tokenizer = Tokenizer::FILES.into_iter().filter(has);
    let names = [CONFIG].into_iter().chain(tokenizer).chain([weights]);
    let mut names: Vec<String> = names.map(String::from).collect();
    if weights == INDEX {
        // Shards are called model-00001-of-00002.safetensors.
        let shards: Vec<String> = all
            .iter()
            .filter(|file| file.starts_with("model-") && file.ends_with(".safetensors"))
            .cloned()
            .collect();
        whole_series(&shards)?;
        if shards.is_empty() {
            return Err(format!("the files that {INDEX} names"));
        }
        names.extend(shards);
    }
    Ok(names)
}

/// Checks that of files called `…-00000-of-00002.…` none is lacking.
fn whole_series(files: &[String]) -> std::result::Result<(), String> {
    let mut series: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    for file in files {
        let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
        let parts = stem.rsplit_once("-of-").and_then(|(front, count)| {
            let (front, _) = front.rsplit_once('-')?;
            Some((front, count.parse().ok()?))
        });
        if let Some(parts) = parts {
            *series.entry(parts).or_default() += 1;
        }
    }
    match series.iter().find(|((_, count), found)| *found != count) {
        Some(((name, count), found)) => {
            Err(format!("{} of the {count} files {name}-*", count.abs_diff(*found)))
        }
        None => Ok(()),
    }
}

/// Where a data set's files could be: those of one extension in a directory, and, with the rank
/// [`MIXED`], all in a directory.
type Places<'a> = BTreeMap<(usize, &'a str), Vec<&'a str>>;
/// Tried after every rank of an extension.
const MIXED: usize = usize::MAX;

/// The files of one directory, of one extension if possible: just what
/// [`Dataset::load`](crate::data::Dataset::load) finds there when nothing else is.
fn dataset_files(all: &[String]) -> Wanted {
    let mut places = Places::new();
    for file in all {
        let readable =
            |name: &FileName| cfg!(feature = "parquet") || name.format != Format::Parquet;
        let Some(name) = FileName::parse(Path::new(file)).filter(readable) else { continue };
        let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
        for rank in [name.rank, MIXED] {
            places.entry((rank, dir)).or_default().push(file);
        }
    }
    let whole = |files: &Vec<&str>| {
        [Split::Train, Split::Validation].iter().all(|split| files_of(*split, files).is_ok())
    };
    let Some((&(rank, _), files)) = places.iter().find(|(_, files)| whole(files)) else {
        return Err(lacking(&places));
    };
    let rivals = places.iter().filter(|((other, _), files)| *other == rank && whole(files));
    let rivals: Vec<&str> = rivals.map(|((_, dir), _)| *dir).collect();
    if rivals.len() > 1 {
        return Err(format!("one set of files: it has several ({})", rivals.join(", ")));
    }
    let splits = [Split::Train, Split::Validation, Split::Test];
    // A test split is no must, and what cannot be read is not fetched.
    let found = splits.into_iter().filter_map(|split| files_of(split, files).ok()).flatten();
    Ok(found.filter_map(|file| file.to_str().map(String::from)).collect())
}

/// What is lacking where no place has both a train and a validation split.
fn lacking(places: &Places) -> String {
    let unfit = places.values().find_map(|files| {
        let (train, validation) =
            (files_of(Split::Train, files), files_of(Split::Validation, files));
        match (train, validation) {
            (Err(Unfit::Missing), _) | (_, Err(Unfit::Missing)) => None,
            (Err(unfit), _) | (_, Err(unfit)) => Some(unfit),
            _ => None,
        }
    });
    let list = |files: &[PathBuf]| {
        files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    match unfit {
        Some(Unfit::Several(files)) => {
            format!("one file for each split: it has several ({})", list(&files))
        }
        Some(Unfit::Series { count, number, files }) => format!(
            "a whole series: of {count} files, counted from 0, number {number} is not there just \
             once ({})",
            list(&files)
        ),
        _ if places.is_empty() => {
            "files called train, validation, dev or test (.tsv, .csv, .jsonl, .parquet)".into()
        }
        _ => "a train and a validation file side by side".into(),
    }
}
