//! What a program asks of [`train`](super::train).

use super::Settings;
use super::run_directory::HeldDirectory;
use crate::data::Dataset;
use crate::error::Result;
use crate::model::Model;
use std::path::{Path, PathBuf};

/// What is to be trained, on what, and where the result goes.
pub struct Job {
    /// The model; its `config` is what will be saved.
    pub model: Model,
    /// What its record and pages call it.
    pub model_name: String,
    /// Sentences to learn from.
    pub train: Dataset,
    /// Sentences to evaluate on.
    pub validation: Dataset,
    /// How it is trained.
    pub settings: Settings,
    /// The run directory.
    pub output: Output,
    /// What is to become of a former run there.
    pub start: Start,
    /// Time one step kernel by kernel.
    pub profile: bool,
}

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// In a directory without a run.
    New,
    /// In place of a run that is there, if one is.
    Replace,
    /// Where a run that is there has stopped.
    Resume,
}

/// A run directory.
pub enum Output {
    /// One that is taken once everything else has worked.
    Path(PathBuf),
    /// One that the caller has taken.
    Held(HeldDirectory),
}

impl Job {
    /// A new run with the default settings.
    pub fn new(
        model: Model,
        train: Dataset,
        validation: Dataset,
        output: impl Into<Output>,
    ) -> Self {
        Self {
            model,
            model_name: "model".into(),
            train,
            validation,
            settings: Settings::default(),
            output: output.into(),
            start: Start::New,
            profile: false,
        }
    }
}

impl Output {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Held(directory) => &directory.path,
        }
    }

    /// Takes it, unless it is taken already.
    pub(super) fn hold(self) -> Result<HeldDirectory> {
        match self {
            Self::Path(path) => HeldDirectory::take(path),
            Self::Held(directory) => Ok(directory),
        }
    }
}

impl From<&Path> for Output {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl From<PathBuf> for Output {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<HeldDirectory> for Output {
    fn from(directory: HeldDirectory) -> Self {
        Self::Held(directory)
    }
}
