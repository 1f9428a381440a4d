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

/// `result [3]`: the norm of the mean gradient of the step's sentences, the factor that makes the
/// mean, clipped to `limit` (0: no clipping), of their sum, and the scale of the loss. The gradients
/// hold sums over the sentences, multiplied with that scale; `loss_scale` holds what mixed precision
/// knows of it. `scratch` makes a tensor of so many elements.
pub fn norm(
    abilities: Abilities,
    gradients: &[(TensorId, Size)],
    limit: f32,
    loss_scale: Option<TensorId>,
    result: TensorId,
    mut scratch: impl FnMut(Size) -> TensorId,
) -> Vec<Command> {
    let parts: u32 = gradients.iter().map(|(_, count)| norm_parts(*count)).sum();
    let partials = scratch(Size::from(parts));
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
    let parameters =
        vec![Size::from(parts).into(), Word::Float(limit), Word::Step(Scalar::Sentences)];
    let grid = Grid::Linear(Count::new(1u32, 1));
    let shader = shader!("optimizer_norm_total").with("SCALED", loss_scale.is_some());
    let total = Launch::new(shader, parameters, grid).read(partials).write(result);
    commands.push(Command::Launch(match loss_scale {
        Some(loss_scale) => total.update(loss_scale),
        None => total.write(scratch(Size::from(1u32))),
    }));
    commands
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

/// One AdamW update of all of `count` elements. Where it `skips`, not in a step whose gradients
/// overflowed. `half`, if given, takes a copy of the weights in float16; `nothing` stands in for it.
pub fn adamw(
    settings: AdamW,
    count: u64,
    [gradient, norm]: [TensorId; 2],
    state: State,
    skips: bool,
    half: Option<TensorId>,
    nothing: impl FnOnce() -> TensorId,
) -> Command {
    let parameters = [settings.words(), vec![count.into()]].concat();
    let grid = Grid::Linear(Count::new(count.div_ceil(4), 64));
    let shader = shader!("optimizer_adamw").with("HALF", half.is_some()).with("SKIPS", skips);
    Command::Launch(
        Launch::new(shader, parameters, grid)
            .read(gradient)
            .read(norm)
            .update(state.weight)
            .update(state.first)
            .update(state.second)
            .write(half.unwrap_or_else(nothing)),
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
    /// Whether steps whose gradients overflowed are skipped: in mixed precision.
    pub skips: bool,
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
        let shader = shader!("optimizer_adamw_rows")
            .with("HISTORY", format!("{HISTORY}u"))
            .with("SKIPS", self.skips);
        let State { weight, first, second } = self.state;
        let launch = Launch::new(shader, [settings.words(), more].concat(), self.grid(rows))
            .read(gradient)
            .read(norm)
            .read(ids)
            .update(weight)
            .update(first)
            .update(second)
            .update(self.steps)
            .update(self.history);
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
