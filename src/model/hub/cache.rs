//! The cache that Hugging Face's own libraries keep: the files `snapshots/COMMIT/NAME` are links
//! into `blobs`, and `refs/main` says which commit counts.

use super::files::{common_dir, is_data, wanted};
use super::id::Kind;
use std::fs;
use std::path::{Path, PathBuf};

/// What the cache has of a model or data set.
pub(super) enum Cached {
    Nothing,
    /// Some of the files, and what is lacking.
    Part(PathBuf, String),
    Whole(PathBuf),
}

/// Looks a repository of the cache through.
pub(super) fn find_cached(kind: Kind, repo: &Path) -> Cached {
    let snapshots = repo.join("snapshots");
    let commit = fs::read_to_string(repo.join("refs").join("main"))
        .map(|text| text.trim().to_string())
        .ok()
        .filter(|commit| is_commit(commit));
    let snapshot = commit.map(|commit| snapshots.join(commit)).or_else(|| {
        // Fetched by commit, so no branch points at it: use it where there is no other.
        let mut all = fs::read_dir(&snapshots).ok()?.flatten();
        let only = all.next()?.path();
        // A download of ours that was broken off has no ref either; its files are whole, each.
        all.next().is_none().then_some(only)
    });
    let Some(snapshot) = snapshot.filter(|snapshot| snapshot.is_dir()) else {
        return Cached::Nothing;
    };
    let mut all = Vec::new();
    list(&snapshot, "", 0, &mut all);
    match wanted(kind, &all) {
        Ok(files) => Cached::Whole(common_dir(kind, &snapshot, &files)),
        Err(_) if all.is_empty() => Cached::Nothing,
        Err(lacking) => {
            let data: Vec<String> = all.into_iter().filter(|file| is_data(file)).collect();
            match kind {
                Kind::Dataset if data.is_empty() => Cached::Nothing,
                _ => Cached::Part(common_dir(kind, &snapshot, &data), lacking),
            }
        }
    }
}

/// Files below a snapshot, relative and with forward slashes; a link to a lost blob is none.
fn list(dir: &Path, prefix: &str, depth: usize, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        if path.is_file() {
            into.push(format!("{prefix}{name}"));
        } else if path.is_dir() && depth < 4 {
            list(&path, &format!("{prefix}{name}/"), depth + 1, into);
        }
    }
    into.sort();
}

/// A commit names a directory, so it must be nothing but the hexadecimal digits it claims to be.
pub(super) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Puts a blob into the snapshot: a relative link, or the file itself where links cannot be made.
pub(super) fn place(blob: &Path, target: &Path, name: &str) -> std::io::Result<()> {
    match fs::remove_file(target) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    #[cfg(unix)]
    {
        let up = "../".repeat(2 + name.matches('/').count());
        let file = blob.file_name().unwrap_or_default();
        if std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(file), target).is_ok() {
            return Ok(());
        }
    }
    #[cfg(not(unix))]
    let _ = name;
    fs::rename(blob, target)
}
