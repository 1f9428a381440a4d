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
    /// A copy of it in float16, for the products of mixed precision.
    Half,
    /// Its gradient, where it is a member of a group or a step has several parts.
    Gradient,
    /// AdamW's running mean of the gradient.
    FirstMoment,
    /// AdamW's running mean of the gradient's square.
    SecondMoment,
    /// The last step that updated each row, where rows are updated when they are needed.
    Steps,
    /// What the updates of the last steps were made with, likewise.
    History,
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
            Self::Half => "in float16",
            Self::Gradient => "gradient",
            Self::FirstMoment => "first moment",
            Self::SecondMoment => "second moment",
            Self::Steps => "steps of rows",
            Self::History => "history of rows",
        })
    }
}

/// Parameters whose tensors of one role lie one behind another in one buffer, so that one launch
/// goes over all of them. Each begins at a multiple of [`Group::ALIGNMENT`] elements, and what lies
/// between them is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What all of them together are called.
    pub name: String,
    /// Their names and shapes.
    pub members: Vec<(String, Vec<u64>)>,
}

impl Group {
    /// What the beginning of a member is a multiple of, in elements: in float16 as well it begins
    /// where kernels can be given it.
    pub const ALIGNMENT: u64 = Buffer::ALIGNMENT / Element::F16.bytes();

    /// Elements from the beginning of the first to the end of the last, rounded up.
    pub fn elements(&self) -> u64 {
        self.members.iter().map(|(_, shape)| Self::taken(shape)).sum()
    }

    /// Where each member lies, in order.
    pub fn places(&self) -> Vec<Within> {
        let elements = self.elements();
        let mut offset = 0;
        let place = |(_, shape): &(String, Vec<u64>)| {
            let within = Within { group: self.name.clone(), elements, offset };
            offset += Self::taken(shape);
            within
        };
        self.members.iter().map(place).collect()
    }

    /// Elements that a member of this shape takes.
    pub fn taken(shape: &[u64]) -> u64 {
        shape.iter().product::<u64>().next_multiple_of(Self::ALIGNMENT)
    }
}

/// Where a member of a group lies, among the tensors of each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The group's name.
    pub group: String,
    /// Elements of the group.
    pub elements: u64,
    /// Where the member begins, in elements.
    pub offset: u64,
}

/// A member of a group, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    within: Within,
    shape: Vec<u64>,
}

/// A tensor of the store.
struct Stored {
    buffer: Arc<Buffer>,
    shape: Vec<u64>,
    element: Element,
}

/// Tensors on the device that live as long as the session, by the name of the parameter, or of a
/// group of parameters, and their role.
#[derive(Default)]
pub struct Store {
    tensors: HashMap<(String, Role), Stored>,
    members: HashMap<String, Placed>,
    writes: u64,
}

impl Store {
    /// Says which parameters are going to lie together. What is said a second time must be the
    /// same as before.
    ///
    /// # Errors
    /// A parameter that lies elsewhere already.
    pub fn lay_out(&mut self, groups: &[Group]) -> Result<()> {
        for group in groups {
            for ((name, shape), within) in group.members.iter().zip(group.places()) {
                let placed = Placed { within, shape: shape.clone() };
                let alone = self.tensors.keys().any(|(stored, _)| stored == name);
                match self.members.get(name) {
                    Some(before) if *before == placed => {}
                    None if !alone => {
                        self.members.insert(name.clone(), placed);
                    }
                    _ => {
                        return Err(Error::internal(format!(
                            "{name} is stored already, and elsewhere than in {}",
                            group.name
                        )));
                    }
                }
            }
        }
        Ok(())
    }

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
        let buffer = match self.members.get(name).cloned() {
            None => device.storage(&role.name(name), bytes)?,
            Some(Placed { within: Within { group, elements, offset }, shape: placed }) => {
                if placed != shape {
                    return Err(Error::internal(format!(
                        "{name} has the shape {placed:?} in {group}, and {shape:?} is wanted"
                    )));
                }
                self.buffer(device, &group, role, &[elements], element)?
                    .part(offset * element.bytes(), bytes)?
            }
        };
        let buffer = Arc::new(buffer);
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
        self.writes += 1;
        Ok(())
    }

    /// How often the host has set a tensor: what is derived of them on the device is made again
    /// when this has changed.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// The values of a tensor of float32, waiting for the device.
    ///
    /// # Errors
    /// No such tensor, or the device failed.
    pub fn read(&self, device: &Device, name: &str, role: Role) -> Result<Vec<f32>> {
        let stored = |name: &str| {
            let stored = self.tensors.get(&(name.to_owned(), role));
            stored.filter(|stored| stored.element == Element::F32)
        };
        let missing = || Error::internal(format!("there is no tensor {} of f32", role.name(name)));
        let count = |shape: &[u64]| shape.iter().product::<u64>() as usize;
        // A member that nothing has named yet is there if its group is.
        match (self.members.get(name), stored(name)) {
            (Some(Placed { within: Within { group, offset, .. }, shape }), _) => {
                let whole = &stored(group).ok_or_else(missing)?.buffer;
                let bytes = count(shape) as u64 * 4;
                device.read(&whole.part(offset * 4, bytes)?, count(shape))
            }
            (None, Some(stored)) => device.read(&stored.buffer, count(&stored.shape)),
            (None, None) => Err(missing()),
        }
    }

    /// Forgets all tensors, as [`Store::remove`] does one, and what was to lie together.
    pub fn clear(&mut self) {
        *self = Self { writes: self.writes, ..Self::default() };
    }

    /// Forgets a tensor. Its memory is given back once no program uses it any more.
    pub fn remove(&mut self, name: &str, role: Role) {
        self.tensors.remove(&(name.to_owned(), role));
    }
}
