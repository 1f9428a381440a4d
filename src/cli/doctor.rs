//! `crisp doctor`: whether an adapter computes what it should, and how fast it is.

use super::{Common, note, open, print, print_json, tuning_file};
use crate::error::{Error, Result};
use crate::gpu::Abilities;
use crate::kernels::tune::Tuning;
use crate::measure::doctor::{Checked, examine};
use crate::measure::save_tuning;

#[derive(clap::Args)]
pub struct Arguments {
    /// The whole report as one JSON object.
    #[arg(long)]
    json: bool,
    /// Examine the kernels for another kind of device on this one; nothing is set aside for it.
    #[arg(long, value_name = "KIND")]
    kernels: Option<Kind>,
    /// Only what has this in its name, such as `attention`; nothing is set aside for it.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
}

/// A kind of device that has kernels of its own.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// Software adapters.
    Cpu,
    /// Cards.
    Gpu,
    /// Cards without subgroup functions.
    PlainGpu,
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    let mut session = open(common)?;
    // What was set aside before is looked at again: the driver may be a better one.
    let adapter = session.device.adapter.clone();
    let chosen = std::mem::take(&mut session.tuning.chosen);
    session.tuning = match arguments.kernels {
        None => Tuning { chosen, ..Tuning::from(&adapter) },
        Some(Kind::Cpu) => Abilities::CPU.into(),
        Some(Kind::Gpu) => Abilities::GPU.into(),
        Some(Kind::PlainGpu) => Abilities::PLAIN_GPU.into(),
    };
    let json = arguments.json;
    let only = arguments.only.as_deref();
    let found = examine(&mut session, only.unwrap_or_default(), |checked| {
        if !json {
            note(&line(checked));
        }
    })?;
    if let (None, None, Some(path)) = (arguments.kernels, only, tuning_file()) {
        save_tuning(&session.tuning, &path, &adapter)?;
    }
    if json {
        print_json(&found)?;
    } else {
        print(&format!(
            "{} ({}), driver {} {}",
            adapter.name, adapter.backend, adapter.driver, adapter.driver_version
        ))?;
        print(&match found.subgroup {
            None => "subgroups: none".into(),
            Some(subgroup) => format!(
                "subgroups: {} invocations, {}",
                subgroup.size,
                if subgroup.in_order { "in order" } else { "NOT in the order of invocations" }
            ),
        })?;
        print(&format!(
            "copies {:.0} GB/s; products {:.0} GFLOP/s",
            found.bandwidth_gb_s, found.gflops
        ))?;
        let failed = found.kernels.iter().filter(|kernel| !kernel.passed).count();
        for what in &session.tuning.set_aside {
            print(&format!("set aside on this adapter from now on: {what}"))?;
        }
        print(&format!(
            "{} of {} kernels compute what they should, {:.0} s",
            found.kernels.len() - failed,
            found.kernels.len(),
            found.seconds
        ))?;
    }
    if found.passed {
        return Ok(());
    }
    Err(Error::device("this adapter does not compute what it should")
        .remedy("Update its driver. Please report it, with what `crisp doctor --json` prints."))
}

fn line(checked: &Checked) -> String {
    let Checked { name, variant, max_error, bound, passed, why, .. } = checked;
    let verdict = if *passed { "ok" } else { "WRONG" };
    let error = match (max_error, why) {
        (_, Some(why)) => why.clone(),
        (Some(error), None) => format!("error {error:.1e}, at most {bound:.0e}"),
        (None, None) => "not a number".into(),
    };
    format!("{verdict:5} {name}, {variant}: {error}")
}
