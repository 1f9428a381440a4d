//! The command line: one file per subcommand, nothing of a model's mathematics. Results go to
//! stdout, progress and logs to stderr.

mod bench;
mod devices;
mod doctor;
mod eval;
mod predict;
mod progress;
mod recipe;
mod reproduce;
mod shaders;
mod source;
mod train;
mod tune;

use crate::error::{Advice, Error, Kind, Result};
use crate::gpu::Device;
use crate::graph::Session;
use crate::measure::load_tuning;
use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Fine-tune and evaluate DistilBERT with structured sparse attention, on any GPU.
#[derive(Parser)]
#[command(name = "crisp", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Clone)]
struct Common {
    /// Take the first adapter whose name, driver, back end or kind contains this.
    #[arg(long, global = true, value_name = "SUBSTRING")]
    adapter: Option<String>,
    /// How much to log: error, warn, info, debug, trace, or levels by module (crisp::model=debug).
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

#[derive(Subcommand)]
enum Command {
    /// Fine-tune a model; with neither --model nor --data, DistilBERT on SST-2.
    Train(train::Arguments),
    /// The paper's comparison: dense and sparse attention, several seeds each; table, statistics,
    /// report.
    Reproduce(reproduce::Arguments),
    /// Accuracy and loss of a model on a data set.
    Eval(eval::Arguments),
    /// Classify sentences given as arguments, or as lines on stdin.
    Predict(predict::Arguments),
    /// Measure kernels on this adapter.
    Bench(bench::Arguments),
    /// Measure which kernels are fastest on this adapter for training a model, for later commands
    /// with batches of such sizes.
    Tune(tune::Arguments),
    /// List the adapters that can be used.
    Devices(devices::Arguments),
    /// Check that every kernel computes what it should on this adapter, and how fast it is.
    Doctor(doctor::Arguments),
    /// Write the complete shader texts that training and evaluating a model take, for reading and
    /// for other compilers; needs no adapter.
    Shaders(shaders::Arguments),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = arguments.common.log_level.parse::<Targets>();
    let result = match filter {
        Err(why) => Err(Error::usage(format!("--log-level {}: {why}", arguments.common.log_level))
            .remedy("It is error, warn, info, debug or trace.")),
        Ok(filter) => {
            let lines = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .without_time();
            tracing_subscriber::registry().with(lines.with_filter(filter)).init();
            let common = &arguments.common;
            match arguments.command {
                Command::Train(arguments) => train::run(arguments, common),
                Command::Reproduce(arguments) => reproduce::run(arguments, common),
                Command::Eval(arguments) => eval::run(arguments, common),
                Command::Predict(arguments) => predict::run(arguments, common),
                Command::Bench(arguments) => bench::run(arguments, common),
                Command::Tune(arguments) => tune::run(arguments, common),
                Command::Devices(arguments) => devices::run(arguments),
                Command::Doctor(arguments) => doctor::run(arguments, common),
                Command::Shaders(arguments) => shaders::run(arguments),
            }
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is closed nobody can be told: the exit code still says it.
            let _ = writeln!(std::io::stderr(), "error: {}", error.text(in_flags));
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

/// The exit code that the command line promises for an error.
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => 2,
        Kind::Input | Kind::Device | Kind::Diverged | Kind::Internal => 1,
        Kind::Interrupted => 130,
    }
}

/// Advice in the words of the command line.
fn in_flags(advice: Advice) -> String {
    let text = match advice {
        Advice::SmallerBatch => {
            "Use a smaller --batch-size or --max-length; `train` also has --gradient-accumulation \
             and --checkpoint-activations."
        }
        Advice::SmallerTensor => {
            "For a weight: another --adapter. For what a step computes: a smaller --batch-size or \
             --max-length, or --gradient-accumulation in training."
        }
        Advice::OtherAdapter => "Update the driver, or choose another with --adapter.",
        Advice::LighterOrOtherDevice => {
            "Try a smaller --batch-size, another --adapter or a newer driver."
        }
        Advice::SinglePrecision => {
            "Use --precision f32, or another --adapter; `crisp devices` says which have half \
             precision."
        }
        Advice::AdapterWithTimestamps => {
            "Profile on another --adapter; `crisp devices` says which have timestamps."
        }
        Advice::LowerRate => {
            "Training has diverged: lower --learning-rate or raise --warmup-steps."
        }
        Advice::ResumeLighter => {
            "Go on from there with the same command and --resume. If it happens again: a newer \
             driver, another --adapter, or a new run with a smaller --batch-size, more \
             --gradient-accumulation or --checkpoint-activations."
        }
        Advice::StartLighter => {
            "Start it again with --overwrite. If it happens again: a newer driver, another \
             --adapter, a smaller --batch-size, more --gradient-accumulation or \
             --checkpoint-activations."
        }
        Advice::Resume => "Go on with the same command and --resume.",
        Advice::NothingToResume => {
            "There is no run to resume there: leave --resume out, or name its --output."
        }
        Advice::OtherSettings => {
            "Resume with the settings of run.json, or start again with --overwrite."
        }
        Advice::OtherOutput => "Choose another --output.",
        Advice::RunExists => {
            "Choose another --output, go on with --resume, or replace it with --overwrite."
        }
        Advice::OutputInUse => "Wait for it, or choose another --output.",
        Advice::DamagedCheckpoint => {
            "The checkpoint is damaged: remove it, or start again with --overwrite."
        }
    };
    text.into()
}

/// Opens the adapter and says which one it is.
fn open(common: &Common) -> Result<Session> {
    let device = Device::open(common.adapter.as_deref())?;
    let adapter = &device.adapter;
    let software = if adapter.software { ", a software adapter: correct, and slow" } else { "" };
    note(&format!(
        "adapter: {} ({}, {}{software}); buffers up to {}, {} storage buffers a kernel, {} of \
         workgroup memory",
        adapter.name,
        adapter.backend,
        adapter.kind,
        progress::bytes(device.max_binding_bytes),
        adapter.max_storage_buffers,
        progress::bytes(u64::from(adapter.max_workgroup_bytes)),
    ));
    let mut session = Session::new(device);
    if let Some(path) = tuning_file() {
        let Session { device, tuning, .. } = &mut session;
        *tuning = load_tuning(&path, &device.adapter);
        tracing::info!("{} products tuned, in {}", tuning.chosen.len(), path.display());
        for what in &tuning.set_aside {
            note(&format!("set aside, because it is wrong on this adapter (crisp doctor): {what}"));
        }
    }
    Ok(session)
}

/// Where `crisp tune` keeps what it has measured.
fn tuning_file() -> Option<PathBuf> {
    crate::files::cache().map(|directory| directory.join("tuning.json"))
}

/// A line for the person at the terminal.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A line of the result. A reader that has gone away (`| head`) ends the command quietly.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(()),
        Err(why) if why.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(why) => Err(Error::input(format!("writing the result: {why}"))),
    }
}

/// A result as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|why| Error::internal(format!("writing the result: {why}")))?;
    print(&text)
}
