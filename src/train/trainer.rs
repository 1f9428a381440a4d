//! A training step on the device: the gradient of a batch, or of its parts one after another, and
//! the update.
//!
//! ```text
//! a part ──▶ gradient: forward, backward ──▶ sums over its sentences
//!              ⋮ added up in the session's store
//!           update: mean over the step's sentences, norm, clip, AdamW
//! ```
//!
//! A step in one part is one program. In it only the words of the batch are updated in the word
//! embedding; others catch up once they are used, or when the parameters are wanted
//! ([`Trainer::settle`]).

use super::Settings;
use crate::engine::{AttentionPairs, Prepared, UNDER_WAY};
use crate::error::{Error, Result};
use crate::gpu::Pending;
use crate::graph::ops::RowUpdates;
use crate::graph::{
    Graph, LOSS_SCALE, Pass, Plan, Precision, Program, Role, Seed, Session, Step, Timing,
    gradients, ops,
};
use crate::kernels::optimizer::{AdamW, HISTORY};
use crate::kernels::tune::Tuning;
use crate::kernels::{Scalars, Sizes, TensorId};
use crate::model::names::WORDS;
use crate::model::{
    Config, Encoder, Halves, Inputs, Parameter, ParameterGroup, Weights, network, parameter_groups,
    parameters,
};
use crate::sparsity::{LayerRules, Policy};

/// β₁ and β₂ and ε of AdamW.
const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Bytes that training takes on the device: as planned, and as allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Parameters with their moments and gradients.
    pub parameters: u64,
    /// Activations, their gradients and copies that kernels read as texels.
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
    /// Global gradient norm, before clipping; 0 where the step was skipped.
    pub grad_norm: f32,
    /// The scale of the loss, in mixed precision.
    pub loss_scale: Option<f32>,
    /// Whether gradients overflowed, in mixed precision, so that nothing was updated.
    pub skipped: bool,
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
    /// What brings rows of the word embedding up to date that wait for their updates, where a step
    /// has one part.
    pub settle: Option<Plan>,
    rules: LayerRules,
    inputs: Inputs,
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
        let in_parts = settings.gradient_accumulation > 1;
        let graph = Graph::new().in_precision(settings.precision);
        let mut graph = if in_parts { graph.of_part() } else { graph };
        let rules = policy.training().for_layers(config.encoder.layers)?;
        let weights = Weights::new(&mut graph, config);
        let inputs = Inputs::new(&mut graph, &rules);
        let words = weights.tensor(WORDS)?;
        let sorted = inputs.tokens.sorted;
        let rows = if in_parts {
            None
        } else {
            let rows = RowUpdates::new(&mut graph, words, constants(settings, true))?;
            rows.catch_up(&mut graph, sorted.ids);
            Some(rows)
        };
        let pass = Pass::Training { recompute: settings.checkpoint_activations };
        let network = network(&mut graph, config, &weights, &inputs, pass)?;
        let loss = config.task.loss(&mut graph, network.logits, inputs.labels())?;
        let found = gradients(&mut graph, loss, Seed::One)?;
        let gradient = |weight: TensorId, name: &str| {
            let found = found.get(&weight).copied();
            found.ok_or_else(|| Error::internal(format!("no gradient reaches {name}")))
        };
        let dwords = gradient(words, WORDS)?;
        let mut outputs = vec![loss];
        let mut others = Vec::new();
        for Parameter { name, .. } in parameters(config).iter().filter(|one| one.name != WORDS) {
            let weight = weights.tensor(name)?;
            others.push((weight, gradient(weight, name)?));
        }
        let (update, settle) = if let Some(rows) = rows {
            let groups = groups(&mut graph, config, settings);
            let mut all: Vec<TensorId> = groups.iter().map(|updated| updated.gradient).collect();
            all.push(dwords);
            let norm = ops::clip(&mut graph, &all, settings.clip)?;
            for updated in groups {
                ops::adamw(&mut graph, updated, norm)?;
            }
            rows.adamw(&mut graph, sorted.ids, dwords, norm)?;
            outputs.push(norm);
            (None, Some(settle_plan(config, settings, tuning)?))
        } else {
            for (weight, gradient) in others {
                if !graph.is_stored(gradient) {
                    ops::accumulate(&mut graph, weight, gradient)?;
                }
            }
            ops::accumulate_words(&mut graph, words, dwords, sorted)?;
            (Some(update_plan(config, settings, tuning)?), None)
        };
        outputs.extend(AttentionPairs::wanted(&network.attention));
        let gradient = Plan::new(&graph, tuning.clone(), largest, &outputs)?;
        Ok(Self { gradient, update, settle, rules, inputs })
    }
}

fn constants(settings: &Settings, decays: bool) -> AdamW {
    let decay = if decays { settings.weight_decay } else { 0.0 };
    AdamW { beta1: BETA1, beta2: BETA2, epsilon: EPSILON, decay }
}

/// The groups of parameters, their gradients in the store, and how they are updated.
fn groups(graph: &mut Graph, config: &Config, settings: &Settings) -> Vec<ops::Updated> {
    let updated = |ParameterGroup { group, decays }: ParameterGroup| {
        let weight = graph.parameter(&group.name, &[group.elements()]);
        let gradient = ops::accumulated(graph, weight);
        // Those that decay are the matrices.
        let has_half = decays && settings.precision == Precision::Mixed;
        let half = has_half.then(|| graph.half_of(weight));
        ops::Updated { weight, gradient, settings: constants(settings, decays), half }
    };
    parameter_groups(config).into_iter().map(updated).collect()
}

/// The word embedding in a graph of its own.
fn words(graph: &mut Graph, config: &Config) -> TensorId {
    let Encoder { vocab_size, dim, .. } = config.encoder;
    graph.parameter(WORDS, &[vocab_size as u64, dim as u64])
}

/// The update by itself, from the gradients in the store, which it empties for the next step.
fn update_plan(config: &Config, settings: &Settings, tuning: &Tuning) -> Result<Plan> {
    let mut graph = Graph::new().in_precision(settings.precision);
    let mut all = groups(&mut graph, config, settings);
    let weight = words(&mut graph, config);
    let gradient = ops::accumulated(&mut graph, weight);
    let settings_of_words = constants(settings, true);
    all.push(ops::Updated { weight, gradient, settings: settings_of_words, half: None });
    let gradients: Vec<TensorId> = all.iter().map(|updated| updated.gradient).collect();
    let norm = ops::clip(&mut graph, &gradients, settings.clip)?;
    for updated in all {
        ops::adamw(&mut graph, updated, norm)?;
    }
    gradients.into_iter().for_each(|gradient| ops::clear(&mut graph, gradient));
    Plan::new(&graph, tuning.clone(), Sizes::default(), &[norm])
}

/// Brings every row of the word embedding up to date.
fn settle_plan(config: &Config, settings: &Settings, tuning: &Tuning) -> Result<Plan> {
    let mut graph = Graph::new().in_precision(settings.precision);
    let weight = words(&mut graph, config);
    RowUpdates::new(&mut graph, weight, constants(settings, true))?.settle(&mut graph);
    Plan::new(&graph, tuning.clone(), Sizes::default(), &[])
}

/// A model that can be trained.
pub struct Trainer {
    gradient: Program,
    update: Option<Program>,
    settle: Option<Program>,
    halves: Option<Halves>,
    /// Steps done, of those that rows of the word embedding may have waited since.
    done: Option<Done>,
    config: Config,
    rules: LayerRules,
    inputs: Inputs,
    parameters: Vec<Parameter>,
    /// Parts of a step, at most.
    parts: usize,
}

/// How far the rows of the word embedding have come.
#[derive(Debug, Clone, Copy)]
struct Done {
    /// The step after which all of them were up to date.
    settled: u32,
    /// The last step.
    last: u32,
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
        let TrainingPlans { gradient, update, settle, rules, inputs } = plans;
        // Steps of a former trainer mean nothing to this one.
        session.store.remove(WORDS, Role::Steps);
        let halves = Halves::new(session, config, settings.precision)?;
        if settings.precision == Precision::Mixed {
            let begin = [settings.loss_scale, 0.0, 0.0, 0.0];
            session.set(LOSS_SCALE, Role::Weight, &[4], &begin)?;
        }
        let parts = settings.gradient_accumulation.max(1);
        let gradient = Program::new(session, gradient, UNDER_WAY * parts)?;
        let update = update.map(|plan| Program::new(session, plan, UNDER_WAY)).transpose()?;
        let settle = settle.map(|plan| Program::new(session, plan, 0)).transpose()?;
        let parameters = parameters(config);
        let config = config.clone();
        let done = None;
        Ok(Self {
            gradient,
            update,
            settle,
            halves,
            done,
            config,
            rules,
            inputs,
            parameters,
            parts,
        })
    }

    /// Gives the rows of the word embedding that the last steps have not used the updates that they
    /// have missed: before the session's parameters are used for anything but the next step.
    ///
    /// # Errors
    /// An error of the device.
    pub fn settle(&mut self, session: &Session) -> Result<()> {
        let (Some(program), Some(Done { settled, last })) = (&mut self.settle, self.done) else {
            return Ok(());
        };
        if settled < last {
            let scalars = Scalars { step: last, settled, ..Scalars::default() };
            program.run(session, &Step { sizes: Sizes::default(), scalars, inputs: &[] })?;
            self.done = Some(Done { settled: last, last });
        }
        Ok(())
    }

    /// Makes ready for a step: says after which one all rows were up to date.
    fn settled_before(&mut self, session: &Session, step: u32) -> Result<u32> {
        if let Some(halves) = &mut self.halves {
            halves.refresh(session)?;
        }
        // A step without a predecessor, or after so many that no more of them are remembered.
        let follows = |done: &Done| done.last + 1 == step && step - done.settled < HISTORY;
        if !self.done.as_ref().is_some_and(follows) {
            self.settle(session)?;
            self.done = Some(Done { settled: step.saturating_sub(1), last: step });
        }
        let Some(done) = &mut self.done else { return Ok(0) };
        done.last = step;
        Ok(done.settled)
    }

    /// What mixed precision knows of its loss scale now: the scale, steps since it changed, steps
    /// skipped.
    ///
    /// # Errors
    /// The device failed.
    pub fn loss_scale(&self, session: &Session) -> Result<Option<[f32; 4]>> {
        if self.halves.is_none() {
            return Ok(None);
        }
        let known = session.get(LOSS_SCALE, Role::Weight)?;
        Ok(known.try_into().ok())
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
        let settled = self.settled_before(session, scalars.step)?;
        let scalars = Scalars { settled, ..scalars };
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
        let norm = if apart { values.pop().map(|mut norm| norm.swap_remove(0)) } else { None };
        let norm: Vec<f32> = norm
            .as_ref()
            .unwrap_or_else(|| &values[0][1])
            .iter()
            .map(|bits| f32::from_bits(*bits))
            .collect();
        // Loss, the norm where it comes with it, then the visits.
        let visits = if apart { 1 } else { 2 };
        let mut pairs = AttentionPairs::default();
        let mut loss = 0.0;
        for (part, values) in parts.iter().zip(&values) {
            loss += f32::from_bits(values[0][0]);
            pairs.add(&self.config, &self.rules, &part.masks, &values[visits..]);
        }
        let loss = loss / sentences(parts) as f32;
        let loss_scale = self.halves.is_some().then_some(norm[2]);
        let skipped = loss_scale.is_some() && norm[1] == 0.0;
        Ok(StepResult { loss, grad_norm: norm[0], loss_scale, skipped, pairs })
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
        let settled = self.settled_before(session, scalars.step)?;
        let scalars = Scalars { settled, ..scalars };
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
            + update.map_or(0, |plan| plan.own_bytes(UNDER_WAY))
            + self.settle.as_ref().map_or(0, |program| program.plan().own_bytes(0))
            + self.halves.as_ref().map_or(0, Halves::own_bytes);
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
