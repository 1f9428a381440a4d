//! Runs a plan: buffers, pipelines and bindings are made once; a step writes its inputs and
//! parameters, and submits.

use super::plan::{Place, Plan, operations};
use crate::error::{Advice, Error, Result};
use crate::gpu::{
    Access, BindGroup, Buffer, Device, Pipeline, Readback, Reserved, Resource, Texture, Timestamps,
};
use crate::kernels::tune::Tuning;
use crate::kernels::{Command, Grid, Scalars, Sizes, TensorId};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// What several plans share: the device, the parameters by name, the compiled kernels.
pub struct Session {
    /// The device.
    pub device: Device,
    /// The kernels that suit it.
    pub tuning: Tuning,
    parameters: HashMap<String, Rc<Buffer>>,
    pipelines: HashMap<Arc<str>, Rc<Pipeline>>,
}

impl Session {
    /// A session without parameters.
    pub fn new(device: Device) -> Self {
        let tuning = Tuning::from(&device.adapter);
        Self { device, tuning, parameters: HashMap::new(), pipelines: HashMap::new() }
    }

    fn parameter(&mut self, name: &str, bytes: u64) -> Result<Rc<Buffer>> {
        match self.parameters.get(name) {
            Some(buffer) if buffer.bytes() >= bytes => Ok(buffer.clone()),
            Some(buffer) => Err(Error::internal(format!(
                "the parameter {name} has {} bytes, and {bytes} are needed",
                buffer.bytes()
            ))),
            None => {
                let buffer = Rc::new(self.device.storage(name, bytes)?);
                self.parameters.insert(name.into(), buffer.clone());
                Ok(buffer)
            }
        }
    }

    /// Sets a parameter that may have had another size before.
    ///
    /// # Errors
    /// Out of memory.
    pub fn replace(&mut self, name: &str, values: &[f32]) -> Result<()> {
        self.forget(&[name]);
        self.set(name, values)
    }

    /// Gives the memory of parameters back, once no plan uses them any more.
    pub fn forget(&mut self, names: &[&str]) {
        for name in names {
            self.parameters.remove(*name);
        }
    }

    /// Sets a parameter, making it first where it is new.
    ///
    /// # Errors
    /// Out of memory, or another size than before.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let buffer = self.parameter(name, values.len() as u64 * 4)?;
        self.device.write(&buffer, values);
        Ok(())
    }

    /// The first `count` values of a parameter, waiting for the device.
    ///
    /// # Errors
    /// No such parameter, or the device failed.
    pub fn get(&self, name: &str, count: usize) -> Result<Vec<f32>> {
        let buffer = self
            .parameters
            .get(name)
            .ok_or_else(|| Error::internal(format!("there is no parameter {name}")))?;
        self.device.read(buffer, count)
    }

    /// Compiles the kernels of a plan that are not compiled yet, side by side.
    fn compile(&mut self, plan: &Plan) -> Result<()> {
        let mut missing: Vec<(Arc<str>, &'static str, Vec<Access>)> = Vec::new();
        for (_, command) in &plan.commands {
            let Command::Launch(launch) = command else { continue };
            let text = &launch.shader.text;
            let known = self.pipelines.contains_key(text)
                || missing.iter().any(|(other, ..)| other == text);
            if !known {
                let accesses = launch.buffers.iter().map(|(_, access)| *access).collect();
                missing.push((text.clone(), launch.shader.name, accesses));
            }
        }
        let kernels: Vec<_> = missing
            .iter()
            .map(|(text, name, accesses)| (*name, &**text, accesses.clone()))
            .collect();
        let compiled = self.device.pipelines(&kernels)?;
        if !compiled.is_empty() {
            self.device.keep_pipelines();
        }
        for ((text, ..), pipeline) in missing.into_iter().zip(compiled) {
            self.pipelines.insert(text, Rc::new(pipeline));
        }
        Ok(())
    }
}

enum Prepared {
    Launch { pipeline: Rc<Pipeline>, buffers: BindGroup, grid: Grid },
    Clear(Rc<Buffer>),
}

/// A plan with its buffers and pipelines, ready to run.
pub struct Executor {
    plan: Plan,
    buffers: HashMap<TensorId, Rc<Buffer>>,
    textures: Vec<Texture>,
    prepared: Vec<Prepared>,
    words: Buffer,
    staging: Vec<u32>,
    reserved: Reserved,
}

type Launched<'a> = (&'static str, &'static str, &'a Command);

/// What a launch took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The op that it belongs to.
    pub op: &'static str,
    /// The shader.
    pub kernel: &'static str,
    /// Seconds from the step's first launch to this one.
    pub begin: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Seconds from the end of the launch before: copies to textures, clears, and waiting.
    pub before: f64,
    /// Floating-point operations, where they are what the time goes into.
    pub operations: u64,
    /// Bytes that it cannot but move.
    pub bytes: u64,
}

/// Values on their way back from a step.
pub struct Pending {
    submission: wgpu::SubmissionIndex,
    readbacks: Vec<(Readback, usize)>,
}

/// Operations after which a submission is closed and the next begun, so that a slow device does not
/// run longer at a time than a watchdog lets it: a second and a half at 100 GFLOP/s.
const OPERATIONS_PER_SUBMISSION: u64 = 150_000_000_000;

impl Executor {
    /// Makes the buffers and pipelines of a plan. Parameters are shared with the session's other
    /// plans by name.
    ///
    /// # Errors
    /// A kernel that does not compile, a tensor larger than the device can bind, out of memory.
    pub fn new(session: &mut Session, plan: Plan) -> Result<Self> {
        session.compile(&plan)?;
        let mut slots = Vec::new();
        for (index, bytes) in plan.slots.iter().enumerate() {
            let holds = plan
                .tensors
                .iter()
                .enumerate()
                .filter(|(_, tensor)| tensor.place == Place::Slot(index))
                .max_by_key(|(id, _)| plan.bytes(TensorId(*id as u32)))
                .map_or("", |(_, tensor)| tensor.name.as_str());
            slots.push(Rc::new(session.device.storage(holds, *bytes)?));
        }
        let mut buffers = HashMap::new();
        for (index, tensor) in plan.tensors.iter().enumerate() {
            let id = TensorId(index as u32);
            let buffer = match tensor.place {
                Place::Session => session.parameter(&tensor.name, plan.bytes(id))?,
                Place::Input => Rc::new(session.device.storage(&tensor.name, plan.bytes(id))?),
                Place::Slot(slot) => slots[slot].clone(),
                Place::Nowhere => continue,
            };
            buffers.insert(id, buffer);
        }
        let textures = plan
            .textures
            .iter()
            .enumerate()
            .map(|(number, bytes)| {
                let held = plan.copies.iter().flatten().filter(|(_, texture)| *texture == number);
                let largest = held.map(|(tensor, _)| *tensor).max_by_key(|id| plan.bytes(*id));
                let name = largest.map_or("", |id| &plan.tensors[id.0 as usize].name);
                session.device.texture(&format!("{name}, as texels"), *bytes)
            })
            .collect::<Result<Vec<_>>>()?;
        let stride = Device::PARAMETER_STRIDE;
        let words = session
            .device
            .uniform("kernel parameters", stride * plan.commands.len().max(1) as u64)?;
        let mut prepared = Vec::new();
        for (index, (op, command)) in plan.commands.iter().enumerate() {
            prepared.push(match command {
                Command::Clear(tensor) => Prepared::Clear(buffers[tensor].clone()),
                Command::Launch(launch) => {
                    let name = launch.shader.name;
                    let pipeline = session.pipelines[&launch.shader.text].clone();
                    let mut next_texture = textures.iter();
                    let bound: Vec<Resource<'_>> = launch
                        .buffers
                        .iter()
                        .filter_map(|(id, access)| match access {
                            Access::Texels => next_texture.next().map(Resource::Texture),
                            _ => Some(Resource::Buffer(&buffers[id])),
                        })
                        .collect();
                    let buffers = session.device.bind(
                        &format!("{op} ({name})"),
                        &pipeline,
                        (&words, index as u64 * stride),
                        &bound,
                    )?;
                    Prepared::Launch { pipeline, buffers, grid: launch.grid }
                }
            });
        }
        let staging = vec![0; prepared.len() * stride as usize / 4];
        Ok(Self {
            plan,
            buffers,
            textures,
            prepared,
            words,
            staging,
            reserved: Reserved::default(),
        })
    }

    /// Keeps room for `count` outputs of so many bytes each that are under way at a time.
    ///
    /// # Errors
    /// Out of memory.
    pub fn reserve(&mut self, session: &Session, count: usize, bytes: u64) -> Result<()> {
        self.reserved = session.device.reserve(count, bytes)?;
        Ok(())
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Writes the inputs and the parameters of every kernel for one step.
    fn prepare(
        &mut self,
        session: &Session,
        sizes: &Sizes,
        scalars: &Scalars,
        inputs: &[(TensorId, &[u32])],
    ) -> Result<()> {
        if sizes.max(self.plan.largest) != self.plan.largest {
            return Err(Error::internal(format!(
                "a batch of {sizes:?} in a plan for {:?}",
                self.plan.largest
            )));
        }
        let device = &session.device;
        for (tensor, words) in inputs {
            let planned = &self.plan.tensors[tensor.0 as usize];
            let wanted = planned.shape.elements().at(sizes) as usize;
            // Offsets have one word more than there are sentences, and so on.
            if words.len() < wanted || words.len() as u64 * 4 > self.plan.bytes(*tensor) {
                return Err(Error::internal(format!(
                    "the input {} got {} words, and {wanted} are needed",
                    planned.name,
                    words.len()
                )));
            }
            if let Some(buffer) = self.buffers.get(tensor) {
                device.write(buffer, words);
            }
        }
        let stride = Device::PARAMETER_STRIDE as usize / 4;
        for ((_, command), words) in
            self.plan.commands.iter().zip(self.staging.chunks_exact_mut(stride))
        {
            if let Command::Launch(launch) = command {
                for (place, word) in words.iter_mut().zip(&launch.parameters) {
                    *place = word.bits(sizes, scalars);
                }
            }
        }
        device.write(&self.words, &self.staging);
        Ok(())
    }

    /// Records the copies that the launch `index` reads as texels.
    fn copy_texels(
        &self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        index: usize,
        sizes: &Sizes,
    ) {
        for (tensor, texture) in &self.plan.copies[index] {
            let texture = &self.textures[*texture];
            let elements = self.plan.tensors[tensor.0 as usize].shape.elements().at(sizes);
            device.copy_to_texture(encoder, &self.buffers[tensor], elements * 4, texture);
        }
    }

    /// Records the commands of a step, submitting what a device would compute too long at a time. With
    /// `timestamps` each launch is a pass of its own, and timed.
    fn record(
        &self,
        device: &Device,
        sizes: &Sizes,
        timestamps: Option<&Timestamps>,
    ) -> Result<wgpu::CommandEncoder> {
        let mut encoder = device.encoder();
        let (mut next, mut passes, mut spent) = (0, 0, 0);
        while next < self.prepared.len() {
            if let Prepared::Clear(buffer) = &self.prepared[next] {
                device.clear(&mut encoder, buffer);
                next += 1;
                continue;
            }
            // Copies stand between passes, so a launch that needs some begins a new one.
            self.copy_texels(device, &mut encoder, next, sizes);
            let first = next;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: timestamps.map(|timestamps| timestamps.of(passes)),
            });
            passes += 1;
            while let Some(Prepared::Launch { pipeline, buffers, grid }) = self.prepared.get(next) {
                let apart = || !self.plan.copies[next].is_empty();
                if next > first && (timestamps.is_some() || apart()) {
                    break;
                }
                let workgroups = grid.at(sizes);
                if workgroups.iter().any(|count| *count > u64::from(Grid::LIMIT)) {
                    return Err(Error::device(format!(
                        "{}: {workgroups:?} workgroups, and a dimension holds {}",
                        self.plan.commands[next].0,
                        Grid::LIMIT
                    ))
                    .advice(Advice::SmallerBatch));
                }
                if !workgroups.contains(&0) {
                    pipeline.dispatch(&mut pass, buffers, workgroups.map(|count| count as u32));
                }
                spent += operations(&self.plan.commands[next].1, sizes);
                next += 1;
                if spent > OPERATIONS_PER_SUBMISSION {
                    break;
                }
            }
            drop(pass);
            if spent > OPERATIONS_PER_SUBMISSION {
                device.submit(std::mem::replace(&mut encoder, device.encoder()));
                spent = 0;
            }
        }
        Ok(encoder)
    }

    /// As [`Executor::run`], but every launch is a pass of its own, and timed by the device; waits for it.
    ///
    /// # Errors
    /// As [`Executor::run`]; an adapter that keeps no time.
    pub fn profile(
        &mut self,
        session: &Session,
        sizes: Sizes,
        scalars: Scalars,
        inputs: &[(TensorId, &[u32])],
        outputs: &[(TensorId, usize)],
    ) -> Result<(Pending, Vec<Timing>)> {
        let device = &session.device;
        self.prepare(session, &sizes, &scalars, inputs)?;
        let launches: Vec<_> = self.launches().collect();
        let timestamps = device.timestamps(launches.len())?;
        let encoder = self.record(device, &sizes, Some(&timestamps))?;
        let pending = self.submit(device, encoder, outputs)?;
        let times = device.passed(&timestamps)?;
        let mut last = 0.0;
        let timing = |((op, kernel, command), [begin, end]): (Launched<'_>, [f64; 2])| {
            let before = begin - std::mem::replace(&mut last, end);
            Timing {
                op,
                kernel,
                begin,
                seconds: end - begin,
                before,
                operations: operations(command, &sizes),
                bytes: self.plan.moved_bytes(command, &sizes),
            }
        };
        Ok((pending, launches.into_iter().zip(times).map(timing).collect()))
    }

    /// Op, shader and command of each launch, in order.
    fn launches(&self) -> impl Iterator<Item = Launched<'_>> {
        self.plan.commands.iter().filter_map(|(op, command)| match command {
            Command::Launch(launch) => Some((*op, launch.shader.name, command)),
            Command::Clear(_) => None,
        })
    }

    /// Submits one step and returns at once. `inputs` are written first; `outputs` come back with
    /// so many elements each.
    ///
    /// # Errors
    /// A batch larger than the plan has room for, or an error that the device has reported.
    pub fn run(
        &mut self,
        session: &Session,
        sizes: Sizes,
        scalars: Scalars,
        inputs: &[(TensorId, &[u32])],
        outputs: &[(TensorId, usize)],
    ) -> Result<Pending> {
        self.prepare(session, &sizes, &scalars, inputs)?;
        let encoder = self.record(&session.device, &sizes, None)?;
        self.submit(&session.device, encoder, outputs)
    }

    /// Submits what was recorded, and the copies by which the outputs come back.
    fn submit(
        &self,
        device: &Device,
        mut encoder: wgpu::CommandEncoder,
        outputs: &[(TensorId, usize)],
    ) -> Result<Pending> {
        let mut readbacks = Vec::with_capacity(outputs.len());
        for (tensor, count) in outputs {
            let buffer = self.buffers.get(tensor).ok_or_else(|| {
                Error::internal(format!(
                    "{} is computed nowhere",
                    self.plan.tensors[tensor.0 as usize].name
                ))
            })?;
            let bytes = *count as u64 * 4;
            let readback = device.read_later(&mut encoder, buffer, bytes, &self.reserved)?;
            readbacks.push((readback, *count));
        }
        let submission = device.submit(encoder);
        device.check("running a step")?;
        Ok(Pending { submission, readbacks })
    }
}

impl Pending {
    /// Waits for the step and returns its outputs, in the order asked for.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait<T: bytemuck::Pod>(self, session: &Session) -> Result<Vec<Vec<T>>> {
        session.device.wait(Some(self.submission))?;
        self.readbacks.into_iter().map(|(readback, count)| readback.take(count)).collect()
    }
}
