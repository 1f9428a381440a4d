//! Models and data sets by their Hugging Face id: from the cache that Hugging Face's own libraries
//! keep, or from the network into that cache, so that each finds what the other fetched.
//!
//! Without the feature `hub` there is neither, and an id is an error that says so.

mod id;

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod files;
#[cfg(feature = "hub")]
mod lookup;

pub use id::{Kind, looks_like_id};
#[cfg(feature = "hub")]
pub use lookup::Hub;

use crate::error::Result;
use std::path::{Path, PathBuf};

/// Called with a file's name, the bytes it has so far, and its size where that is known.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

/// The file or directory that a name stands for: the path itself where there is such a one, else
/// what [`resolve`] finds for the id.
///
/// # Errors
/// As [`resolve`].
pub fn locate(kind: Kind, name: &str, progress: Progress) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.exists() { Ok(path.into()) } else { resolve(kind, name, progress) }
}

/// Finds a model or data set with the settings of the environment, see [`Hub::from_env`] and
/// [`Hub::resolve`].
///
/// # Errors
/// As those two.
#[cfg(feature = "hub")]
pub fn resolve(kind: Kind, id: &str, progress: Progress) -> Result<PathBuf> {
    Hub::from_env()?.resolve(kind, id, progress)
}

/// Refuses the id, since this build of Crisp has no client for the hub.
///
/// # Errors
/// Always; says how to get one.
#[cfg(not(feature = "hub"))]
pub fn resolve(kind: Kind, id: &str, _: Progress) -> Result<PathBuf> {
    let error = crate::error::Error::input(format!(
        "{id}: there is no such file or directory, and this build of Crisp fetches no {} by its id",
        kind.noun()
    ));
    Err(error.remedy("Give a directory, or build Crisp with its feature `hub`."))
}

#[cfg(all(test, not(feature = "hub")))]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_in_words() {
        let error = locate(Kind::Model, "org/name", &mut |_, _, _| {}).unwrap_err().to_string();
        assert!(error.contains("org/name") && error.contains("feature `hub`"), "{error}");
    }
}
