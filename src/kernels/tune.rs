//! Which variant computes which product: measured on the adapter where it was, else a default.

use super::attention::{AttentionClass, Division};
use super::matmul::{Asked, Products, Transposition, Variant};
use super::{Element, Size, Sizes};
use crate::gpu::{Abilities, AdapterDescription};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Products that are taken to be alike: of one kind, sizes that depend on the batch rounded up to a
/// power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProductClass {
    /// What is computed, and how the factors lie.
    pub products: Products,
    /// Rows of the result, columns of the result, length of the sums; of gradients those of the
    /// input's.
    pub sizes: [u64; 3],
    /// What all factors are stored in; float32 if any is.
    pub factors: Element,
}

impl ProductClass {
    /// The class of products in a plan for batches up to `largest`.
    pub fn of(Asked { products, sizes, factors }: Asked, largest: &Sizes) -> Self {
        let rounded = |size: Size| match size.fixed() {
            Some(size) => size,
            None => size.at(largest).next_power_of_two(),
        };
        Self { products, sizes: sizes.map(rounded), factors }
    }
}

impl From<ProductClass> for Asked {
    fn from(ProductClass { products, sizes, factors }: ProductClass) -> Self {
        Self { products, sizes: sizes.map(Size::from), factors }
    }
}

impl fmt::Display for ProductClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m, n, k] = self.sizes;
        let products = match self.products {
            Products::One(Transposition::Nn) => "nn",
            Products::One(Transposition::Nt) => "nt",
            Products::One(Transposition::Tn) => "tn",
            Products::Gradients => "gradients",
        };
        let factors = if self.factors == Element::F16 { " f16" } else { "" };
        write!(f, "{m}x{n}x{k} {products}{factors}")
    }
}

/// The kernels that suit a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    /// What the device can do.
    pub abilities: Abilities,
    /// The streaming variant for products of which nothing was measured.
    pub streaming: Variant,
    /// The blocked variant for results of middle size of which nothing was measured.
    pub middle: Variant,
    /// The variant that was fastest for a class, by the class's name.
    pub chosen: BTreeMap<String, Choice>,
    /// Likewise how a class of attention is divided.
    pub attention: BTreeMap<String, Choice<Division>>,
    /// What `crisp doctor` has found to compute something else than it should on this adapter:
    /// variants of products by their names, [`Tuning::SUBGROUPS`], [`Tuning::FLOAT16`] or
    /// [`Tuning::NORMED`].
    pub set_aside: BTreeSet<String>,
}

/// What was found best for a class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Choice<V = Variant> {
    /// The fastest variant.
    pub variant: V,
    /// Billions of floating-point operations per second that it reached.
    pub gflops: f64,
}

impl From<Abilities> for Tuning {
    /// Nothing measured.
    fn from(abilities: Abilities) -> Self {
        Self {
            abilities,
            streaming: Variant::STREAMING,
            middle: Variant::MIDDLE,
            chosen: BTreeMap::new(),
            attention: BTreeMap::new(),
            set_aside: BTreeSet::new(),
        }
    }
}

impl From<&AdapterDescription> for Tuning {
    /// Nothing measured, but what is known of this kind of adapter.
    fn from(adapter: &AdapterDescription) -> Self {
        Self::of(adapter, has_avx512())
    }
}

/// Whether the processor, which is what computes on a software adapter, has AVX-512, and with it 32
/// vector registers instead of 16. Others than x86 have 32 too.
fn has_avx512() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

impl Tuning {
    /// Nothing measured, but what is known of this kind of adapter, and of the processor if it is
    /// what computes.
    pub fn of(adapter: &AdapterDescription, avx512: bool) -> Self {
        let mut tuning = Self::from(Abilities::of(adapter));
        // Debian 12's Mesa keeps three columns in registers, which is 8 % faster there; on Mesa 25
        // it takes twelve times as long (docs/rejected.md).
        if adapter.driver_version.starts_with("Mesa 22.") {
            tuning.streaming = Variant::Streaming { rows: 16, quads: 3, by_rows: !avx512 };
        }
        // The registers of an Apple core are enough for 384 to 448 invocations with 64 sums each
        // (docs/cards.md): one workgroup of four slices, which waits at its own barriers, or three of
        // two.
        if adapter.name.starts_with("Apple") {
            tuning.middle = Variant::Blocked { tile: [64, 64], thread: [8, 8], slices: 2 };
        }
        tuning
    }

    /// What is set aside where kernels with subgroup functions are wrong: others are taken.
    pub const SUBGROUPS: &str = "subgroup functions";

    /// What is set aside where kernels are wrong that store float16: mixed precision is refused.
    pub const FLOAT16: &str = "float16";

    /// What is set aside where a LayerNorm within the projections around it is wrong: it is a launch
    /// of its own then.
    pub const NORMED: &str = "LayerNorm within projections";

    /// Takes no kernel any more that was found to be wrong.
    pub fn set_aside(&mut self, what: impl Into<String>) {
        self.set_aside.insert(what.into());
        self.abilities.subgroups &= !self.set_aside.contains(Self::SUBGROUPS);
    }

    /// The variant for products in a plan for batches up to `largest`.
    pub fn products(&self, asked: Asked, largest: &Sizes) -> Variant {
        let class = ProductClass::of(asked, largest).to_string();
        let chosen = self.chosen.get(&class).map(|choice| choice.variant);
        // A run that began on another kind of adapter, or a file that somebody edited, may say
        // anything.
        let candidates = Variant::candidates(self.abilities, asked);
        let is_right = |variant: &Variant| !self.set_aside.contains(&variant.to_string());
        let default = self.default(asked, largest);
        chosen
            .filter(|variant| candidates.contains(variant))
            .into_iter()
            .chain([default])
            .chain(candidates.iter().copied())
            .find(is_right)
            .unwrap_or(default)
    }

    /// How attention is divided.
    pub fn division(&self, class: AttentionClass) -> Division {
        let chosen = self.attention.get(&class.to_string()).map(|choice| choice.variant);
        let candidates = class.candidates(self.abilities);
        let is_candidate = |division: &Division| candidates.contains(division);
        chosen.filter(is_candidate).unwrap_or_else(|| class.default_for(self.abilities))
    }

    /// The variant where nothing was measured.
    pub fn default(&self, asked: Asked, largest: &Sizes) -> Variant {
        match Variant::default_for(self.abilities, asked, largest) {
            Variant::STREAMING => self.streaming,
            Variant::MIDDLE => self.middle,
            other => other,
        }
    }
}
