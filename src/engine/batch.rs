//! Batches ready to be uploaded.

use crate::data::{Batch, Encoded};
use crate::error::Result;
use crate::kernels::Sizes;
use crate::sparsity::{BlockMask, LayerRules};

/// Steps submitted before the oldest one's results are waited for.
pub const UNDER_WAY: usize = 2;

/// A batch with its masks, ready to be uploaded.
pub struct Prepared {
    /// The packed sentences.
    pub batch: Batch,
    /// Their mask under each rule.
    pub masks: Vec<BlockMask>,
}

impl Prepared {
    /// Packs the sentences of a whole step and makes their masks.
    ///
    /// # Errors
    /// As [`Batch::pack`].
    pub fn new(sentences: &[&Encoded], rules: &LayerRules) -> Result<Self> {
        Self::part(sentences, 0, rules)
    }

    /// As [`Prepared::new`], for a part of a step, of which these many sentences came before.
    ///
    /// # Errors
    /// As [`Batch::part`].
    pub fn part(sentences: &[&Encoded], before: usize, rules: &LayerRules) -> Result<Self> {
        let batch = Batch::part(sentences, before)?;
        let mut masks = rules.masks(&batch.offsets);
        masks.iter_mut().for_each(|mask| mask.number_from(batch.first_sequence));
        Ok(Self { batch, masks })
    }

    /// Its sizes.
    pub fn sizes(&self) -> Sizes {
        Sizes::of_batch(&self.batch.offsets, self.batch.distinct(), &self.masks)
    }
}

/// The largest sizes of batches of these examples.
pub fn sizes_of<'a>(batches: impl Iterator<Item = Vec<&'a Encoded>>, rules: &LayerRules) -> Sizes {
    batches.fold(Sizes::default(), |largest, batch| {
        let mut offsets = vec![0u32];
        for example in &batch {
            offsets.push(offsets[offsets.len() - 1] + example.ids.len() as u32);
        }
        // No more distinct ids than tokens.
        let distinct = offsets[batch.len()] as usize;
        largest.max(Sizes::of_batch(&offsets, distinct, &rules.masks(&offsets)))
    })
}
