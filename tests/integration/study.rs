//! `crisp reproduce` as a person runs it: pairs, resumes, shards, and what it says.

use crate::support::binary::{crisp, fails, json, small, succeeds, text};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn reproduce<'a>(model: &'a str, data: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["reproduce", "--model", model, "--data", data, "--output", output];
    arguments.extend(["--batch-size", "8", "--learning-rate", "0.003", "--max-steps", "12"]);
    arguments.extend(["--eval-every", "4", "--save-every", "2"]);
    arguments.extend(more);
    arguments
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// `report.json` without what a clock has measured.
fn findings(root: &Path) -> Value {
    let mut found = json(&read(&root.join("report.json")).replace('\n', " "));
    for configuration in found["configurations"].as_array_mut().unwrap() {
        configuration["step_seconds"] = Value::Null;
        configuration["attention_seconds"] = Value::Null;
    }
    found
}

#[test]
fn a_study_pairs_its_runs_and_repeats_none_that_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let more = ["--levels", "0.5", "--also", "local:1@0", "--control", "random"];
    let more = [&more[..], &["--control", "attention-dropout:0.4", "--seeds", "2"]].concat();
    let more = [&more[..], &["--show", "the film not bad not good ."]].concat();
    let out = succeeds(directory, &reproduce(&model, &data, "study", &more));
    for name in ["dense", "topk:0.5", "local:1@0", "random:0.5", "attention dropout 0.4"] {
        assert!(out.contains(name), "{name} is missing: {out}");
    }
    assert!(out.contains("2 seeds, 12 examples"), "{out}");
    let root = directory.join("study");
    let run = |name: &str| root.join("runs").join(name);
    // Runs of one seed begin alike: with the same sentences in the same order.
    let tokens = |name: &str| -> Vec<Value> {
        let lines = read(&run(name).join("metrics.jsonl"));
        lines.lines().map(json).filter(|line| !line["loss"].is_null()).collect()
    };
    let (dense, topk, other) =
        (tokens("dense-seed-1"), tokens("topk-0.5-seed-1"), tokens("dense-seed-2"));
    assert_eq!(dense.len(), 12);
    let of = |lines: &[Value]| lines.iter().map(|line| line["tokens"].clone()).collect::<Vec<_>>();
    assert_eq!(of(&dense), of(&topk));
    assert_ne!(of(&dense), of(&other));
    // Operations: dense counts all pairs, top-k about half of them.
    for (line, share) in [(&dense[3], 1.0..1.01), (&topk[3], 0.5..0.62)] {
        let of = |key: &str| line[key].as_f64().unwrap();
        let found = of("attention_operations") / of("dense_attention_operations");
        assert!(share.contains(&found), "{found} of the operations");
    }
    // Records stay, models go.
    for (file, there) in [
        ("run.json", true),
        ("predictions.jsonl", true),
        ("attention.json", true),
        ("report.html", true),
        ("model.safetensors", false),
        ("checkpoints", false),
    ] {
        assert_eq!(run("topk-0.5-seed-2").join(file).exists(), there, "{file}");
    }
    let record = json(&read(&run("topk-0.5-seed-2").join("run.json")).replace('\n', " "));
    let lines = read(&run("topk-0.5-seed-2").join("predictions.jsonl"));
    let right = lines.lines().map(json).filter(|line| line["label"] == line["predicted"]).count();
    assert_eq!(record["result"]["eval_accuracy"], right as f64 / 12.0);
    assert!(record["result"]["attention_seconds"].as_f64().unwrap() > 0.0);

    // The page needs nothing but itself, and says what was found.
    let page = read(&root.join("report.html"));
    assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("<script"));
    let outside = page.replace("http://www.w3.org/2000/svg", "").contains("http");
    assert!(!outside, "a link to the outside");
    for part in [
        "McNemar",
        "local:1@0",
        "GFLOP",
        "layer 1",
        "SHA-256",
        "@media print",
        "dark",
        "film not bad not",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(root.join("figures/difference.svg").exists());
    assert!(read(&root.join("report.md")).contains("| configuration"));

    // Nothing is run again, and more seeds are added to what is there.
    let before = fs::metadata(run("dense-seed-1").join("run.json")).unwrap().modified().unwrap();
    let more = [&more[..8], &["--seeds", "3", "--json"]].concat();
    let out = succeeds(directory, &reproduce(&model, &data, "study", &more));
    let after = fs::metadata(run("dense-seed-1").join("run.json")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    let found = json(&out);
    assert_eq!(found["configurations"][0]["seeds"], serde_json::json!([1, 2, 3]));
    assert_eq!(found["comparisons"].as_array().unwrap().len(), 4);

    // Another learning rate is another study.
    let other = reproduce(&model, &data, "study", &["--weight-decay", "0.5"]);
    fails(directory, &other, 1, &["weight_decay", "--output"]);
}

#[test]
fn what_another_process_does_or_a_user_removes_is_not_done_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let more = ["--levels", "0.5", "--rule", "topk,over=16", "--control", "random", "--seeds", "1"];
    let root = directory.join("study");
    let run = root.join("runs/random-0.5-over-16-seed-1");
    fs::create_dir_all(&run).unwrap();
    let held = fs::File::create(run.join(".lock")).unwrap();
    held.try_lock().unwrap();
    let output = crisp(directory).args(reproduce(&model, &data, "study", &more)).output().unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("random-0.5-over-16-seed-1: another process is at it"), "{told}");
    assert!(text(&output.stdout).contains("not finished: 1 run"));
    let train = ["train", "--model", &model, "--data", &data, "--max-steps", "2", "--output"];
    let place = run.display().to_string();
    fails(directory, &[&train[..], &[&place]].concat(), 1, &["another process"]);
    drop(held);
    // The control keeps as many keys as what it controls: here, all of them.
    let out = succeeds(directory, &reproduce(&model, &data, "study", &more));
    assert!(!out.contains("not finished"), "{out}");
    let result = |name: &str| -> Value {
        json(&read(&root.join("runs").join(name).join("run.json")).replace('\n', " "))["result"]
            .take()
    };
    let pairs = |name: &str| result(name)["training_pairs"].take();
    assert_eq!(pairs("random-0.5-over-16-seed-1"), pairs("topk-0.5-over-16-seed-1"));

    // A page that was removed is made again from the records; nothing is trained for it.
    let before = result("dense-seed-1");
    let page = root.join("runs/dense-seed-1/report.html");
    fs::remove_file(&page).unwrap();
    succeeds(directory, &reproduce(&model, &data, "study", &more));
    assert!(page.exists());
    assert_eq!(before, result("dense-seed-1"));

    // Other training data make another study, whatever they are called.
    fs::write(directory.join("data/train.tsv"), "sentence\tlabel\ngood\t1\nbad\t0\n").unwrap();
    let more = [&more[..6], &["--seeds", "2"]].concat();
    let mut arguments = reproduce(&model, &data, "study", &more);
    arguments.push("--json");
    let output = crisp(directory).args(arguments).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("train.tsv: it has changed since dense-seed-1 was run"), "{told}");
}

#[test]
fn a_study_that_was_killed_goes_on_and_ends_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let more = ["--levels", "0.5", "--seeds", "2"];
    succeeds(directory, &reproduce(&model, &data, "whole", &more));
    let root = directory.join("killed");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut kills = 0;
    for wait in ["dense-seed-1/checkpoints/step-00000004", "topk-0.5-seed-1/metrics.jsonl"] {
        let mut child = crisp(directory)
            .args(reproduce(&model, &data, "killed", &more))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !root.join("runs").join(wait).exists() && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{wait} never came");
            std::thread::sleep(Duration::from_millis(2));
        }
        kills += u32::from(child.kill().is_ok());
        child.wait().unwrap();
    }
    assert_eq!(kills, 2);
    succeeds(directory, &reproduce(&model, &data, "killed", &more));
    assert_eq!(findings(&root), findings(&directory.join("whole")));
}

#[test]
fn shards_are_collected_into_the_same_study() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let more = ["--levels", "0.3,0.6", "--rule", "block-topk,block=4", "--seeds", "2"];
    succeeds(directory, &reproduce(&model, &data, "whole", &more));
    for (shard, output) in [("1/2", "one"), ("2/2", "two")] {
        let more = [&more[..], &["--shard", shard]].concat();
        let out = succeeds(directory, &reproduce(&model, &data, output, &more));
        assert!(out.contains("not finished: 3 runs"), "{out}");
    }
    let collect = ["reproduce", "--output", "both", "--collect", "one", "two"];
    let out = succeeds(directory, &collect);
    assert!(!out.contains("not finished"), "{out}");
    assert_eq!(findings(&directory.join("both")), findings(&directory.join("whole")));
    // A report can be made anew from what is there.
    fs::remove_file(directory.join("both/report.html")).unwrap();
    succeeds(directory, &["reproduce", "--collect", "both"]);
    assert!(directory.join("both/report.html").exists());
    // Predictions that were lost are missed by name.
    fs::remove_file(directory.join("both/runs/dense-seed-1/predictions.jsonl")).unwrap();
    fails(
        directory,
        &["reproduce", "--collect", "both"],
        1,
        &["dense-seed-1", "predictions.jsonl"],
    );
}

#[test]
fn a_study_that_makes_no_sense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    for (more, code, words) in [
        (&["--levels", "1.5"][..], 2, &["1.5", "[0, 1)"][..]),
        (&["--levels", "0.5", "--rule", "local"], 2, &["local"]),
        (&["--also", "topk:0.5@7"], 2, &["layer 7", "0 to 1"]),
        (&["--control", "coffee"], 2, &["coffee", "random"]),
        (&["--control", "attention-dropout:2"], 2, &["attention-dropout:2"]),
        (&["--first-seed", "18446744073709551615", "--seeds", "2"], 2, &["--first-seed"]),
        (&["--dropout", "1"], 2, &["--dropout"]),
    ] {
        fails(directory, &reproduce(&model, &data, "wrong", more), code, words);
    }
    assert!(!directory.join("wrong/runs").exists());
    fails(directory, &["reproduce", "--collect", "nowhere"], 1, &["nowhere", "study.json"]);
    fs::create_dir_all(directory.join("damaged")).unwrap();
    fs::write(directory.join("damaged/study.json"), "{").unwrap();
    fails(directory, &["reproduce", "--collect", "damaged"], 1, &["damaged/study.json"]);
    let output = crisp(directory).args(["reproduce", "--shard", "3/2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

/// Models that agree on every sentence say little where sentences are few.
#[test]
fn agreement_on_few_sentences_excludes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    // Without any learning the two models of a seed are alike.
    let more = ["--levels", "0", "--seeds", "2", "--learning-rate", "0", "--json"];
    let arguments = reproduce(&model, &data, "study", &[]);
    let found =
        json(&succeeds(directory, &[&arguments[..7], &["--max-steps", "2"], &more].concat()));
    let comparison = &found["comparisons"][0];
    assert_eq!(comparison["accuracy"]["estimate"], 0.0);
    assert_eq!(comparison["discordance"][0]["p"], 1.0);
    let verdict = comparison["verdict"].as_str().unwrap();
    // 1 - 0.025^(1/12) is 26.5 %.
    assert!(verdict.contains("-26.47 to +26.47"), "{verdict}");
    assert!(verdict.contains("neither a gain nor a loss of 1 point can be excluded"), "{verdict}");
}

#[test]
fn damaged_records_and_diverged_runs_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let more = ["--levels", "0.5", "--seeds", "1"];
    succeeds(directory, &reproduce(&model, &data, "study", &more));
    let run = directory.join("study/runs/topk-0.5-seed-1");
    let again = ["reproduce", "--collect", "study"];
    for (name, text, words) in [
        ("run.json", "{}", &["run.json", "missing field"][..]),
        ("run.json", "", &["run.json"]),
        ("metrics.jsonl", "", &["metrics.jsonl", "0 steps", "has 12"]),
        ("metrics.jsonl", "{\"step\": 1}\n", &["metrics.jsonl, line 1", "missing field"]),
        ("predictions.jsonl", "", &["predictions.jsonl", "0 predictions"]),
        ("predictions.jsonl", "{\"label\": 1}\n", &["predictions.jsonl", "line 1"]),
        (
            "attention.json",
            "{\"sparsity\": \"dense\", \"sentences\": [{\"tokens\": [\"a\"], \
          \"heads\": [[{\"weights\": [], \"kept\": \"1\"}]]}]}",
            &["attention.json", "1 tokens"],
        ),
    ] {
        let whole = read(&run.join(name));
        fs::write(run.join(name), text).unwrap();
        fails(directory, &again, 1, &[words, &["topk-0.5-seed-1", "run it again"]].concat());
        fs::write(run.join(name), whole).unwrap();
    }
    let lines = read(&run.join("predictions.jsonl"));
    fs::write(run.join("predictions.jsonl"), lines.replace("\"predicted\":1", "\"predicted\":0"))
        .unwrap();
    fails(directory, &again, 1, &["12 predictions", "accuracy"]);

    // A report that is not a study's is nobody's to replace.
    fs::create_dir_all(directory.join("mine")).unwrap();
    fs::write(directory.join("mine/report.md"), "my own").unwrap();
    fails(directory, &reproduce(&model, &data, "mine", &more), 1, &["report.md", "--output"]);
    assert_eq!(read(&directory.join("mine/report.md")), "my own");

    let arguments = reproduce(&model, &data, "wild", &[&more[..], &["--clip", "0"]].concat());
    let wild = [&arguments[..10], &["1e20"], &arguments[11..]].concat();
    fails(directory, &wild, 1, &["diverged", "dense-seed-1", "topk-0.5-seed-1"]);
    fails(directory, &wild, 1, &["diverged", "dense-seed-1"]);
    assert!(!directory.join("wild/report.html").exists());
}

#[test]
fn predict_shows_what_each_head_kept() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, _) = small(directory);
    let sentence = "a good film not bad";
    for (sparsity, kept) in [("dense", 49), ("topk:0.5", 28), ("local:1", 19)] {
        let arguments = [
            "predict",
            "--model",
            &model,
            "--sparsity",
            sparsity,
            "--attention",
            "a.html",
            sentence,
        ];
        succeeds(directory, &arguments);
        let page = read(&directory.join("a.html"));
        // Two layers of four heads, their two means, and one large map.
        assert_eq!(page.matches("<svg").count(), 11, "{sparsity}");
        assert!(page.contains("not") && page.contains("head 3") && page.contains(sparsity));
        assert!(page.contains(&format!("keeps {kept} of 49 pairs")), "{sparsity}");
    }
    let long = "a ".repeat(600);
    let arguments = ["predict", "--model", &model, "--attention", "no/where.html", &long];
    fails_with_output(directory, &arguments, &["no/where.html"]);
}

/// What has been classified is printed before the page fails.
fn fails_with_output(directory: &Path, arguments: &[&str], words: &[&str]) {
    let output = crisp(directory).args(arguments).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    words.iter().for_each(|word| assert!(stderr.contains(word), "{stderr}"));
}
