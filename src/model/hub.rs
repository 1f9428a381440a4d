//! Models and data sets by their Hugging Face id: from the cache that Hugging Face's own libraries
//! keep, or from the network into that cache, so that each finds what the other fetched.

use crate::error::{Error, Result};
use crate::files;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{Response, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// From the request to the answer's headers: name lookup, connection, TLS and redirects together.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest silence in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);
const MOST_REDIRECTS: usize = 5;
/// More than any list of a repository's files that could be meant.
const LARGEST_LISTING: u64 = 32 << 20;

const DATA_EXTENSIONS: [&str; 4] = ["tsv", "csv", "jsonl", "parquet"];

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `config.json`, weights in safetensors, and the tokenizer's files.
    Model,
    /// Files of examples: train, validation (or dev) and test, in TSV, CSV, JSONL or Parquet.
    Dataset,
}

impl Kind {
    /// Plural, as in the hub's API and in the cache's directory names.
    fn plural(self) -> &'static str {
        match self {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Dataset => "data set",
        }
    }
}

/// Called with a file's name, the bytes it has so far, and its size where that is known.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

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
    /// A PEM file of authorities to trust in place of Mozilla's, as some company networks need.
    pub certificates: Option<PathBuf>,
}

/// Finds a model or data set with the settings of the environment, see [`Hub::from_env`] and
/// [`Hub::resolve`].
///
/// # Errors
/// As those two.
pub fn resolve(kind: Kind, id: &str, progress: Progress) -> Result<PathBuf> {
    Hub::from_env()?.resolve(kind, id, progress)
}

/// Whether `text` can only be meant as an id on the hub: `NAME` or `ORG/NAME`, where no file or
/// directory is called that, and it does not end like a file.
pub fn looks_like_id(text: &str) -> bool {
    let file = Path::new(text).extension().and_then(|extension| extension.to_str()).is_some_and(
        |extension| {
            DATA_EXTENSIONS.contains(&extension)
                || ["json", "txt", "toml", "safetensors", "bin"].contains(&extension)
        },
    );
    is_id(text) && !file && !Path::new(text).exists()
}

fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        part.len() <= 96
            && part.chars().all(inner)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.ends_with(['.', '-'])
            // "--" stands for "/" in the cache.
            && !part.contains("..")
            && !part.contains("--")
    };
    text.split('/').count() <= 2 && text.split('/').all(part)
}

impl Hub {
    /// The settings that Hugging Face's libraries read: `HF_ENDPOINT`; `HF_HUB_CACHE`, else
    /// `HF_HOME/hub`, else `huggingface/hub` in `XDG_CACHE_HOME` or `~/.cache`; `HF_TOKEN`;
    /// `HF_HUB_OFFLINE`; and `SSL_CERT_FILE`. A proxy is taken from `HTTPS_PROXY`, `HTTP_PROXY`,
    /// `ALL_PROXY` and `NO_PROXY`.
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
    /// five seconds, 30 seconds of silence in the middle of a file, a file that is cut off or
    /// damaged. The message says where the cache was looked for and which address was asked.
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
            Download::new(self, kind, id, &repo).and_then(|download| download.run(progress))
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
}

// ---- Which files ----

/// The files of a model that are wanted, given all that it has; the error names what is lacking.
fn model_files(all: &[String]) -> std::result::Result<Vec<String>, String> {
    let has = |name: &str| all.iter().any(|file| file == name);
    if !has("config.json") {
        return Err("config.json".into());
    }
    let weights = ["model.safetensors", "model.safetensors.index.json"]
        .into_iter()
        .find(|name| has(name))
        .ok_or("model.safetensors")?;
    if !has("tokenizer.json") && !has("vocab.txt") {
        return Err("tokenizer.json or vocab.txt".into());
    }
    let tokenizer =
        ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"];
    let names = ["config.json"].into_iter().chain(tokenizer.into_iter().filter(|name| has(name)));
    let mut names: Vec<String> = names.map(String::from).collect();
    names.push(weights.into());
    if weights.ends_with(".index.json") {
        // Shards are called model-00001-of-00002.safetensors.
        let shards: Vec<String> = all
            .iter()
            .filter(|file| file.starts_with("model-") && file.ends_with(".safetensors"))
            .cloned()
            .collect();
        whole_series(&shards)?;
        if shards.is_empty() {
            return Err("the files that model.safetensors.index.json names".into());
        }
        names.extend(shards);
    }
    Ok(names)
}

/// The files of a data set that are wanted: one directory's, of one format.
fn dataset_files(all: &[String]) -> std::result::Result<Vec<String>, String> {
    let mut groups: BTreeMap<(usize, &str, &str), Vec<String>> = BTreeMap::new();
    for file in all {
        let (dir, name) = file.rsplit_once('/').unwrap_or(("", file));
        let Some((stem, extension)) = name.rsplit_once('.') else {
            continue;
        };
        // Parquet before text: the hub's own conversions are the well-formed ones.
        let rank = DATA_EXTENSIONS.iter().rev().position(|known| *known == extension);
        if let (Some(rank), Some(_)) = (rank, split(stem)) {
            groups.entry((rank, dir, extension)).or_default().push(file.clone());
        }
    }
    let has = |files: &[String], wanted: &str| {
        files.iter().any(|file| {
            let name = file.rsplit('/').next().unwrap_or(file);
            split(name.rsplit_once('.').map_or(name, |(stem, _)| stem)) == Some(wanted)
        })
    };
    let full: Vec<_> = groups
        .iter()
        .filter(|(_, files)| has(files, "train") && has(files, "validation"))
        .collect();
    let Some(((rank, _, _), first)) = full.first() else {
        return Err(if groups.is_empty() {
            "files called train, validation, dev or test (.tsv, .csv, .jsonl, .parquet)".into()
        } else {
            "a train and a validation file side by side".into()
        });
    };
    let rivals: Vec<&str> = full
        .iter()
        .filter(|((other, _, _), _)| other == rank)
        .map(|((_, dir, _), _)| *dir)
        .collect();
    if rivals.len() > 1 {
        return Err(format!("one set of files: it has several ({})", rivals.join(", ")));
    }
    whole_series(first)?;
    Ok(first.to_vec())
}

/// The split that a file's name says, as `train` in `train-00000-of-00001`.
fn split(stem: &str) -> Option<&'static str> {
    let word = stem.split(['-', '_', '.']).next().unwrap_or(stem);
    match word.to_ascii_lowercase().as_str() {
        "train" => Some("train"),
        "validation" | "valid" | "val" | "dev" => Some("validation"),
        "test" => Some("test"),
        _ => None,
    }
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

fn wanted(kind: Kind, all: &[String]) -> std::result::Result<Vec<String>, String> {
    match kind {
        Kind::Model => model_files(all),
        Kind::Dataset => dataset_files(all),
    }
}

/// The directory that a data set's files lie in; of a model, the snapshot itself.
fn common_dir(kind: Kind, snapshot: &Path, files: &[String]) -> PathBuf {
    match (kind, files.first().and_then(|file| file.rsplit_once('/'))) {
        (Kind::Dataset, Some((dir, _))) => snapshot.join(dir),
        _ => snapshot.to_path_buf(),
    }
}

// ---- The cache ----

enum Cached {
    Nothing,
    /// Some of the files, and what is lacking.
    Part(PathBuf, String),
    Whole(PathBuf),
}

fn find_cached(kind: Kind, repo: &Path) -> Cached {
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
            let data: Vec<String> = all
                .into_iter()
                .filter(|file| DATA_EXTENSIONS.iter().any(|known| file.ends_with(known)))
                .collect();
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
fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

// ---- The network ----

/// A file as the hub's listing describes it.
struct Remote {
    name: String,
    size: Option<u64>,
    /// SHA-256, which the hub knows of large files.
    sha256: Option<String>,
    /// Git's hash, which the hub and the cache know small files by.
    git: Option<String>,
}

struct Download<'a> {
    hub: &'a Hub,
    kind: Kind,
    id: &'a str,
    repo: &'a Path,
    agent: Agent,
    endpoint: String,
}

impl<'a> Download<'a> {
    fn new(hub: &'a Hub, kind: Kind, id: &'a str, repo: &'a Path) -> Result<Self> {
        let endpoint = hub.endpoint.trim_end_matches('/').to_string();
        let uri: Option<Uri> = endpoint.parse().ok();
        let host = uri
            .as_ref()
            .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
            .and_then(Uri::host)
            .ok_or_else(|| {
                Error::usage(format!("HF_ENDPOINT is {endpoint:?}, not an http(s) address"))
            })?;
        let roots = match &hub.certificates {
            None => RootCerts::WebPki,
            Some(path) => RootCerts::Specific(Arc::new(read_certificates(path)?)),
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls_rustcrypto::provider()))
            .root_certs(roots)
            .build();
        let mut settings = Agent::config_builder()
            .user_agent(concat!("crisp/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here: another host must not get the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(ANSWER))
            .timeout_connect(Some(ANSWER))
            .timeout_send_request(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .tls_config(tls);
        // No proxy can reach this machine's own loopback.
        if ["127.0.0.1", "localhost", "[::1]"].contains(&host) {
            settings = settings.proxy(None);
        }
        Ok(Self { hub, kind, id, repo, agent: settings.build().into(), endpoint })
    }

    fn run(&self, progress: Progress) -> Result<PathBuf> {
        let (commit, remote) = self.listing()?;
        let names: Vec<String> = remote.iter().map(|file| file.name.clone()).collect();
        let wanted = wanted(self.kind, &names).map_err(|lacking| {
            Error::input(format!("{}/{} lacks {lacking}", self.endpoint, self.page())).remedy(
                match self.kind {
                    Kind::Model => "Choose a DistilBERT or BERT that was saved as safetensors.",
                    Kind::Dataset => "Download the files you mean and give --data their directory.",
                },
            )
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
            self.endpoint,
            self.kind.plural(),
            self.id
        );
        let mut text = Vec::new();
        self.get(&url)?
            .into_body()
            .into_reader()
            .take(LARGEST_LISTING)
            .read_to_end(&mut text)
            .map_err(|why| broken(&url, &why))?;
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
        let url =
            format!("{}/{}/resolve/{commit}/{}", self.endpoint, self.page(), escaped(&file.name));
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
        let answer = self.get(url)?;
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
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(why) => return Err(broken(url, &why)),
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
        let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match &file.sha256 {
            Some(expected) if *expected != sha256 => Err(Error::input(format!(
                "{url}: damaged on the way: its SHA-256 is {sha256}, and should be {expected}"
            ))
            .remedy(again)),
            _ => Ok(sha256),
        }
    }

    /// Gets an address, following redirects, as far as a successful answer's headers.
    fn get(&self, url: &str) -> Result<Response<Body>> {
        let deadline = Instant::now() + ANSWER;
        let mut at = url.to_string();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.ask(&at, deadline).map_err(|error| {
                if at == url { error } else { error.at(format!("{url}, redirected")) }
            })?;
            if !answer.status().is_redirection() {
                return match answer.status().as_u16() {
                    200 => Ok(answer),
                    status => Err(self.refused(&at, status, &answer)),
                };
            }
            let location =
                answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            at = location.and_then(|location| follow(&at, location)).ok_or_else(|| {
                Error::input(format!(
                    "{at}: redirects to {:?}, which is not followed",
                    location.unwrap_or_default()
                ))
            })?;
        }
        Err(Error::input(format!("{url}: more than {MOST_REDIRECTS} redirects")))
    }

    /// One request. It runs on a thread of its own, since a network has more ways to hang than one
    /// timeout covers; the thread ends by its own timeouts when it is no longer waited for.
    fn ask(&self, url: &str, deadline: Instant) -> Result<Response<Body>> {
        let mut request = self.agent.get(url);
        // Up to the slash, so that huggingface.co.example.org is another host.
        let own = url.starts_with(&format!("{}/", self.endpoint));
        if let Some(token) = self.hub.token.as_ref().filter(|_| own) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let (send, receive) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let _ = send.send(request.call());
        });
        let left = deadline.saturating_duration_since(Instant::now());
        let (what, remedy) = match receive.recv_timeout(left) {
            Ok(Ok(answer)) => return Ok(answer),
            Err(_) | Ok(Err(ureq::Error::Timeout(_))) => {
                (format!("no answer within {} seconds", ANSWER.as_secs()), ELSEWHERE)
            }
            Ok(Err(ureq::Error::HostNotFound)) => ("no such host".to_string(), ELSEWHERE),
            Ok(Err(ureq::Error::Http(why))) => (
                format!("cannot be asked: {why}"),
                "Check HF_TOKEN and HF_ENDPOINT for stray characters.",
            ),
            Ok(Err(why)) if why.to_string().to_lowercase().contains("certificate") => (
                format!("cannot be trusted: {why}"),
                "If your network has its own authority, set SSL_CERT_FILE to its PEM file.",
            ),
            Ok(Err(why)) => (format!("cannot be reached: {why}"), ELSEWHERE),
        };
        Err(Error::input(format!("{url}: {what}")).remedy(remedy))
    }

    fn refused(&self, url: &str, status: u16, answer: &Response<Body>) -> Error {
        let code = answer
            .headers()
            .get("x-error-code")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let what = match (status, code) {
            (_, "GatedRepo") | (403, _) => "the hub refuses access",
            // The hub answers so for what does not exist, lest it tell what is private.
            (401 | 404, _) => "the hub has no such thing, or keeps it private",
            (429, _) => "the hub has had too many requests",
            (500.., _) => "the hub is out of order",
            _ => "the hub gives an answer that is not understood",
        };
        let remedy = match (status, self.hub.token.is_some()) {
            (401 | 403 | 404, false) => "Check the id; for a private or gated one set HF_TOKEN.",
            (401 | 403 | 404, true) => "Check the id, and whether HF_TOKEN may read it.",
            _ => "Try again later, or give a directory in place of the id.",
        };
        Error::input(format!("{url}: {what} (status {status})")).remedy(remedy)
    }
}

const ELSEWHERE: &str = "Check the network; set HTTPS_PROXY for a proxy or HF_ENDPOINT for a \
                         mirror; or fetch the files elsewhere and give their directory in \
                         place of the id.";

fn broken(url: &str, why: &std::io::Error) -> Error {
    let inner = why.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>());
    let timeout = matches!(inner, Some(ureq::Error::Timeout(_)))
        || matches!(why.kind(), std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock);
    let what = if timeout {
        format!("nothing more came for {} seconds", SILENCE.as_secs())
    } else {
        format!("broken off: {why}")
    };
    Error::input(format!("{url}: {what}")).remedy("Try again; what is whole is kept.")
}

/// The address that a redirect means, if it is one to follow: never from https down to http.
fn follow(from: &str, location: &str) -> Option<String> {
    let uri: Uri = from.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let to = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_string()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", uri.authority()?)
    } else {
        return None;
    };
    (scheme == "http" || to.starts_with("https://")).then_some(to)
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

/// Puts a blob into the snapshot: a relative link, or the file itself where links cannot be made.
fn place(blob: &Path, target: &Path, name: &str) -> std::io::Result<()> {
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

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = files::read(path).map_err(|error| error.at("SSL_CERT_FILE"))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::input(format!(
            "{}: no certificate in this file (SSL_CERT_FILE)",
            path.display()
        ))
        .remedy("Unset SSL_CERT_FILE, or set it to a PEM file of certificates."));
    }
    Ok(certificates)
}
