//! The heads of an attention layer.

use super::Shader;
use crate::gpu::Abilities;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heads {
    /// How many.
    pub count: u32,
    /// Components of each.
    pub dim: u32,
}

impl Heads {
    /// Columns of all heads together.
    pub fn width(self) -> u32 {
        self.count * self.dim
    }

    /// Fixes the head's size in a shader that has it in registers, as `vec4`.
    pub(super) fn fix(self, shader: Shader) -> Shader {
        shader
            .with("HEAD_DIM", format!("{}u", self.dim))
            .with("QUADS", format!("{}u", self.dim.div_ceil(4)))
    }

    /// Whether streaming kernels are taken, which read whole texels and whole vectors of rows of a
    /// block.
    pub(super) fn stream(self, abilities: Abilities, block: u32) -> bool {
        abilities.streaming && self.dim.is_multiple_of(4) && block.is_multiple_of(8)
    }

    /// Which attention kernels are taken.
    pub(super) fn attention(self, abilities: Abilities, block: u32) -> AttentionKernels {
        match self.dim {
            _ if self.stream(abilities, block) => AttentionKernels::Streaming,
            dim if abilities.streaming || !dim.is_multiple_of(4) => AttentionKernels::Rows,
            ..=128 if abilities.subgroups => AttentionKernels::Octets,
            ..=256 => AttentionKernels::Plain,
            _ => AttentionKernels::Rows,
        }
    }
}

/// Kinds of attention kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttentionKernels {
    /// An invocation has rows of its own, and reads texels.
    Streaming,
    /// Octets of invocations share rows and exchange values by subgroup functions.
    Octets,
    /// Likewise, and they exchange values through workgroup memory.
    Plain,
    /// An invocation has a row, component by component: whatever else there is.
    Rows,
}
