//! From a graph to what a device does: commands in order, and a place in memory for every tensor.
//!
//! A plan is plain data. Tensors made within a step share slots: a slot is free again after the
//! last command that touches its tensor, so the memory of a step is little more than what is alive
//! at its fullest moment.

use super::ir::{Graph, Lowering, Origin, Shape};
use super::planned::{Matrix, Place, Planned, matrices, operations, touched, writes};
use super::recompute::recompute;
use crate::error::{Advice, Error, Result};
use crate::gpu::{Access, Buffer, Device, Texel, Texture};
use crate::kernels::attention::AttentionClass;
use crate::kernels::tune::{ProductClass, Tuning};
use crate::kernels::{Command, Element, Size, Sizes, TensorId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// A command with the name of its op.
type Named = (&'static str, Command);

/// What a texture must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextureRoom {
    /// What it is made of.
    pub texel: Texel,
    /// Which of the tensors that a launch reads as texels it holds: the first, and so on.
    pub number: usize,
    /// Texels of the widest of their rows, and rows of the highest, as they lie in it.
    pub size: [u64; 2],
}

/// A matrix on its way to a texture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TexelCopy {
    /// The matrix.
    pub tensor: TensorId,
    /// The number of the texture that it goes to.
    pub texture: usize,
    /// Texels of a row there.
    pub width: u64,
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
    /// The textures that launches read tensors from.
    pub textures: Vec<TextureRoom>,
    /// For each command the copies that it needs first.
    pub copies: Vec<Vec<TexelCopy>>,
    /// The matrix products in it.
    pub products: BTreeSet<ProductClass>,
    /// The attention in it.
    pub attention: BTreeSet<AttentionClass>,
    /// The tensors that come back to the host after a step.
    pub outputs: Vec<TensorId>,
    /// The largest batch that it has room for.
    pub largest: Sizes,
}

impl Plan {
    /// Lowers a graph to the kernels that suit a device, for batches up to a size. `outputs` are
    /// the tensors that come back to the host after a step.
    ///
    /// # Errors
    /// A tensor of 2³² elements or more.
    pub fn new(
        graph: &Graph,
        kernels: impl Into<Tuning>,
        largest: Sizes,
        outputs: &[TensorId],
    ) -> Result<Self> {
        let Lowered { mut tensors, commands, products, attention, starts } =
            lower(graph, &kernels.into(), largest)?;
        let (segments, backward) = segments(graph, &starts, commands.len());
        let commands = recompute(&mut tensors, commands, &segments, backward);
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
        let fold = fold(&tensors, &commands, &largest);
        let commands: Vec<Named> =
            commands.into_iter().map(|command| folded(command, fold)).collect();
        let textures = textures(&tensors, &commands, &largest, fold);
        let copies = copies(&commands, &textures, fold);
        let outputs = outputs.to_vec();
        Ok(Self {
            tensors,
            commands,
            slots,
            textures,
            copies,
            products,
            attention,
            outputs,
            largest,
        })
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<TensorId> {
        let position = self.tensors.iter().position(|tensor| tensor.name == name);
        position.map(|position| TensorId(position as u32))
    }

    /// A tensor of the plan.
    pub fn planned(&self, tensor: TensorId) -> &Planned {
        &self.tensors[tensor.0 as usize]
    }

    /// Bytes of the buffer that a tensor lies in.
    pub fn bytes(&self, tensor: TensorId) -> u64 {
        self.planned(tensor).room(&self.largest)
    }

    /// Bytes of the slots and textures: what is made within a step.
    pub fn made_bytes(&self) -> u64 {
        let taken = |room: &TextureRoom| Texture::taken(room.texel, room.size);
        let textures = self.textures.iter().map(taken);
        self.slots.iter().copied().chain(textures).sum()
    }

    /// Bytes of what the session's store keeps, where parameters of a group count as a whole.
    pub fn stored_bytes(&self) -> u64 {
        let stored = self.tensors.iter().filter_map(|tensor| match tensor.place {
            Place::Stored(role) => Some(((&tensor.name, role), tensor.room(&self.largest))),
            _ => None,
        });
        // A graph may name a tensor of the store more than once.
        stored.collect::<BTreeMap<_, _>>().values().sum()
    }

    /// The inputs lie in one buffer, which the host writes at each step: where each begins, in
    /// bytes, and how many bytes all take.
    pub(super) fn inputs(&self) -> (Vec<(TensorId, u64)>, u64) {
        let mut bytes = 0;
        let mut places = Vec::new();
        for (id, tensor) in (0u32..).map(TensorId).zip(&self.tensors) {
            if tensor.place == Place::Input {
                places.push((id, bytes));
                bytes += tensor.room(&self.largest).next_multiple_of(Buffer::ALIGNMENT);
            }
        }
        (places, bytes)
    }

    /// Bytes of the parameters of its commands.
    pub(super) fn parameter_bytes(&self) -> u64 {
        Device::PARAMETER_STRIDE * self.commands.len().max(1) as u64
    }

    /// Bytes that a program of this plan allocates, besides what the store keeps, with room for the
    /// outputs of so many steps that are under way at a time.
    pub fn own_bytes(&self, under_way: usize) -> u64 {
        let (count, bytes) = self.read_backs(under_way);
        let given = self.parameter_bytes() + self.inputs().1;
        self.made_bytes() + given + count as u64 * bytes
    }

    /// How many outputs are on their way to the host at a time, and the bytes of the largest.
    pub(super) fn read_backs(&self, under_way: usize) -> (usize, u64) {
        let largest = self.outputs.iter().map(|output| self.bytes(*output)).max().unwrap_or(0);
        (under_way * self.outputs.len(), largest)
    }

    /// Floating-point operations of the matrix products and attention at a batch of these sizes.
    pub fn operations(&self, sizes: &Sizes) -> u64 {
        self.commands.iter().map(|(_, command)| operations(command, sizes)).sum()
    }

    /// Bytes that all commands together cannot but move at a batch of these sizes.
    pub fn bytes_moved(&self, sizes: &Sizes) -> u64 {
        self.commands.iter().map(|(_, command)| self.moved_bytes(command, sizes)).sum()
    }

    /// Bytes that a command cannot but move at a batch of these sizes: each tensor that it binds
    /// once, and twice where it is changed in place.
    pub fn moved_bytes(&self, command: &Command, sizes: &Sizes) -> u64 {
        match command {
            Command::Clear(tensor) => self.planned(*tensor).bytes(sizes),
            Command::Launch(launch) => {
                let bound = &launch.buffers;
                let moved = |(index, (id, access)): (usize, &(TensorId, Access))| {
                    // A tensor that stands in for an absent one is bound a second time.
                    if bound[..index].iter().any(|(before, _)| before == id) {
                        return 0;
                    }
                    let planned = self.planned(*id);
                    let partly = launch.partly.iter().find(|(of, _)| of == id);
                    let bytes = partly.map_or_else(
                        || planned.bytes(sizes),
                        |(_, size)| size.at(sizes) * planned.element.bytes(),
                    );
                    if *access == Access::Update { 2 * bytes } else { bytes }
                };
                bound.iter().enumerate().map(moved).sum()
            }
        }
    }
}

/// A graph in commands, before memory is planned.
struct Lowered {
    tensors: Vec<Planned>,
    commands: Vec<Named>,
    products: BTreeSet<ProductClass>,
    attention: BTreeSet<AttentionClass>,
    /// Where each node's commands begin.
    starts: Vec<usize>,
}

fn lower(graph: &Graph, tuning: &Tuning, largest: Sizes) -> Result<Lowered> {
    let planned = |tensor: &super::ir::Tensor| Planned {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        element: tensor.element,
        place: match tensor.kind {
            Origin::Parameter(role) => Place::Stored(role),
            Origin::Member(role) => Place::Member(role),
            Origin::Input => Place::Input,
            Origin::Value => Place::Nowhere,
        },
        within: tensor.within.clone(),
    };
    let mut tensors: Vec<Planned> = graph.tensors.iter().map(planned).collect();
    let elements: Vec<Element> = graph.tensors.iter().map(|tensor| tensor.element).collect();
    let mut commands = Vec::new();
    let (mut products, mut attention) = (BTreeSet::new(), BTreeSet::new());
    let mut starts = Vec::new();
    for node in &graph.nodes {
        let mut scratch = |elements: Size| {
            tensors.push(Planned {
                name: format!("scratch of {}", node.op),
                shape: Shape(vec![elements]),
                element: Element::F32,
                place: Place::Nowhere,
                within: None,
            });
            TensorId(tensors.len() as u32 - 1)
        };
        let mut lowering = Lowering {
            tuning,
            largest,
            elements: &elements,
            products: &mut products,
            attention: &mut attention,
            scratch: &mut scratch,
        };
        let lowered = (node.lower)(&mut lowering);
        starts.push(commands.len());
        for command in lowered {
            commands.push((node.op, as_stored(command, &tensors)?));
        }
    }
    Ok(Lowered { tensors, commands, products, attention, starts })
}

/// A command whose kernel loads and stores what its tensors are made of.
fn as_stored(command: Command, tensors: &[Planned]) -> Result<Command> {
    let Command::Launch(launch) = command else { return Ok(command) };
    let name = launch.shader.name;
    let is_float16 = |tensor: TensorId| tensors[tensor.0 as usize].element == Element::F16;
    let launch = launch.in_float16(is_float16).map_err(|binding| {
        Error::internal(format!("{name} knows no float16 at its binding {binding}"))
    })?;
    Ok(Command::Launch(launch))
}

/// The commands of each segment that is computed again in backward, and where backward begins.
fn segments(graph: &Graph, starts: &[usize], end: usize) -> (Vec<Range<usize>>, usize) {
    let start = |node: usize| starts.get(node).copied();
    let boundaries = &graph.boundaries;
    let segments = boundaries
        .windows(2)
        // Backward begins with the last segment: it is wanted at once.
        .take(boundaries.len().saturating_sub(2))
        .filter_map(|ends| Some(start(ends[0])?..start(ends[1])?))
        .collect();
    // After the last boundary there is only the head: backward begins in there.
    let backward = boundaries.last().and_then(|node| start(*node)).unwrap_or(end);
    (segments, backward)
}

/// How many rows of a matrix lie side by side in a row of a texture: one, unless such rows could
/// not be copied many at a time, or are more than a texture has.
fn fold(tensors: &[Planned], commands: &[Named], largest: &Sizes) -> u64 {
    let fits = |fold: u64, at_once: bool| {
        commands.iter().flat_map(|(_, command)| matrices(command)).all(|matrix| {
            let [width, rows] = in_texture(matrix, tensors, fold, largest);
            matrix.texel.fits([width, rows])
                && (!at_once || rows == 1 || matrix.texel.is_aligned(width))
        })
    };
    let folds = || (0..16).map(|power| 1 << power);
    // Where rows are too wide for that, they are copied one by one.
    let at_once = folds().find(|fold| fits(*fold, true));
    at_once.or_else(|| folds().find(|fold| fits(*fold, false))).unwrap_or(1)
}

/// Texels of a row of a matrix's texture, and rows.
fn in_texture(matrix: Matrix, tensors: &[Planned], fold: u64, largest: &Sizes) -> [u64; 2] {
    let elements = tensors[matrix.tensor.0 as usize].shape.elements().at(largest);
    let rows = elements.div_ceil(matrix.columns).max(1);
    [matrix.columns.div_ceil(4) * fold.min(rows), rows.div_ceil(fold)]
}

/// A command whose kernel knows how matrices lie in textures.
fn folded((op, command): Named, fold: u64) -> Named {
    match command {
        Command::Launch(mut launch) if fold > 1 && !launch.columns.is_empty() => {
            launch.shader = launch.shader.with("FOLD", format!("{fold}u"));
            (op, Command::Launch(launch))
        }
        other => (op, other),
    }
}

/// The textures that commands read matrices from.
fn textures(
    tensors: &[Planned],
    commands: &[Named],
    largest: &Sizes,
    fold: u64,
) -> Vec<TextureRoom> {
    let mut textures: Vec<TextureRoom> = Vec::new();
    for (_, command) in commands {
        for (number, matrix) in matrices(command).enumerate() {
            let size = in_texture(matrix, tensors, fold, largest);
            match texture_of(&textures, number, matrix.texel) {
                Some(known) => {
                    let known = &mut textures[known].size;
                    *known = [0, 1].map(|at| size[at].max(known[at]));
                }
                None => textures.push(TextureRoom { texel: matrix.texel, number, size }),
            }
        }
    }
    textures
}

/// Which texture holds the matrix of this number among those that a launch reads as texels.
pub(super) fn texture_of(textures: &[TextureRoom], number: usize, texel: Texel) -> Option<usize> {
    textures.iter().position(|room| room.number == number && room.texel == texel)
}

/// The copies to textures that commands need. What a texture holds from a former command is not
/// copied again as long as nothing has changed it.
fn copies(commands: &[Named], textures: &[TextureRoom], fold: u64) -> Vec<Vec<TexelCopy>> {
    let mut held: Vec<Option<TexelCopy>> = vec![None; textures.len()];
    let mut of_command = |(_, command): &Named| {
        let mut needed = Vec::new();
        for (number, Matrix { tensor, texel, columns }) in matrices(command).enumerate() {
            let Some(texture) = texture_of(textures, number, texel) else { continue };
            let copy = TexelCopy { tensor, texture, width: columns.div_ceil(4) * fold };
            if held[texture].replace(copy) != Some(copy) {
                needed.push(copy);
            }
        }
        for place in &mut held {
            if place.is_some_and(|copy| writes(command, copy.tensor)) {
                *place = None;
            }
        }
        needed
    };
    commands.iter().map(&mut of_command).collect()
}

/// Gives every tensor made within the step a slot; returns the slots' sizes. The largest tensors
/// choose first, each the smallest slot whose tensors are never alive with it, so that a small
/// tensor that lives long does not keep the place of a large one ("greedy by size", Pisarchyk and
/// Lee, 2020).
fn place(
    tensors: &mut [Planned],
    commands: &[Named],
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
        .map(|(tensor, life)| (tensors[tensor.0 as usize].room(largest), tensor, life))
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
                Place::Stored(role) | Place::Member(role) => role.to_string(),
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
