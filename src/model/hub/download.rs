//! From the hub into the cache: the list of a repository's files, then each that is wanted.

use super::Progress;
use super::cache::{is_commit, place};
use super::client::Client;
use super::files::{common_dir, wanted};
use super::id::Kind;
use crate::error::{Error, Result};
use crate::files;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};
use ureq::http::header;

/// More than any list of a repository's files that could be meant.
const LARGEST_LISTING: u64 = 32 << 20;

/// A file as the hub's listing describes it.
struct Remote {
    name: String,
    size: Option<u64>,
    /// SHA-256, which the hub knows of large files.
    sha256: Option<String>,
    /// Git's hash, which the hub and the cache know small files by.
    git: Option<String>,
}

/// What is fetched, and where it goes.
pub(super) struct Download<'a> {
    pub(super) client: Client,
    pub(super) kind: Kind,
    pub(super) id: &'a str,
    /// The repository's directory in the cache.
    pub(super) repo: &'a Path,
}

impl Download<'_> {
    /// Fetches what is wanted and not there yet, and returns the directory.
    pub(super) fn run(&self, progress: Progress) -> Result<PathBuf> {
        let (commit, remote) = self.listing()?;
        let names: Vec<String> = remote.iter().map(|file| file.name.clone()).collect();
        let wanted = wanted(self.kind, &names).map_err(|lacking| {
            Error::input(format!("{}/{} lacks {lacking}", self.client.endpoint, self.page()))
                .remedy(match self.kind {
                    Kind::Model => "Choose a DistilBERT or BERT that was saved as safetensors.",
                    Kind::Dataset => {
                        "Download the files you mean, and give their directory in place of the id."
                    }
                })
        })?;
        let snapshot = self.repo.join("snapshots").join(&commit);
        for file in remote.iter().filter(|file| wanted.contains(&file.name)) {
            self.fetch(&commit, file, &snapshot, progress)?;
        }
        // Last: it is what makes the snapshot count.
        let refs = self.repo.join("refs");
        files::create_dir(&refs)?;
        files::write(&refs.join("main"), commit.as_bytes())?;
        Ok(common_dir(self.kind, &snapshot, &wanted))
    }

    /// The id's address below the endpoint.
    fn page(&self) -> String {
        match self.kind {
            Kind::Model => self.id.to_string(),
            Kind::Dataset => format!("datasets/{}", self.id),
        }
    }

    /// The commit that `main` stands for, and its files.
    fn listing(&self) -> Result<(String, Vec<Remote>)> {
        let url = format!(
            "{}/api/{}/{}/revision/main?blobs=true",
            self.client.endpoint,
            self.kind.plural(),
            self.id
        );
        let mut text = Vec::new();
        self.client
            .get(&url)?
            .into_body()
            .into_reader()
            .take(LARGEST_LISTING)
            .read_to_end(&mut text)
            .map_err(|why| self.client.broken(&url, &why))?;
        let wrong = |what: &str| {
            Error::input(format!("{url}: {what}")).remedy(
                "Something else than the hub answered: a sign-in page of the network, or a wrong \
                 HF_ENDPOINT.",
            )
        };
        let answer: Value = serde_json::from_slice(&text)
            .map_err(|why| wrong(&format!("the answer is not JSON ({why})")))?;
        let commit = answer["sha"]
            .as_str()
            .filter(|commit| is_commit(commit))
            .ok_or_else(|| wrong("the answer names no commit (`sha`)"))?;
        let files = answer["siblings"]
            .as_array()
            .ok_or_else(|| wrong("the answer lists no files (`siblings`)"))?
            .iter()
            .filter_map(|file| {
                let hash = |value: &Value, digits: usize| {
                    let text = value.as_str()?;
                    (text.len() == digits && is_commit(text)).then(|| text.to_lowercase())
                };
                let name = file["rfilename"].as_str()?;
                is_inside(name).then(|| Remote {
                    name: name.to_string(),
                    size: file["lfs"]["size"].as_u64().or(file["size"].as_u64()),
                    sha256: hash(&file["lfs"]["sha256"], 64),
                    git: hash(&file["blobId"], 40),
                })
            })
            .collect();
        Ok((commit.to_string(), files))
    }

    fn fetch(
        &self,
        commit: &str,
        file: &Remote,
        snapshot: &Path,
        progress: Progress,
    ) -> Result<()> {
        let target = snapshot.join(&file.name);
        let there = fs::metadata(&target).ok().map(|meta| meta.len());
        if there.is_some() && there == file.size {
            return Ok(());
        }
        let url = format!(
            "{}/{}/resolve/{commit}/{}",
            self.client.endpoint,
            self.page(),
            escaped(&file.name)
        );
        let blobs = self.repo.join("blobs");
        files::create_dir(&blobs)?;
        files::create_dir(target.parent().unwrap_or(snapshot))?;
        // Of a name of its own, as another process may be fetching the same file.
        let flat = file.name.replace('/', "--");
        let partial = blobs.join(format!("{flat}.{}.partial", std::process::id()));
        let sha256 = self.receive(&url, file, &partial, progress).inspect_err(|_| {
            let _ = fs::remove_file(&partial);
        })?;
        let blob = blobs.join(file.sha256.as_ref().or(file.git.as_ref()).unwrap_or(&sha256));
        let placed = fs::rename(&partial, &blob).and_then(|()| place(&blob, &target, &file.name));
        placed.map_err(|why| Error::io(&target, "write", &why))
    }

    /// Downloads one file to `partial`, checks it against what the hub says of it, and returns its
    /// SHA-256.
    fn receive(
        &self,
        url: &str,
        file: &Remote,
        partial: &Path,
        progress: Progress,
    ) -> Result<String> {
        let answer = self.client.get(url)?;
        let length = answer
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let size = file.size.or(length);
        let mut body = answer.into_body().into_reader();
        let mut output =
            fs::File::create(partial).map_err(|why| Error::io(partial, "create", &why))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        progress(&file.name, 0, size);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => return Err(self.client.broken(url, &why)),
            };
            received += count as u64;
            if size.is_some_and(|size| received > size) {
                break;
            }
            hash.update(&buffer[..count]);
            output.write_all(&buffer[..count]).map_err(|why| Error::io(partial, "write", &why))?;
            progress(&file.name, received, size);
        }
        output.sync_all().map_err(|why| Error::io(partial, "write", &why))?;
        let again = "Try again; if it happens again, a proxy may be changing the file.";
        if let Some(size) = size.filter(|&size| size != received) {
            return Err(Error::input(format!(
                "{url}: {received} bytes came, and the file has {size}"
            ))
            .remedy(again));
        }
        let sha256 = format!("{:x}", hash.finalize());
        match &file.sha256 {
            Some(expected) if *expected != sha256 => Err(Error::input(format!(
                "{url}: damaged on the way: its SHA-256 is {sha256}, and should be {expected}"
            ))
            .remedy(again)),
            _ => Ok(sha256),
        }
    }
}

/// Whether a file name of the listing stays inside the snapshot's directory.
fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', ':', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A path in an address: all but letters, digits and a few marks as %XX.
fn escaped(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
