//! What wgpu records of a plan: its dispatches, and the barriers that it puts between commands.
//!
//! The rule is that of `wgpu-core` 30 (`track/buffer.rs`): each command says how it uses each
//! buffer that it names, and a barrier stands before it where one of them was used otherwise
//! before, or was written, which orders nothing by itself. Uses are known at three levels: within a
//! pass, within a command buffer, and on the device from one submission to the next. Counts of this
//! rule were held against those of a Vulkan layer under the binary.

use super::kernels::{MODELS, SST2};
use crisp::gpu::{Abilities, Access};
use crisp::graph::{Place, Plan, Precision, Role};
use crisp::kernels::{Command, Launch, Sizes, TensorId};
use crisp::train::POLICIES;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Commands of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Dispatches.
    pub dispatches: usize,
    /// Calls of `vkCmdPipelineBarrier`, those around what the host writes and reads included.
    pub barriers: usize,
}

impl AddAssign for Recorded {
    fn add_assign(&mut self, more: Self) {
        self.dispatches += more.dispatches;
        self.barriers += more.barriers;
    }
}

/// A step of DistilBERT-base, by policy and phase.
pub type Steps = Vec<(&'static str, &'static str, Recorded)>;

/// The steps of DistilBERT-base on SST-2 under every policy, and in mixed precision. In parts it is
/// one part and the update.
pub fn steps() -> Steps {
    let model = &MODELS[0];
    let mut steps = Vec::new();
    let single = POLICIES.map(|policy| (policy, policy, Precision::F32));
    for (name, policy, precision) in
        single.into_iter().chain([("dense, mixed", "dense", Precision::Mixed)])
    {
        let plans = model.plans(policy, precision, Abilities::GPU, SST2);
        for phase in ["training", "training in parts", "evaluation"] {
            let of_phase: Vec<_> = plans
                .iter()
                .filter(|(name, _)| *name == phase)
                .map(|(_, plan)| (plan, plan.largest))
                .collect();
            steps.push((name, phase, recorded(&of_phase)));
        }
    }
    steps
}

/// A buffer of a step that runs these plans.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Buffer {
    /// Tensors in the session's store, which plans share.
    Stored(String, Role),
    /// What the host writes, of a plan: its inputs.
    Inputs(usize),
    /// Likewise the parameters of its launches.
    Words(usize),
    /// What tensors of a plan share.
    Slot(usize, usize),
    /// What an output comes back through.
    Returned(usize, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Uniform,
    Read,
    ReadWrite,
    CopySource,
    CopyTarget,
    Mapped,
}

impl Use {
    /// Whether a barrier stands between this use and the next.
    fn barred_from(self, next: Self) -> bool {
        self != next || matches!(self, Self::ReadWrite | Self::CopyTarget)
    }
}

/// How each buffer was used first, and last.
#[derive(Default)]
struct Tracker(BTreeMap<Buffer, (Use, Use)>);

impl Tracker {
    /// Uses a buffer; says whether a barrier must stand before.
    fn set(&mut self, buffer: Buffer, next: Use) -> bool {
        self.merge(buffer, (next, next))
    }

    fn merge(&mut self, buffer: Buffer, (first, last): (Use, Use)) -> bool {
        match self.0.get_mut(&buffer) {
            Some((_, before)) => std::mem::replace(before, last).barred_from(first),
            None => {
                self.0.insert(buffer, (first, last));
                false
            }
        }
    }

    /// Uses all buffers as a part did; says whether a barrier must stand before that part.
    fn append(&mut self, part: Self) -> bool {
        let barred: Vec<bool> =
            part.0.into_iter().map(|(buffer, uses)| self.merge(buffer, uses)).collect();
        barred.contains(&true)
    }
}

/// What wgpu records of a step that runs these plans one after another, each in one submission,
/// once they have run before.
pub fn recorded(plans: &[(&Plan, Sizes)]) -> Recorded {
    let mut device = Tracker::default();
    let mut step = || {
        let mut total = Recorded::default();
        for (number, (plan, sizes)) in plans.iter().enumerate() {
            total += submission(&mut device, number, plan, sizes);
        }
        total
    };
    step();
    step()
}

fn submission(device: &mut Tracker, number: usize, plan: &Plan, sizes: &Sizes) -> Recorded {
    let mut recorded = Recorded::default();
    let buffer = |tensor: TensorId| {
        let planned = plan.planned(tensor);
        match planned.place {
            Place::Stored(role) => Buffer::Stored(planned.name.clone(), role),
            // The members of a group are parts of one buffer.
            Place::Member(role) => match &planned.within {
                Some(within) => Buffer::Stored(within.group.clone(), role),
                None => panic!("{} is a member of no group", planned.name),
            },
            Place::Input => Buffer::Inputs(number),
            Place::Slot(slot) => Buffer::Slot(number, slot),
            Place::Nowhere => panic!("{} has no place", planned.name),
        }
    };
    // Each write is a copy out of a buffer that the host has just filled, which takes a barrier.
    let has_inputs = plan.tensors.iter().any(|tensor| tensor.place == Place::Input);
    let inputs = has_inputs.then_some(Buffer::Inputs(number));
    for written in [Buffer::Words(number)].into_iter().chain(inputs) {
        device.set(written, Use::CopyTarget);
        recorded.barriers += 1;
    }
    let mut commands = Tracker::default();
    let mut pass = Tracker::default();
    for (_, command) in &plan.commands {
        match command {
            Command::Clear(tensor) => {
                // A clear stands outside of passes. The barrier of a pass stands before all of it.
                recorded.barriers += usize::from(commands.append(std::mem::take(&mut pass)));
                recorded.barriers += usize::from(commands.set(buffer(*tensor), Use::CopyTarget));
            }
            Command::Launch(launch) if launch.grid.at(sizes).contains(&0) => {}
            Command::Launch(launch) => {
                let mut uses = uses(launch, buffer);
                uses.insert(Buffer::Words(number), Use::Uniform);
                let barred: Vec<bool> =
                    uses.into_iter().map(|(buffer, next)| pass.set(buffer, next)).collect();
                recorded.barriers += usize::from(barred.contains(&true));
                recorded.dispatches += 1;
            }
        }
    }
    recorded.barriers += usize::from(commands.append(pass));
    for (index, output) in plan.outputs.iter().enumerate() {
        let barred = [
            commands.set(buffer(*output), Use::CopySource),
            commands.set(Buffer::Returned(number, index), Use::CopyTarget),
        ];
        recorded.barriers += usize::from(barred.contains(&true));
    }
    recorded.barriers += usize::from(device.append(commands));
    for index in 0..plan.outputs.len() {
        device.set(Buffer::Returned(number, index), Use::Mapped);
    }
    recorded
}

/// How a launch uses each buffer that it binds. Tensors of one slot, or one that stands in for
/// another, are one buffer.
fn uses(launch: &Launch, buffer: impl Fn(TensorId) -> Buffer) -> BTreeMap<Buffer, Use> {
    let mut uses = BTreeMap::new();
    for (tensor, access) in &launch.buffers {
        let next = match access {
            Access::Read => Use::Read,
            Access::Write | Access::Update => Use::ReadWrite,
            Access::Texels | Access::HalfTexels => {
                panic!("{}: a kernel for cards reads no texels", launch.shader.name)
            }
        };
        uses.insert(buffer(*tensor), next);
    }
    uses
}
