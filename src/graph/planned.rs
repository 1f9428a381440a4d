//! The tensors of a plan, and what its commands do to them.

use super::{Role, Shape, Within};
use crate::gpu::{Access, Texel};
use crate::kernels::{Command, Element, Sizes, TensorId};

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the session's store, under its name and this role.
    Stored(Role),
    /// Likewise, within a group.
    Member(Role),
    /// In a buffer that the host writes at each step.
    Input,
    /// In a slot, which tensors that are never alive together share.
    Slot(usize),
    /// Nowhere: no command touches it, or it has no slot yet.
    Nowhere,
}

/// A tensor of a plan.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name in the graph; that of its parameter, if it is stored.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// What its elements are.
    pub element: Element,
    /// Where it lies.
    pub place: Place,
    /// Where in its group, if it is a member of one.
    pub within: Option<Within>,
}

impl Planned {
    /// A tensor that is made a second time.
    pub(super) fn again(&self) -> Self {
        Self { name: format!("{} (again)", self.name), ..self.clone() }
    }

    /// Whether it is made within the step.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.place, Place::Slot(_) | Place::Nowhere)
    }

    /// Bytes of its elements at a batch of these sizes.
    pub(super) fn bytes(&self, sizes: &Sizes) -> u64 {
        self.shape.elements().at(sizes) * self.element.bytes()
    }

    /// Bytes of the buffer that has room for it. Kernels may read and write the last vec4 as a
    /// whole.
    pub(super) fn room(&self, largest: &Sizes) -> u64 {
        self.bytes(largest).max(4).next_multiple_of(16)
    }
}

/// A matrix that a command reads as texels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matrix {
    pub tensor: TensorId,
    pub texel: Texel,
    pub columns: u64,
}

/// The matrices that a command reads as texels, in the order of its bindings.
pub(super) fn matrices(command: &Command) -> impl Iterator<Item = Matrix> {
    let (bound, columns) = match command {
        Command::Clear(_) => (&[][..], &[][..]),
        Command::Launch(launch) => (&launch.buffers[..], &launch.columns[..]),
    };
    let read = bound.iter().filter_map(|(tensor, access)| Some((*tensor, access.texel()?)));
    read.zip(columns).map(|((tensor, texel), columns)| Matrix { tensor, texel, columns: *columns })
}

/// Whether a command leaves something new in a tensor.
pub(super) fn writes(command: &Command, tensor: TensorId) -> bool {
    match command {
        Command::Clear(cleared) => *cleared == tensor,
        Command::Launch(launch) => launch
            .buffers
            .iter()
            .any(|(id, access)| *id == tensor && matches!(access, Access::Write | Access::Update)),
    }
}

/// The tensors that a command binds or clears.
pub(super) fn touched(command: &Command) -> Vec<TensorId> {
    match command {
        Command::Clear(tensor) => vec![*tensor],
        Command::Launch(launch) => launch.buffers.iter().map(|(tensor, _)| *tensor).collect(),
    }
}

/// Floating-point operations of a command, where it counts them.
pub(super) fn operations(command: &Command, sizes: &Sizes) -> u64 {
    match command {
        Command::Launch(launch) if !launch.operations.is_empty() => {
            launch.operations.iter().map(|size| size.at(sizes)).product()
        }
        _ => 0,
    }
}
