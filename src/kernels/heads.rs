//! The heads of an attention layer.

use super::Shader;
use crate::gpu::Abilities;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// Which kernels cards take.
    pub(super) fn octets(self, abilities: Abilities) -> Octets {
        match self.dim {
            dim if !dim.is_multiple_of(4) => Octets::Odd,
            ..=128 if abilities.subgroups => Octets::Subgroups,
            _ => Octets::Memory,
        }
    }
}

/// How octets of invocations, which share the rows of a head, exchange values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Octets {
    /// By subgroup functions.
    Subgroups,
    /// Through workgroup memory.
    Memory,
    /// Likewise, and rows are read component by component.
    Odd,
}
