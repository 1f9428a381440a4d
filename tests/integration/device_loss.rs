//! What is said when the device fails, and how a run goes on after it.

use crate::support::binary::{crisp, small, text};
use std::fs;
use std::path::Path;
use std::process::Output;

/// Trains for 24 steps, with a checkpoint every 4, until the device is lost after so many
/// submissions.
fn train(directory: &Path, output: &str, submissions: Option<u32>, resume: bool) -> Output {
    let (model, data) = small(directory);
    let mut command = crisp(directory);
    command.args(["train", "--model", &model, "--data", &data, "--output", output]);
    command.args(["--max-steps", "24", "--save-every", "4", "--batch-size", "8"]);
    if resume {
        command.arg("--resume");
    }
    if let Some(count) = submissions {
        command.env("CRISP_LOSE_DEVICE", count.to_string());
    }
    command.output().unwrap()
}

/// Wherever a run loses its device, it says which and what to do, and goes on to the same end.
#[test]
fn a_run_that_has_lost_its_device_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let whole = train(directory, "whole", None, false);
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let weights = |output: &str| fs::read(directory.join(output).join("model.safetensors"));
    let (mut before, mut between) = (0, 0);
    // Each time further, until it is through.
    for (number, submissions) in (0..).map(|number| (number, 1 << number)) {
        let output = format!("lost-{number}");
        let lost = train(directory, &output, Some(submissions), false);
        let stderr = text(&lost.stderr);
        if lost.status.success() {
            break;
        }
        assert_eq!(lost.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let words =
            ["the device was lost: ", "driver ", "--checkpoint-activations", "--batch-size"];
        for word in words {
            assert!(stderr.contains(word), "after {submissions}: no '{word}' in {stderr}");
        }
        if stderr.contains("nothing is saved yet") {
            assert!(stderr.contains("--overwrite"), "{stderr}");
            before += 1;
            continue;
        }
        assert!(
            stderr.contains("the state after step ") && stderr.contains("--resume"),
            "{stderr}"
        );
        let resumed = train(directory, &output, None, true);
        assert!(resumed.status.success(), "{}", text(&resumed.stderr));
        assert!(weights(&output).unwrap() == weights("whole").unwrap(), "after {submissions}");
        between += 1;
    }
    assert!(before > 0 && between > 0, "{before} before a checkpoint, {between} after one");
}

/// Evaluation and the doctor have nothing to go on with; they say the same otherwise.
#[test]
fn a_lost_device_ends_every_command_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, data) = small(directory);
    let trained = train(directory, "run", None, false);
    assert!(trained.status.success(), "{model}: {}", text(&trained.stderr));
    for arguments in [
        &["eval", "--model", "run", "--data", &data][..],
        &["predict", "--model", "run", "a good film"],
        &["doctor", "--only", "LayerNorm"],
        &["bench", "step", "--model", "run", "--length", "8", "--steps", "3"],
    ] {
        let mut command = crisp(directory);
        let output = command.args(arguments).env("CRISP_LOSE_DEVICE", "2").output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        assert!(stderr.contains("the device was lost: "), "{arguments:?}: {stderr}");
    }
}

/// A limit on the process stands for a card that has less memory: software drivers allocate there.
#[cfg(target_os = "linux")]
#[test]
fn a_device_without_memory_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (model, _) = small(directory);
    // KiB: not enough for the first large tensors, and not for all.
    for limit in [1_200_000, 1_500_000] {
        let command = format!(
            "ulimit -v {limit}; exec {:?} bench step --model {model:?} --batch-size 12000 \
             --length 20 --steps 3",
            env!("CARGO_BIN_EXE_crisp")
        );
        let mut shell = std::process::Command::new("sh");
        // What threads reserve, on a machine of many cores, is not to count.
        shell.envs([("MALLOC_ARENA_MAX", "1"), ("LP_NUM_THREADS", "2")]);
        shell.current_dir(directory).env("CRISP_CACHE", directory.join("tuned"));
        let output = shell.args(["-c", &command]).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{limit}: {stderr}");
        for word in ["allocating ", " is out of memory, with ", "--batch-size"] {
            assert!(stderr.contains(word), "{limit}: no '{word}' in {stderr}");
        }
    }
}
