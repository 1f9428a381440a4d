//! The hub as the environment describes it, and the way from an id to a directory.

use super::Progress;
use super::cache::{Cached, find_cached};
use super::client::Client;
use super::download::Download;
use super::id::{Kind, is_id};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// See [`Hub::silence`]; where nothing else is set.
const SILENCE: Duration = Duration::from_secs(30);

/// Where models and data sets are looked for.
#[derive(Clone)]
pub struct Hub {
    /// The hub's address, such as `https://huggingface.co`.
    pub endpoint: String,
    /// The directory with `models--ORG--NAME` and `datasets--ORG--NAME` in it.
    pub cache: PathBuf,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<String>,
    /// Whether the network is not to be used.
    pub offline: bool,
    /// The longest silence in the middle of a file, after which it is given up.
    pub silence: Duration,
    /// A PEM file of authorities to trust in place of Mozilla's, as some company networks need.
    pub certificates: Option<PathBuf>,
}

impl Hub {
    /// The settings that Hugging Face's libraries read: `HF_ENDPOINT`; `HF_HUB_CACHE`, else
    /// `HF_HOME/hub`, else `huggingface/hub` in `XDG_CACHE_HOME` or `~/.cache`; `HF_TOKEN`;
    /// `HF_HUB_OFFLINE`; `HF_HUB_DOWNLOAD_TIMEOUT`, in whole seconds; and `SSL_CERT_FILE`. A proxy
    /// is taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    ///
    /// # Errors
    /// Where no variable says where the cache is, not even the home directory.
    pub fn from_env() -> Result<Self> {
        let text = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        let path =
            |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(path("HF_HOME")?.join("hub")))
            .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface/hub")))
            .or_else(|| {
                let home = path("HOME").or_else(|| path("USERPROFILE"))?;
                Some(home.join(".cache").join("huggingface").join("hub"))
            })
            .ok_or_else(|| {
                Error::usage("no home directory to keep downloaded models in")
                    .remedy("Set HF_HOME to a directory.")
            })?;
        Ok(Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            cache,
            token: text("HF_TOKEN").map(|token| token.trim().to_string()),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str())
            }),
            silence: text("HF_HUB_DOWNLOAD_TIMEOUT")
                .and_then(|seconds| seconds.parse().ok().filter(|&seconds| seconds > 0))
                .map_or(SILENCE, Duration::from_secs),
            certificates: path("SSL_CERT_FILE"),
        })
    }

    /// The directory on disk that holds the files of a model or data set: the cache's if it has
    /// them all, else downloaded from the hub.
    ///
    /// Of a data set the directory is the one its files lie in, `data` for instance, where the
    /// snapshot keeps them one level down. `progress` hears of downloads only.
    ///
    /// # Errors
    /// An id that is none; a repository that does not exist, asks for a token, or lacks the files;
    /// and everything that a network does: no such host, a connection refused, no answer within
    /// five seconds, a long silence in the middle of a file, a file that is cut off or damaged. The
    /// message says where the cache was looked for and which address was asked.
    pub fn resolve(&self, kind: Kind, id: &str, progress: Progress) -> Result<PathBuf> {
        if !is_id(id) {
            return Err(Error::usage(format!(
                "{id:?} is neither a directory nor an id on the hub (ORG/NAME)"
            )));
        }
        let repo = self.cache.join(format!("{}--{}", kind.plural(), id.replace('/', "--")));
        let cached = find_cached(kind, &repo);
        if let Cached::Whole(dir) = cached {
            tracing::debug!("{id}: in the cache, {}", dir.display());
            return Ok(dir);
        }
        let fetched = if self.offline {
            Err(Error::input("HF_HUB_OFFLINE forbids the network")
                .remedy("Unset HF_HUB_OFFLINE, or give a directory in place of the id."))
        } else {
            self.client()
                .and_then(|client| Download { client, kind, id, repo: &repo }.run(progress))
        };
        let looked = match &cached {
            Cached::Part(dir, _) => format!("not whole in the cache ({})", dir.display()),
            _ => format!("not in the cache ({})", repo.display()),
        };
        match (fetched, cached) {
            (Err(error), Cached::Part(dir, lacking)) if kind == Kind::Dataset => {
                tracing::warn!("{id}: taken from the cache without {lacking}; {error}");
                Ok(dir)
            }
            (Err(error), Cached::Part(_, lacking)) => {
                Err(error.at(format!("the {} {id}: {looked}: no {lacking}", kind.noun())))
            }
            (fetched, _) => {
                fetched.map_err(|error| error.at(format!("the {} {id}: {looked}", kind.noun())))
            }
        }
    }

    fn client(&self) -> Result<Client> {
        let Self { endpoint, token, certificates, silence, .. } = self;
        Client::new(endpoint, token.as_deref(), certificates.as_deref(), *silence)
    }
}
