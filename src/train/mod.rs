//! Training and evaluation: the loop, its schedule, what it writes and how it goes on.

mod attention_pairs;
mod batches;
mod evaluator;
mod inspector;
pub mod metrics;
mod record;
mod run_directory;
mod schedule;
mod settings;
mod trainer;
mod training_run;

pub use attention_pairs::{AttentionPairs, TRAINING};
pub use batches::{Batches, Prepared};
pub use evaluator::{Evaluation, Evaluator, Model, Prediction, encode, load_model};
pub use inspector::{HeadLook, Inspection, Inspector, Look, look};
pub use metrics::{Curves, EvaluationLine, StepLine};
pub use record::{DataRecord, PredictionLine, RunData, RunRecord, RunResult};
pub use run_directory::RunDirectory;
pub(crate) use run_directory::write_json;
pub use schedule::Schedule;
pub use settings::{Settings, SettingsFile, shown};
pub use trainer::{Memory, StepResult, Trainer, TrainingPlan};
pub use training_run::{Event, Outcome, Task, train};
