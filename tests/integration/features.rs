//! Adapters that offer less than the one of the tests: `CRISP_WITHOUT` takes features and limits
//! away. What is not needed changes nothing; what is needed is asked for by name.

use crate::support::binary::{crisp, json, small, text};
use std::fs;
use std::path::Path;
use std::process::Output;

fn without(directory: &Path, what: &str, arguments: &[&str]) -> Output {
    crisp(directory).env("CRISP_WITHOUT", what).args(arguments).output().unwrap()
}

fn succeeds(directory: &Path, what: &str, arguments: &[&str]) -> String {
    let output = without(directory, what, arguments);
    assert!(output.status.success(), "without {what}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The losses of each step, and the trained weights.
fn trained(directory: &Path, what: &str, precision: &str) -> (Vec<String>, Vec<u8>) {
    let (model, data) = small(directory);
    let output = directory.join(format!("without {what} {precision}"));
    let output = output.to_str().unwrap();
    let arguments = ["train", "--model", &model, "--data", &data, "--output", output];
    let rest = ["--max-steps", "4", "--sparsity", "topk:0.5", "--precision", precision];
    succeeds(directory, what, &[&arguments[..], &rest].concat());
    let metrics = fs::read_to_string(Path::new(output).join("metrics.jsonl")).unwrap();
    let losses = metrics.lines().map(|line| json(line)["loss"].to_string()).collect();
    (losses, fs::read(Path::new(output).join("model.safetensors")).unwrap())
}

#[test]
fn what_is_not_needed_changes_no_bit() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (_, data) = small(directory);
    let evaluated = |what: &str, model: &str| {
        let line =
            succeeds(directory, what, &["eval", "--model", model, "--data", &data, "--json"]);
        let found = json(&line);
        ["accuracy", "loss"].map(|key| {
            assert!(found[key].is_number(), "{key}: {line}");
            found[key].clone()
        })
    };
    let whole = trained(directory, "", "f32");
    assert!(whole.0.len() >= 4);
    let model = directory.join("without  f32");
    let model = model.to_str().unwrap();
    let found = evaluated("", model);
    for what in [
        "subgroups",
        "timestamps",
        "pipeline-cache",
        "float16",
        "limits",
        "subgroups,timestamps,pipeline-cache,float16,limits",
    ] {
        assert!(trained(directory, what, "f32") == whole, "without {what}");
        assert_eq!(evaluated(what, model), found, "without {what}");
    }
    let mixed = trained(directory, "", "mixed");
    let what = "subgroups,timestamps,pipeline-cache,limits";
    assert!(trained(directory, what, "mixed") == mixed, "without {what}, mixed");
}

#[test]
fn what_is_needed_is_asked_for_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let fails = |what: &str, arguments: &[&str], code: i32, words: &[&str]| {
        let output = without(directory, what, arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "without {what}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "without {what}: no '{word}' in {stderr}");
        }
    };
    let step = ["bench", "step", "--model", &model, "--length", "8", "--profile"];
    fails("timestamps", &step, 1, &["keeps no time", "--adapter"]);
    let mixed = ["train", "--model", &model, "--data", &data, "--precision", "mixed"];
    fails("float16", &mixed, 1, &["float16", "--precision f32"]);
    fails("subgroup", &step, 2, &["CRISP_WITHOUT", "subgroups"]);
}

/// The doctor finds kernels that every adapter can run, those for cards too.
#[test]
fn the_doctor_goes_on_without() {
    let directory = tempfile::tempdir().unwrap();
    let doctor = |what: &str, kernels: &str| {
        let arguments = ["doctor", "--json", "--only", "attention", "--kernels", kernels];
        let output = without(directory.path(), what, &arguments);
        assert!(output.status.success(), "{what}: {}", text(&output.stderr));
        json(&text(&output.stdout))
    };
    for kernels in ["cpu", "plain-gpu", "gpu"] {
        let report = doctor("timestamps,pipeline-cache,limits", kernels);
        assert_eq!(report["passed"], true);
        assert_eq!(report["adapter"]["timestamps"], false);
        assert_eq!(report["adapter"]["max_storage_buffers"], 8);
        let kernels = report["kernels"].as_array().unwrap();
        assert!(kernels.iter().all(|kernel| kernel["set_aside"].is_null()), "{report}");
    }
    // Kernels that need what is not there are set aside, and the next ones are taken.
    let report = doctor("subgroups", "gpu");
    let kernels = report["kernels"].as_array().unwrap();
    let why = kernels[0]["why"].as_str().unwrap_or_default();
    assert!(why.contains("needs subgroup functions"), "{report}");
    assert!(report["passed"] == true && kernels.iter().any(|kernel| kernel["passed"] == true));
}
