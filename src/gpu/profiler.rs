//! Times of passes, taken by the device itself.

use super::{Buffer, Device};
use crate::error::{Advice, Error, Result};

/// Room for the begin and the end of so many passes.
pub struct Timestamps {
    sets: Vec<wgpu::QuerySet>,
    passes: usize,
    resolved: Buffer,
}

/// What is timed of a pass.
#[derive(Clone, Copy)]
pub struct Timed<'a> {
    /// Where the times go.
    pub timestamps: &'a Timestamps,
    /// The number among them. Several passes may have the same: what is timed then is from the
    /// begin of one to the end of another.
    pub pass: usize,
    /// Whether its begin is that of what is timed.
    pub begins: bool,
    /// Whether its end is.
    pub ends: bool,
}

/// Passes in one set: WebGPU allows 4,096 queries.
const PASSES_PER_SET: usize = 2048;

impl Device {
    /// Room for the times of so many passes.
    ///
    /// # Errors
    /// The adapter keeps no time; out of memory.
    pub fn timestamps(&self, passes: usize) -> Result<Timestamps> {
        if !self.adapter.timestamps {
            return Err(self.untimed());
        }
        let make = |first: usize| {
            self.raw.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("times"),
                ty: wgpu::QueryType::Timestamp,
                count: (passes - first).min(PASSES_PER_SET) as u32 * 2,
            })
        };
        let sets = self.scoped("making room for timestamps", || {
            (0..passes).step_by(PASSES_PER_SET).map(make).collect()
        })?;
        let resolved = self.queries("times", passes as u64 * 16)?;
        Ok(Timestamps { sets, passes, resolved })
    }

    /// The begin and the end of each pass in seconds from the first begin, after the passes have
    /// been submitted.
    ///
    /// # Errors
    /// The device failed, or gave no times, as some do that promise to.
    pub fn passed(&self, timestamps: &Timestamps) -> Result<Vec<[f64; 2]>> {
        let mut recorder = self.recorder();
        for (index, set) in timestamps.sets.iter().enumerate() {
            let first = index * PASSES_PER_SET;
            let count = (timestamps.passes - first).min(PASSES_PER_SET) as u32 * 2;
            // Whole sets of 32 KiB, so the offset keeps the 256 bytes that WebGPU wants.
            let offset = first as u64 * 16;
            recorder.encoder.resolve_query_set(set, 0..count, &timestamps.resolved.raw, offset);
        }
        recorder.submit();
        let ticks: Vec<u64> = self.read(&timestamps.resolved, timestamps.passes * 2)?;
        if ticks.contains(&0) {
            return Err(self.untimed());
        }
        let seconds = f64::from(self.queue.get_timestamp_period()) * 1e-9;
        let start = ticks.first().copied().unwrap_or(0);
        let since = |tick: u64| tick.saturating_sub(start) as f64 * seconds;
        Ok(ticks.chunks_exact(2).map(|pass| [since(pass[0]), since(pass[1])]).collect())
    }

    fn untimed(&self) -> Error {
        Error::device(format!("{} keeps no time of what it computes", self.adapter.name))
            .advice(Advice::AdapterWithTimestamps)
    }
}

impl<'a> Timed<'a> {
    /// What a pass must be described with to be timed.
    pub(super) fn writes(self) -> Option<wgpu::ComputePassTimestampWrites<'a>> {
        let within = (self.pass % PASSES_PER_SET) as u32 * 2;
        (self.begins || self.ends).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.timestamps.sets[self.pass / PASSES_PER_SET],
            beginning_of_pass_write_index: self.begins.then_some(within),
            end_of_pass_write_index: self.ends.then_some(within + 1),
        })
    }
}
