//! Runs a plan: buffers, pipelines and bindings are made once; a step writes its inputs and
//! parameters, and submits.

use super::plan::{TexelCopy, TextureRoom, texture_of};
use super::planned::{Place, operations};
use super::{Graph, Plan, Session};
use crate::error::{Advice, Error, Result};
use crate::gpu::{
    BindGroup, Buffer, Device, KernelPace, Pending, Piece, Pipeline, Recorder, Reserved, Resource,
    Texture, Timed, Timestamps,
};
use crate::kernels::{Command, Grid, Scalars, Sizes, TensorId};
use crate::timing::Timing;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

enum Bound {
    Launch { pipeline: Arc<Pipeline>, buffers: BindGroup, grid: Grid },
    Clear(Arc<Buffer>),
}

/// A plan with its buffers and pipelines, ready to run.
pub struct Program {
    plan: Plan,
    buffers: HashMap<TensorId, Arc<Buffer>>,
    textures: Vec<Texture>,
    prepared: Vec<Bound>,
    words: Given,
    inputs: Option<Given>,
    /// Where each input begins in them, in words.
    places: HashMap<TensorId, usize>,
    reserved: Reserved,
    /// How fast buffers are filled with zeros.
    clearing: KernelPace,
}

/// What a command has to do at a step.
struct Task<'a> {
    /// In floating-point operations, or what takes as long.
    work: u64,
    /// The part of a submission that it fills.
    share: f64,
    /// It is to be submitted by itself: it is to be timed, or too much for one submission.
    apart: bool,
    /// Little is known of its speed at so much work.
    is_news: bool,
    /// Unless it fills a buffer with zeros.
    launch: Option<Dispatch<'a>>,
}

#[derive(Clone, Copy)]
struct Dispatch<'a> {
    pipeline: &'a Pipeline,
    buffers: &'a BindGroup,
    grid: [u32; 3],
}

/// What the host writes at each step, in one piece: each write costs the device a stop.
struct Given {
    buffer: Buffer,
    staging: Vec<u32>,
}

impl Given {
    fn new(buffer: Buffer) -> Self {
        let staging = vec![0; buffer.bytes() as usize / 4];
        Self { buffer, staging }
    }

    fn write(&self, device: &Device) {
        device.write(&self.buffer, &self.staging);
    }
}

/// What a program is given for one step.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The sizes of the batch.
    pub sizes: Sizes,
    /// Its scalars.
    pub scalars: Scalars,
    /// The words of each input.
    pub inputs: &'a [(TensorId, &'a [u32])],
}

/// Operations that take a device about as long as moving a byte does.
const OPERATIONS_PER_BYTE: u64 = 10;

impl Program {
    /// Plans a graph for batches up to `largest` and prepares it. `outputs` are the tensors that
    /// come back after a step; there is room for those of `under_way` steps at a time.
    ///
    /// # Errors
    /// As [`Plan::new`] and [`Program::new`].
    pub fn build(
        session: &mut Session,
        graph: &Graph,
        largest: Sizes,
        outputs: &[TensorId],
        under_way: usize,
    ) -> Result<Self> {
        let plan = Plan::new(graph, session.tuning.clone(), largest, outputs)?;
        Self::new(session, plan, under_way)
    }

    /// Makes the buffers and pipelines of a plan. Parameters are shared with the session's other
    /// programs by name and role.
    ///
    /// # Errors
    /// A kernel that does not compile, a tensor larger than the device can bind, a parameter of
    /// another shape than the store has, out of memory.
    pub fn new(session: &mut Session, plan: Plan, under_way: usize) -> Result<Self> {
        tracing::trace!("{plan}");
        let pipelines = session.compile(&plan)?;
        let words = session.device.uniform("kernel parameters", plan.parameter_bytes())?;
        let inputs = match plan.inputs().1 {
            0 => None,
            bytes => Some(session.device.storage("inputs", bytes)?),
        };
        let buffers = allocate(session, &plan, inputs.as_ref())?;
        let device = &session.device;
        let textures = make_textures(device, &plan)?;
        let stride = Device::PARAMETER_STRIDE;
        let mut prepared = Vec::with_capacity(plan.commands.len());
        for (index, ((op, command), pipeline)) in plan.commands.iter().zip(pipelines).enumerate() {
            prepared.push(match (command, pipeline) {
                (Command::Launch(launch), Some(pipeline)) => {
                    let mut numbers = 0..;
                    let bound: Vec<Resource<'_>> = launch
                        .buffers
                        .iter()
                        .filter_map(|(id, access)| match access.texel() {
                            Some(texel) => {
                                let number = numbers.next()?;
                                let texture = texture_of(&plan.textures, number, texel)?;
                                Some(Resource::Texture(&textures[texture]))
                            }
                            None => Some(Resource::Buffer(&buffers[id])),
                        })
                        .collect();
                    let name = format!("{op} ({})", launch.shader.name);
                    let parameters = (&words, index as u64 * stride);
                    let buffers = device.bind(&name, &pipeline, parameters, &bound)?;
                    Bound::Launch { pipeline, buffers, grid: launch.grid }
                }
                (Command::Launch(launch), None) => {
                    return Err(Error::internal(format!("{} is not compiled", launch.shader.name)));
                }
                (Command::Clear(tensor), _) => Bound::Clear(buffers[tensor].clone()),
            });
        }
        let (count, bytes) = plan.read_backs(under_way);
        let reserved = device.reserve(count, bytes)?;
        let (words, inputs) = (Given::new(words), inputs.map(Given::new));
        let places = plan.inputs().0.into_iter().map(|(id, offset)| (id, offset as usize / 4));
        let places = places.collect();
        let clearing = KernelPace::default();
        Ok(Self { plan, buffers, textures, prepared, words, inputs, places, reserved, clearing })
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Submits one step and returns at once; the plan's outputs come back in their order.
    ///
    /// # Errors
    /// A batch larger than the plan has room for, or an error that the device has reported.
    pub fn run(&mut self, session: &Session, step: &Step<'_>) -> Result<Pending> {
        self.write(&session.device, step)?;
        let recorder = self.record(&session.device, &step.sizes, None)?;
        self.submit(&session.device, recorder, &step.sizes)
    }

    /// As [`Program::run`], but every launch is a pass of its own, and timed by the device; waits
    /// for it.
    ///
    /// # Errors
    /// As [`Program::run`]; an adapter that keeps no time.
    pub fn profile(
        &mut self,
        session: &Session,
        step: &Step<'_>,
    ) -> Result<(Pending, Vec<Timing>)> {
        let device = &session.device;
        self.write(device, step)?;
        let launches = self.plan.commands.iter().filter_map(|(op, command)| match command {
            Command::Launch(launch) => Some((*op, launch.shader.name, command)),
            Command::Clear(_) => None,
        });
        let launches: Vec<_> = launches.collect();
        let timestamps = device.timestamps(launches.len())?;
        let recorder = self.record(device, &step.sizes, Some(&timestamps))?;
        let pending = self.submit(device, recorder, &step.sizes)?;
        let mut last = 0.0;
        let mut timings = Vec::with_capacity(launches.len());
        for ((op, kernel, command), [begin, end]) in
            launches.into_iter().zip(device.passed(&timestamps)?)
        {
            timings.push(Timing {
                op,
                kernel,
                begin,
                seconds: end - begin,
                before: begin - std::mem::replace(&mut last, end),
                operations: operations(command, &step.sizes),
                bytes: self.plan.moved_bytes(command, &step.sizes),
            });
        }
        Ok((pending, timings))
    }

    /// The words of a tensor's whole buffer as it stands now, what lies behind the end of the last
    /// batch included: for looking into a program that computes something unexpected.
    ///
    /// # Errors
    /// A tensor that has no buffer; the device failed.
    pub fn peek(&self, session: &Session, tensor: TensorId) -> Result<Vec<u32>> {
        let name = &self.plan.planned(tensor).name;
        let buffer = self.buffers.get(&tensor);
        let buffer =
            buffer.ok_or_else(|| Error::internal(format!("{name} is computed nowhere")))?;
        session.device.read(buffer, (self.plan.bytes(tensor) / 4) as usize)
    }

    /// Writes the inputs and the parameters of every kernel for one step.
    fn write(&mut self, device: &Device, step: &Step<'_>) -> Result<()> {
        let Step { sizes, scalars, inputs } = step;
        if sizes.max(self.plan.largest) != self.plan.largest {
            return Err(Error::internal(format!(
                "a batch of {sizes:?} in a plan for {:?}",
                self.plan.largest
            )));
        }
        for (tensor, words) in *inputs {
            let planned = self.plan.planned(*tensor);
            let wanted = planned.shape.elements().at(sizes);
            if words.len() as u64 != wanted {
                return Err(Error::internal(format!(
                    "the input {} got {} words, and {wanted} are needed",
                    planned.name,
                    words.len()
                )));
            }
            if let (Some(at), Some(inputs)) = (self.places.get(tensor), &mut self.inputs) {
                inputs.staging[*at..at + words.len()].copy_from_slice(words);
            }
        }
        let stride = Device::PARAMETER_STRIDE as usize / 4;
        for ((_, command), words) in
            self.plan.commands.iter().zip(self.words.staging.chunks_exact_mut(stride))
        {
            if let Command::Launch(launch) = command {
                for (place, word) in words.iter_mut().zip(&launch.parameters) {
                    *place = word.bits(sizes, scalars);
                }
            }
        }
        self.words.write(device);
        self.inputs.iter().for_each(|inputs| inputs.write(device));
        Ok(())
    }

    /// Records the commands of a step, submitting what a device would compute too long at a time.
    /// With `timestamps` each launch is a pass of its own, and timed.
    fn record<'d>(
        &self,
        device: &'d Device,
        sizes: &Sizes,
        timestamps: Option<&Timestamps>,
    ) -> Result<Recorder<'d>> {
        let mut recorder = device.recorder();
        // Of a submission so much is filled.
        let (mut next, mut passes, mut filled) = (0, 0, 0.0);
        while next < self.prepared.len() {
            let task = self.task(device, next, sizes)?;
            if filled > 0.0 && (task.apart || filled + task.share > 1.0) {
                recorder.flush();
                filled = 0.0;
            }
            // Copies stand between passes, so a launch that needs some begins a new one.
            for TexelCopy { tensor, texture, width } in &self.plan.copies[next] {
                let bytes = self.plan.planned(*tensor).bytes(sizes);
                let texture = &self.textures[*texture];
                recorder.copy_to_texture(&self.buffers[tensor], bytes, texture, *width);
            }
            let timed = timestamps.map(|timestamps| Timed {
                timestamps,
                pass: passes,
                begins: true,
                ends: true,
            });
            if task.apart {
                self.run_apart(device, &mut recorder, next, &task, timed)?;
                passes += usize::from(task.launch.is_some());
                next += 1;
                continue;
            }
            if let Bound::Clear(buffer) = &self.prepared[next] {
                recorder.clear(buffer);
                filled += task.share;
                next += 1;
                continue;
            }
            let first = next;
            let mut pass = recorder.pass(timed);
            passes += 1;
            while next < self.prepared.len() {
                let task = self.task(device, next, sizes)?;
                let apart = timestamps.is_some()
                    || !self.plan.copies[next].is_empty()
                    || task.apart
                    || filled + task.share > 1.0;
                let Some(launch) = task.launch else { break };
                if next > first && apart {
                    break;
                }
                if !launch.grid.contains(&0) {
                    pass.dispatch(launch.pipeline, launch.buffers, launch.grid);
                }
                filled += task.share;
                next += 1;
            }
        }
        Ok(recorder)
    }

    /// What a command has to do at a batch of these sizes.
    fn task(&self, device: &Device, index: usize, sizes: &Sizes) -> Result<Task<'_>> {
        let (op, command) = &self.plan.commands[index];
        let work = operations(command, sizes)
            + OPERATIONS_PER_BYTE * self.plan.moved_bytes(command, sizes);
        let (pace, launch) = match &self.prepared[index] {
            Bound::Clear(_) => (&self.clearing, None),
            Bound::Launch { pipeline, buffers, grid } => {
                let workgroups = grid.at(sizes);
                if workgroups.iter().any(|count| *count > u64::from(Grid::LIMIT)) {
                    return Err(Error::device(format!(
                        "{op}: {workgroups:?} workgroups, and a dimension holds {}",
                        Grid::LIMIT
                    ))
                    .advice(Advice::SmallerBatch));
                }
                let grid = workgroups.map(|count| count as u32);
                (&pipeline.pace, Some(Dispatch { pipeline, buffers, grid }))
            }
        };
        let does = work > 0 && launch.is_none_or(|launch| !launch.grid.contains(&0));
        let is_long = device.pace.is_long(pace, work);
        let is_news = does && device.pace.is_news(pace, work);
        let apart = is_news || (does && is_long);
        Ok(Task { work, share: device.pace.share(pace, work), apart, is_news, launch })
    }

    /// Runs a command in submissions of its own: one, or as many as are needed for none to take too
    /// long. They are waited for and timed if there is something to learn.
    fn run_apart(
        &self,
        device: &Device,
        recorder: &mut Recorder<'_>,
        index: usize,
        task: &Task<'_>,
        timed: Option<Timed<'_>>,
    ) -> Result<()> {
        let pace = task.launch.map_or(&self.clearing, |launch| &launch.pipeline.pace);
        let is_long = device.pace.is_long(pace, task.work);
        let is_timed = (is_long && device.pace.is_due(pace)) || task.is_news;
        recorder.flush();
        if is_timed {
            device.wait(None)?;
        }
        let submit = |recorder: &mut Recorder<'_>, work: u64| {
            let start = Instant::now();
            let submission = recorder.flush();
            if is_timed {
                device.wait(Some(submission))?;
                device.pace.note(pace, work, start.elapsed().as_secs_f64());
            }
            Ok(())
        };
        let Some(Dispatch { pipeline, buffers, grid }) = task.launch else {
            if let Bound::Clear(buffer) = &self.prepared[index] {
                recorder.clear(buffer);
            }
            return submit(recorder, task.work);
        };
        let all: u64 = grid.iter().map(|count| u64::from(*count)).product();
        // Workgroups are taken to have equal shares of the work.
        let work = |groups: u64| (task.work as f64 * groups as f64 / all as f64) as u64;
        let most = || {
            let allowed = device.pace.allowed(pace) as f64;
            (allowed / task.work.max(1) as f64 * all as f64) as u64
        };
        if !is_long || all == 1 || !device.prepare_pieces(pipeline)? {
            recorder.pass(timed).dispatch(pipeline, buffers, grid);
            return submit(recorder, task.work);
        }
        let mut done = 0;
        while done < all {
            let piece = Piece::next(grid, done, most());
            let before = done;
            done += piece.workgroups();
            let timed =
                timed.map(|timed| Timed { begins: before == 0, ends: done == all, ..timed });
            device.tell(grid, &piece);
            recorder.pass(timed).dispatch_piece(pipeline, buffers, &piece);
            submit(recorder, work(piece.workgroups()))?;
        }
        Ok(())
    }

    /// Submits what was recorded, and the copies by which the outputs come back.
    fn submit(&self, device: &Device, recorder: Recorder<'_>, sizes: &Sizes) -> Result<Pending> {
        let mut outputs = Vec::with_capacity(self.plan.outputs.len());
        for tensor in &self.plan.outputs {
            let planned = self.plan.planned(*tensor);
            let buffer = self
                .buffers
                .get(tensor)
                .ok_or_else(|| Error::internal(format!("{} is computed nowhere", planned.name)))?;
            let elements = planned.shape.elements().at(sizes) as usize;
            outputs.push((&**buffer, planned.bytes(sizes), elements));
        }
        let pending = recorder.submit_and_read(outputs, &self.reserved)?;
        device.check("running a step")?;
        Ok(pending)
    }
}

/// The buffer of every tensor that has a place.
fn allocate(
    session: &mut Session,
    plan: &Plan,
    inputs: Option<&Buffer>,
) -> Result<HashMap<TensorId, Arc<Buffer>>> {
    let tensors = || (0u32..).map(TensorId).zip(&plan.tensors);
    let mut slots = Vec::new();
    for (index, bytes) in plan.slots.iter().enumerate() {
        let held = tensors().filter(|(_, tensor)| tensor.place == Place::Slot(index));
        let largest = held.max_by_key(|(id, _)| plan.bytes(*id));
        let name = largest.map_or("", |(_, tensor)| tensor.name.as_str());
        slots.push(Arc::new(session.device.storage(name, *bytes)?));
    }
    let mut buffers = HashMap::new();
    for (id, tensor) in tensors() {
        let buffer = match tensor.place {
            Place::Stored(role) | Place::Member(role) => {
                let fixed: Option<Vec<u64>> =
                    tensor.shape.0.iter().map(|size| size.fixed()).collect();
                let shape = fixed.ok_or_else(|| {
                    let what = role.name(&tensor.name);
                    Error::internal(format!(
                        "{what}: its shape {} depends on a batch",
                        tensor.shape
                    ))
                })?;
                let Session { store, device, .. } = session;
                store.buffer(device, &tensor.name, role, &shape, tensor.element)?
            }
            Place::Input => continue,
            Place::Slot(slot) => slots[slot].clone(),
            Place::Nowhere => continue,
        };
        buffers.insert(id, buffer);
    }
    for (input, offset) in plan.inputs().0 {
        if let Some(inputs) = inputs {
            buffers.insert(input, Arc::new(inputs.part(offset, plan.bytes(input))?));
        }
    }
    Ok(buffers)
}

fn make_textures(device: &Device, plan: &Plan) -> Result<Vec<Texture>> {
    let make = |(index, room): (usize, &TextureRoom)| {
        let held = plan.copies.iter().flatten().filter(|copy| copy.texture == index);
        let largest = held.map(|copy| copy.tensor).max_by_key(|id| plan.bytes(*id));
        let name = largest.map_or("", |id| &plan.planned(id).name);
        device.texture(&format!("{name}, as texels"), room.texel, room.size)
    };
    plan.textures.iter().enumerate().map(make).collect()
}
