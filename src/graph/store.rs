//! What outlives a step: parameters and what belongs to them, by name and role.

use crate::error::{Error, Result};
use crate::gpu::{Buffer, Device};
use crate::kernels::Element;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What a tensor is to the parameter that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The parameter itself.
    Weight,
    /// Its gradient, where that is added up over several parts of a step.
    Gradient,
    /// AdamW's running mean of the gradient.
    FirstMoment,
    /// AdamW's running mean of the gradient's square.
    SecondMoment,
}

impl Role {
    /// The moments that an optimizer keeps of a parameter.
    pub const MOMENTS: [Self; 2] = [Self::FirstMoment, Self::SecondMoment];

    /// What a parameter's tensor of this role is called, in files and messages.
    pub fn name(self, parameter: &str) -> String {
        match self {
            Self::Weight => parameter.to_owned(),
            _ => format!("{parameter} ({self})"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weight => "weight",
            Self::Gradient => "gradient",
            Self::FirstMoment => "first moment",
            Self::SecondMoment => "second moment",
        })
    }
}

/// A tensor of the store.
struct Stored {
    buffer: Arc<Buffer>,
    shape: Vec<u64>,
    element: Element,
}

/// Tensors on the device that live as long as the session, by the parameter's name and their role.
#[derive(Default)]
pub struct Store {
    tensors: HashMap<(String, Role), Stored>,
}

impl Store {
    /// The buffer of a tensor, made and zeroed first where it is new.
    ///
    /// # Errors
    /// Another shape or element than before; out of memory.
    pub(super) fn buffer(
        &mut self,
        device: &Device,
        name: &str,
        role: Role,
        shape: &[u64],
        element: Element,
    ) -> Result<Arc<Buffer>> {
        let key = (name.to_owned(), role);
        if let Some(stored) = self.tensors.get(&key) {
            if stored.shape == shape && stored.element == element {
                return Ok(stored.buffer.clone());
            }
            return Err(Error::internal(format!(
                "{} is stored as {:?} of {}, and {shape:?} of {element} is wanted",
                role.name(name),
                stored.shape,
                stored.element
            )));
        }
        let bytes = shape.iter().product::<u64>() * element.bytes();
        let buffer = Arc::new(device.storage(&role.name(name), bytes)?);
        let stored = Stored { buffer: buffer.clone(), shape: shape.to_vec(), element };
        self.tensors.insert(key, stored);
        Ok(buffer)
    }

    /// Sets a tensor of float32, making it first where it is new.
    ///
    /// # Errors
    /// Another shape than before, or another number of values; out of memory.
    pub fn write(
        &mut self,
        device: &Device,
        name: &str,
        role: Role,
        shape: &[u64],
        values: &[f32],
    ) -> Result<()> {
        if shape.iter().product::<u64>() != values.len() as u64 {
            return Err(Error::internal(format!(
                "{}: {} values do not fill the shape {shape:?}",
                role.name(name),
                values.len()
            )));
        }
        let buffer = self.buffer(device, name, role, shape, Element::F32)?;
        device.write(&buffer, values);
        Ok(())
    }

    /// The values of a tensor of float32, waiting for the device.
    ///
    /// # Errors
    /// No such tensor, or the device failed.
    pub fn read(&self, device: &Device, name: &str, role: Role) -> Result<Vec<f32>> {
        let stored = self
            .tensors
            .get(&(name.to_owned(), role))
            .filter(|stored| stored.element == Element::F32)
            .ok_or_else(|| {
                Error::internal(format!("there is no tensor {} of f32", role.name(name)))
            })?;
        device.read(&stored.buffer, stored.shape.iter().product::<u64>() as usize)
    }

    /// Forgets all tensors, as [`Store::remove`] does one.
    pub fn clear(&mut self) {
        self.tensors.clear();
    }

    /// Forgets a tensor. Its memory is given back once no program uses it any more.
    pub fn remove(&mut self, name: &str, role: Role) {
        self.tensors.remove(&(name.to_owned(), role));
    }
}
