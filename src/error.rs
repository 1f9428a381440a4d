//! The one error type: what happened, where, and what to do about it.

use std::fmt;
use std::path::Path;

/// Which part of the world an [`Error`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A setting that cannot mean anything.
    Usage,
    /// A file, directory, data set or checkpoint that is missing or wrong.
    Input,
    /// No adapter, device lost, out of memory, a kernel refused.
    Device,
    /// A loss that is not a finite number.
    Diverged,
    /// Stopped on request, after saving.
    Interrupted,
    /// A mistake in Crisp itself, or in a program that builds graphs with it.
    Internal,
}

/// What the reader can do, where a program and a command line have the same choice under different
/// names. [`Error`]'s `Display` says it in general words; the command line names its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Give the device less to do at a time.
    SmallerBatch,
    /// A tensor is larger than the device binds in one piece.
    SmallerTensor,
    /// Use another adapter, or a newer driver.
    OtherAdapter,
    /// The device failed while it was working.
    LighterOrOtherDevice,
    /// The adapter has no float16.
    SinglePrecision,
    /// Use an adapter that keeps time.
    AdapterWithTimestamps,
    /// Train more gently.
    LowerRate,
    /// The device failed in training, which can go on from a checkpoint.
    ResumeLighter,
    /// The device failed in training, before there was a checkpoint.
    StartLighter,
    /// The run was stopped, and can go on.
    Resume,
    /// There is no run to go on with.
    NothingToResume,
    /// The run was started with other settings.
    OtherSettings,
    /// The output directory holds something that is not a run.
    OtherOutput,
    /// The output directory holds a run already.
    RunExists,
    /// Another process is training in the output directory.
    OutputInUse,
    /// A checkpoint cannot be read.
    DamagedCheckpoint,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SmallerBatch => {
                "Use smaller batches, or shorter sentences; in training, accumulate gradients or \
                 compute activations again in backward."
            }
            Self::SmallerTensor => {
                "For a weight: another adapter. For what a step computes: smaller batches, or \
                 shorter sentences."
            }
            Self::OtherAdapter => "Update the driver, or choose another adapter.",
            Self::LighterOrOtherDevice => "Try smaller batches, another adapter or a newer driver.",
            Self::SinglePrecision => "Use precision f32, or another adapter.",
            Self::AdapterWithTimestamps => "Profile on another adapter, one that has timestamps.",
            Self::LowerRate => {
                "Training has diverged: lower the learning rate, or raise the warm-up steps."
            }
            Self::ResumeLighter => {
                "Resume the run to go on from there. If it happens again: a newer driver, another \
                 adapter, or a new run with smaller batches, gradients accumulated in parts, or \
                 activations computed again in backward."
            }
            Self::StartLighter => {
                "Start it again; if it happens again: a newer driver, another adapter, smaller \
                 batches, gradients accumulated in parts, or activations computed again in backward."
            }
            Self::Resume => "Resume the run to go on.",
            Self::NothingToResume => "There is no run to resume there: start a new one.",
            Self::OtherSettings => "Resume with the settings of run.json, or replace the run.",
            Self::OtherOutput => "Choose another output directory.",
            Self::RunExists => "Choose another output directory, resume the run, or replace it.",
            Self::OutputInUse => "Wait for it, or choose another output directory.",
            Self::DamagedCheckpoint => {
                "The checkpoint is damaged: remove it, or replace the run with a new one."
            }
        })
    }
}

#[derive(Debug, Clone)]
enum Remedy {
    Text(String),
    Advice(Advice),
}

/// An error meant to be read by a person: one message, and a remedy where one is known.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    remedy: Option<Remedy>,
}

/// The result of everything in Crisp that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None }
    }

    /// A setting that is out of range or contradicts another.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// A file or its content is not what it should be.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// The adapter, its driver or a kernel failed.
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(Kind::Device, message)
    }

    /// Training has left the numbers.
    pub fn diverged(message: impl Into<String>) -> Self {
        Self::new(Kind::Diverged, message).advice(Advice::LowerRate)
    }

    /// The user stopped the run.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// A mistake in Crisp itself, or in a program that builds graphs with it.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// A file that the operating system would not read or write: `PATH: cannot ACTION: why`.
    pub fn io(path: &Path, action: &str, why: &std::io::Error) -> Self {
        Self::input(format!("{}: cannot {action}: {why}", path.display()))
    }

    /// Says what the reader can do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(Remedy::Text(remedy.into()));
        self
    }

    /// Says what the reader can do about it, in words that depend on who is asking.
    pub fn advice(mut self, advice: Advice) -> Self {
        self.remedy = Some(Remedy::Advice(advice));
        self
    }

    /// Puts the place in front of the message: `PLACE: message`.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Where the error comes from.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message and, on a line of its own, the remedy, with advice put into words by `say`.
    pub fn text(&self, say: impl Fn(Advice) -> String) -> String {
        match &self.remedy {
            Some(Remedy::Text(text)) => format!("{}\n  {text}", self.message),
            Some(Remedy::Advice(advice)) => format!("{}\n  {}", self.message, say(*advice)),
            None => self.message.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(|advice| advice.to_string()))
    }
}

impl std::error::Error for Error {}
