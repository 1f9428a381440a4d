//! What somebody with a card runs first: whether every kernel computes what it should there, what
//! the kernels take for granted, and how fast the card is at what they need.

mod checks;
mod probe;
mod trial;

use crate::error::Result;
use crate::gpu::AdapterDescription;
use crate::graph::Session;
use crate::kernels::tune::Tuning;
pub(super) use checks::attention_error;
pub use probe::Subgroups;
use serde::Serialize;
use std::time::Instant;

/// What was found of an adapter.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// The adapter.
    pub adapter: AdapterDescription,
    /// Whether training is right on it: every kernel that is taken computes what it should.
    pub passed: bool,
    /// Every kernel that was checked.
    pub kernels: Vec<Checked>,
    /// Bytes that a kernel reads and writes in a second, in billions.
    pub bandwidth_gb_s: f64,
    /// Floating-point operations of a product in a second, in billions; 0 where it is wrong.
    pub gflops: f64,
    /// What its subgroups are like; nothing where it has none.
    pub subgroup: Option<Subgroups>,
    /// How long it took.
    pub seconds: f64,
}

/// A kernel that was held against float64.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// What it computes.
    pub name: &'static str,
    /// By which kernels, and on what.
    pub variant: String,
    /// The largest error, relative to what an element is a sum of; nothing where it did not run.
    pub max_error: Option<f64>,
    /// What it may be.
    pub bound: f64,
    /// Whether it is that small.
    pub passed: bool,
    /// What is taken no more on this adapter because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
    /// Why it did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Examines an adapter, with checks whose names contain `only`. `on` hears of each kernel once it
/// has been checked. What is wrong and can be done by other kernels is set aside in the session's
/// tuning, and those are checked.
///
/// # Errors
/// The device failed altogether.
pub fn examine(
    session: &mut Session,
    only: &str,
    mut on: impl FnMut(&Checked),
) -> Result<Examination> {
    let started = Instant::now();
    let adapter = session.device.adapter.clone();
    let subgroup = probe::subgroups(session)?;
    if subgroup.as_ref().is_some_and(|subgroup| !subgroup.in_order) {
        session.tuning.set_aside(Tuning::SUBGROUPS);
    }
    let mut kernels: Vec<Checked> = Vec::new();
    let mut checks = checks::all(&session.tuning);
    if session.device.expect_float16().is_ok() {
        checks.extend(checks::mixed(&session.tuning));
    }
    while !checks.is_empty() {
        let abilities = session.tuning.abilities;
        for check in std::mem::take(&mut checks) {
            if !check.name.contains(only) || check.is_set_aside(&session.tuning) {
                continue;
            }
            let checked = check.run(session);
            on(&checked);
            if let Some(what) = &checked.set_aside {
                session.tuning.set_aside(what);
            }
            kernels.push(checked);
            // A device that is lost answers nothing any more.
            session.device.check("checking kernels")?;
        }
        // Attention has other kernels now, which are checked in turn.
        if abilities != session.tuning.abilities {
            checks = checks::attention(&session.tuning);
        }
    }
    let wrong = |kernel: &Checked| !kernel.passed && kernel.set_aside.is_none();
    let passed = !kernels.iter().any(wrong);
    Ok(Examination {
        bandwidth_gb_s: probe::bandwidth(session)?,
        // A product that is wrong has no speed.
        gflops: probe::product_speed(session).unwrap_or(0.0),
        adapter,
        passed,
        kernels,
        subgroup,
        seconds: started.elapsed().as_secs_f64(),
    })
}
