//! Which variant computes which product: measured on the adapter where it was, else a default.

use super::matmul::{Transposition, Variant};
use super::{Size, Sizes};
use crate::gpu::{Abilities, AdapterDescription};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Products that are taken to be alike: of one transposition, sizes that depend on the batch
/// rounded up to a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProductClass {
    /// How the factors lie.
    pub transposition: Transposition,
    /// Rows of the result, columns of the result, length of the sums.
    pub sizes: [u64; 3],
}

impl ProductClass {
    /// The class of a product in a plan for batches up to `largest`.
    pub fn of(transposition: Transposition, sizes: [Size; 3], largest: &Sizes) -> Self {
        let rounded = |size: Size| match size.fixed() {
            Some(size) => size,
            None => size.at(largest).next_power_of_two(),
        };
        Self { transposition, sizes: sizes.map(rounded) }
    }
}

impl fmt::Display for ProductClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m, n, k] = self.sizes;
        let transposition = match self.transposition {
            Transposition::Nn => "nn",
            Transposition::Nt => "nt",
            Transposition::Tn => "tn",
        };
        write!(f, "{m}x{n}x{k} {transposition}")
    }
}

/// The kernels that suit a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// What the device can do.
    pub abilities: Abilities,
    /// The streaming variant for products of which nothing was measured.
    pub streaming: Variant,
    /// The variant that was fastest for a class, by the class's name.
    pub chosen: BTreeMap<String, Choice>,
}

/// What was found best for a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The fastest variant.
    pub variant: Variant,
    /// Billions of floating-point operations per second that it reached.
    pub gflops: f64,
}

impl From<Abilities> for Tuning {
    /// Nothing measured.
    fn from(abilities: Abilities) -> Self {
        Self { abilities, streaming: Variant::STREAMING, chosen: BTreeMap::new() }
    }
}

impl From<&AdapterDescription> for Tuning {
    /// Nothing measured, but what is known of this kind of adapter.
    fn from(adapter: &AdapterDescription) -> Self {
        let mut tuning = Self::from(Abilities::of(adapter));
        // Debian 12's Mesa keeps three columns in registers, which is 8 % faster there; on Mesa 25
        // it takes twelve times as long (docs/rejected.md).
        if adapter.driver_version.starts_with("Mesa 22.") {
            tuning.streaming = Variant::Streaming { rows: 16, quads: 3 };
        }
        tuning
    }
}

impl Tuning {
    /// The variant for a product in a plan for batches up to `largest`.
    pub fn matmul(
        &self,
        transposition: Transposition,
        sizes: [Size; 3],
        largest: &Sizes,
    ) -> Variant {
        let class = ProductClass::of(transposition, sizes, largest).to_string();
        let chosen = self.chosen.get(&class).map(|choice| choice.variant);
        // A run that began on another kind of adapter, or a file that somebody edited, may say
        // anything.
        let candidates = Variant::candidates(self.abilities, transposition, sizes);
        match chosen.filter(|variant| candidates.contains(variant)) {
            Some(variant) => variant,
            None => self.default(transposition, sizes, largest),
        }
    }

    /// The variant where nothing was measured.
    pub fn default(
        &self,
        transposition: Transposition,
        sizes: [Size; 3],
        largest: &Sizes,
    ) -> Variant {
        match Variant::default_for(self.abilities, transposition, sizes, largest) {
            Variant::STREAMING => self.streaming,
            other => other,
        }
    }
}
