//! What a device can do, as far as kernels are chosen by it.

use super::adapter::{AdapterDescription, Matrices};

/// What a device can do, as far as kernels are chosen by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whole vectors stream through a processor's cores: barriers and gathers are slow there,
    /// texels and loads that all invocations share are fast. The streaming variants of kernels are
    /// for such devices, which is what software adapters are.
    pub streaming: bool,
    /// Invocations of a workgroup pass values to each other within aligned groups of 8: subgroup
    /// functions are there, and no subgroup is smaller.
    pub subgroups: bool,
    /// The cooperative matrices that it has.
    pub matrices: Matrices,
    /// Invocations that a subgroup is taken to have where kernels must say how many subgroups their
    /// workgroups are made of. They are right, if not fast, whatever it has.
    pub lanes: u32,
}

impl Abilities {
    /// A graphics card.
    pub const GPU: Self =
        Self { streaming: false, subgroups: true, matrices: Matrices::NONE, lanes: 32 };
    /// A graphics card, or a compiler for one, without subgroup functions.
    pub const PLAIN_GPU: Self = Self { subgroups: false, ..Self::GPU };
    /// A software adapter.
    pub const CPU: Self = Self { streaming: true, lanes: 8, ..Self::PLAIN_GPU };

    /// The adapters with cooperative matrices that are known: NVIDIA's, AMD's and Apple's cards, and
    /// newer versions of lavapipe.
    pub const WITH_MATRICES: [Self; 4] = [
        Self { matrices: Matrices { float16: Some(16), float32: None }, ..Self::GPU },
        Self { matrices: Matrices { float16: Some(16), float32: None }, lanes: 64, ..Self::GPU },
        Self { matrices: Matrices { float16: Some(8), float32: Some(8) }, ..Self::GPU },
        Self { matrices: Matrices { float16: Some(8), float32: None }, ..Self::CPU },
    ];

    /// What is known of this kind of adapter.
    pub fn of(adapter: &AdapterDescription) -> Self {
        // AMD's cards have subgroups of 32 and 64, and RADV takes the larger for matrices. Metal does
        // not tell.
        let lanes = if adapter.backend == "metal" { 32 } else { adapter.subgroup_sizes[1] };
        let matrices = adapter.matrices;
        if adapter.software {
            return Self { matrices, lanes, ..Self::CPU };
        }
        // Metal does not tell the sizes, and wgpu stands in 4 to 64; no card there has less than 8.
        // The doctor looks.
        let wide = adapter.subgroup_sizes[0] >= 8 || adapter.backend == "metal";
        Self { streaming: false, subgroups: adapter.subgroups && wide, matrices, lanes }
    }

    /// The name of the kernels that it chooses, for records.
    pub fn name(self) -> &'static str {
        match self {
            Self { streaming: true, .. } => "cpu",
            Self { subgroups: true, .. } => "gpu",
            Self { subgroups: false, .. } => "gpu without subgroups",
        }
    }
}
