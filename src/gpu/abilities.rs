//! What a device can do, as far as kernels are chosen by it.

use super::AdapterDescription;

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
}

impl Abilities {
    /// A graphics card.
    pub const GPU: Self = Self { streaming: false, subgroups: true };
    /// A graphics card, or a compiler for one, without subgroup functions.
    pub const PLAIN_GPU: Self = Self { streaming: false, subgroups: false };
    /// A software adapter.
    pub const CPU: Self = Self { streaming: true, subgroups: false };

    /// What is known of this kind of adapter.
    pub fn of(adapter: &AdapterDescription) -> Self {
        if adapter.software {
            return Self::CPU;
        }
        // Metal does not tell the sizes, and wgpu stands in 4 to 64; no card there has less than 8.
        // The doctor looks.
        let wide = adapter.subgroup_sizes[0] >= 8 || adapter.backend == "metal";
        Self { streaming: false, subgroups: adapter.subgroups && wide }
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
