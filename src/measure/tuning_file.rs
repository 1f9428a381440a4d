//! What is known of adapters, kept in a file of the user's cache directory: what the tuner has
//! chosen, and what the doctor has set aside.

use crate::error::{Error, Result};
use crate::files;
use crate::gpu::AdapterDescription;
use crate::kernels::attention::Division;
use crate::kernels::tune::{Choice, Tuning};
use crate::kernels::{attention, matmul, normed};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is known of several adapters, in a file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Store {
    adapters: BTreeMap<String, Known>,
}

/// What is known of one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    products: BTreeMap<String, Choice>,
    attention: BTreeMap<String, Choice<Division>>,
    set_aside: BTreeSet<String>,
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

    fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            files::create_dir(directory)?;
        }
        let text = serde_json::to_string_pretty(self)
            .map_err(|why| Error::internal(format!("{}: {why}", path.display())))?;
        files::write(path, text.as_bytes())
    }
}

/// The name of an adapter in the store: what was found holds for this driver and these shaders.
fn key(adapter: &AdapterDescription) -> String {
    let mut hash = Sha256::new();
    for shader in matmul::shaders().iter().chain(&attention::shaders()).chain(&normed::shaders()) {
        hash.update(shader.text.as_bytes());
    }
    let hash = format!("{:x}", hash.finalize());
    let AdapterDescription { name, backend, driver, driver_version, .. } = adapter;
    format!("{name} | {backend} | {driver} {driver_version} | shaders {}", &hash[..12])
}

/// What was found of an adapter before, with this driver and these shaders.
pub fn load_tuning(path: &Path, adapter: &AdapterDescription) -> Tuning {
    let Known { products, attention, set_aside } =
        Store::read(path).adapters.remove(&key(adapter)).unwrap_or_default();
    let mut tuning = Tuning { chosen: products, attention, ..Tuning::from(adapter) };
    set_aside.into_iter().for_each(|what| tuning.set_aside(what));
    tuning
}

/// Stores what was found of an adapter, beside what is stored of others.
///
/// # Errors
/// What the operating system refuses.
pub fn save_tuning(tuning: &Tuning, path: &Path, adapter: &AdapterDescription) -> Result<()> {
    let mut store = Store::read(path);
    let Tuning { chosen, attention, set_aside, .. } = tuning.clone();
    store.adapters.insert(key(adapter), Known { products: chosen, attention, set_aside });
    store.write(path)
}

/// Writes what is known of all adapters to a file for other machines.
///
/// # Errors
/// Nothing is known; what the operating system refuses.
pub fn export_tuning(path: &Path, to: &Path) -> Result<usize> {
    let store = Store::read(path);
    if store.adapters.is_empty() {
        return Err(Error::input("nothing has been measured on this machine yet").remedy(
            "First `crisp tune --model M` with the data or the length that you train on.",
        ));
    }
    store.write(to)?;
    Ok(store.adapters.len())
}

/// Takes over what another machine has found of adapters, in place of what is known of the same
/// ones here.
///
/// # Errors
/// A file that is no such export; what the operating system refuses.
pub fn import_tuning(path: &Path, from: &Path) -> Result<usize> {
    let bytes = std::fs::read(from).map_err(|why| Error::io(from, "read", &why))?;
    let other: Store = serde_json::from_slice(&bytes).map_err(|why| {
        Error::input(format!("{}: {why}", from.display()))
            .remedy("It must be a file that `crisp tune --export` has written.")
    })?;
    let count = other.adapters.len();
    let mut store = Store::read(path);
    store.adapters.extend(other.adapters);
    store.write(path)?;
    Ok(count)
}
