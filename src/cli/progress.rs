//! What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere.

use super::note;
use crate::train::{Event, Memory, StepLine};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Seconds between plain lines.
const EVERY: Duration = Duration::from_secs(10);

/// Shows the events of a training run.
pub struct ProgressLine {
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    steps: u32,
    done_before: u32,
    tokens: usize,
    sum: (f64, u32),
}

impl ProgressLine {
    /// Shows a bar if stderr is a terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{bar:24} {pos}/{len} steps  {per_sec}  {msg}  {elapsed} gone, {eta} left",
            );
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let now = Instant::now();
        Self {
            bar,
            started: now,
            last_line: now,
            steps: 0,
            done_before: 0,
            tokens: 0,
            sum: (0.0, 0),
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Planned { memory, evaluation, steps, done } => {
                self.line(&planned(memory, evaluation));
                self.begin(steps, done);
            }
            Event::Step { line } => self.step(&line),
            Event::Evaluated { step, evaluation, best } => self.line(&format!(
                "evaluation after step {step}: accuracy {:.4}, loss {:.4} over {} sentences{}",
                evaluation.accuracy,
                evaluation.loss,
                evaluation.examples,
                if best { " (best so far)" } else { "" }
            )),
            Event::Profiled { .. } => {}
            Event::Saved { step } => tracing::info!("checkpoint saved after step {step}"),
        }
    }

    fn begin(&mut self, steps: u32, done: u32) {
        if done > 0 {
            self.line(&format!("resumed after step {done} of {steps}"));
        }
        (self.steps, self.done_before) = (steps, done);
        self.started = Instant::now();
        self.last_line = self.started;
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(steps));
            bar.set_position(u64::from(done));
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(250));
        }
    }

    fn step(&mut self, line: &StepLine) {
        self.tokens += line.tokens;
        self.sum = (self.sum.0 + f64::from(line.loss), self.sum.1 + 1);
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let tokens_per_second = self.tokens as f64 / seconds;
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(line.step));
            bar.set_message(format!("loss {:.4}  {tokens_per_second:.0} tokens/s", line.loss));
        } else if self.last_line.elapsed() >= EVERY || line.step == self.steps {
            let rate = f64::from(line.step - self.done_before) / seconds;
            note(&format!(
                "step {}/{}  loss {:.4} (mean of {})  {rate:.2} steps/s  \
                 {tokens_per_second:.0} tokens/s  {} left",
                line.step,
                self.steps,
                self.sum.0 / f64::from(self.sum.1),
                self.sum.1,
                duration(f64::from(self.steps - line.step) / rate),
            ));
            self.last_line = Instant::now();
            self.sum = (0.0, 0);
        }
    }

    /// Takes the live line away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What training takes on the device.
fn planned(memory: Memory, evaluation: u64) -> String {
    let Memory { parameters, activations, others, saving } = memory;
    format!(
        "planned: {} on the device at most: {} of parameters with their moments and gradients, {} of \
         activations, {} of inputs and the like, {} for evaluation, {} while saving",
        bytes(parameters + activations + others + evaluation + saving),
        bytes(parameters),
        bytes(activations),
        bytes(others),
        bytes(evaluation),
        bytes(saving),
    )
}

/// `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// `1 h 02 min`, `3 min 20 s` or `12 s`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
