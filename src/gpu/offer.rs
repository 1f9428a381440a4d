//! What an adapter offers, as far as Crisp makes use of it.
//!
//! The environment variable `CRISP_WITHOUT` takes some of it away, for a look at how things go on an
//! adapter that has less: names of [`FEATURES`] and `limits`, separated by commas.

use crate::error::{Error, Result};

/// What costs nothing until it is used. Names are those of `CRISP_WITHOUT`.
const FEATURES: [(&str, wgpu::Features); 5] = [
    ("float16", wgpu::Features::SHADER_F16),
    ("matrices", wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX),
    ("pipeline-cache", wgpu::Features::PIPELINE_CACHE),
    ("subgroups", wgpu::Features::SUBGROUP),
    ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
];
/// The sizes of buffers and textures beyond those that every WebGPU adapter grants.
const LIMITS: &str = "limits";

/// What an adapter offers.
pub(super) struct Offer {
    /// Of those that Crisp makes use of.
    pub features: wgpu::Features,
    pub limits: wgpu::Limits,
}

impl Offer {
    pub fn of(adapter: &wgpu::Adapter) -> Self {
        Self::without(&withheld(), adapter.features(), adapter.limits())
    }

    fn without(withheld: &str, features: wgpu::Features, limits: wgpu::Limits) -> Self {
        let is_withheld = |name: &str| names(withheld).any(|it| it == name);
        let used = FEATURES.iter().filter(|(name, _)| !is_withheld(name));
        let used = used.fold(wgpu::Features::empty(), |all, (_, feature)| all | *feature);
        Self {
            features: features & used,
            limits: match is_withheld(LIMITS) {
                true => wgpu::Limits::default().or_worse_values_from(&limits),
                false => limits,
            },
        }
    }
}

fn withheld() -> String {
    std::env::var("CRISP_WITHOUT").unwrap_or_default()
}

fn names(withheld: &str) -> impl Iterator<Item = &str> {
    withheld.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Checks that `CRISP_WITHOUT` names what there is.
///
/// # Errors
/// It names something else.
pub(super) fn check() -> Result<()> {
    check_names(&withheld())
}

fn check_names(withheld: &str) -> Result<()> {
    let known = || FEATURES.iter().map(|(name, _)| *name).chain([LIMITS]);
    match names(withheld).find(|name| !known().any(|it| it == *name)) {
        None => Ok(()),
        Some(name) => Err(Error::usage(format!("CRISP_WITHOUT: there is no '{name}'"))
            .remedy(format!("There is: {}.", known().collect::<Vec<_>>().join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_withheld_is_not_offered() {
        let limits = wgpu::Limits { max_buffer_size: 1 << 40, ..wgpu::Limits::default() };
        let offered = |withheld| Offer::without(withheld, wgpu::Features::all(), limits.clone());
        let all = offered("");
        assert_eq!(all.features.iter().count(), FEATURES.len());
        assert_eq!(all.limits.max_buffer_size, 1 << 40);
        let less = offered("subgroups, limits");
        assert_eq!(all.features - less.features, wgpu::Features::SUBGROUP);
        assert_eq!(less.limits, wgpu::Limits::default());
        let why = check_names("limits,subgroup").unwrap_err().to_string();
        assert!(
            why.contains("'subgroup'") && why.contains("subgroups, timestamps, limits"),
            "{why}"
        );
    }
}
