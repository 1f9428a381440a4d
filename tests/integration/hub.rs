//! The hub's client against a server on this machine: whatever it does, the client ends with the
//! files or with an error that says what was tried.

#![cfg(feature = "hub")]

use crisp::data::{Dataset, Split};
use crisp::model::hub::{Hub, Kind, locate, looks_like_id};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// SHA-256 of `weights`.
const WEIGHTS_SHA: &str = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c";

fn hub(endpoint: String, cache: &Path) -> Hub {
    Hub {
        endpoint,
        cache: cache.to_path_buf(),
        token: Some("hf_secret".into()),
        offline: false,
        silence: Duration::from_secs(30),
        certificates: None,
    }
}

/// Every request's head, as it came.
type Seen = Arc<Mutex<Vec<String>>>;

/// A server that answers each path with fixed bytes, and anything else with 404.
fn serve(answers: HashMap<String, Vec<u8>>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = read_head(&mut stream);
            let path = head.split(' ').nth(1).unwrap_or_default().to_string();
            log.lock().unwrap().push(head);
            let missing =
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let answer = answers.get(&path).map_or(&missing[..], Vec::as_slice);
            let _ = stream.write_all(answer);
        }
    });
    (endpoint, seen)
}

/// A server that takes a connection, writes `first`, and then never another byte.
fn hang(first: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(first);
            open.push(stream);
        }
    });
    address.to_string()
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn ok(body: &str) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

const LISTING: &str = "/api/models/org/tiny/revision/main?blobs=true";

fn file(name: &str) -> String {
    format!("/org/tiny/resolve/{COMMIT}/{name}")
}

/// A whole model, as the hub would serve it; the listing also names files that must be left alone.
fn model() -> HashMap<String, Vec<u8>> {
    let listing = format!(
        r#"{{"sha": "{COMMIT}", "siblings": [
            {{"rfilename": "config.json", "size": 2, "blobId": "{:040}"}},
            {{"rfilename": "model.safetensors", "size": 7,
              "lfs": {{"size": 7, "sha256": "{WEIGHTS_SHA}"}}}},
            {{"rfilename": "vocab.txt", "size": 3, "blobId": "{:040}"}},
            {{"rfilename": "../../escaped", "size": 1}},
            {{"rfilename": "pytorch_model.bin", "size": 1}}]}}"#,
        1, 2
    );
    HashMap::from([
        (LISTING.to_string(), ok(&listing)),
        (file("config.json"), ok("{}")),
        (file("model.safetensors"), ok("weights")),
        (file("vocab.txt"), ok("a\nb")),
    ])
}

fn resolve(hub: &Hub) -> Result<std::path::PathBuf, String> {
    hub.resolve(Kind::Model, "org/tiny", &mut |_, _, _| {}).map_err(|error| error.to_string())
}

#[test]
fn downloads_into_the_layout_of_the_cache_and_finds_it_again() {
    let cache = tempfile::tempdir().unwrap();
    let (elsewhere, other_host) = serve(HashMap::from([("/blob".to_string(), ok("weights"))]));
    let mut answers = model();
    answers.insert(file("model.safetensors"), redirect(&format!("{elsewhere}/blob")));
    answers.insert(file("config.json"), redirect("/cached/config"));
    answers.insert("/cached/config".into(), ok("{}"));
    let (endpoint, seen) = serve(answers);
    let mut progress = Vec::new();
    let mut online = hub(endpoint, cache.path());
    let dir = online
        .resolve(Kind::Model, "org/tiny", &mut |name, bytes, size| {
            progress.push((name.to_string(), bytes, size));
        })
        .unwrap();

    let repo = cache.path().join("models--org--tiny");
    assert_eq!(dir, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(dir.join("model.safetensors")).unwrap(), "weights");
    assert_eq!(fs::read_to_string(dir.join("config.json")).unwrap(), "{}");
    assert_eq!(fs::read_to_string(dir.join("vocab.txt")).unwrap(), "a\nb");
    assert!(!dir.join("pytorch_model.bin").exists());
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert!(progress.contains(&("model.safetensors".into(), 7, Some(7))));
    let left = fs::read_dir(repo.join("blobs")).into_iter().flatten().flatten();
    assert!(left.into_iter().all(|entry| !entry.path().to_string_lossy().ends_with("partial")));
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(dir.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(WEIGHTS_SHA)
    );
    // The token is the endpoint's alone.
    assert!(seen.lock().unwrap().iter().all(|head| head.contains("hf_secret")));
    assert!(other_host.lock().unwrap().iter().all(|head| !head.contains("hf_secret")));
    assert_eq!(other_host.lock().unwrap().len(), 1);

    // Once there, the network is not asked.
    let asked = seen.lock().unwrap().len();
    assert_eq!(resolve(&online).unwrap(), dir);
    assert_eq!(seen.lock().unwrap().len(), asked);
    online.offline = true;
    assert_eq!(resolve(&online).unwrap(), dir);
}

#[test]
fn a_data_set_is_the_directory_of_its_files() {
    let cache = tempfile::tempdir().unwrap();
    let names =
        ["train", "validation", "test"].map(|split| format!("data/{split}-00000-of-00001.parquet"));
    let listed: Vec<String> =
        names.iter().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
    let mut answers = HashMap::from([(
        "/api/datasets/org/set/revision/main?blobs=true".to_string(),
        ok(&format!(
            r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "README.md"}}, {}]}}"#,
            listed.join(",")
        )),
    )]);
    for name in &names {
        answers.insert(format!("/datasets/org/set/resolve/{COMMIT}/{name}"), ok(name));
    }
    let (endpoint, _) = serve(answers);
    let mut hub = hub(endpoint, cache.path());
    let get = |hub: &Hub| hub.resolve(Kind::Dataset, "org/set", &mut |_, _, _| {});
    let dir = get(&hub).unwrap();
    assert!(dir.ends_with(format!("{COMMIT}/data")));
    for name in &names {
        let file = dir.join(name.strip_prefix("data/").unwrap());
        assert_eq!(fs::read_to_string(file).unwrap(), *name);
    }
    hub.offline = true;
    assert_eq!(get(&hub).unwrap(), dir);
}

/// What a data file of one example holds, by its extension.
fn example(name: &str) -> &'static str {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_lowercase).as_deref() {
        Some("tsv") => "text\tlabel\na\t1\n",
        Some("csv") => "text,label\na,1\n",
        _ => "{\"text\": \"a\", \"label\": 1}\n",
    }
}

/// A hub with one data set, which has these files.
fn data_set(names: &BTreeSet<String>, cache: &Path) -> Hub {
    let listed: Vec<_> = names.iter().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
    let listing = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, listed.join(","));
    let mut answers =
        HashMap::from([("/api/datasets/org/set/revision/main?blobs=true".into(), ok(&listing))]);
    for name in names {
        let path = format!("/datasets/org/set/resolve/{COMMIT}/{name}");
        answers.insert(path, ok(example(name)));
    }
    hub(serve(answers).0, cache)
}

fn fetch(hub: &Hub) -> Result<std::path::PathBuf, String> {
    hub.resolve(Kind::Dataset, "org/set", &mut |_, _, _| {}).map_err(|error| error.to_string())
}

/// Whether what a training run reads can be read.
fn reads(directory: &Path) -> Result<(), String> {
    for split in [Split::Train, Split::Validation] {
        Dataset::load(directory, split, &["0".into(), "1".into()])
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn a_data_set_has_one_grammar_of_names_for_hub_and_loader() {
    let cases: [(&[&str], bool); 12] = [
        (&["train.csv", "valid.csv"], true),
        (&["Train.TSV", "DEV.tsv", "README.md"], true),
        (&["train.ndjson", "val.ndjson"], true),
        (&["train.json-lines", "validation.json-lines"], true),
        (&["train.json", "validation.json"], true),
        (&["train.csv", "validation.jsonl"], true),
        (
            &["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/dev.csv"],
            true,
        ),
        (&["train-0-of-1-0a1b2c.csv", "validation-0-of-1.csv"], true),
        (&["train_x.csv", "validation.csv"], false),
        (&["train.part.csv", "validation.csv"], false),
        (&["train.csv", "validation.csv", "dev.csv"], false),
        (&["train-00000-of-00002.csv", "validation.csv"], false),
    ];
    for (names, good) in cases {
        let names = names.iter().map(|name| name.to_string()).collect();
        let cache = tempfile::tempdir().unwrap();
        let fetched = fetch(&data_set(&names, cache.path()));
        assert_eq!(fetched.is_ok(), good, "{names:?}: {fetched:?}");
        if let Ok(directory) = fetched {
            reads(&directory).unwrap();
        }
    }
}

/// Names that are data files' and names that are nearly so.
fn file_name() -> impl Strategy<Value = String> {
    let stem = prop_oneof![
        4 => prop::sample::select(vec!["train", "validation", "valid", "val", "dev", "test"]),
        1 => prop::sample::select(vec!["Train", "train_x", "train.part", "trainer", "data"]),
    ];
    let shard =
        prop::option::weighted(0.4, (0..3u8, 1..3u8, prop::sample::select(vec!["", "-0f3a"])));
    let extension = prop::sample::select(vec!["tsv", "csv", "jsonl", "ndjson", "json", "txt"]);
    (stem, shard, extension).prop_map(|(stem, shard, extension)| match shard {
        None => format!("{stem}.{extension}"),
        Some((number, count, hash)) => {
            format!("{stem}-{number:05}-of-{count:05}{hash}.{extension}")
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_fetched_can_be_read(
        names in prop::collection::btree_set(("(a/|data/)?", file_name()), 2..9),
    ) {
        let names = names.into_iter().map(|(directory, name)| directory + &name).collect();
        let cache = tempfile::tempdir().unwrap();
        let mut hub = data_set(&names, cache.path());
        if let Ok(directory) = fetch(&hub) {
            prop_assert_eq!(reads(&directory), Ok(()));
            hub.offline = true;
            prop_assert_eq!(fetch(&hub), Ok(directory));
        }
    }

    #[test]
    fn what_can_be_read_is_fetched(names in prop::collection::btree_set(file_name(), 2..6)) {
        let directory = tempfile::tempdir().unwrap();
        for name in &names {
            fs::write(directory.path().join(name), example(name)).unwrap();
        }
        if reads(directory.path()).is_ok() {
            let cache = tempfile::tempdir().unwrap();
            let fetched = fetch(&data_set(&names, cache.path()));
            prop_assert_eq!(fetched.and_then(|directory| reads(&directory)), Ok(()));
        }
    }
}

#[test]
fn a_path_is_taken_before_an_id() {
    let here = tempfile::tempdir().unwrap();
    let name = here.path().to_str().unwrap();
    let mut nothing = |_: &str, _: u64, _: Option<u64>| panic!("nothing is to be fetched");
    assert_eq!(locate(Kind::Model, name, &mut nothing).unwrap(), here.path());
}

#[test]
fn several_sets_in_one_data_set_are_not_guessed_between() {
    let cache = tempfile::tempdir().unwrap();
    let files = ["cola", "sst2"].map(|set| {
        format!(
            r#"{{"rfilename": "{set}/train.parquet"}}, {{"rfilename": "{set}/validation.parquet"}}"#
        )
    });
    let (endpoint, _) = serve(HashMap::from([(
        "/api/datasets/org/set/revision/main?blobs=true".to_string(),
        ok(&format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, files.join(","))),
    )]));
    let error = hub(endpoint, cache.path())
        .resolve(Kind::Dataset, "org/set", &mut |_, _, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("cola, sst2"), "{error}");
}

/// Runs a resolve that must fail within five seconds and leave nothing that counts as cached.
fn fails(endpoint: String) -> String {
    let cache = tempfile::tempdir().unwrap();
    let mut hub = hub(endpoint, cache.path());
    let start = Instant::now();
    let error = resolve(&hub).unwrap_err();
    let seconds = start.elapsed();
    assert!(seconds < Duration::from_millis(5500), "{seconds:?}: {error}");
    // What was tried, both of it.
    assert!(error.contains("models--org--tiny"), "{error}");
    assert!(error.contains(&hub.endpoint), "{error}");
    assert!(!error.contains("hf_secret"), "{error}");
    hub.offline = true;
    resolve(&hub).unwrap_err();
    error
}

#[test]
fn a_network_that_hangs_is_noticed_in_five_seconds() {
    let cases = [
        // TCP and nothing more; the TLS handshake; the head of the answer.
        format!("http://{}", hang(b"")),
        format!("https://{}", hang(b"")),
        format!("http://{}", hang(b"HTTP/1.1 200 OK\r\nContent-")),
    ];
    let running = cases.map(|endpoint| thread::spawn(move || fails(endpoint)));
    for case in running {
        let error = case.join().unwrap();
        assert!(error.contains("no answer within 5 seconds"), "{error}");
    }
}

#[test]
fn redirects_that_lead_to_a_silent_host_share_the_five_seconds() {
    let silent = format!("http://{}/x", hang(b""));
    let (endpoint, _) = serve(HashMap::from([(LISTING.to_string(), redirect(&silent))]));
    assert!(fails(endpoint).contains(&silent));
}

#[test]
fn a_network_that_refuses_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = fails(format!("http://{address}"));
    assert!(error.contains("cannot be reached"), "{error}");
    assert!(error.contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn an_unknown_host_is_an_error() {
    fails("http://hub.invalid".into());
}

#[test]
fn what_does_not_exist_is_an_error_that_mentions_the_token() {
    let (endpoint, _) = serve(HashMap::new());
    let error = fails(endpoint);
    assert!(error.contains("404") && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn an_answer_that_is_not_json_is_an_error() {
    for body in ["<html>sign in</html>", "{}", r#"{"sha": "../../x", "siblings": []}"#] {
        let (endpoint, _) = serve(HashMap::from([(LISTING.to_string(), ok(body))]));
        let error = fails(endpoint);
        assert!(error.contains("the answer"), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_off_or_changed_is_an_error() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nwei".to_vec();
    // Without a length the end of the connection is the end of the file, seemingly.
    let short = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwei".to_vec();
    for (answer, says) in [
        (cut, "broken off"),
        (short, "3 bytes came, and the file has 7"),
        (ok("weights and more"), "and the file has 7"),
        (ok("WEIGHTS"), "SHA-256"),
    ] {
        let mut answers = model();
        answers.insert(file("model.safetensors"), answer);
        let error = fails(serve(answers).0);
        assert!(error.contains(says), "{says}: {error}");
        assert!(error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn a_model_without_safetensors_is_an_error() {
    let listing = format!(
        r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "config.json"}},
            {{"rfilename": "vocab.txt"}}, {{"rfilename": "pytorch_model.bin"}}]}}"#
    );
    let (endpoint, _) = serve(HashMap::from([(LISTING.to_string(), ok(&listing))]));
    let error = fails(endpoint);
    assert!(error.contains("lacks model.safetensors"), "{error}");
}

#[test]
fn offline_asks_nobody() {
    let cache = tempfile::tempdir().unwrap();
    let (endpoint, seen) = serve(model());
    let mut hub = hub(endpoint, cache.path());
    hub.offline = true;
    let error = resolve(&hub).unwrap_err();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn a_cache_that_lacks_a_shard_is_not_whole() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    for name in [
        "config.json",
        "vocab.txt",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
    ] {
        fs::write(snapshot.join(name), "x").unwrap();
    }
    let mut hub = hub("http://hub.invalid".into(), cache.path());
    hub.offline = true;
    let error = resolve(&hub).unwrap_err();
    assert!(error.contains("1 of the 2 files model-*"), "{error}");
    fs::write(snapshot.join("model-00002-of-00002.safetensors"), "x").unwrap();
    assert_eq!(resolve(&hub).unwrap(), snapshot);
}

#[test]
fn ids_are_told_from_paths() {
    for id in ["org/name", "name", "distilbert/distilbert-base-uncased", "a/b.c_d"] {
        assert!(looks_like_id(id), "{id}");
    }
    for path in [
        "",
        "/",
        "a/b/c",
        "./a",
        "../a",
        "a/",
        "/a",
        "a\\b",
        "train.tsv",
        "x/dev.csv",
        "tests",
        "C:/a",
        "a b",
        "a/..",
        "a--b",
    ] {
        assert!(!looks_like_id(path), "{path}");
    }
}

#[test]
fn silence_in_the_middle_of_a_file_is_an_error() {
    let cache = tempfile::tempdir().unwrap();
    let silent = hang(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwei");
    let mut answers = model();
    answers.insert(file("model.safetensors"), redirect(&format!("http://{silent}/")));
    let (endpoint, _) = serve(answers);
    let mut hub = hub(endpoint, cache.path());
    hub.silence = Duration::from_secs(1);
    let start = Instant::now();
    let error = resolve(&hub).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(7));
    assert!(error.contains("nothing more came for 1 second"), "{error}");
}
