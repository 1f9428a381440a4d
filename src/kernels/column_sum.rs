//! The sum of each column of a matrix: the gradient of a bias.

use super::{Command, Count, Grid, Launch, Size, TensorId, shader};
use crate::gpu::{Abilities, Access};

/// `y [columns]`, the column sums of `x [rows, columns]`: the gradient of a bias. They may be added
/// to what is there.
pub fn column_sum(
    abilities: Abilities,
    rows: Size,
    columns: u32,
    x: TensorId,
    y: TensorId,
    accumulate: bool,
) -> Command {
    let (shader, each, access) = if abilities.streaming && columns.is_multiple_of(4) {
        (shader!("column_sum_streaming"), 32, Access::Texels)
    } else {
        (shader!("column_sum"), 8, Access::Read)
    };
    let grid = Grid::Plane(Count::new(columns, each), Count::new(1u32, 1));
    let changed = if accumulate { Access::Update } else { Access::Write };
    let shader = shader.with("ACCUMULATE", accumulate);
    let launch = Launch::new(shader, vec![rows.into(), columns.into()], grid);
    Command::Launch(launch.matrix(x, access, columns).bind(y, changed))
}
