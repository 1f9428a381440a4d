//! Training: the loop, its schedule, what it writes and how it goes on.

mod batches;
mod collector;
mod job;
mod look;
pub mod metrics;
mod record;
mod run_directory;
mod schedule;
mod sentences;
mod settings;
mod settings_file;
mod shaders;
mod start;
mod trainer;
mod training_run;

pub use crate::graph::Session;
pub use batches::Batches;
pub use job::{Job, Output, Start};
pub use look::look;
pub use metrics::{Curves, EvaluationLine, StepLine};
pub use record::{DataRecord, PredictionLine, RunData, RunRecord, RunResult};
pub use run_directory::{HeldDirectory, RunDirectory};
pub use schedule::{LearningRate, Schedule, Step};
pub use settings::{Flag, Overrides, Setting, Settings};
pub use settings_file::SettingsFile;
pub use shaders::{POLICIES, Shaders, Text, plans};
pub use trainer::{Memory, PendingStep, StepResult, Trainer, TrainingPlans, Work};
pub use training_run::{Event, Outcome, train};
