//! One training step on the device: forward, backward, clip, AdamW, as a single plan.

use super::batches::Prepared;
use super::{AttentionPairs, Settings};
use crate::error::{Error, Result};
use crate::graph::{Executor, Graph, Pending, Place, Plan, Session, Timing, gradients, ops};
use crate::kernels::optimizer::AdamW;
use crate::kernels::tune::Tuning;
use crate::kernels::{Scalars, Sizes, TensorId};
use crate::model::Config;
use crate::model::checkpoint::Tensor;
use crate::model::distilbert::{self, Attention, Inputs, Parameter};
use crate::sparsity::{LayerRules, Policy};
use std::collections::HashMap;

/// β₁ and β₂ and ε of AdamW.
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Steps submitted before the oldest one's loss is waited for.
pub const UNDER_WAY: usize = 2;
/// What comes back from each: loss and norm, and perhaps more.
const RESULTS: usize = 2;

/// Bytes that training takes on the device: as planned, and as allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Parameters with their moments.
    pub parameters: u64,
    /// Activations, gradients and copies that kernels read as texels.
    pub activations: u64,
    /// Inputs, parameters of kernels, results on their way back.
    pub others: u64,
    /// The largest parameter, on its way to the host while a checkpoint is written.
    pub saving: u64,
}

/// A model that can be trained.
pub struct Trainer {
    executor: Executor,
    config: Config,
    rules: LayerRules,
    inputs: Inputs,
    loss: TensorId,
    norm: TensorId,
    attention: Vec<Attention>,
    gradients: Vec<TensorId>,
    parameters: Vec<Parameter>,
}

/// What a step says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Mean cross-entropy of the batch, before the update.
    pub loss: f32,
    /// Global gradient norm, before clipping.
    pub grad_norm: f32,
    /// Pairs of query and key that counted.
    pub pairs: AttentionPairs,
}

/// A training step in a graph, lowered, and where its results are.
pub struct TrainingPlan {
    /// The commands of a step.
    pub plan: Plan,
    rules: LayerRules,
    inputs: Inputs,
    loss: TensorId,
    norm: TensorId,
    attention: Vec<Attention>,
    gradients: Vec<TensorId>,
}

impl TrainingPlan {
    /// Plans the training step for batches up to `largest`. Needs no device.
    ///
    /// # Errors
    /// Sizes that do not fit each other, or that kernels cannot count.
    pub fn new(
        config: &Config,
        policy: &Policy,
        Settings { weight_decay, clip, checkpoint_activations, .. }: &Settings,
        tuning: &Tuning,
        largest: Sizes,
    ) -> Result<Self> {
        let mut graph = Graph::new();
        let rules = policy.training().for_layers(config.layers)?;
        let inputs = Inputs::new(&mut graph, &rules);
        let network =
            distilbert::network(&mut graph, config, &inputs, true, *checkpoint_activations)?;
        let loss = ops::cross_entropy(&mut graph, network.logits, inputs.labels())?;
        let found = gradients(&mut graph, loss, None)?;
        let gradients: Vec<TensorId> = network
            .parameters
            .iter()
            .map(|parameter| {
                found.get(parameter).copied().ok_or_else(|| {
                    Error::internal(format!("no gradient reaches {}", graph.name(*parameter)))
                })
            })
            .collect::<Result<_>>()?;
        let norm = ops::clip(&mut graph, &gradients, *clip)?;
        let parameters = distilbert::parameters(config);
        for ((weight, gradient), parameter) in
            network.parameters.iter().zip(&gradients).zip(&parameters)
        {
            let settings = AdamW {
                beta1: BETA1,
                beta2: BETA2,
                epsilon: EPSILON,
                decay: if parameter.decays() { *weight_decay } else { 0.0 },
            };
            let updated = ops::Updated { weight: *weight, gradient: *gradient, settings };
            ops::adamw(&mut graph, updated, norm)?;
        }
        let mut outputs = vec![loss, norm];
        outputs.extend(&gradients);
        let attention = network.attention;
        let wanted = AttentionPairs::wanted(config, &attention, &largest);
        outputs.extend(wanted.iter().map(|(visits, _)| *visits));
        let plan = Plan::new(&graph, tuning.clone(), largest, &outputs)?;
        Ok(Self { plan, rules, inputs, loss, norm, attention, gradients })
    }
}

impl Trainer {
    /// Plans and prepares the training step for batches up to `largest`. The session must hold the
    /// model's parameters.
    ///
    /// # Errors
    /// Sizes that do not fit the device, a kernel that does not compile.
    pub fn new(
        session: &mut Session,
        config: &Config,
        policy: &Policy,
        settings: &Settings,
        largest: Sizes,
    ) -> Result<Self> {
        let TrainingPlan { plan, rules, inputs, loss, norm, attention, gradients } =
            TrainingPlan::new(config, policy, settings, &session.tuning, largest)?;
        let executor = Executor::new(session, plan)?;
        let parameters = distilbert::parameters(config);
        let config = config.clone();
        let mut trainer =
            Self { executor, config, rules, inputs, loss, norm, attention, gradients, parameters };
        let (count, bytes) = trainer.results();
        trainer.executor.reserve(session, count, bytes)?;
        Ok(trainer)
    }

    /// Submits a step and returns at once.
    ///
    /// # Errors
    /// A batch larger than planned for, or an error of the device.
    pub fn step(
        &mut self,
        session: &Session,
        prepared: &Prepared,
        scalars: Scalars,
    ) -> Result<Pending> {
        self.run(session, prepared, scalars, &self.outputs(&prepared.sizes()))
    }

    /// What comes back from every step.
    fn outputs(&self, sizes: &Sizes) -> Vec<(TensorId, usize)> {
        let wanted = AttentionPairs::wanted(&self.config, &self.attention, sizes);
        [(self.loss, 1), (self.norm, 2)].into_iter().chain(wanted).collect()
    }

    /// How many results are under way at a time, and the bytes of the largest.
    fn results(&self) -> (usize, u64) {
        let outputs = self.outputs(&self.plan().largest);
        let largest = outputs.iter().map(|(_, words)| *words as u64 * 4).max().unwrap_or(0);
        (UNDER_WAY * outputs.len(), largest.next_multiple_of(16))
    }

    fn run(
        &mut self,
        session: &Session,
        prepared: &Prepared,
        scalars: Scalars,
        outputs: &[(TensorId, usize)],
    ) -> Result<Pending> {
        let words = self.inputs.words(&prepared.batch, &prepared.masks);
        self.executor.run(session, prepared.sizes(), scalars, &words, outputs)
    }

    /// Waits for a step on this batch.
    ///
    /// # Errors
    /// The device failed.
    pub fn finish(
        &self,
        session: &Session,
        pending: Pending,
        prepared: &Prepared,
    ) -> Result<StepResult> {
        let values = pending.wait::<u32>(session)?;
        let mut pairs = AttentionPairs::default();
        pairs.add(&self.config, &self.rules, &prepared.masks, &values[RESULTS..]);
        let of = |result: usize| f32::from_bits(values[result][0]);
        Ok(StepResult { loss: of(0), grad_norm: of(1), pairs })
    }

    /// Runs one step and returns, besides its result (without its pairs), the gradient of every tensor of the
    /// checkpoint, before clipping.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_with_gradients(
        &mut self,
        session: &Session,
        prepared: &Prepared,
        scalars: Scalars,
    ) -> Result<(StepResult, HashMap<String, Tensor>)> {
        let mut outputs = vec![(self.loss, 1), (self.norm, 2)];
        outputs.extend(self.gradients.iter().zip(&self.parameters).map(|(id, p)| (*id, p.count())));
        let values = self.run(session, prepared, scalars, &outputs)?.wait::<f32>(session)?;
        let pairs = AttentionPairs::default();
        let result = StepResult { loss: values[0][0], grad_norm: values[1][0], pairs };
        let gradients = self
            .parameters
            .iter()
            .zip(&values[RESULTS..])
            .flat_map(|(parameter, values)| parameter.scatter(values))
            .collect();
        Ok((result, gradients))
    }

    /// As [`Trainer::step`], with the time that each launch took.
    ///
    /// # Errors
    /// As [`Trainer::step`]; an adapter that keeps no time.
    pub fn profile(
        &mut self,
        session: &Session,
        prepared: &Prepared,
        scalars: Scalars,
    ) -> Result<(Pending, Vec<Timing>)> {
        let words = self.inputs.words(&prepared.batch, &prepared.masks);
        let sizes = prepared.sizes();
        let outputs = self.outputs(&sizes);
        self.executor.profile(session, sizes, scalars, &words, &outputs)
    }

    /// The plan of a step.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }

    /// Bytes that training takes on the device.
    pub fn memory(&self) -> Memory {
        let plan = self.plan();
        let (results, bytes) = self.results();
        let largest = self.parameters.iter().map(|parameter| parameter.count() as u64 * 4).max();
        Memory {
            parameters: plan.total_bytes(Place::Session),
            activations: plan.total_bytes(Place::Slot(0)),
            others: plan.own_bytes() - plan.total_bytes(Place::Slot(0)) + results as u64 * bytes,
            saving: largest.unwrap_or(0).max(4).next_multiple_of(16),
        }
    }
}

/// The session's names of a parameter's two moments.
pub(super) fn moments(parameter: &Parameter) -> [String; 2] {
    ["first", "second"].map(|which| format!("{} ({which} moment)", parameter.name))
}
