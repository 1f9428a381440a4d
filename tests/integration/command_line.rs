//! The binary as a person runs it: results, files, exit codes, and what it says of bad input.

use crate::support::binary::{VOCABULARY, crisp, fails, json, run, small, succeeds, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn train<'a>(model: &'a str, data: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "train",
        "--model",
        model,
        "--data",
        data,
        "--output",
        output,
        "--batch-size",
        "8",
        "--learning-rate",
        "0.003",
        "--warmup-steps",
        "2",
    ];
    arguments.extend(more);
    arguments
}

fn steps(metrics: &Path) -> Vec<serde_json::Value> {
    fs::read_to_string(metrics).unwrap().lines().map(json).collect()
}

#[test]
fn train_eval_predict_and_the_files_between_them() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let out = succeeds(
        directory,
        &train(&model, &data, "run", &["--epochs", "4", "--sparsity", "topk:0.5"]),
    );
    assert!(out.contains("accuracy 1.0000"), "this data is easy: {out}");
    let page = fs::read_to_string(directory.join("run/report.html")).unwrap();
    assert!(page.contains("topk:0.5") && page.contains("GFLOP") && !page.contains("<script"));
    for file in ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "run.json"] {
        assert!(directory.join("run").join(file).exists(), "{file} is missing");
        if !file.ends_with("run.json") {
            assert!(directory.join("run/checkpoints/best").join(file).exists());
        }
    }
    let config = json(&fs::read_to_string(directory.join("run/config.json")).unwrap());
    assert_eq!(config["crisp"]["sparsity"], "topk:0.5");
    let record = json(&fs::read_to_string(directory.join("run/run.json")).unwrap());
    for key in ["crisp", "settings", "data", "adapter", "result", "model"] {
        assert!(!record[key].is_null(), "run.json lacks {key}");
    }
    let lines = steps(&directory.join("run/metrics.jsonl"));
    let training: Vec<_> = lines.iter().filter(|line| !line["loss"].is_null()).collect();
    assert_eq!(training.len(), 4 * 60_usize.div_ceil(8));
    for key in ["step", "epoch", "learning_rate", "grad_norm", "tokens", "seconds"] {
        assert!(training.iter().all(|line| line[key].is_number()), "{key}");
    }
    assert_eq!(lines.iter().filter(|line| !line["eval_accuracy"].is_null()).count(), 4);

    let evaluated = succeeds(directory, &["eval", "--model", "run", "--data", &data, "--json"]);
    let evaluated = json(&evaluated);
    assert_eq!(evaluated["accuracy"], record["result"]["eval_accuracy"]);
    assert_eq!(evaluated["sparsity"], "topk:0.5");
    assert_eq!(evaluated["examples"], 12);
    let loss = record["result"]["eval_loss"].as_f64().unwrap();
    assert!((evaluated["loss"].as_f64().unwrap() - loss).abs() < 1e-6);
    let dense = ["eval", "--model", "run", "--data", &data, "--json", "--sparsity", "dense"];
    assert_eq!(json(&succeeds(directory, &dense))["sparsity"], "dense");

    let predicted =
        succeeds(directory, &["predict", "--model", "run", "--json", "a good film", "a bad film"]);
    let labels: Vec<_> = predicted.lines().map(|line| json(line)["label"].clone()).collect();
    assert_eq!(labels, ["POSITIVE", "NEGATIVE"]);
    let first = json(predicted.lines().next().unwrap());
    let sum: f64 =
        first["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    assert_eq!(first["logits"].as_array().unwrap().len(), 2);

    // The same from stdin, blank lines passed over.
    fs::write(directory.join("lines"), "a good film\n\na bad film\n").unwrap();
    let piped = crisp(directory)
        .args(["predict", "--model", "run", "--json"])
        .stdin(fs::File::open(directory.join("lines")).unwrap())
        .output()
        .unwrap();
    assert_eq!(text(&piped.stdout), predicted);

    // A model that is no run's is never replaced.
    let kept = fs::read(directory.join("model/config.json")).unwrap();
    let there = train(&model, &data, "model", &["--max-steps", "1", "--overwrite"]);
    fails(directory, &there, 1, &["config.json", "Choose another --output"]);
    assert_eq!(fs::read(directory.join("model/config.json")).unwrap(), kept);

    // A second run there must be asked for.
    let again = train(&model, &data, "run", &["--epochs", "4"]);
    fails(directory, &again, 1, &["run", "--overwrite", "--resume"]);
    let again = train(&model, &data, "run", &["--max-steps", "2", "--overwrite"]);
    succeeds(directory, &again);
    let count = steps(&directory.join("run/metrics.jsonl")).len();
    assert_eq!(count, 3, "two steps and an evaluation");
}

#[test]
fn every_policy_trains_evaluates_and_predicts_and_stays_with_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    for (given, kept, evaluated) in [
        ("local:2", "local:2", "local:2"),
        ("local:1,global@1", "local:1,global@1", "local:1,global@1"),
        ("random:0.5,seed=3", "random:0.5,seed=3", "random:0.5,seed=3"),
        ("topk:0->0.8,warmup=3", "topk:0→0.8,warmup=3", "topk:0.8"),
        ("block-topk:0.5,block=4@0+topk:0.5@1", "block-topk:0.5,block=4@0+topk:0.5@1", ""),
        ("topk:0.8,over=16,only=train", "topk:0.8,over=16,only=train", "dense"),
    ] {
        let arguments = train(&model, &data, "run", &["--max-steps", "5", "--sparsity", given]);
        let out = succeeds(directory, &[&arguments[..], &["--overwrite"]].concat());
        let config = json(&fs::read_to_string(directory.join("run/config.json")).unwrap());
        assert_eq!(config["crisp"]["sparsity"], kept);
        // What training said of the model is what evaluation finds with the policy that stays with
        // it, and with the policy that this comes down to.
        let eval = |more: &[&str]| {
            let arguments = ["eval", "--model", "run", "--data", &data, "--json"];
            json(&succeeds(directory, &[&arguments[..], more].concat()))
        };
        let own = eval(&[]);
        let accuracy = format!("accuracy {:.4}", own["accuracy"].as_f64().unwrap());
        assert!(out.contains(&accuracy), "{given}: {own} {out}");
        if !evaluated.is_empty() {
            assert_eq!(own["loss"], eval(&["--sparsity", evaluated])["loss"], "{given}");
        }
        let predict = ["predict", "--model", "run", "--sparsity", given, "--json", "a good film"];
        assert!(json(&succeeds(directory, &predict))["label"].is_string());
        // A sentence is judged alike in any batch.
        let alone = eval(&["--batch-size", "1"])["loss"].as_f64().unwrap();
        assert!((alone - own["loss"].as_f64().unwrap()).abs() < 1e-6, "{given}: {alone} {own}");
    }
    let wrong = train(&model, &data, "other", &["--sparsity", "topk:0.8@2"]);
    fails(directory, &wrong, 2, &["layer 2", "0 to 1"]);
}

#[test]
fn a_run_killed_at_any_time_resumes_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let more = ["--max-steps", "20", "--save-every", "3", "--eval-every", "5", "--seed", "7"];
    succeeds(directory, &train(&model, &data, "whole", &more));

    // Killed hard, somewhere in the middle.
    let mut child = crisp(directory).args(train(&model, &data, "parts", &more)).spawn().unwrap();
    let metrics = directory.join("parts/metrics.jsonl");
    let started = Instant::now();
    while fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 8 {
        assert!(started.elapsed() < Duration::from_secs(120), "the run does not get on");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let mut resume = more.to_vec();
    resume.push("--resume");
    // Other settings are refused, and nothing is touched.
    let mut other = resume.clone();
    other.extend(["--batch-size", "4"]);
    let arguments: Vec<&str> = train(&model, &data, "parts", &[])
        .into_iter()
        .filter(|argument| !["--batch-size", "8"].contains(argument))
        .chain(other)
        .collect();
    fails(directory, &arguments, 1, &["batch_size was 8 and is 4", "--overwrite"]);
    succeeds(directory, &train(&model, &data, "parts", &resume));

    for file in ["model.safetensors", "checkpoints/step-00000020/optimizer.safetensors"] {
        let read = |run: &str| fs::read(directory.join(run).join(file)).unwrap();
        assert!(read("whole") == read("parts"), "{file} differs");
    }
    let without_time = |run: &str| -> Vec<serde_json::Value> {
        let mut lines = steps(&directory.join(run).join("metrics.jsonl"));
        lines.iter_mut().for_each(|line| line["seconds"] = 0.into());
        lines.iter_mut().for_each(|line| line["host_seconds"] = 0.into());
        lines
    };
    assert_eq!(without_time("whole"), without_time("parts"));
    // Resuming what is finished changes nothing.
    succeeds(directory, &train(&model, &data, "parts", &resume));
    assert_eq!(without_time("whole"), without_time("parts"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_ends_with_130() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    for eval_every in ["4000", "1"] {
        let more = ["--max-steps", "4000", "--overwrite", "--eval-every", eval_every];
        let child = crisp(directory)
            .args(train(&model, &data, "run", &more))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let metrics = directory.join("run/metrics.jsonl");
        let started = Instant::now();
        while fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 3 {
            assert!(started.elapsed() < Duration::from_secs(120), "the run does not get on");
            std::thread::sleep(Duration::from_millis(2));
        }
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("--resume"), "{}", text(&output.stderr));
        let saved: Vec<String> = fs::read_dir(directory.join("run/checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "best")
            .collect();
        assert_eq!(saved.len(), 1, "{saved:?}");
        let step: usize = saved[0].strip_prefix("step-").unwrap().parse().unwrap();
        let lines = steps(&metrics);
        let (evaluations, losses): (Vec<_>, Vec<_>) =
            lines.iter().partition(|line| line["loss"].is_null());
        assert_eq!(losses.len(), step, "all losses up to the saved step are written");
        // Nor is the evaluation of the step lost that it was stopped at: a resumed run begins after
        // it.
        assert_eq!(evaluations.len(), if eval_every == "1" { step } else { 0 });
        fs::remove_file(&metrics).unwrap();
    }
}

#[test]
fn without_model_and_network_the_quickstart_is_trained_and_says_so_twice() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    // Nobody listens on this port: refused at once.
    let output = crisp(directory)
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .args(["train", "--max-steps", "2", "--max-eval-samples", "8"])
        .output()
        .unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    for said in [&stdout, &stderr] {
        assert!(said.contains("quickstart") && said.contains("not the paper's task"), "{said}");
    }
    assert!(directory.join("runs/quickstart-dense-seed42/model.safetensors").exists());
}

#[test]
fn a_network_that_hangs_is_noticed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = crisp(directory.path())
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", endpoint)
        .args(["eval", "--model", "some/model", "--data", "quickstart"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(text(&output.stderr).contains("some/model"), "{}", text(&output.stderr));
    drop(listener);
}

#[test]
fn settings_come_from_a_file_and_flags_win() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    fs::write(
        directory.join("run.toml"),
        format!("model = {model:?}\ndata = {data:?}\nmax-steps = 5\nbatch_size = 4\nclip = 0.5\n"),
    )
    .unwrap();
    let arguments =
        ["train", "--config", "run.toml", "--max-steps", "2", "--output", "run", "--no-shuffle"];
    succeeds(directory, &arguments);
    let record = json(&fs::read_to_string(directory.join("run/run.json")).unwrap());
    let settings = &record["settings"];
    assert_eq!(settings["max_steps"], 2);
    assert_eq!(settings["batch_size"], 4);
    assert_eq!(settings["clip"], 0.5);
    assert_eq!(settings["shuffle"], false);
    let arguments = ["train", "--config", "bad.toml"];
    for (text, code, words) in [
        ("batch_sise = 4\n", 1, ["bad.toml, line 1: batch_sise", "`batch-size`"]),
        ("clip = 1\nbatch-size = 0\n", 2, ["bad.toml, line 2: batch-size 0", "between 1 and"]),
    ] {
        fs::write(directory.join("bad.toml"), text).unwrap();
        fails(directory, &arguments, code, &words);
    }
}

#[test]
fn devices_lists_what_there_is_and_an_unknown_adapter_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let listed = succeeds(directory.path(), &["devices", "--json"]);
    let first =
        json(listed.lines().next().expect("no adapter: see the message of `crisp devices`"));
    let name = first["name"].as_str().unwrap();
    let wrong = ["predict", "--model", "quickstart", "--adapter", "no such card", "x"];
    fails(directory.path(), &wrong, 1, &["no such card", name]);
    // Only its name, and without any driver at all.
    let output = crisp(directory.path())
        .env("VK_DRIVER_FILES", "/nowhere.json")
        .env("VK_ICD_FILENAMES", "/nowhere.json")
        .arg("devices")
        .output()
        .unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("vulkan"), "{}", text(&output.stderr));
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (arguments, words) in [
        (vec!["train", "--model", "quickstart", "--batch-size", "0"], vec!["batch-size"]),
        (vec!["train", "--model", "quickstart", "--sparsity", "topk:2"], vec!["topk:2", "[0, 1)"]),
        (vec!["train", "--model", "quickstart", "--sparsity", "magic"], vec!["magic"]),
        (vec!["train", "--model", "quickstart", "--max-length", "2"], vec!["max-length"]),
        (vec!["train", "--model", "quickstart", "--dropout", "1"], vec!["dropout"]),
        (vec!["train", "--model", "quickstart", "--learning-rate", "nan"], vec!["learning-rate"]),
        (
            vec!["train", "--model", "quickstart", "--gradient-accumulation", "33"],
            vec!["--gradient-accumulation 33", "batch size"],
        ),
        (vec!["train", "--model", "quickstart", "--seed", "-1"], vec!["--seed", "'-1'"]),
        (vec!["eval", "--model", "m", "--data", "d", "--max-length", "2"], vec!["--max-length 2"]),
        (vec!["train", "--unknown"], vec!["--unknown"]),
        (vec!["eval", "--data", "quickstart"], vec!["--model"]),
        (vec!["predict", "--model", "quickstart", "--log-level", "=="], vec!["log-level"]),
    ] {
        fails(directory, &arguments, 2, &words);
    }
}

#[test]
fn bad_input_is_named_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let copy = |name: &str, change: &dyn Fn(&Path)| -> String {
        let place = directory.join(name);
        fs::create_dir_all(&place).unwrap();
        for entry in fs::read_dir(&model).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), place.join(entry.file_name())).unwrap();
        }
        change(&place);
        place.display().to_string()
    };
    let odd = fixture("odd");
    let truncated = copy("truncated", &|place| {
        let whole = fs::read(odd.join("model.safetensors")).unwrap();
        fs::write(place.join("model.safetensors"), &whole[..whole.len() / 2]).unwrap();
    });
    let mismatched = copy("mismatched", &|place| {
        fs::copy(odd.join("model.safetensors"), place.join("model.safetensors")).unwrap();
    });
    let broken = copy("broken", &|place| {
        fs::write(place.join("config.json"), "{\"model_type\": \"distilbert\",").unwrap();
    });
    let no_config = copy("no-config", &|place| fs::remove_file(place.join("config.json")).unwrap());
    let no_tokenizer =
        copy("no-tokenizer", &|place| fs::remove_file(place.join("vocab.txt")).unwrap());
    let out_of_range = copy("out-of-range", &|place| {
        fs::write(place.join("vocab.txt"), format!("{VOCABULARY}extra\nwords\n")).unwrap();
    });
    let gpt = copy("gpt", &|place| {
        fs::write(place.join("config.json"), "{\"model_type\": \"gpt2\"}").unwrap();
    });
    let dataset = |name: &str, train: &str| -> String {
        let place = directory.join(name);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("train.tsv"), train).unwrap();
        fs::write(place.join("dev.tsv"), "sentence\tlabel\ngood\t1\n").unwrap();
        place.display().to_string()
    };
    let bad_label = dataset("bad-label", "sentence\tlabel\ngood\t1\nbad\tmaybe\n");
    let large_label = dataset("large-label", "sentence\tlabel\ngood\t7\n");
    let empty = dataset("empty", "");
    let no_rows = dataset("no-rows", "sentence\tlabel\n");
    let no_column = dataset("no-column", "phrase\tlabel\ngood\t1\n");
    for (model, data, words) in [
        ("missing/model/path", data.as_str(), vec!["missing/model/path"]),
        ("./missing", &data, vec!["./missing", "directory"]),
        (&truncated, &data, vec!["truncated", "model.safetensors"]),
        (&mismatched, &data, vec!["model.safetensors", "[3]", "[2]"]),
        (&broken, &data, vec!["broken", "config.json"]),
        (&no_config, &data, vec!["config.json"]),
        (&no_tokenizer, &data, vec!["no-tokenizer", "vocab.txt"]),
        (&out_of_range, &data, vec!["out-of-range", "12"]),
        (&gpt, &data, vec!["gpt2"]),
        (&model, "./missing-data", vec!["./missing-data"]),
        (&model, &bad_label, vec!["train.tsv", "3", "maybe"]),
        (&model, &large_label, vec!["train.tsv", "7"]),
        (&model, &empty, vec!["train.tsv"]),
        (&model, &no_rows, vec!["train.tsv"]),
        (&model, &no_column, vec!["train.tsv", "sentence"]),
    ] {
        let arguments = train(model, data, "out", &["--max-steps", "1"]);
        fails(directory, &arguments, 1, &words);
        assert!(!directory.join("out").exists(), "{words:?}: something was written");
    }
    let arguments = ["eval", "--model", &model, "--data", &data, "--split", "test"];
    fails(directory, &arguments, 1, &["test"]);
    let arguments = ["eval", "--model", &model, "--data", &data, "--split", "dessert"];
    let output = run(directory, &arguments);
    assert!(!output.status.success());
    // No lines on stdin are no error, and no result.
    assert_eq!(succeeds(directory, &["predict", "--model", &model]), "");
}
