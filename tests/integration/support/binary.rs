//! The binary, run as a person runs it, and a small model and data set for it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary, cut off from any network and cache.
pub fn crisp(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crisp"));
    command
        .current_dir(directory)
        .env("HF_HOME", directory.join("no-cache"))
        .env("CRISP_CACHE", directory.join("tuned"))
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HUB_CACHE")
        .stdin(Stdio::null());
    command
}

pub fn run(directory: &Path, arguments: &[&str]) -> Output {
    crisp(directory).args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs and expects success; returns stdout.
pub fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(
        output.status.success(),
        "crisp {}: {}\n{}",
        arguments.join(" "),
        output.status,
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs and expects this exit code, and on stderr one error that holds all of `words`.
pub fn fails(directory: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = run(directory, arguments);
    let stderr = text(&output.stderr);
    let line = format!("crisp {}: {}\n{stderr}", arguments.join(" "), output.status);
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{line}");
    assert!(!stderr.contains("panicked"), "{line}");
    for word in words {
        assert!(stderr.contains(word), "'{word}' is not in: {line}");
    }
    assert!(output.stdout.is_empty(), "{line}\nstdout: {}", text(&output.stdout));
}

pub fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))
}

/// Word pieces of the small model of these tests.
pub const VOCABULARY: &str =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\nfilm\na\nthe\nnot\n.\n";

/// A small model without weights, and a small data set, in a directory of their own.
pub fn small(directory: &Path) -> (String, String) {
    let model = directory.join("model");
    fs::create_dir_all(&model).unwrap();
    let config = serde_json::json!({
        "model_type": "distilbert", "vocab_size": 12, "dim": 32, "hidden_dim": 48, "n_layers": 2,
        "n_heads": 4, "max_position_embeddings": 24, "dropout": 0.1, "attention_dropout": 0.1,
        "seq_classif_dropout": 0.1, "initializer_range": 0.1,
        "id2label": { "0": "NEGATIVE", "1": "POSITIVE" },
        "label2id": { "NEGATIVE": 0, "POSITIVE": 1 },
    });
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    fs::write(model.join("vocab.txt"), VOCABULARY).unwrap();
    let data = directory.join("data");
    fs::create_dir_all(&data).unwrap();
    let rows = |count: usize| -> String {
        let mut rows = String::from("sentence\tlabel\n");
        for i in 0..count {
            let label = i % 2;
            let word = if label == 1 { "good" } else { "bad" };
            let tail = "the film ".repeat(i % 4);
            rows.push_str(&format!("a {word} film {tail}. \t{label}\n"));
        }
        rows
    };
    fs::write(data.join("train.tsv"), rows(60)).unwrap();
    fs::write(data.join("dev.tsv"), rows(12)).unwrap();
    (model.display().to_string(), data.display().to_string())
}
