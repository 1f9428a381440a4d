//! Whether a run may begin in its directory, and what identifies it.

use super::job::{Job, Output, Start};
use super::record::{DataRecord, RunData, RunRecord};
use super::run_directory::{HeldDirectory, RunDirectory};
use crate::data::Dataset;
use crate::error::{Advice, Error, Result};
use crate::graph::Session;
use crate::model::Model;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Everything that identifies a run.
///
/// # Errors
/// A mistake in Crisp itself.
pub fn record(job: &Job, session: &Session) -> Result<RunRecord> {
    let data = |set: &Dataset| DataRecord {
        path: set.path.clone(),
        examples: set.examples.len(),
        fingerprint: set.fingerprint.clone(),
    };
    let model = &job.model;
    Ok(RunRecord {
        crisp: env!("CARGO_PKG_VERSION").into(),
        model: job.model_name.clone(),
        fresh_parameters: model.weights.fresh.clone(),
        unused_tensors: model.weights.unused.clone(),
        weights: fingerprint(model),
        config: json(serde_json::from_str(&model.config.to_json()))?,
        settings: job.settings.clone(),
        data: RunData { train: data(&job.train), validation: data(&job.validation) },
        adapter: json(serde_json::to_value(&session.device.adapter))?,
        shaders: session.tuning.abilities.name().into(),
        tuning: session.tuning.chosen.clone(),
        attention: session.tuning.attention.clone(),
        diverged: None,
        result: None,
    })
}

fn json(value: serde_json::Result<Value>) -> Result<Value> {
    value.map_err(|why| Error::internal(format!("run.json: {why}")))
}

/// SHA-256, in hex, of the parameters that were read rather than drawn, in their order.
fn fingerprint(model: &Model) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in &model.weights.parameters {
        if !model.weights.fresh.contains(name) {
            hash.update(name.as_bytes());
            hash.update(bytemuck::cast_slice(&tensor.data));
        }
    }
    format!("{:x}", hash.finalize())
}

/// Looks whether the run may begin in the directory. Changes nothing. A run that is resumed gets
/// the record that it began with.
///
/// # Errors
/// Nothing to resume, or a run of other settings; a directory that is in use for something else.
pub fn check(
    start: Start,
    directory: &RunDirectory,
    record: &RunRecord,
) -> Result<Option<RunRecord>> {
    match start {
        Start::Resume => begun(directory, record).map(Some),
        Start::New | Start::Replace => check_free(start, directory).map(|()| None),
    }
}

fn begun(directory: &RunDirectory, record: &RunRecord) -> Result<RunRecord> {
    let path = directory.record();
    let begun = RunRecord::read(&path).map_err(|error| match path.exists() {
        true => error,
        false => error.advice(Advice::NothingToResume),
    })?;
    let differences = record.differences(&begun);
    if differences.is_empty() {
        return Ok(begun);
    }
    Err(Error::input(format!(
        "{}: the run was started otherwise: {}",
        directory.path.display(),
        differences.join("; ")
    ))
    .advice(Advice::OtherSettings))
}

fn check_free(start: Start, directory: &RunDirectory) -> Result<()> {
    let Some(there) = directory.occupied_by() else { return Ok(()) };
    if !directory.record().exists() {
        // A model that somebody keeps there: nothing of ours may remove it.
        return Err(Error::input(format!(
            "{}: it is there already, and not from a training run",
            there.display()
        ))
        .advice(Advice::OtherOutput));
    }
    if start != Start::Replace {
        return Err(Error::input(format!("{}: there is a run already", directory.path.display()))
            .advice(Advice::RunExists));
    }
    Ok(())
}

/// Takes the directory for the run, and writes its record there. A former run goes, unless it is
/// the one that is resumed.
///
/// # Errors
/// Another process trains there; what the operating system refuses.
pub fn take(output: Output, start: Start, record: &RunRecord) -> Result<HeldDirectory> {
    let directory = output.hold()?;
    if start != Start::Resume {
        directory.clear()?;
    }
    directory.write_record(record)?;
    Ok(directory)
}
