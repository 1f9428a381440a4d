//! One computation with its data, and how far its results are from float64.

use crate::data::{Batch, Encoded};
use crate::error::Result;
use crate::graph::ops::{self, LayerRule, MaskInputs, TokenInputs};
use crate::graph::{Graph, Plan, Precision, Program, Role, Seed, Session, Shape, Step, gradients};
use crate::kernels::embedding::SortedTokens;
use crate::kernels::tune::Tuning;
use crate::kernels::{Element, Scalars, Size, Sizes, Symbol, TensorId};
use crate::random::SplitMix64;
use crate::sparsity::{BlockMask, LayerRules, Policy};
use std::collections::HashMap;

/// Random numbers of a check.
pub struct Random(SplitMix64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    /// In `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.0.word() % bound as u64) as usize
    }

    /// In `(0, 1)`.
    fn uniform(&mut self) -> f64 {
        ((self.0.word() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Normal numbers (Box and Muller), of which one in fifty is up to `largest` times larger: what
    /// the hidden states of a transformer look like.
    pub fn outliers(&mut self, count: usize, largest: f64) -> Vec<f32> {
        (0..count)
            .map(|_| {
                let radius = (-2.0 * self.uniform().ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
                let large = self.below(50) == 0;
                (normal * if large { 1.0 + (largest - 1.0) * self.uniform() } else { 1.0 }) as f32
            })
            .collect()
    }
}

/// A packed batch with the mask that a policy makes for it.
pub struct Packed {
    pub batch: Batch,
    pub rules: LayerRules,
    pub mask: BlockMask,
    pub sizes: Sizes,
}

impl Packed {
    /// Sentences of these lengths, of random words and labels.
    pub fn new(lengths: &[usize], policy: &str, words: usize, random: &mut Random) -> Result<Self> {
        let sentences: Vec<Encoded> = lengths
            .iter()
            .map(|length| Encoded {
                ids: (0..*length).map(|_| random.below(words) as u32).collect(),
                label: Some(random.below(2) as u32),
            })
            .collect();
        let batch = Batch::pack(&sentences.iter().collect::<Vec<_>>())?;
        let rules = policy.parse::<Policy>()?.for_layers(1)?;
        let masks = rules.masks(&batch.offsets);
        let sizes = Sizes::of_batch(&batch.offsets, batch.distinct(), &masks);
        let mask = masks[0].clone();
        Ok(Self { batch, rules, mask, sizes })
    }

    /// The rule of its mask.
    pub fn rule(&self) -> LayerRule<'_> {
        LayerRule { rule: &self.rules.rules[0], block: self.rules.block, layer: 0 }
    }

    /// Sequence and position of each token.
    pub fn places(&self) -> Vec<(usize, usize)> {
        let split = |place: &u32| ((place >> 16) as usize, (place & 0xffff) as usize);
        self.batch.places.iter().map(split).collect()
    }
}

/// A computation with its data.
pub struct Trial {
    pub graph: Graph,
    pub sizes: Sizes,
    pub scalars: Scalars,
    inputs: Vec<(TensorId, Vec<u32>)>,
}

impl Trial {
    pub fn new(sizes: Sizes) -> Self {
        Self::within(sizes, Precision::F32)
    }

    /// With activations stored in this precision.
    pub fn within(sizes: Sizes, precision: Precision) -> Self {
        let scalars = Scalars { seed: 42, step: 3, learning_rate: 1e-3, ..Scalars::default() };
        let graph = Graph::new().in_precision(precision);
        Self { graph, sizes, scalars, inputs: Vec::new() }
    }

    pub fn floats(&mut self, shape: impl Into<Shape>, values: &[f32]) -> TensorId {
        let id = self.graph.input("floats", Element::F32, shape);
        self.inputs.push((id, values.iter().map(|value| value.to_bits()).collect()));
        id
    }

    /// Values as they pass between kernels. In mixed precision float16 has to have them.
    pub fn between(&mut self, shape: impl Into<Shape>, values: &[f32]) -> TensorId {
        let id = self.floats(shape, values);
        match self.graph.precision().between_kernels() {
            Element::F16 => ops::stored_in(&mut self.graph, id, Element::F16),
            _ => id,
        }
    }

    /// A matrix of weights, likewise.
    pub fn weight(
        &mut self,
        session: &mut Session,
        name: &str,
        sizes: &[u64],
        values: &[f32],
    ) -> Result<TensorId> {
        for role in [Role::Weight, Role::Half] {
            session.store.remove(name, role);
        }
        session.set(name, Role::Weight, sizes, values)?;
        let weight = self.graph.parameter(name, sizes);
        if self.graph.precision() == Precision::Mixed {
            ops::keep_half(&mut self.graph, weight);
        }
        Ok(weight)
    }

    pub fn words(&mut self, shape: impl Into<Shape>, words: &[u32]) -> TensorId {
        let id = self.graph.input("words", Element::U32, shape);
        self.inputs.push((id, words.to_vec()));
        id
    }

    pub fn tokens(&mut self, batch: &Batch) -> TokenInputs {
        let [tokens, sequences, distinct] =
            [Symbol::Tokens, Symbol::Sequences, Symbol::Distinct].map(Size::from);
        TokenInputs {
            placed_ids: self.words([tokens, Size::from(2u32)], &batch.placed_ids),
            places: self.words([tokens], &batch.places),
            offsets: self.words([sequences.and(1)], &batch.offsets),
            sorted: SortedTokens {
                tokens: self.words([tokens], &batch.sorted_tokens),
                segments: self.words([distinct.and(1)], &batch.segments),
                ids: self.words([distinct], &batch.segment_ids),
            },
        }
    }

    pub fn mask(&mut self, packed: &Packed) -> MaskInputs {
        let LayerRule { rule, block, .. } = packed.rule();
        let inputs = MaskInputs::new(&mut self.graph, rule, block);
        self.inputs.push((inputs.blocks, bytemuck::cast_slice(&packed.mask.blocks).to_vec()));
        self.inputs.push((inputs.visits, packed.mask.visits.clone()));
        self.inputs.extend(inputs.bits.map(|bits| (bits, packed.mask.bits.clone())));
        inputs
    }

    /// Adds the gradient of `of`, which itself has the gradient `seed`.
    pub fn gradients(&mut self, of: TensorId, seed: &[f32]) -> Result<HashMap<TensorId, TensorId>> {
        let shape = self.graph.shape(of).clone();
        let seed = match self.graph.element(of) {
            Element::F16 => self.between(shape, seed),
            _ => self.floats(shape, seed),
        };
        gradients(&mut self.graph, of, Seed::Tensor(seed))
    }

    /// The words of the outputs, in float32, by the kernels of this tuning.
    pub fn run(
        &mut self,
        session: &mut Session,
        tuning: &Tuning,
        outputs: &[TensorId],
    ) -> Result<Vec<Vec<u32>>> {
        let mut outputs = outputs.to_vec();
        for output in &mut outputs {
            if self.graph.element(*output) == Element::F16 {
                *output = ops::stored_in(&mut self.graph, *output, Element::F32);
            }
        }
        let plan = Plan::new(&self.graph, tuning.clone(), self.sizes, &outputs)?;
        let mut program = Program::new(session, plan, 1)?;
        let inputs: Vec<(TensorId, &[u32])> =
            self.inputs.iter().map(|(id, words)| (*id, words.as_slice())).collect();
        let step = Step { sizes: self.sizes, scalars: self.scalars, inputs: &inputs };
        program.run(session, &step)?.wait(&session.device)
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// The largest distance of words, read as floats, from what they should be, relative to the
/// element, or to the root mean square of all where the element is smaller than that.
pub fn error(got: &[u32], want: &[f64]) -> f64 {
    let squares: f64 = want.iter().map(|value| value * value).sum();
    let typical = (squares / want.len().max(1) as f64).sqrt().max(f64::MIN_POSITIVE);
    let scale: Vec<f64> = want.iter().map(|value| value.abs().max(typical)).collect();
    error_of(got, want, &scale)
}

/// The same relative to a magnitude of each element. What is not a number is infinitely far.
pub fn error_of(got: &[u32], want: &[f64], scale: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let errors = got.iter().zip(want).zip(scale).map(|((got, want), scale)| {
        let distance = (f64::from(f32::from_bits(*got)) - want).abs();
        if distance == 0.0 { 0.0 } else { distance / scale }
    });
    errors.fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
}
