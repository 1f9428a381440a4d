//! The forward pass of a model: logits of batches, loss and accuracy of a data set.

use super::AttentionPairs;
use super::batch::{Prepared, UNDER_WAY, sizes_of};
use super::prediction::{Evaluation, Prediction};
use crate::data::Encoded;
use crate::error::Result;
use crate::gpu::Pending;
use crate::graph::{Graph, Pass, Plan, Precision, Program, Session, Step, Timing};
use crate::kernels::{Scalars, Sizes};
use crate::model::{Config, Halves, Inputs, Weights, network};
use crate::sparsity::{LayerRules, Policy};
use std::collections::VecDeque;

/// The forward pass of a model, for batches up to a size.
pub struct Evaluator {
    program: Program,
    config: Config,
    rules: LayerRules,
    inputs: Inputs,
    halves: Option<Halves>,
    pairs: AttentionPairs,
}

impl Evaluator {
    /// Plans and prepares the forward pass. The session must hold the parameters.
    ///
    /// # Errors
    /// Sizes that do not fit the device, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        precision: Precision,
        largest: Sizes,
    ) -> Result<Self> {
        let halves = Halves::new(session, config, precision)?;
        let mut graph = Graph::new().in_precision(precision);
        let rules = policy.evaluation().for_layers(config.encoder.layers)?;
        let weights = Weights::new(&mut graph, config);
        let inputs = Inputs::new(&mut graph, &rules);
        let network = network(&mut graph, config, &weights, &inputs, Pass::Inference)?;
        let mut outputs = vec![network.logits];
        outputs.extend(AttentionPairs::wanted(&network.attention));
        let program = Program::build(session, &graph, largest, &outputs, UNDER_WAY)?;
        let (config, pairs) = (config.clone(), AttentionPairs::default());
        Ok(Self { program, config, rules, inputs, halves, pairs })
    }

    /// An evaluator that has room for these examples in batches of a size, in their order.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    pub fn for_examples(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        precision: Precision,
        examples: &[Encoded],
        batch_size: usize,
    ) -> Result<Self> {
        Self::for_sets(session, config, policy, precision, &[examples], batch_size)
    }

    /// An evaluator that has room for each of several sets of examples.
    ///
    /// # Errors
    /// As [`Evaluator::new`].
    pub fn for_sets(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        precision: Precision,
        sets: &[&[Encoded]],
        batch_size: usize,
    ) -> Result<Self> {
        let batches = sets.iter().flat_map(|set| set.chunks(batch_size.max(1)));
        let rules = policy.evaluation().for_layers(config.encoder.layers)?;
        let largest = sizes_of(batches.map(|batch| batch.iter().collect()), &rules);
        Self::new(session, config, policy, precision, largest)
    }

    /// Bytes that evaluation takes on the device, besides the parameters.
    pub fn own_bytes(&self) -> u64 {
        self.plan().own_bytes(UNDER_WAY) + self.halves.as_ref().map_or(0, Halves::own_bytes)
    }

    /// The plan of the forward pass.
    pub fn plan(&self) -> &Plan {
        self.program.plan()
    }

    /// A batch of sentences, with the masks that evaluation has for them.
    ///
    /// # Errors
    /// As [`crate::data::Batch::pack`].
    pub fn prepare(&self, sentences: &[&Encoded]) -> Result<Prepared> {
        Prepared::new(sentences, &self.rules)
    }

    fn refresh(&mut self, session: &Session) -> Result<()> {
        self.halves.as_mut().map_or(Ok(()), |halves| halves.refresh(session))
    }

    /// Submits the forward pass of a batch and returns at once: its first output are the logits.
    ///
    /// # Errors
    /// A batch larger than planned for, or an error of the device.
    pub fn submit(&mut self, session: &Session, prepared: &Prepared) -> Result<Pending> {
        self.refresh(session)?;
        let inputs = self.inputs.words(&prepared.batch, &prepared.masks);
        let (sizes, scalars) = (prepared.sizes(), Scalars::default());
        self.program.run(session, &Step { sizes, scalars, inputs: &inputs })
    }

    /// Runs the forward pass of a batch, waits for it, and says how long each launch took.
    ///
    /// # Errors
    /// As [`Evaluator::submit`]; an adapter that keeps no time.
    pub fn profile(&mut self, session: &Session, prepared: &Prepared) -> Result<Vec<Timing>> {
        self.refresh(session)?;
        let inputs = self.inputs.words(&prepared.batch, &prepared.masks);
        let (sizes, scalars) = (prepared.sizes(), Scalars::default());
        let step = Step { sizes, scalars, inputs: &inputs };
        Ok(self.program.profile(session, &step)?.1)
    }

    /// What the model says of each example, in their order. `each` hears how many are done.
    ///
    /// # Errors
    /// A batch larger than planned for, or an error of the device.
    pub fn predict(
        &mut self,
        session: &Session,
        examples: &[Encoded],
        batch_size: usize,
        mut each: impl FnMut(usize),
    ) -> Result<Vec<Prediction>> {
        // Two batches under way: the host packs one while the device computes another.
        let mut under_way: VecDeque<(Pending, Prepared)> = VecDeque::new();
        let mut predictions = Vec::with_capacity(examples.len());
        self.pairs = AttentionPairs::default();
        let mut batches = examples.chunks(batch_size.max(1));
        loop {
            let batch = batches.next();
            if let Some(batch) = batch {
                let prepared = self.prepare(&batch.iter().collect::<Vec<_>>())?;
                under_way.push_back((self.submit(session, &prepared)?, prepared));
            }
            if under_way.len() < UNDER_WAY && batch.is_some() {
                continue;
            }
            let Some((pending, prepared)) = under_way.pop_front() else { break };
            let values = pending.wait::<u32>(&session.device)?;
            let logits: Vec<f32> = values[0].iter().copied().map(f32::from_bits).collect();
            predictions
                .extend(logits.chunks_exact(self.config.task.outputs()).map(Prediction::new));
            self.pairs.add(&self.config, &self.rules, &prepared.masks, &values[1..]);
            each(predictions.len());
        }
        Ok(predictions)
    }

    /// Pairs of query and key that counted in the last [prediction](Self::predict) or evaluation.
    pub fn pairs(&self) -> &AttentionPairs {
        &self.pairs
    }

    /// Loss and accuracy over labelled examples.
    ///
    /// # Errors
    /// As [`Evaluator::predict`]; an example without a label.
    pub fn evaluate(
        &mut self,
        session: &Session,
        examples: &[Encoded],
        batch_size: usize,
    ) -> Result<Evaluation> {
        let predictions = self.predict(session, examples, batch_size, |_| {})?;
        Evaluation::of(&predictions, examples)
    }
}
