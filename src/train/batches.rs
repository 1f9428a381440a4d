//! Which sentences each step of a run learns from.

use super::Settings;
use crate::data::{Encoded, batches, epoch_order};
use crate::engine::{Prepared, sizes_of};
use crate::error::{Error, Result};
use crate::kernels::Sizes;
use crate::sparsity::LayerRules;
use std::ops::RangeInclusive;
use std::sync::mpsc;
use std::thread;

/// Batches that wait for their step, at most.
const AHEAD: usize = 2;

/// The batches of a run. They follow from the examples and the settings alone.
pub struct Batches<'a> {
    examples: &'a [Encoded],
    settings: &'a Settings,
    rules: LayerRules,
    total: u32,
    order: Option<(u32, Vec<u32>)>,
}

impl<'a> Batches<'a> {
    /// The batches that a run with these settings draws from the examples, for a model with so many
    /// layers.
    ///
    /// # Errors
    /// The settings' policy is none, or none for this model.
    pub fn new(examples: &'a [Encoded], settings: &'a Settings, layers: usize) -> Result<Self> {
        let rules = settings.sparsity.training().for_layers(layers)?;
        let total = settings.total_steps(examples.len());
        Ok(Self { examples, settings, rules, total, order: None })
    }

    /// Steps in one pass over the examples.
    pub fn per_epoch(&self) -> u32 {
        self.examples.len().div_ceil(self.settings.batch_size.max(1)).max(1) as u32
    }

    /// The parts of a step, counted from 1: one, or as many as gradients are added up over.
    ///
    /// # Errors
    /// As [`crate::data::Batch::pack`].
    pub fn prepare(&mut self, step: u32) -> Result<Vec<Prepared>> {
        let per_epoch = self.per_epoch();
        let (epoch, within) = ((step - 1) / per_epoch, ((step - 1) % per_epoch) as usize);
        let (examples, settings) = (self.examples, self.settings);
        let shuffled = || epoch_order(examples.len(), settings.seed, epoch, settings.shuffle);
        if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
            self.order = Some((epoch, shuffled()));
        }
        let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
        let first = (within * settings.batch_size).min(order.len());
        let last = (first + settings.batch_size).min(order.len());
        let chosen: Vec<&Encoded> =
            order[first..last].iter().map(|index| &examples[*index as usize]).collect();
        let rules = self.rules.at(step, self.total);
        let per_part = self.settings.part_size();
        let parts = chosen.chunks(per_part).enumerate();
        parts.map(|(part, sentences)| Prepared::part(sentences, part * per_part, &rules)).collect()
    }

    /// Prepares the batches of these steps on a thread of its own, a few ahead of `work`, which is
    /// handed the one for the next step each time it asks.
    ///
    /// # Errors
    /// That of `work`; asking for more batches than there are steps.
    pub fn ahead<T>(
        &mut self,
        steps: RangeInclusive<u32>,
        work: impl FnOnce(&dyn Fn() -> Result<Vec<Prepared>>) -> Result<T>,
    ) -> Result<T> {
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(AHEAD);
            scope.spawn(move || {
                for step in steps {
                    // Nobody listens any more once the work has ended.
                    if sender.send(self.prepare(step)).is_err() {
                        break;
                    }
                }
            });
            let next = || {
                receiver
                    .recv()
                    .unwrap_or_else(|_| Err(Error::internal("no further batch was asked for")))
            };
            let result = work(&next);
            drop(receiver);
            result
        })
    }

    /// The largest sizes of a part over the first `total` steps: memory is planned once, for these.
    pub fn largest(&self, total: u32) -> Sizes {
        let per_epoch = self.per_epoch();
        let mut largest = Sizes::default();
        for epoch in 0..total.div_ceil(per_epoch) {
            let Settings { seed, shuffle, batch_size, .. } = *self.settings;
            let order = epoch_order(self.examples.len(), seed, epoch, shuffle);
            let left = (total - epoch * per_epoch) as usize;
            let sized = batches(&order, batch_size)
                .take(left)
                .flat_map(|batch| batch.chunks(self.settings.part_size()))
                .map(|part| part.iter().map(|index| &self.examples[*index as usize]).collect());
            largest = largest.max(sizes_of(sized, &self.rules));
        }
        largest
    }
}
