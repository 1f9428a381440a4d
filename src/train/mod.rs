//! Training and evaluation: the loop, its schedule, what it writes and how it goes on.

mod attention_pairs;
mod batches;
mod collector;
mod evaluator;
mod inspector;
mod job;
pub mod metrics;
mod record;
mod run_directory;
mod schedule;
mod sentences;
mod settings;
mod settings_file;
mod start;
mod trainer;
mod training_run;

pub use attention_pairs::{AttentionPairs, TRAINING};
pub use batches::{Batches, Prepared};
pub use evaluator::{Evaluation, Evaluator, Model, Prediction, encode, load_model};
pub use inspector::{HeadLook, Inspection, Inspector, Look, look};
pub use job::{Job, Output, Start};
pub use metrics::{Curves, EvaluationLine, StepLine};
pub use record::{DataRecord, PredictionLine, RunData, RunRecord, RunResult};
pub use run_directory::{HeldDirectory, RunDirectory};
pub use schedule::{LearningRate, Schedule, Step};
pub use settings::{Flag, Overrides, Setting, Settings};
pub use settings_file::SettingsFile;
pub use trainer::{Memory, StepResult, Trainer, TrainingPlan};
pub use training_run::{Event, Outcome, train};
