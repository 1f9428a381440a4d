//! Classifies sentences with a trained model.
//!
//! ```sh
//! cargo run --release --example classify -- runs/mine "an unexpectedly moving film" "dull"
//! ```

use crisp::{Classifier, Result};
use std::path::Path;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "runs/mine".into());
    let sentences: Vec<String> = arguments.collect();
    for line in run(Path::new(&model), &sentences)? {
        println!("{line}");
    }
    Ok(())
}

/// A line for each sentence: its label, how sure the model is, the sentence.
pub fn run(model: &Path, sentences: &[String]) -> Result<Vec<String>> {
    let mut classifier = Classifier::open(model)?;
    let answers = classifier.classify(sentences)?;
    let line = |(answer, sentence): (&crisp::Answer, &String)| {
        let sure = answer.probabilities.iter().copied().fold(0.0, f32::max);
        format!("{}\t{sure:.4}\t{sentence}", answer.label)
    };
    Ok(answers.iter().zip(sentences).map(line).collect())
}
