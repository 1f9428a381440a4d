//! How much of attention was computed: pairs of query and key, by layer and head.

use crate::kernels::TensorId;
use crate::model::{Attention, Config};
use crate::sparsity::{BlockMask, LayerRules};
use serde::{Deserialize, Serialize};

/// Operations of attention in a training step, for a pair of query and key and each component of a
/// head: forward the score and the value, 4; backward the score again, and the gradients of weight,
/// value, query and key, 10. (Our kernels compute score and gradient of the weight once more than
/// that, so as to store neither.)
pub const OPERATIONS_PER_PAIR: u64 = 14;

/// Pairs of query and key over some batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionPairs {
    /// Pairs of one sentence, which is what a dense head counts.
    pub all: u64,
    /// Those that count, `[layers][heads]`.
    pub kept: Vec<Vec<u64>>,
}

impl AttentionPairs {
    /// The tensors that must come back from a step for its pairs to be known: the visits that the
    /// device has chosen, by layer.
    pub fn wanted(attention: &[Attention]) -> impl Iterator<Item = TensorId> + '_ {
        attention.iter().filter_map(|layer| layer.mask.chosen_visits()).map(|(visits, _)| visits)
    }

    /// Adds a batch. `visits` are what was [wanted](Self::wanted).
    pub fn add(
        &mut self,
        config: &Config,
        rules: &LayerRules,
        masks: &[BlockMask],
        visits: &[Vec<u32>],
    ) {
        self.kept.resize(config.encoder.layers, vec![0; config.encoder.heads]);
        self.all += masks.first().map_or(0, BlockMask::all_pairs);
        let mut visits = visits.iter();
        // Many layers share a mask, and counting it takes a while.
        let known: Vec<Option<u64>> = masks.iter().map(BlockMask::known_pairs).collect();
        for (kept, rule) in self.kept.iter_mut().zip(&rules.of_layer) {
            let mask = &masks[*rule];
            match known[*rule] {
                Some(pairs) => kept.iter_mut().for_each(|kept| *kept += pairs),
                None => {
                    let chosen = visits.next().map_or(&[][..], Vec::as_slice);
                    let by_head = chosen.chunks_exact(mask.visits.len().max(1));
                    for (kept, visits) in kept.iter_mut().zip(by_head) {
                        *kept += mask.pairs(visits, &[]);
                    }
                }
            }
        }
    }

    /// Adds other pairs of the same model.
    pub fn merge(&mut self, other: &Self) {
        self.all += other.all;
        self.kept.resize(other.kept.len(), vec![]);
        for (kept, more) in self.kept.iter_mut().zip(&other.kept) {
            kept.resize(more.len(), 0);
            kept.iter_mut().zip(more).for_each(|(kept, more)| *kept += more);
        }
    }

    /// Operations of training in each layer: as computed, and what a dense layer would take.
    pub fn operations(&self, head_dim: usize) -> Vec<[u64; 2]> {
        let of = |pairs: u64| pairs * head_dim as u64 * OPERATIONS_PER_PAIR;
        let layer = |kept: &Vec<u64>| [of(kept.iter().sum()), of(self.all * kept.len() as u64)];
        self.kept.iter().map(layer).collect()
    }

    /// Share of the pairs that each head left out, `[layers][heads]`.
    pub fn sparsity(&self) -> Vec<Vec<f64>> {
        let of = |kept: &u64| 1.0 - *kept as f64 / self.all.max(1) as f64;
        self.kept.iter().map(|heads| heads.iter().map(of).collect()).collect()
    }
}
