//! The sum of each column of a matrix: the gradient of a bias.

use super::{Command, Count, Grid, Launch, Size, TensorId, shader, texels};
use crate::gpu::{Abilities, Access};

/// `y [columns]`, the column sums of `x [rows, columns]`: the gradient of a bias.
pub fn column_sum(
    abilities: Abilities,
    rows: Size,
    columns: u32,
    x: TensorId,
    y: TensorId,
) -> Command {
    let (shader, each, access) = if abilities.streaming && columns.is_multiple_of(4) {
        (texels(shader!("column_sum_streaming")), 32, Access::Texels)
    } else {
        (shader!("column_sum"), 8, Access::Read)
    };
    let grid = Grid::Plane(Count::new(columns, each), Count::new(1u32, 1));
    let launch = Launch::new(shader, vec![rows.into(), columns.into()], grid);
    Command::Launch(launch.bind(x, access).write(y))
}
