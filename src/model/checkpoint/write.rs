//! Writing tensors as a safetensors file.

use super::Tensor;
use crate::error::{Error, Result};
use crate::files;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

/// Writes tensors as a safetensors file in the given order, beside `path` and then renamed, so that
/// a crash leaves the old file or the new one.
///
/// `metadata` goes into the file's header, after `format: pt`, without which `transformers` refuses
/// the file. The same content gives the same bytes.
///
/// # Errors
/// Two tensors of one name, a tensor whose data does not fill its shape, and what the operating
/// system says about the file.
pub fn save(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let header = header(tensors, metadata).map_err(|error| error.at(path.display()))?;
    // One tensor after the other: a checkpoint is 260 MB, a copy of it would be too.
    files::write_parts(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| file.write_all(&little_endian(&tensor.data)))
    })
}

/// The JSON in front of the data, padded so that the data starts at a multiple of 8 bytes.
///
/// Written here and not by the safetensors crate, which orders the metadata anew in every run.
fn header(tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut notes = Map::new();
    notes.insert("format".into(), "pt".into());
    for (key, value) in metadata {
        notes.insert((*key).into(), (*value).into());
    }
    let mut header = Map::new();
    header.insert("__metadata__".into(), Value::Object(notes));
    let mut names = BTreeSet::from(["__metadata__"]);
    let mut start = 0;
    for (name, tensor) in tensors {
        if !names.insert(name) {
            return Err(Error::input(format!("two tensors are called {name}")));
        }
        let elements =
            tensor.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements != Some(tensor.data.len()) {
            return Err(Error::input(format!(
                "{name} has {} elements, which do not fill the shape {:?}",
                tensor.data.len(),
                tensor.shape
            )));
        }
        let end = start + 4 * tensor.data.len();
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut bytes = Value::Object(header).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

fn little_endian(data: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(data))
    } else {
        Cow::Owned(data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
}
