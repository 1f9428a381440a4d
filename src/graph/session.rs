//! What several programs share.

use super::{Plan, Role, Store};
use crate::error::Result;
use crate::gpu::{Access, Device, Pipeline};
use crate::kernels::Command;
use crate::kernels::tune::Tuning;
use std::collections::HashMap;
use std::sync::Arc;

/// What several programs share: the device, what is known of its kernels, the parameters, and the
/// kernels that have been compiled.
pub struct Session {
    /// The device.
    pub device: Device,
    /// The kernels that suit it.
    pub tuning: Tuning,
    /// The parameters.
    pub store: Store,
    pipelines: HashMap<Arc<str>, Arc<Pipeline>>,
}

impl Session {
    /// A session without parameters.
    pub fn new(device: Device) -> Self {
        let tuning = Tuning::from(&device.adapter);
        Self { device, tuning, store: Store::default(), pipelines: HashMap::new() }
    }

    /// Sets a parameter's tensor, making it first where it is new.
    ///
    /// # Errors
    /// Another shape than before, or another number of values; out of memory.
    pub fn set(&mut self, name: &str, role: Role, shape: &[u64], values: &[f32]) -> Result<()> {
        self.store.write(&self.device, name, role, shape, values)
    }

    /// The values of a parameter's tensor, waiting for the device.
    ///
    /// # Errors
    /// No such tensor, or the device failed.
    pub fn get(&self, name: &str, role: Role) -> Result<Vec<f32>> {
        self.store.read(&self.device, name, role)
    }

    /// The compiled kernels of a plan's commands, in order; those that were not compiled yet are
    /// compiled side by side.
    pub(super) fn compile(&mut self, plan: &Plan) -> Result<Vec<Option<Arc<Pipeline>>>> {
        let mut missing: Vec<(&str, &Arc<str>, Vec<Access>)> = Vec::new();
        for (_, command) in &plan.commands {
            let Command::Launch(launch) = command else { continue };
            let text = &launch.shader.text;
            let known = self.pipelines.contains_key(text)
                || missing.iter().any(|(_, other, _)| *other == text);
            if !known {
                let accesses = launch.buffers.iter().map(|(_, access)| *access).collect();
                missing.push((launch.shader.name, text, accesses));
            }
        }
        let kernels: Vec<(&str, &str, Vec<Access>)> = missing
            .iter()
            .map(|(name, text, accesses)| (*name, &***text, accesses.clone()))
            .collect();
        let compiled = self.device.pipelines(&kernels)?;
        if !compiled.is_empty() {
            self.device.keep_pipelines();
        }
        for ((_, text, _), pipeline) in missing.into_iter().zip(compiled) {
            self.pipelines.insert(text.clone(), Arc::new(pipeline));
        }
        let of_command = |command: &Command| match command {
            Command::Launch(launch) => self.pipelines.get(&launch.shader.text).cloned(),
            Command::Clear(_) => None,
        };
        Ok(plan.commands.iter().map(|(_, command)| of_command(command)).collect())
    }
}
