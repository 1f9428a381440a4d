//! Reading tensors of safetensors files, in float32, float16 or bfloat16.

use super::Tensor;
use crate::error::{Error, Result};
use crate::files;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;

/// Reads every tensor of one safetensors file as float32, by its name and in its order there.
///
/// # Errors
/// A file that cannot be read, is cut off or damaged, or holds another type than float32, float16
/// and bfloat16. NaN and infinity are passed on: the caller knows what they mean.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let bytes = files::read(path)?;
    let file = open(path, &bytes)?;
    names_in_order(&file)
        .into_iter()
        .map(|name| {
            let view = file.tensor(&name).map_err(|why| damaged(path, &why))?;
            let tensor = to_f32(path, &name, &view)?;
            Ok((name, tensor))
        })
        .collect()
}

pub(super) fn open<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::input(format!(
            "{}: a Git LFS pointer, not the weights themselves",
            path.display()
        ))
        .remedy("Run `git lfs pull` in the model's directory."));
    }
    SafeTensors::deserialize(bytes).map_err(|why| damaged(path, &why))
}

pub(super) fn damaged(path: &Path, why: &safetensors::SafeTensorError) -> Error {
    Error::input(format!("{}: not a whole safetensors file: {why}", path.display()))
        .remedy("The file is cut off or damaged; download or save it again.")
}

pub(super) fn names_in_order(file: &SafeTensors) -> Vec<String> {
    let mut names: Vec<(usize, String)> =
        file.iter().map(|(name, view)| (view.data().as_ptr() as usize, name.to_string())).collect();
    // Empty tensors share an address; the name makes their order definite.
    names.sort();
    names.into_iter().map(|(_, name)| name).collect()
}

pub(super) fn to_f32(path: &Path, name: &str, view: &TensorView) -> Result<Tensor> {
    let bytes = view.data();
    // Not a cast: nothing aligns a tensor within its file.
    let two = |decode: fn([u8; 2]) -> f32| {
        bytes.chunks_exact(2).map(|pair| decode([pair[0], pair[1]])).collect()
    };
    let data: Vec<f32> = match view.dtype() {
        Dtype::F32 => bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect(),
        Dtype::F16 => two(|pair| f16::from_le_bytes(pair).to_f32()),
        Dtype::BF16 => two(|pair| bf16::from_le_bytes(pair).to_f32()),
        other => {
            return Err(Error::input(format!(
                "{}: {name} is stored as {other:?}; F32, F16 and BF16 can be read",
                path.display()
            ))
            .remedy("Save the model in float32, unquantized."));
        }
    };
    Ok(Tensor { shape: view.shape().to_vec(), data })
}

pub(super) fn finite(path: &Path, name: &str, tensor: Tensor) -> Result<Tensor> {
    let Some(first) = tensor.data.iter().position(|x| !x.is_finite()) else {
        return Ok(tensor);
    };
    let count = tensor.data.iter().filter(|x| !x.is_finite()).count();
    Err(Error::input(format!(
        "{}: {name} (shape {:?}) has {count} element(s) that are not finite, the first is element \
         {first}: {}",
        path.display(),
        tensor.shape,
        tensor.data[first]
    ))
    .remedy("The training that wrote it diverged, or the file is damaged; use an earlier one."))
}
