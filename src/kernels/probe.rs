//! What kernels take for granted of a device, looked at.

use super::{Command, Count, Grid, Launch, TensorId, Word, shader};

/// Invocations that look.
pub const INVOCATIONS: u32 = 256;
/// Words that each writes.
pub const WORDS: u32 = 8;

/// `seen [INVOCATIONS, WORDS]`: what each invocation of a workgroup sees of its subgroup; see the
/// shader.
pub fn subgroups(seen: TensorId) -> Command {
    let grid = Grid::Linear(Count::new(1u32, 1));
    let parameters = vec![Word::from(0u32)];
    Command::Launch(Launch::new(shader!("probe_subgroups"), parameters, grid).write(seen))
}
