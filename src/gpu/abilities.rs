//! What a device can do, as far as kernels are chosen by it.

use super::AdapterDescription;

/// What a device can do, as far as kernels are chosen by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whole vectors stream through a processor's cores: barriers and gathers are slow there,
    /// texels and loads that all invocations share are fast. The streaming variants of kernels are
    /// for such devices, which is what software adapters are.
    pub streaming: bool,
}

impl Abilities {
    /// A graphics card.
    pub const GPU: Self = Self { streaming: false };
    /// A software adapter.
    pub const CPU: Self = Self { streaming: true };

    /// What is known of this kind of adapter.
    pub fn of(adapter: &AdapterDescription) -> Self {
        Self { streaming: adapter.software }
    }

    /// The name of the kernels that it chooses, for records.
    pub fn name(self) -> &'static str {
        if self.streaming { "cpu" } else { "gpu" }
    }
}
