//! The rules that the layers of one model follow, and the masks that they make of a batch.

use super::{BlockMask, Rule};

/// A policy, spelled out for the layers of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRules {
    /// Tokens in a block of the masks.
    pub block: u32,
    /// Each rule once.
    pub rules: Vec<Rule>,
    /// Which of the rules each layer follows.
    pub of_layer: Vec<usize>,
}

impl LayerRules {
    /// The rules at a step (counted from 1) of a run of `total`, without any warm-up left in them.
    pub fn at(&self, step: u32, total: u32) -> Self {
        let rules = self.rules.iter().map(|rule| rule.at(step, total)).collect();
        Self { rules, ..self.clone() }
    }

    /// The mask of a batch under each rule, `offsets [sentences + 1]` being where each sentence
    /// starts.
    pub fn masks(&self, offsets: &[u32]) -> Vec<BlockMask> {
        let mut masks: Vec<_> =
            self.rules.iter().map(|rule| BlockMask::new(rule, self.block, offsets)).collect();
        // All rules share one size for their bits.
        let longest = masks.iter().map(|mask| mask.bits.len()).max().unwrap_or(0);
        let with_bits = masks.iter_mut().filter(|mask| !mask.bits.is_empty());
        with_bits.for_each(|mask| mask.bits.resize(longest, 0));
        masks
    }
}
