//! Global gradient norm, clipping and AdamW.

use super::{Command, Count, Grid, Launch, Scalar, Size, TensorId, Word, shader};
use crate::gpu::Abilities;

/// Workgroups that share the sums of squares of a gradient of so many elements.
fn norm_parts(count: Size) -> u32 {
    // The number must not depend on the batch: sums are added in an order that follows from it.
    count.fixed().map_or(64, |count| count.div_ceil(64 * 64).clamp(1, 1024) as u32)
}

/// Gradients that one launch takes the squares of.
const NORM_GRADIENTS: usize = 4;

/// `result [2]`: the norm of the mean gradient of the step's sentences, and the factor that makes
/// the mean, clipped to `limit` (0: no clipping), of their sum. The gradients hold sums over the
/// sentences; `partials` makes a tensor of so many elements.
pub fn norm(
    abilities: Abilities,
    gradients: &[(TensorId, Size)],
    limit: f32,
    result: TensorId,
    partials: impl FnOnce(Size) -> TensorId,
) -> Vec<Command> {
    let parts: u32 = gradients.iter().map(|(_, count)| norm_parts(*count)).sum();
    let partials = partials(Size::from(parts));
    let mut commands = Vec::new();
    let mut first = 0;
    let at_once = if abilities.streaming { 1 } else { NORM_GRADIENTS };
    for gradients in gradients.chunks(at_once) {
        let (mut counts, mut ends) = (Vec::new(), Vec::new());
        let mut end = 0;
        for (_, count) in gradients {
            end += norm_parts(*count);
            counts.push(Word::from(*count));
            ends.push(Word::from(end));
        }
        // No workgroup comes to the gradients that are not there.
        counts.resize(NORM_GRADIENTS, Word::from(0u32));
        ends.resize(NORM_GRADIENTS, Word::from(end));
        let parameters = [counts, ends, vec![Word::from(first)]].concat();
        let grid = Grid::Plane(Count::new(end, 1), Count::new(1u32, 1));
        let shader = shader!("optimizer_norm_partial").with("GRADIENTS", format!("{at_once}u"));
        let mut launch = Launch::new(shader, parameters, grid);
        for place in 0..NORM_GRADIENTS {
            launch = launch.read(gradients.get(place).unwrap_or(&gradients[0]).0);
        }
        commands.push(Command::Launch(launch.write(partials)));
        first += end;
    }
    commands.push(norm_total(parts, limit, partials, result));
    commands
}

fn norm_total(parts: u32, limit: f32, partials: TensorId, result: TensorId) -> Command {
    let parameters =
        vec![Size::from(parts).into(), Word::Float(limit), Word::Step(Scalar::Sentences)];
    let grid = Grid::Linear(Count::new(1u32, 1));
    Command::Launch(
        Launch::new(shader!("optimizer_norm_total"), parameters, grid).read(partials).write(result),
    )
}

/// The constants of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub decay: f32,
}

/// The state that an update changes in place, each of the parameter's size.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// The parameter.
    pub weight: TensorId,
    /// First moment.
    pub first: TensorId,
    /// Second moment.
    pub second: TensorId,
}

impl AdamW {
    /// The words of `AdamW` in `shaders/shared/adamw.wgsl`.
    fn words(self) -> Vec<Word> {
        vec![
            Word::Step(Scalar::Step),
            Word::Step(Scalar::LearningRate),
            Word::Step(Scalar::Correction(self.beta1)),
            Word::Step(Scalar::Correction(self.beta2)),
            Word::Float(self.decay),
            Word::Float(self.beta1),
            Word::Float(self.beta2),
            Word::Float(self.epsilon),
        ]
    }
}

/// One AdamW update of all of `count` elements.
pub fn adamw(
    settings: AdamW,
    count: u64,
    gradient: TensorId,
    norm: TensorId,
    state: State,
) -> Command {
    let parameters = [settings.words(), vec![count.into()]].concat();
    let grid = Grid::Linear(Count::new(count.div_ceil(4), 64));
    Command::Launch(
        Launch::new(shader!("optimizer_adamw"), parameters, grid)
            .read(gradient)
            .read(norm)
            .update(state.weight)
            .update(state.first)
            .update(state.second),
    )
}

/// Steps whose learning rates are kept: a row may have missed no more updates than that.
pub const HISTORY: u32 = 1024;

/// A matrix whose rows are updated when they are needed.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Its rows.
    pub count: u32,
    /// Its columns.
    pub columns: u32,
    /// The matrix and its moments.
    pub state: State,
    /// `[count]` words: the last step that updated each row.
    pub steps: TensorId,
    /// `[HISTORY, 4]`: what the updates of the last steps were made with.
    pub history: TensorId,
}

impl Rows {
    fn grid(&self, rows: Size) -> Grid {
        Grid::Linear(Count::new(rows.times(u64::from(self.columns)), 64))
    }

    /// Gives rows the updates by a zero gradient that they have missed: before a step those rows
    /// that it is going to use (numbers of rows, and how many), after it all.
    pub fn catch_up(&self, settings: AdamW, listed: Option<(TensorId, Size)>) -> Command {
        let rows = listed.map_or(Size::from(self.count), |(_, rows)| rows);
        let more = vec![rows.into(), self.columns.into(), Word::Step(Scalar::Settled)];
        let shader = shader!("optimizer_catch_up")
            .with("LISTED", listed.is_some())
            .with("HISTORY", format!("{HISTORY}u"));
        let State { weight, first, second } = self.state;
        let launch = Launch::new(shader, [settings.words(), more].concat(), self.grid(rows))
            .read(listed.map_or(self.steps, |(ids, _)| ids))
            .read(self.steps)
            .update(self.history)
            .update(weight)
            .update(first)
            .update(second);
        Command::Launch(self.touching(launch, rows))
    }

    /// One AdamW update of the rows that have a gradient: `gradient [rows, columns]`, and which
    /// row of the matrix each is.
    pub fn adamw(
        &self,
        settings: AdamW,
        gradient: TensorId,
        norm: TensorId,
        (ids, rows): (TensorId, Size),
    ) -> Command {
        let more = vec![rows.into(), self.columns.into()];
        let shader = shader!("optimizer_adamw_rows");
        let State { weight, first, second } = self.state;
        let launch = Launch::new(shader, [settings.words(), more].concat(), self.grid(rows))
            .read(gradient)
            .read(norm)
            .read(ids)
            .update(weight)
            .update(first)
            .update(second)
            .update(self.steps);
        Command::Launch(self.touching(launch, rows))
    }

    fn touching(&self, mut launch: Launch, rows: Size) -> Launch {
        let State { weight, first, second } = self.state;
        for tensor in [weight, first, second] {
            launch = launch.touching(tensor, rows.times(u64::from(self.columns)));
        }
        launch.touching(self.steps, rows).touching(self.history, Size::from(4u32))
    }
}
