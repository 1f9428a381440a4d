//! A training step on the device: the gradient of a batch, or of its parts one after another, and
//! the update.
//!
//! ```text
//! a part ──▶ gradient: forward, backward ──▶ sums over its sentences
//!              ⋮ added up in the session's store
//!           update: mean over the step's sentences, norm, clip, AdamW
//! ```
//!
//! A step in one part is one program: memory that held an activation may hold a gradient later.

use super::Settings;
use crate::engine::{AttentionPairs, Prepared, UNDER_WAY};
use crate::error::{Error, Result};
use crate::gpu::Pending;
use crate::graph::{Graph, Pass, Plan, Program, Seed, Session, Step, Timing, gradients, ops};
use crate::kernels::optimizer::AdamW;
use crate::kernels::tune::Tuning;
use crate::kernels::{Scalars, Sizes, TensorId};
use crate::model::{Config, Inputs, Parameter, network, parameters};
use crate::sparsity::{LayerRules, Policy};

/// β₁ and β₂ and ε of AdamW.
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Bytes that training takes on the device: as planned, and as allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Parameters with their moments, and their gradients where a step has several parts.
    pub parameters: u64,
    /// Activations, gradients and copies that kernels read as texels.
    pub activations: u64,
    /// Inputs, parameters of kernels, results on their way back.
    pub others: u64,
    /// The largest parameter, on its way to the host while a checkpoint is written.
    pub saving: u64,
}

/// What a step says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    /// Mean cross-entropy of the step's sentences, before the update.
    pub loss: f32,
    /// Global gradient norm, before clipping.
    pub grad_norm: f32,
    /// Pairs of query and key that counted.
    pub pairs: AttentionPairs,
}

/// A step that has been submitted.
pub struct PendingStep {
    /// Loss and visits of each part, then the norm; all together where there is one part.
    pub programs: Vec<Pending>,
}

/// The plans of a training step.
pub struct TrainingPlans {
    /// What each part of a step runs, or the whole step where it has one part.
    pub gradient: Plan,
    /// What follows once all parts are done, where a step has several.
    pub update: Option<Plan>,
    rules: LayerRules,
    inputs: Inputs,
}

/// A parameter in a graph, and its gradient.
struct Trained {
    weight: TensorId,
    gradient: TensorId,
    decays: bool,
}

impl TrainingPlans {
    /// Plans the training step for parts of up to `largest`. Needs no device.
    ///
    /// # Errors
    /// Sizes that do not fit each other, or that kernels cannot count.
    pub fn new(
        config: &Config,
        policy: &Policy,
        settings: &Settings,
        tuning: &Tuning,
        largest: Sizes,
    ) -> Result<Self> {
        let mut graph = Graph::new();
        let rules = policy.training().for_layers(config.encoder.layers)?;
        let inputs = Inputs::new(&mut graph, &rules);
        let pass = Pass::Training { recompute: settings.checkpoint_activations };
        let network = network(&mut graph, config, &inputs, pass)?;
        let loss = config.task.loss(&mut graph, network.logits, inputs.labels())?;
        let found = gradients(&mut graph, loss, Seed::One)?;
        let mut trained = Vec::new();
        for parameter in parameters(config) {
            let weight = network.weights.tensor(&parameter.name)?;
            let gradient = found.get(&weight).copied().ok_or_else(|| {
                Error::internal(format!("no gradient reaches {}", parameter.name))
            })?;
            trained.push(Trained { weight, gradient, decays: parameter.decays() });
        }
        let mut outputs = vec![loss];
        let update = if settings.gradient_accumulation > 1 {
            for Trained { weight, gradient, .. } in &trained {
                ops::accumulate(&mut graph, *weight, *gradient)?;
            }
            Some(update_plan(config, settings, tuning)?)
        } else {
            outputs.push(update(&mut graph, &trained, settings)?);
            None
        };
        outputs.extend(AttentionPairs::wanted(&network.attention));
        let gradient = Plan::new(&graph, tuning.clone(), largest, &outputs)?;
        Ok(Self { gradient, update, rules, inputs })
    }
}

/// Adds clipping and AdamW to a graph; returns the norm and the factor of the gradient.
fn update(graph: &mut Graph, trained: &[Trained], settings: &Settings) -> Result<TensorId> {
    let gradients: Vec<TensorId> = trained.iter().map(|trained| trained.gradient).collect();
    let norm = ops::clip(graph, &gradients, settings.clip)?;
    for Trained { weight, gradient, decays } in trained {
        let decay = if *decays { settings.weight_decay } else { 0.0 };
        let constants = AdamW { beta1: BETA1, beta2: BETA2, epsilon: EPSILON, decay };
        let updated = ops::Updated { weight: *weight, gradient: *gradient, settings: constants };
        ops::adamw(graph, updated, norm)?;
    }
    Ok(norm)
}

/// The update by itself, from the gradients in the store, which it empties for the next step.
fn update_plan(config: &Config, settings: &Settings, tuning: &Tuning) -> Result<Plan> {
    let mut graph = Graph::new();
    let trained: Vec<Trained> = parameters(config)
        .iter()
        .map(|parameter| {
            let weight = graph.parameter(&parameter.name, &parameter.shape);
            let gradient = ops::accumulated(&mut graph, weight);
            Trained { weight, gradient, decays: parameter.decays() }
        })
        .collect();
    let norm = update(&mut graph, &trained, settings)?;
    trained.iter().for_each(|trained| ops::clear(&mut graph, trained.gradient));
    Plan::new(&graph, tuning.clone(), Sizes::default(), &[norm])
}

/// A model that can be trained.
pub struct Trainer {
    gradient: Program,
    update: Option<Program>,
    config: Config,
    rules: LayerRules,
    inputs: Inputs,
    parameters: Vec<Parameter>,
    /// Parts of a step, at most.
    parts: usize,
}

impl Trainer {
    /// Plans and prepares the training step for parts of up to `largest`. The session must hold the
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
        let plans = TrainingPlans::new(config, policy, settings, &session.tuning, largest)?;
        let TrainingPlans { gradient, update, rules, inputs } = plans;
        let parts = settings.gradient_accumulation.max(1);
        let gradient = Program::new(session, gradient, UNDER_WAY * parts)?;
        let update = update.map(|plan| Program::new(session, plan, UNDER_WAY)).transpose()?;
        let parameters = parameters(config);
        let config = config.clone();
        Ok(Self { gradient, update, config, rules, inputs, parameters, parts })
    }

    /// Submits a step in its parts and returns at once. Of the scalars the numbers of sentences
    /// follow from the parts.
    ///
    /// # Errors
    /// More parts, or a larger one, than planned for; an error of the device.
    pub fn step(
        &mut self,
        session: &Session,
        parts: &[Prepared],
        scalars: Scalars,
    ) -> Result<PendingStep> {
        let gradients = self.add_gradients(session, parts, scalars)?;
        self.update(session, gradients, parts, scalars)
    }

    /// The first half of a step: the gradient of each part. Where a step may have several, they are
    /// added up in the session's store; where it has one, the update comes with it.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn add_gradients(
        &mut self,
        session: &Session,
        parts: &[Prepared],
        scalars: Scalars,
    ) -> Result<Vec<Pending>> {
        self.check(parts)?;
        parts
            .iter()
            .map(|part| {
                let inputs = self.inputs.words(&part.batch, &part.masks);
                let scalars = of_part(scalars, parts, part);
                let step = Step { sizes: part.sizes(), scalars, inputs: &inputs };
                self.gradient.run(session, &step)
            })
            .collect()
    }

    /// The second half: updates the parameters by the mean of the gradients that were added up, and
    /// empties those.
    ///
    /// # Errors
    /// An error of the device.
    pub fn update(
        &mut self,
        session: &Session,
        gradients: Vec<Pending>,
        parts: &[Prepared],
        scalars: Scalars,
    ) -> Result<PendingStep> {
        let mut programs = gradients;
        if let Some(update) = &mut self.update {
            programs.push(update.run(session, &update_step(scalars, parts))?);
        }
        Ok(PendingStep { programs })
    }

    /// Waits for a step of these parts.
    ///
    /// # Errors
    /// The device failed.
    pub fn finish(
        &self,
        session: &Session,
        pending: PendingStep,
        parts: &[Prepared],
    ) -> Result<StepResult> {
        let mut values = Vec::new();
        for program in pending.programs {
            values.push(program.wait::<u32>(&session.device)?);
        }
        let apart = self.update.is_some();
        let norm = if apart { values.pop().map(|norm| norm[0][0]) } else { None };
        let norm = norm.unwrap_or_else(|| values[0][1][0]);
        // Loss, the norm where it comes with it, then the visits.
        let visits = if apart { 1 } else { 2 };
        let mut pairs = AttentionPairs::default();
        let mut loss = 0.0;
        for (part, values) in parts.iter().zip(&values) {
            loss += f32::from_bits(values[0][0]);
            pairs.add(&self.config, &self.rules, &part.masks, &values[visits..]);
        }
        let loss = loss / sentences(parts) as f32;
        Ok(StepResult { loss, grad_norm: f32::from_bits(norm), pairs })
    }

    /// As [`Trainer::step`], with the time that each launch took.
    ///
    /// # Errors
    /// As [`Trainer::step`]; an adapter that keeps no time.
    pub fn profile(
        &mut self,
        session: &Session,
        parts: &[Prepared],
        scalars: Scalars,
    ) -> Result<(PendingStep, Vec<Timing>)> {
        self.check(parts)?;
        let (mut programs, mut timings) = (Vec::new(), Vec::new());
        for part in parts {
            let inputs = self.inputs.words(&part.batch, &part.masks);
            let scalars = of_part(scalars, parts, part);
            let step = Step { sizes: part.sizes(), scalars, inputs: &inputs };
            let (pending, times) = self.gradient.profile(session, &step)?;
            programs.push(pending);
            extend(&mut timings, times);
        }
        if let Some(update) = &mut self.update {
            let (pending, times) = update.profile(session, &update_step(scalars, parts))?;
            programs.push(pending);
            extend(&mut timings, times);
        }
        Ok((PendingStep { programs }, timings))
    }

    /// Whether these can be the parts of a step: as many as planned for, every label that of a class.
    fn check(&self, parts: &[Prepared]) -> Result<()> {
        if parts.is_empty() || parts.len() > self.parts {
            return Err(Error::internal(format!(
                "a step of {} parts in a plan for 1 to {}",
                parts.len(),
                self.parts
            )));
        }
        let classes = self.config.task.outputs() as u32;
        let labels = parts.iter().flat_map(|part| &part.batch.labels);
        if labels.into_iter().any(|label| *label >= classes) {
            return Err(Error::internal(format!(
                "a step with a sentence that is of none of the {classes} classes"
            )));
        }
        Ok(())
    }

    /// Operations and bytes of a step in these parts: floating-point operations of products and
    /// attention, bytes that the kernels cannot but move.
    pub fn work(&self, parts: &[Prepared]) -> Work {
        let mut work = Work::default();
        for part in parts {
            work.add(self.gradient.plan(), &part.sizes());
        }
        if let Some(update) = &self.update {
            work.add(update.plan(), &Sizes::default());
        }
        work
    }

    /// What each part of a step runs, or the whole step where it has one part.
    pub fn plan(&self) -> &Plan {
        self.gradient.plan()
    }

    /// Bytes that training takes on the device.
    pub fn memory(&self) -> Memory {
        let gradient = self.gradient.plan();
        let update = self.update.as_ref().map(Program::plan);
        let own = gradient.own_bytes(UNDER_WAY * self.parts)
            + update.map_or(0, |plan| plan.own_bytes(UNDER_WAY));
        let activations = gradient.made_bytes() + update.map_or(0, Plan::made_bytes);
        let largest = self.parameters.iter().map(|parameter| parameter.count() as u64 * 4).max();
        Memory {
            parameters: update.unwrap_or(gradient).stored_bytes(),
            activations,
            others: own - activations,
            saving: largest.unwrap_or(0).max(4).next_multiple_of(16),
        }
    }
}

/// What a step has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Floating-point operations of products and attention.
    pub operations: u64,
    /// Bytes that the kernels cannot but move.
    pub bytes: u64,
}

impl Work {
    /// Adds what a plan does with a batch of these sizes.
    pub fn add(&mut self, plan: &Plan, sizes: &Sizes) {
        self.operations += plan.operations(sizes);
        self.bytes += plan.bytes_moved(sizes);
    }
}

/// The scalars of one part of a step.
fn of_part(scalars: Scalars, parts: &[Prepared], part: &Prepared) -> Scalars {
    let first_sentence = part.batch.first_sequence;
    Scalars { sentences: sentences(parts), first_sentence, ..scalars }
}

/// What the update of a step of these parts is given.
fn update_step(scalars: Scalars, parts: &[Prepared]) -> Step<'static> {
    let scalars = Scalars { sentences: sentences(parts), ..scalars };
    Step { sizes: Sizes::default(), scalars, inputs: &[] }
}

fn sentences(parts: &[Prepared]) -> u32 {
    parts.iter().map(|part| part.batch.sequences() as u32).sum()
}

/// Times of a further program, which begin after those before it.
fn extend(timings: &mut Vec<Timing>, more: Vec<Timing>) {
    let start = timings.last().map_or(0.0, |last: &Timing| last.begin + last.seconds);
    timings.extend(more.into_iter().map(|time| Timing { begin: start + time.begin, ..time }));
}
