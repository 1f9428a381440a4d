//! Words that a step does not use are updated in the word embedding when they are used again, or
//! when the parameters are wanted. Nobody can tell: the bits are those of updates at each step.

use crate::support::tiny;
use crisp::data::Dataset;
use crisp::gpu::Device;
use crisp::graph::{Precision, Role, Session};
use crisp::model::{Tensor, download, parameters};
use crisp::train::{Event, Job, Settings, Start, train};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sentences of few of the vocabulary's letters each, so that most of them wait at each step.
fn job(output: &Path, settings: &Settings) -> Job {
    let model = tiny();
    let rows: String = (0..30usize)
        .map(|number| {
            let letter = |at: usize| char::from(b'a' + ((number * number + at * 3) % 26) as u8);
            format!("{} {} {}\t{}\n", letter(0), letter(1), letter(2), number % 2)
        })
        .collect();
    let text = format!("sentence\tlabel\n{rows}");
    let labels = model.config.task.labels().to_vec();
    let data = || Dataset::from_tsv(Path::new("data.tsv"), text.as_bytes(), &labels).unwrap();
    Job { settings: settings.clone(), ..Job::new(model, data(), data(), output) }
}

/// Everything that a run leaves on the device: parameters, and moments.
fn left(session: &Session) -> (Vec<(String, Tensor)>, Vec<Vec<u32>>) {
    let config = tiny().config;
    let moments = parameters(&config)
        .iter()
        .flat_map(|parameter| Role::MOMENTS.map(|role| session.get(&parameter.name, role).unwrap()))
        .map(|values| values.into_iter().map(f32::to_bits).collect())
        .collect();
    (download(session, &config).unwrap(), moments)
}

#[test]
fn runs_that_evaluate_save_and_stop_often_come_to_the_bits_of_one_that_does_not() {
    runs_agree(Settings::default());
}

/// Likewise in mixed precision, where the first steps are skipped because gradients overflow, and
/// the loss scale is part of what a run goes on with.
#[test]
fn and_so_do_runs_in_mixed_precision() {
    let loss_scale = 16_777_216.0;
    runs_agree(Settings { precision: Precision::Mixed, loss_scale, ..Settings::default() });
}

fn runs_agree(given: Settings) {
    let settings = |eval_every, save_every| Settings {
        batch_size: 2,
        max_steps: Some(40),
        learning_rate: 1e-3,
        weight_decay: 0.1,
        eval_every: Some(eval_every),
        save_every: Some(save_every),
        ..given.clone()
    };
    let directory = tempfile::tempdir().unwrap();
    let run = |name: &str, settings: &Settings, stops: &[u32]| {
        let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
        let mut start = Start::New;
        for stop in stops.iter().copied().chain([u32::MAX]) {
            let job = Job { start, ..job(&directory.path().join(name), settings) };
            let stopping = AtomicBool::new(false);
            let result = train(&mut session, job, &stopping, |event| {
                if let Event::Step { line } = event
                    && line.step + 1 >= stop
                {
                    stopping.store(true, Ordering::Relaxed);
                }
            });
            assert_eq!(result.is_ok(), stop == u32::MAX, "{:?}", result.err());
            start = Start::Resume;
        }
        left(&session)
    };
    let seldom = run("seldom", &settings(40, 40), &[]);
    // All words are brought up to date after every step: none is ever late.
    let always = run("always", &settings(1, 40), &[]);
    assert!(seldom == always, "evaluated after each step");
    let saved = run("saved", &settings(40, 3), &[]);
    assert!(seldom == saved, "saved after each third step");
    let stopped = run("stopped", &settings(40, 40), &[5, 6, 19]);
    assert!(seldom == stopped, "stopped and resumed");
}
