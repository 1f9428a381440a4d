//! What all of these tests need: random data with outliers, a packed batch, one computation run for
//! either target, and a measure of error.

use crisp::data::{Batch, Encoded};
use crisp::gpu::{Abilities, Device};
use crisp::graph::ops::{LayerRule, MaskInputs, TokenInputs};
use crisp::graph::{Graph, Plan, Program, Seed, Session, Shape, Step, gradients};
use crisp::kernels::embedding::SortedTokens;
use crisp::kernels::{Command, Element, Scalars, Size, Sizes, Symbol, TensorId};
use crisp::random::SplitMix64;
use crisp::sparsity::{Block, BlockMask, LayerRules, Policy};
use std::collections::HashMap;

pub const TARGETS: [Abilities; 2] = [Abilities::CPU, Abilities::GPU];

/// Relative error allowed to pointwise kernels, norms and sums.
pub const POINTWISE: f64 = 1e-5;
/// Relative error allowed to matmul and attention.
pub const PRODUCT: f64 = 1e-4;

/// Sentence lengths around the edges of blocks of 8, 16 and 32.
pub const LENGTHS: [usize; 6] = [1, 7, 65, 16, 17, 33];

/// A session on the most able adapter. Where there is none, the test fails with what to do.
pub fn session() -> Session {
    Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")))
}

/// Random numbers, so that every test has its own fixed data.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        let mut generator = SplitMix64(self.0);
        let word = generator.word();
        self.0 = generator.0;
        word
    }

    /// In `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// In `(0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Standard normal numbers (Box and Muller).
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let mut normal = || {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            (radius * (std::f64::consts::TAU * self.uniform()).cos()) as f32
        };
        (0..count).map(|_| normal()).collect()
    }

    /// Normal numbers, of which one in fifty, and at least one, is `30..largest` times larger: what
    /// the hidden states of a transformer look like.
    pub fn outliers(&mut self, count: usize, largest: f64) -> Vec<f32> {
        let normals = self.normals(count);
        let mut values = normals.clone();
        for _ in 0..count.div_ceil(50) {
            let at = self.below(count);
            values[at] = normals[at] * (30.0 + (largest - 30.0) * self.uniform()) as f32;
        }
        values
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub fn tokens() -> Size {
    Symbol::Tokens.into()
}

pub fn sequences() -> Size {
    Symbol::Sequences.into()
}

/// Sizes of a batch of so many rows, for ops that look at nothing else.
pub fn rows(count: usize) -> Sizes {
    let count = count as u32;
    Sizes { tokens: count, sequences: count, ..Sizes::default() }
}

/// A batch with everything that ops take from it.
#[derive(Clone)]
pub struct Packed {
    pub batch: Batch,
    pub rules: LayerRules,
    pub mask: BlockMask,
    pub sizes: Sizes,
}

impl Packed {
    /// Sentences of these lengths, of random word ids below `vocabulary` and labels below 2.
    pub fn new(lengths: &[usize], policy: &Policy, vocabulary: usize, random: &mut Random) -> Self {
        let sentences: Vec<Encoded> = lengths
            .iter()
            .map(|length| Encoded {
                ids: (0..*length).map(|_| random.below(vocabulary) as u32).collect(),
                label: Some(random.below(2) as u32),
            })
            .collect();
        let batch = Batch::pack(&sentences.iter().collect::<Vec<_>>()).unwrap();
        let rules = policy.for_layers(1).unwrap();
        let masks = rules.masks(&batch.offsets);
        let sizes = Sizes::of_batch(&batch.offsets, batch.distinct(), &masks);
        let mask = masks.into_iter().next().unwrap();
        Self { batch, rules, mask, sizes }
    }

    /// The rule of its mask, with the size of a block and a layer.
    pub fn followed(&self) -> LayerRule<'_> {
        LayerRule { rule: &self.rules.rules[0], block: self.rules.block, layer: 2 }
    }

    pub fn tokens(&self) -> usize {
        self.batch.ids.len()
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
    pub inputs: Vec<(TensorId, Vec<u32>)>,
}

impl Trial {
    pub fn new(sizes: Sizes) -> Self {
        let scalars = Scalars { seed: 42, step: 1, learning_rate: 1e-3, ..Scalars::default() };
        Self { graph: Graph::new(), sizes, scalars, inputs: Vec::new() }
    }

    pub fn words(&mut self, name: &str, shape: impl Into<Shape>, words: &[u32]) -> TensorId {
        self.input(name, Element::U32, shape, words.to_vec())
    }

    pub fn floats(&mut self, name: &str, shape: impl Into<Shape>, values: &[f32]) -> TensorId {
        self.input(name, Element::F32, shape, bits(values))
    }

    fn input(
        &mut self,
        name: &str,
        element: Element,
        shape: impl Into<Shape>,
        words: Vec<u32>,
    ) -> TensorId {
        let id = self.graph.input(name, element, shape);
        self.inputs.push((id, words));
        id
    }

    /// The values of an input from now on.
    pub fn replace(&mut self, input: TensorId, values: &[f32]) {
        self.replace_words(input, &bits(values));
    }

    /// The words of an input from now on.
    pub fn replace_words(&mut self, input: TensorId, new: &[u32]) {
        for (id, words) in &mut self.inputs {
            if *id == input {
                *words = new.to_vec();
            }
        }
    }

    pub fn token_inputs(&mut self, batch: &Batch) -> TokenInputs {
        let distinct = Size::from(Symbol::Distinct);
        TokenInputs {
            placed_ids: self.words("ids", [tokens(), Size::from(2u32)], &batch.placed_ids),
            places: self.words("places", [tokens()], &batch.places),
            offsets: self.words("offsets", [sequences().and(1)], &batch.offsets),
            sorted: SortedTokens {
                tokens: self.words("sorted tokens", [tokens()], &batch.sorted_tokens),
                segments: self.words("segments", [distinct.and(1)], &batch.segments),
                ids: self.words("segment ids", [distinct], &batch.segment_ids),
            },
        }
    }

    pub fn mask_inputs(&mut self, mask: &BlockMask) -> MaskInputs {
        let blocks = [Size::from(Symbol::Blocks), Size::from(Block::WORDS)];
        let bits = [Size::from(Symbol::BitPairs), Size::from(mask.block)];
        MaskInputs {
            blocks: self.words("blocks", blocks, bytemuck::cast_slice(&mask.blocks)),
            visits: self.words("visits", [Size::from(Symbol::Visits)], &mask.visits),
            bits: (!mask.bits.is_empty()).then(|| self.words("mask bits", bits, &mask.bits)),
        }
    }

    /// Adds the gradient of `of`, which itself has the gradient `seed`.
    pub fn gradients(&mut self, of: TensorId, seed: &[f32]) -> HashMap<TensorId, TensorId> {
        let shape = self.graph.shape(of).clone();
        let seed = self.floats("gradient from above", shape, seed);
        gradients(&mut self.graph, of, Seed::Tensor(seed)).unwrap()
    }

    pub fn plan(&self, target: Abilities, largest: Sizes, outputs: &[TensorId]) -> Plan {
        Plan::new(&self.graph, target, largest, outputs).unwrap()
    }

    /// The shaders that the target runs, in order.
    pub fn shaders(&self, target: Abilities) -> Vec<&'static str> {
        shaders(&self.plan(target, self.sizes, &[]))
    }

    /// The words of the outputs after one step.
    pub fn run_words(
        &self,
        session: &mut Session,
        target: Abilities,
        outputs: &[TensorId],
    ) -> Vec<Vec<u32>> {
        let plan = self.plan(target, self.sizes, outputs);
        let mut program = Program::new(session, plan, 1).unwrap_or_else(|why| panic!("{why}"));
        self.step(session, &mut program)
    }

    /// The values of the outputs after one step.
    pub fn run(
        &self,
        session: &mut Session,
        target: Abilities,
        outputs: &[TensorId],
    ) -> Vec<Vec<f32>> {
        let words = self.run_words(session, target, outputs);
        words.into_iter().map(|words| words.into_iter().map(f32::from_bits).collect()).collect()
    }

    /// One step of a program of this computation: its outputs.
    pub fn step(&self, session: &Session, program: &mut Program) -> Vec<Vec<u32>> {
        let inputs: Vec<(TensorId, &[u32])> =
            self.inputs.iter().map(|(id, words)| (*id, words.as_slice())).collect();
        let step = Step { sizes: self.sizes, scalars: self.scalars, inputs: &inputs };
        program
            .run(session, &step)
            .and_then(|pending| pending.wait(&session.device))
            .unwrap_or_else(|why| panic!("{why}"))
    }
}

/// The shaders of a plan, in order.
pub fn shaders(plan: &Plan) -> Vec<&'static str> {
    let name = |(_, command): &(_, Command)| match command {
        Command::Launch(launch) => Some(launch.shader.name),
        Command::Clear(_) => None,
    };
    plan.commands.iter().filter_map(name).collect()
}

/// Fails unless every element is within `tolerance` of the reference: relative to the element's own
/// magnitude, or to the root mean square of the whole tensor where the element is smaller than that
/// (an element that is a sum of large terms cannot be more exact than they are).
pub fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    let squares: f64 = want.iter().map(|value| value * value).sum();
    let typical = (squares / want.len().max(1) as f64).sqrt();
    let scale: Vec<f64> = want.iter().map(|value| value.abs().max(typical)).collect();
    close_to(what, got, want, &scale, tolerance);
}

/// Fails unless every element is within `tolerance · scale` of the reference.
pub fn close_to(what: &str, got: &[f32], want: &[f64], scale: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    let mut worst = (0.0, 0);
    for (at, ((got, want), scale)) in got.iter().zip(want).zip(scale).enumerate() {
        let distance = (f64::from(*got) - want).abs();
        let error = if distance == 0.0 { 0.0 } else { distance / scale };
        // A NaN compares as false with everything, and must not pass for that.
        if error > worst.0 || error.is_nan() {
            worst = (error, at);
            if error.is_nan() {
                break;
            }
        }
    }
    let (error, at) = worst;
    assert!(
        error <= tolerance,
        "{what}: element {at} of {} is {}, the reference {}: error {error:.2e}, allowed {tolerance:.0e}",
        got.len(),
        got[at],
        want[at],
    );
}
