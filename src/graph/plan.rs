//! From a graph to what a device does: commands in order, and a place in memory for every tensor.
//!
//! A plan is plain data. Tensors made within a step share slots: a slot is free again after the last
//! command that touches its tensor, so the memory of a step is little more than what is alive at its
//! fullest moment.

use super::ir::{Graph, Kind, Lowering, Shape};
use super::recompute::recompute;
use crate::error::{Advice, Error, Result};
use crate::gpu::{Access, Device, Texture};
use crate::kernels::tune::{Class, Tuning};
use crate::kernels::{Command, Size, Sizes, TensorId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a buffer of the session, found by its name.
    Session,
    /// In a buffer that the host writes at each step.
    Input,
    /// In a shared slot.
    Slot(usize),
    /// Nowhere: no command touches it.
    Nowhere,
}

/// A tensor of a plan.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name in the graph.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Where it lies.
    pub place: Place,
}

impl Planned {
    /// A tensor that is made a second time.
    pub(super) fn again(&self) -> Self {
        Self { name: format!("{} (again)", self.name), ..self.clone() }
    }
}

/// What one step does, and in which memory.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All tensors, by [`TensorId`].
    pub tensors: Vec<Planned>,
    /// The ops' names and commands, in order.
    pub commands: Vec<(&'static str, Command)>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Bytes that each texture must hold: the first holds the first tensor that a launch reads as texels, and so on.
    pub textures: Vec<u64>,
    /// For each command the copies that it needs first: a tensor, and the texture that it goes to.
    pub copies: Vec<Vec<(TensorId, usize)>>,
    /// The matrix products in it.
    pub products: BTreeSet<Class>,
    /// The largest batch that it has room for.
    pub largest: Sizes,
}

impl Plan {
    /// Lowers a graph to the kernels that suit a device, for batches up to a size. `outputs` are tensors that will be
    /// read after a step: they keep their memory to its end.
    ///
    /// # Errors
    /// A tensor of 2³² elements or more.
    pub fn new(
        graph: &Graph,
        kernels: impl Into<Tuning>,
        largest: Sizes,
        outputs: &[TensorId],
    ) -> Result<Self> {
        let tuning = kernels.into();
        let mut tensors: Vec<Planned> = graph
            .tensors
            .iter()
            .map(|tensor| Planned {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                place: match tensor.kind {
                    Kind::Parameter => Place::Session,
                    Kind::Input => Place::Input,
                    Kind::Value => Place::Nowhere,
                },
            })
            .collect();
        let mut commands = Vec::new();
        let mut products = BTreeSet::new();
        let mut starts = Vec::new(); // of each node, among the commands
        for node in &graph.nodes {
            let mut scratch = |elements: Size| {
                tensors.push(Planned {
                    name: format!("scratch of {}", node.op),
                    shape: Shape(vec![elements]),
                    place: Place::Nowhere,
                });
                TensorId(tensors.len() as u32 - 1)
            };
            let mut lowering = Lowering {
                tuning: &tuning,
                largest,
                products: &mut products,
                scratch: &mut scratch,
            };
            let lowered = (node.lower)(&mut lowering);
            starts.push(commands.len());
            commands.extend(lowered.into_iter().map(|command| (node.op, command)));
        }
        let segments: Vec<_> = graph
            .boundaries
            .windows(2)
            // Backward begins with the last segment: it is wanted at once.
            .rev()
            .skip(1)
            .rev()
            .filter_map(|ends| Some(*starts.get(ends[0])?..*starts.get(ends[1])?))
            .collect();
        let made = |tensor: &Planned| tensor.place == Place::Nowhere;
        // After the last boundary there is only the head: backward begins in there.
        let last = graph.boundaries.last().and_then(|node| starts.get(*node).copied());
        let backward = last.unwrap_or(commands.len());
        let commands = recompute(&mut tensors, commands, &segments, backward, made);
        for tensor in &tensors {
            let elements = tensor.shape.elements().at(&largest);
            if elements >= 1 << 32 {
                return Err(Error::device(format!(
                    "{} has {elements} elements, and kernels count to 4,294,967,295",
                    tensor.name
                ))
                .advice(Advice::SmallerBatch));
            }
        }
        let slots = place(&mut tensors, &commands, &largest, outputs);
        let mut textures: Vec<u64> = Vec::new();
        let copies = copies(&commands);
        for (_, command) in &commands {
            for (number, tensor) in texels(command).enumerate() {
                let wanted = bytes(&tensors[tensor.0 as usize], &largest);
                match textures.get_mut(number) {
                    Some(room) => *room = wanted.max(*room),
                    None => textures.push(wanted),
                }
            }
        }
        Ok(Self { tensors, commands, slots, textures, copies, products, largest })
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<TensorId> {
        let position = self.tensors.iter().position(|tensor| tensor.name == name);
        position.map(|position| TensorId(position as u32))
    }

    /// Bytes of a tensor at the largest batch.
    pub fn bytes(&self, tensor: TensorId) -> u64 {
        bytes(&self.tensors[tensor.0 as usize], &self.largest)
    }

    /// Bytes of everything that lies in a place of this kind: slots (with the textures), inputs or the
    /// session.
    pub fn total_bytes(&self, wanted: Place) -> u64 {
        match wanted {
            Place::Slot(_) => {
                let textures = self.textures.iter().map(|bytes| Texture::taken(*bytes));
                self.slots.iter().copied().chain(textures).sum()
            }
            _ => self
                .tensors
                .iter()
                .filter(|tensor| tensor.place == wanted)
                .map(|tensor| bytes(tensor, &self.largest))
                .sum(),
        }
    }

    /// Bytes that an executor of this plan allocates, besides what it shares with others by name.
    pub fn own_bytes(&self) -> u64 {
        let parameters = Device::PARAMETER_STRIDE * self.commands.len().max(1) as u64;
        self.total_bytes(Place::Slot(0)) + self.total_bytes(Place::Input) + parameters
    }

    /// Floating-point operations of the matrix products and attention at a batch of these sizes.
    pub fn operations(&self, sizes: &Sizes) -> u64 {
        self.commands.iter().map(|(_, command)| operations(command, sizes)).sum()
    }

    /// Bytes that all commands together cannot but move at a batch of these sizes.
    pub fn bytes_moved(&self, sizes: &Sizes) -> u64 {
        self.commands.iter().map(|(_, command)| self.moved_bytes(command, sizes)).sum()
    }

    /// Bytes that a command cannot but move at a batch of these sizes: each tensor that it binds once,
    /// and twice where it is changed in place.
    pub fn moved_bytes(&self, command: &Command, sizes: &Sizes) -> u64 {
        let elements = |id: &TensorId| self.tensors[id.0 as usize].shape.elements().at(sizes);
        match command {
            Command::Clear(tensor) => 4 * elements(tensor),
            Command::Launch(launch) => {
                let bound = &launch.buffers;
                let moved = |(index, (id, access)): (usize, &(TensorId, Access))| {
                    // A tensor that stands in for an absent one is bound a second time.
                    if bound[..index].iter().any(|(before, _)| before == id) {
                        return 0;
                    }
                    let partly = launch.partly.iter().find(|(of, _)| of == id);
                    let count = partly.map_or_else(|| elements(id), |(_, size)| size.at(sizes));
                    count * if *access == Access::Update { 8 } else { 4 }
                };
                bound.iter().enumerate().map(moved).sum()
            }
        }
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

fn bytes(tensor: &Planned, largest: &Sizes) -> u64 {
    // Offsets have an end: one word more than there are sentences.
    let end = u64::from(tensor.place == Place::Input);
    // Kernels may read and write the last vec4 as a whole.
    ((tensor.shape.elements().at(largest) + end) * 4).max(4).next_multiple_of(16)
}

/// The tensors that a command reads as texels, in the order of its bindings.
fn texels(command: &Command) -> impl Iterator<Item = TensorId> {
    let bound = match command {
        Command::Clear(_) => &[],
        Command::Launch(launch) => launch.buffers.as_slice(),
    };
    bound.iter().filter(|(_, access)| *access == Access::Texels).map(|(tensor, _)| *tensor)
}

/// The copies to textures that commands need. What a texture holds from a former command is not copied
/// again as long as nothing has changed it.
fn copies(commands: &[(&'static str, Command)]) -> Vec<Vec<(TensorId, usize)>> {
    let mut held: Vec<Option<TensorId>> = Vec::new();
    let mut of_command = |(_, command): &(&'static str, Command)| {
        let mut needed = Vec::new();
        for (number, tensor) in texels(command).enumerate() {
            held.resize(held.len().max(number + 1), None);
            if held[number].replace(tensor) != Some(tensor) {
                needed.push((tensor, number));
            }
        }
        for place in &mut held {
            if place.is_some_and(|tensor| writes(command, tensor)) {
                *place = None;
            }
        }
        needed
    };
    commands.iter().map(&mut of_command).collect()
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

pub(super) fn touched(command: &Command) -> Vec<TensorId> {
    match command {
        Command::Clear(tensor) => vec![*tensor],
        Command::Launch(launch) => launch.buffers.iter().map(|(tensor, _)| *tensor).collect(),
    }
}

/// Gives every tensor made within the step a slot; returns the slots' sizes. The largest tensors choose
/// first, each the smallest slot whose tensors are never alive with it, so that a small tensor that
/// lives long does not keep the place of a large one ("greedy by size", Pisarchyk and Lee, 2020).
fn place(
    tensors: &mut [Planned],
    commands: &[(&'static str, Command)],
    largest: &Sizes,
    outputs: &[TensorId],
) -> Vec<u64> {
    // From the first command that touches a tensor to the last one, both included.
    let mut lives: BTreeMap<TensorId, (usize, usize)> = BTreeMap::new();
    for (index, (_, command)) in commands.iter().enumerate() {
        for tensor in touched(command) {
            if tensors[tensor.0 as usize].place == Place::Nowhere {
                lives.entry(tensor).or_insert((index, index)).1 = index;
            }
        }
    }
    for output in outputs {
        if let Some(life) = lives.get_mut(output) {
            life.1 = usize::MAX;
        }
    }
    let mut order: Vec<(u64, TensorId, (usize, usize))> = lives
        .into_iter()
        .map(|(tensor, life)| (bytes(&tensors[tensor.0 as usize], largest), tensor, life))
        .collect();
    order.sort_by_key(|(size, tensor, _)| (std::cmp::Reverse(*size), *tensor));
    let mut slots: Vec<(u64, Vec<(usize, usize)>)> = Vec::new();
    for (size, tensor, life) in order {
        let free = |(_, taken): &&(u64, Vec<(usize, usize)>)| {
            taken.iter().all(|(first, last)| *last < life.0 || life.1 < *first)
        };
        // Slots were made from the largest to the smallest: the last free one fits best.
        let slot = match slots.iter().rposition(|slot| free(&slot)) {
            Some(slot) => slot,
            None => {
                slots.push((size, Vec::new()));
                slots.len() - 1
            }
        };
        slots[slot].1.push(life);
        tensors[tensor.0 as usize].place = Place::Slot(slot);
    }
    slots.into_iter().map(|(size, _)| size).collect()
}

impl fmt::Display for Plan {
    /// One line a command: op, shader with its constants, tensors with their shapes and places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensor = |id: &TensorId| {
            let planned = &self.tensors[id.0 as usize];
            let place = match planned.place {
                Place::Session => "session".into(),
                Place::Input => "input".into(),
                Place::Slot(slot) => format!("slot {slot}"),
                Place::Nowhere => "nowhere".into(),
            };
            format!("{} {} ({place})", planned.name, planned.shape)
        };
        for (op, command) in &self.commands {
            match command {
                Command::Clear(id) => writeln!(f, "{op}: clear {}", tensor(id))?,
                Command::Launch(launch) => {
                    let buffers: Vec<String> =
                        launch.buffers.iter().map(|(id, _)| tensor(id)).collect();
                    let shader = &launch.shader;
                    writeln!(
                        f,
                        "{op}: {}({}) on {}",
                        shader.name,
                        shader.constants,
                        buffers.join(", ")
                    )?;
                }
            }
        }
        write!(f, "slots: {:?} bytes", self.slots)
    }
}
