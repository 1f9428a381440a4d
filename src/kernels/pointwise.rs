//! Element by element: sums, gradients of activations, dropout.

use super::matmul::Activation;
use super::{Command, Count, Grid, Launch, Scalar, Size, TensorId, Word, shader};

/// `y = a + b`, each of `count` elements.
pub fn add(count: Size, a: TensorId, b: TensorId, y: TensorId) -> Command {
    let grid = Grid::Linear(Count::new(count, 256));
    Command::Launch(
        Launch::new(shader!("pointwise_add"), vec![count.into()], grid).read(a).read(b).write(y),
    )
}

/// `y = x`, each of `count` elements, which may be stored in different ways.
pub fn copy(count: Size, x: TensorId, y: TensorId) -> Command {
    let grid = Grid::Linear(Count::new(count, 256));
    Command::Launch(
        Launch::new(shader!("pointwise_copy"), vec![count.into()], grid).read(x).write(y),
    )
}

/// `sum += x`, each of `count` elements.
pub fn accumulate(count: Size, x: TensorId, sum: TensorId) -> Command {
    let grid = Grid::Linear(Count::new(count, 256));
    let shader = shader!("pointwise_accumulate");
    Command::Launch(Launch::new(shader, vec![count.into()], grid).read(x).update(sum))
}

/// `dx = dy · f'(x)`, `x` being the values before the activation.
pub fn activation_backward(
    activation: Activation,
    count: Size,
    x: TensorId,
    dy: TensorId,
    dx: TensorId,
) -> Command {
    let shader = shader!("pointwise_activation_backward")
        .with("ACTIVATION", format!("{}u", activation.number()));
    let grid = Grid::Linear(Count::new(count, 256));
    Command::Launch(Launch::new(shader, vec![count.into()], grid).read(x).read(dy).write(dx))
}

/// Where and how often dropout strikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability that an element is dropped, in `[0, 1)`.
    pub probability: f32,
    /// A number of its own for each place in the model.
    pub site: u32,
}

impl Dropout {
    /// The parameters from which a shader draws: seed, step, site and probability.
    pub fn words(self) -> [Word; 5] {
        [
            Word::Step(Scalar::Seed),
            Word::Step(Scalar::SeedHigh),
            Word::Step(Scalar::Step),
            self.site.into(),
            Word::Float(self.probability),
        ]
    }
}

/// `y = x · mask / (1 - p)` for `x [rows, columns]`: dropout, and its gradient. A row's mask
/// follows from its entry in `places [rows]`; where there are none, rows are sentences, and it
/// follows from the sentence's number within the whole step.
pub fn dropout(
    dropout: Dropout,
    rows: Size,
    columns: u32,
    x: TensorId,
    places: Option<TensorId>,
    y: TensorId,
) -> Command {
    let shader = shader!("pointwise_dropout").with("PLACED", places.is_some());
    let mut parameters = vec![rows.into(), columns.into()];
    parameters.extend(dropout.words());
    parameters.push(Word::Step(Scalar::FirstSentence));
    let grid = Grid::Linear(Count::new(rows.times(u64::from(columns.div_ceil(4))), 64));
    Command::Launch(
        Launch::new(shader, parameters, grid).read(x).read(places.unwrap_or(x)).write(y),
    )
}
