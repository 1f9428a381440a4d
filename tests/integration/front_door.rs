//! What a program that uses the crate sees: the classifier, and the examples.

use crate::support::tiny;
use crisp::gpu::Device;
use crisp::graph::Precision;
use crisp::train::Settings;
use crisp::{Classifier, data::Encoded, engine::Evaluator, graph::Session, sparsity::Policy};

#[path = "../../examples/classify.rs"]
#[expect(dead_code, reason = "its `main`")]
mod classify;
#[path = "../../examples/finetune.rs"]
#[expect(dead_code, reason = "its `main`")]
mod finetune;
#[path = "../../examples/new_policy.rs"]
#[expect(dead_code, reason = "its `main`")]
mod new_policy;
#[path = "../../examples/one_kernel.rs"]
#[expect(dead_code, reason = "its `main`")]
mod one_kernel;

fn device() -> Device {
    Device::open(None).unwrap_or_else(|why| panic!("{why}"))
}

fn saved(directory: &std::path::Path) {
    let model = tiny();
    model.save(directory, &model.weights.parameters).unwrap();
}

#[test]
fn a_classifier_can_be_sent_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<Classifier>();
}

#[test]
fn answers_are_those_of_an_evaluation() {
    let directory = tempfile::tempdir().unwrap();
    saved(directory.path());
    let mut classifier = Classifier::open(directory.path()).unwrap();
    let texts: Vec<String> = (0..40).map(|number| "a good film ".repeat(1 + number % 5)).collect();
    let answers = classifier.classify(&texts).unwrap();
    assert_eq!(answers.len(), 40);

    let model = tiny();
    let mut session = Session::new(device());
    model.upload(&mut session).unwrap();
    let ids = model.tokenizer.encode_all(&texts, model.max_length(usize::MAX)).unwrap();
    let examples: Vec<Encoded> = ids.into_iter().map(|ids| Encoded { ids, label: None }).collect();
    let policy = Policy::dense();
    let mut evaluator = Evaluator::for_examples(
        &mut session,
        &model.config,
        &policy,
        Precision::F32,
        &examples,
        32,
    )
    .unwrap();
    let predictions = evaluator.predict(&session, &examples, 32, |_| {}).unwrap();
    for (answer, prediction) in answers.iter().zip(&predictions) {
        assert_eq!(answer.logits, prediction.logits);
        assert_eq!(answer.label, model.config.task.labels()[prediction.label]);
        assert!((answer.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    assert_eq!(classifier.classify::<&str>(&[]).unwrap(), []);
}

#[test]
fn a_second_call_of_the_same_size_allocates_nothing_on_the_device() {
    let mut classifier = Classifier::new(device(), tiny()).unwrap();
    let long = "a good film ".repeat(4);
    let first = classifier.classify(&["a good film", long.as_str(), "b"]).unwrap();
    let bytes = classifier.device().allocated_bytes();
    // Whatever is allocated, if only for a moment, would raise the peak.
    assert_eq!(classifier.device().peak_bytes(), bytes);
    let again = classifier.classify(&["a good film", long.as_str(), "b"]).unwrap();
    assert_eq!(again, first);
    // Smaller ones have room in the same plan.
    assert_eq!(classifier.classify(&["a good film"]).unwrap()[0], first[0]);
    assert_eq!(classifier.device().allocated_bytes(), bytes);
    assert_eq!(classifier.device().peak_bytes(), bytes);
    // A larger one grows it, and says the same.
    let many = vec!["a good film"; 7];
    assert_eq!(classifier.classify(&many).unwrap()[6], first[0]);
    assert!(classifier.device().allocated_bytes() > bytes);
}

#[test]
fn what_is_no_trained_classifier_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nothing");
    let why = Classifier::open(&missing).err().unwrap().to_string();
    assert!(why.contains("nothing") && why.contains("neither a directory"), "{why}");
    saved(directory.path());
    std::fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    let why = Classifier::open(directory.path()).err().unwrap().to_string();
    assert!(why.contains("not a trained classifier"), "{why}");
}

#[test]
fn the_examples_run() {
    let directory = tempfile::tempdir().unwrap();
    saved(&directory.path().join("model"));
    let lines =
        classify::run(&directory.path().join("model"), &["good".into(), "a film".into()]).unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with("a film"), "{lines:?}");

    let quickstart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/quickstart");
    let settings =
        Settings { max_steps: Some(2), max_eval_samples: Some(8), ..Settings::default() };
    let output = directory.path().join("run");
    let result = finetune::run(&quickstart, &quickstart, &output, settings).unwrap();
    assert!(result.eval_loss.is_finite() && output.join("model.safetensors").exists());
    Classifier::open(&output).unwrap();

    // 1, 2, 3, 4 lie -3, -1, 1, 3 halves from their mean, and their deviation is √5 / 2.
    let [y, dx] = one_kernel::run(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    let wanted = [-3.0, -1.0, 1.0, 3.0].map(|value: f64| value / 5.0f64.sqrt());
    assert!(y.iter().zip(wanted).all(|(y, wanted)| (f64::from(*y) - wanted).abs() < 1e-5), "{y:?}");
    assert!(dx.iter().sum::<f32>().abs() < 1e-6, "{dx:?}");

    let all = new_policy::stripes(128, 1);
    assert!(new_policy::run(&all, 128).unwrap() == 0.0, "every block is visited: dense attention");
    let mask = new_policy::stripes(128, 3);
    assert!(new_policy::run(&mask, 128).unwrap() > 0.01);
}
