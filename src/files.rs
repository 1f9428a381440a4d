//! Reading and writing files so that nothing is ever left half written.

use crate::error::{Error, Result};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

/// Reads a whole file.
///
/// # Errors
/// Names the path and the operating system's reason.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|why| Error::io(path, "read", &why))
}

/// Reads a whole text file in UTF-8.
///
/// # Errors
/// Names the path, and the byte at which the text stops being UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|why| {
        Error::input(format!(
            "{}: not UTF-8 text (byte {})",
            path.display(),
            why.utf8_error().valid_up_to()
        ))
        .remedy("Convert the file to UTF-8.")
    })
}

/// Writes a file beside its final place and renames it, so that a reader, or a crash, sees the old
/// content or the new one and nothing between.
///
/// # Errors
/// Names the path and the operating system's reason.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    write_parts(path, |file| file.write_all(content))
}

/// As [`write()`], for content that is better written part by part.
///
/// # Errors
/// As [`write()`], and what `content` returns.
pub fn write_parts(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    // Two processes may write the same file, on two machines even.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    name.push(format!(".{}-{now}.partial", std::process::id()));
    let beside = path.with_file_name(name);
    let written = fs::File::create(&beside).and_then(|file| {
        let mut file = BufWriter::new(file);
        content(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    });
    written.and_then(|()| fs::rename(&beside, path)).map_err(|why| {
        let _ = fs::remove_file(&beside);
        Error::io(path, "write", &why)
    })
}

/// Writes a value as indented JSON, as [`write()`] does.
///
/// # Errors
/// Names the path and the operating system's reason.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|why| Error::internal(format!("{}: {why}", path.display())))?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Takes the lock of a directory, which is the operating system's: it ends with the process. `None`
/// where another process has it. Where the file system knows no locks, nothing is locked.
///
/// # Errors
/// A lock file that cannot be made.
pub fn lock(directory: &Path) -> Result<Option<fs::File>> {
    create_dir(directory)?;
    let path = directory.join(".lock");
    let file = fs::File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|why| Error::io(&path, "open", &why))?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(Some(file)),
    }
}

/// Creates a directory and all above it.
///
/// # Errors
/// Names the path and the operating system's reason.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|why| Error::io(path, "create the directory", &why))
}

/// Where this program keeps what it can make again: `CRISP_CACHE`, else the user's cache directory.
/// None where the system names neither.
pub fn cache() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(given) = variable("CRISP_CACHE") {
        return Some(given.into());
    }
    let base = if cfg!(target_os = "windows") {
        PathBuf::from(variable("LOCALAPPDATA")?)
    } else if cfg!(target_os = "macos") {
        PathBuf::from(variable("HOME")?).join("Library/Caches")
    } else {
        match variable("XDG_CACHE_HOME") {
            Some(given) => PathBuf::from(given),
            None => PathBuf::from(variable("HOME")?).join(".cache"),
        }
    };
    Some(base.join("crisp"))
}
