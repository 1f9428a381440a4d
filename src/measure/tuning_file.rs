//! What the tuner has chosen, kept in a file of the user's cache directory.

use crate::error::{Error, Result};
use crate::files;
use crate::gpu::AdapterDescription;
use crate::kernels::matmul;
use crate::kernels::tune::{Choice, Tuning};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// The choices of several adapters, in a file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Store {
    adapters: BTreeMap<String, BTreeMap<String, Choice>>,
}

impl Store {
    /// What is stored; nothing where there is no file, or none that can be read: a store that an
    /// older version wrote, or that is damaged, only costs the time to measure again.
    fn read(path: &Path) -> Self {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}

/// The name of an adapter in the store: what was measured holds for this driver and these shaders.
fn key(adapter: &AdapterDescription) -> String {
    let mut hash = Sha256::new();
    for shader in matmul::shaders() {
        hash.update(shader.text.as_bytes());
    }
    let hash = format!("{:x}", hash.finalize());
    let AdapterDescription { name, backend, driver, driver_version, .. } = adapter;
    format!("{name} | {backend} | {driver} {driver_version} | shaders {}", &hash[..12])
}

/// What was measured on an adapter before, with this driver and these shaders.
pub fn load_tuning(path: &Path, adapter: &AdapterDescription) -> Tuning {
    let chosen = Store::read(path).adapters.remove(&key(adapter)).unwrap_or_default();
    Tuning { chosen, ..Tuning::from(adapter) }
}

/// Stores what was measured on an adapter, beside what is stored of others.
///
/// # Errors
/// What the operating system refuses.
pub fn save_tuning(tuning: &Tuning, path: &Path, adapter: &AdapterDescription) -> Result<()> {
    let mut store = Store::read(path);
    store.adapters.insert(key(adapter), tuning.chosen.clone());
    if let Some(directory) = path.parent() {
        files::create_dir(directory)?;
    }
    let text = serde_json::to_string_pretty(&store)
        .map_err(|why| Error::internal(format!("{}: {why}", path.display())))?;
    files::write(path, text.as_bytes())
}
