//! Training and evaluation: the loop, its schedule, what it writes and how it goes on.

mod batches;
mod look;
mod metrics;
mod record;
mod run_directory;
mod schedule;
mod settings;
mod trainer;
mod training_run;

pub use batches::Batches;
pub use look::look;
pub use metrics::{Curves, EvaluationLine, StepLine};
pub use record::{DataRecord, PredictionLine, RunData, RunRecord, RunResult};
pub use run_directory::RunDirectory;
pub(crate) use run_directory::write_json;
pub use schedule::Schedule;
pub use settings::{Settings, SettingsFile, shown};
pub use trainer::{Memory, PendingStep, StepResult, Trainer, TrainingPlans, Work};
pub use training_run::{Event, Outcome, Task, train};
