//! What a graph of a model is given at each step.

use crate::data::Batch;
use crate::graph::Graph;
use crate::graph::ops::{MaskInputs, TokenInputs};
use crate::kernels::embedding::SortedTokens;
use crate::kernels::{Element, Size, Symbol, TensorId};
use crate::sparsity::{BlockMask, LayerRules};

/// What a graph of the model is given at each step.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The tokens of the batch.
    pub tokens: TokenInputs,
    pub(super) rules: LayerRules,
    pub(super) masks: Vec<MaskInputs>,
    labels: TensorId,
}

impl Inputs {
    /// Adds the inputs to a graph, for layers that follow these rules.
    pub fn new(graph: &mut Graph, rules: &LayerRules) -> Self {
        let [tokens, sequences, distinct] =
            [Symbol::Tokens, Symbol::Sequences, Symbol::Distinct].map(Size::from);
        let pairs = [tokens, Size::from(2u32)];
        let placed_ids = graph.input("ids and places", Element::U32, pairs);
        let mut input = |name: &str, size: Size| graph.input(name, Element::U32, [size]);
        let tokens = TokenInputs {
            placed_ids,
            places: input("places", tokens),
            offsets: input("offsets", sequences.and(1)),
            sorted: SortedTokens {
                tokens: input("sorted tokens", tokens),
                segments: input("segments", distinct.and(1)),
                ids: input("segment ids", distinct),
            },
        };
        let labels = input("labels", sequences);
        let mask = |rule| MaskInputs::new(graph, rule, rules.block);
        let masks = rules.rules.iter().map(mask).collect();
        Self { tokens, rules: rules.clone(), masks, labels }
    }

    /// The words of a batch and its masks, for each input.
    pub fn words<'a>(
        &self,
        batch: &'a Batch,
        masks: &'a [BlockMask],
    ) -> Vec<(TensorId, &'a [u32])> {
        let mut words: Vec<(TensorId, &[u32])> = vec![
            (self.tokens.placed_ids, &batch.placed_ids),
            (self.tokens.places, &batch.places),
            (self.tokens.offsets, &batch.offsets),
            (self.tokens.sorted.tokens, &batch.sorted_tokens),
            (self.tokens.sorted.segments, &batch.segments),
            (self.tokens.sorted.ids, &batch.segment_ids),
            (self.labels, &batch.labels),
        ];
        for (inputs, mask) in self.masks.iter().zip(masks) {
            words.push((inputs.blocks, bytemuck::cast_slice(&mask.blocks)));
            words.push((inputs.visits, &mask.visits));
            words.extend(inputs.bits.map(|bits| (bits, mask.bits.as_slice())));
        }
        words
    }

    /// `[sequences]`, the classes.
    pub fn labels(&self) -> TensorId {
        self.labels
    }
}
