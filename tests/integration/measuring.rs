//! `crisp bench`, `crisp tune` and `train --profile`, as a person runs them: what they print and
//! write, and what they say of bad input. No figure is tested, for those belong to a machine.

use crate::support::binary::{fails, json, small, succeeds};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The one line of JSON that a command prints.
fn report(directory: &Path, arguments: &[&str]) -> Value {
    let out = succeeds(directory, arguments);
    assert_eq!(out.lines().count(), 1, "{out}");
    json(&out)
}

fn positive(report: &Value, keys: &[&str]) {
    for key in keys {
        assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {report}");
    }
}

#[test]
fn bench_matmul_says_its_speed_and_variant() {
    let directory = tempfile::tempdir().unwrap();
    for transpose in ["nn", "nt", "tn"] {
        let sizes = ["--m", "20", "--n", "36", "--k", "12", "--transpose", transpose, "--json"];
        let report = report(directory.path(), &[&["bench", "matmul"], &sizes[..]].concat());
        positive(&report, &["gflops", "seconds"]);
        assert!(report["variant"].as_str().unwrap().starts_with("matmul_"), "{report}");
        assert!(report["adapter"].is_string());
    }
}

#[test]
fn bench_step_measures_training_and_evaluation_on_lengths_and_data() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let common =
        ["bench", "step", "--model", &model, "--batch-size", "3", "--steps", "3", "--json"];
    for more in [
        &["--length", "7"][..],
        &["--data", &data],
        &["--length", "24", "--sparsity", "topk:0.5", "--checkpoint-activations"],
        &["--data", &data, "--eval", "--sparsity", "block-topk:0.5,block=8"],
    ] {
        let report = report(directory, &[&common[..], more].concat());
        let keys = [
            "seconds_per_step",
            "tokens_per_step",
            "sentences_per_second",
            "host_seconds_per_step",
            "operations_per_step",
            "bytes_per_step",
            "peak_bytes",
            "first_step_seconds",
        ];
        positive(&report, &keys);
        assert!(report["profile"].is_null() && report["adapter"].is_string(), "{report}");
        if more[1] == "7" {
            assert_eq!(report["tokens_per_step"], 21.0);
        }
    }
}

/// Every launch of the step is in the profile, and the shares add up to the whole.
#[test]
fn a_profile_accounts_for_the_whole_step() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let arguments = ["bench", "step", "--model", &model, "--length", "9", "--json"];
    let profiled = ["--profile", "--trace", "trace.json"];
    let report = report(directory, &[&arguments[..], &profiled].concat());
    let rows = report["profile"].as_array().unwrap();
    let sum = |key: &str| rows.iter().map(|row| row[key].as_f64().unwrap()).sum::<f64>();
    assert!((sum("share") - 1.0).abs() < 1e-9, "{report}");
    let trace = json(&fs::read_to_string(directory.join("trace.json")).unwrap());
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.len() as f64, sum("launches"));
    let mut last = 0.0;
    for event in events {
        assert_eq!(event["ph"], "X");
        let begin = event["ts"].as_f64().unwrap();
        assert!(begin >= last, "events follow each other: {event}");
        last = begin + event["dur"].as_f64().unwrap();
    }

    let settings = ["--model", &model, "--data", &data, "--max-steps", "4", "--output", "run"];
    let out = succeeds(directory, &[&["train", "--profile"], &settings[..]].concat());
    assert!(out.contains("step 3, kernel by kernel"), "{out}");
    assert!(out.contains("optimizer_adamw") && out.contains("GFLOP/s"), "{out}");
    assert!(directory.join("run/trace.json").exists());
    // The profile changes nothing of what is computed.
    let plain = ["--model", &model, "--data", &data, "--max-steps", "4", "--output", "plain"];
    succeeds(directory, &[&["train"], &plain[..]].concat());
    let weights = |run: &str| fs::read(directory.join(run).join("model.safetensors")).unwrap();
    assert!(weights("run") == weights("plain"));
}

#[test]
fn bench_attention_sets_a_policy_beside_dense() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = ["--length", "70", "--batch", "2", "--heads", "2", "--head-dim", "8", "--json"];
    for (policy, expected) in [
        ("dense", 0.0),
        ("topk:0.8", 0.8),
        ("block-topk:0.5,block=8", 0.45),
        ("random:0.5", 0.5),
        // Of 70 keys a query sees 17, but for those near an end.
        ("local:8", 1.0 - (70.0 * 17.0 - 72.0) / 4900.0),
    ] {
        let policy = ["bench", "attention", "--sparsity", policy];
        let report = report(directory.path(), &[&policy[..], &sizes].concat());
        positive(
            &report,
            &[
                "forward_seconds",
                "backward_seconds",
                "dense_forward_seconds",
                "dense_backward_seconds",
                "mask_seconds",
                "flops",
                "dense_flops",
            ],
        );
        let realised = report["realised_sparsity"].as_f64().unwrap();
        assert!((realised - expected).abs() < 0.06, "{report}");
        let share = report["flops"].as_f64().unwrap() / report["dense_flops"].as_f64().unwrap();
        assert!((1.0 - share - realised).abs() < 1e-9, "{report}");
    }
}

#[test]
fn what_is_tuned_is_used_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, _) = small(directory);
    let out = succeeds(
        directory,
        &["tune", "--model", &model, "--batch-size", "2", "--length", "4", "--json"],
    );
    let lines: Vec<Value> = out.lines().map(json).collect();
    let known = |name: &str| lines.iter().any(|line| line["product"] == name);
    // Tokens are 8: 2 sentences of 4. The products of the second matrix of a block, and its
    // gradients.
    for product in ["8x32x48 nt", "8x48x32 nn", "32x48x8 tn"] {
        assert!(known(product), "{product} is not in {out}");
    }
    for line in &lines {
        assert!(
            !line["tried"].as_array().unwrap().is_empty() && line["gflops"].is_number(),
            "{line}"
        );
    }
    let file = directory.join("tuned/tuning.json");
    // Another choice than any default, so that it can be seen to be taken.
    let text = fs::read_to_string(&file).unwrap();
    let mut store = json(&text);
    for adapter in store["adapters"].as_object_mut().unwrap().values_mut() {
        adapter["products"]["8x32x48 nt"]["variant"] = "tiled".into();
    }
    fs::write(&file, store.to_string()).unwrap();
    let sizes = ["--m", "8", "--n", "32", "--k", "48", "--transpose", "nt", "--json"];
    let report = report(directory, &[&["bench", "matmul"], &sizes[..]].concat());
    assert_eq!(report["variant"], "matmul_tiled");
}

/// A run that is gone on with keeps the variants that it began with, whatever was tuned since:
/// others would add up in another order.
#[test]
fn a_resumed_run_keeps_its_variants() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let recorded = || {
        let text = fs::read_to_string(directory.join("run/run.json")).unwrap();
        json(&text)["tuning"].as_object().unwrap().clone()
    };
    let settings =
        ["train", "--model", &model, "--data", &data, "--max-steps", "2", "--output", "run"];
    succeeds(directory, &["tune", "--model", &model, "--batch-size", "2", "--length", "4"]);
    succeeds(directory, &settings);
    let began_with = recorded();
    assert!(!began_with.is_empty());
    fs::remove_file(directory.join("tuned/tuning.json")).unwrap();
    succeeds(directory, &[&settings[..], &["--resume"]].concat());
    assert_eq!(recorded(), began_with);
    succeeds(directory, &[&settings[..], &["--overwrite"]].concat());
    assert!(recorded().is_empty(), "nothing is tuned any more");
}

#[test]
fn measuring_what_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let step = ["bench", "step", "--model", &model];
    for (more, code, word) in [
        (&["--length", "0"][..], 2, "--length 0"),
        (&["--length", "25"], 2, "1 to 24"),
        (&[], 2, "--length"),
        (&["--length", "5", "--data", &data], 2, "cannot be used with"),
        (&["--length", "5", "--steps", "2"], 2, "--steps"),
        (&["--length", "5", "--batch-size", "0"], 2, "--batch-size 0"),
        (&["--length", "5", "--trace", "t.json"], 2, "--profile"),
        (&["--data", "nowhere"], 1, "nowhere"),
        (&["--length", "5", "--sparsity", "topk:2"], 2, "topk:2"),
    ] {
        fails(directory, &[&step[..], more].concat(), code, &[word]);
    }
    for (arguments, word) in [
        (&["bench", "attention", "--length", "0"][..], "--length 0"),
        (&["bench", "attention", "--heads", "0"], "--heads 0"),
        (&["bench", "attention", "--sparsity", "most"], "most"),
        (&["bench", "matmul", "--m", "0"], "--m 0"),
        (&["tune", "--model", &model], "--length"),
        (&["tune", "--model", &model, "--length", "0"], "--length"),
    ] {
        fails(directory, arguments, 2, &[word]);
    }
    fails(directory, &["tune", "--model", "nowhere", "--length", "3"], 1, &["nowhere"]);
}
