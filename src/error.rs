//! The one error type: what happened, where, and what to do about it.

use std::fmt;
use std::path::Path;

/// Which part of the world an [`Error`] comes from. It decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A setting or flag that cannot mean anything (exit code 2).
    Usage,
    /// A file, directory, data set or checkpoint that is missing or wrong (exit code 1).
    Input,
    /// No adapter, device lost, out of memory, a kernel refused (exit code 1).
    Device,
    /// A loss that is no number any more (exit code 1).
    Diverged,
    /// Stopped by Ctrl-C after saving (exit code 130).
    Interrupted,
}

/// An error meant to be read by a person: one message, and a remedy where one is known.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    remedy: Option<String>,
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
        Self::new(Kind::Diverged, message)
            .remedy("Training has diverged: lower --learning-rate or raise --warmup-steps.")
    }

    /// The user stopped the run.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// A file that the operating system would not read or write: `PATH: cannot ACTION: why`.
    pub fn io(path: &Path, action: &str, why: &std::io::Error) -> Self {
        Self::input(format!("{}: cannot {action}: {why}", path.display()))
    }

    /// Says what the reader can do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
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

    /// The process exit code that the command line promises for this kind of error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            Kind::Input | Kind::Device | Kind::Diverged => 1,
            Kind::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
