//! Activations that are computed again in backward instead of being kept.
//!
//! A graph may be cut into segments, such as the blocks of a transformer. Of a segment only what
//! later segments read is kept from forward to backward; right before the first command of backward
//! that wants anything else of it, the commands that make it are repeated, into tensors of their
//! own. The same kernels on the same inputs give the same bits. Memory falls to what lies between
//! segments plus one segment's activations (Chen et al., "Training Deep Nets with Sublinear Memory
//! Cost", 2016); the forward pass is paid twice.

use super::planned::{Planned, touched, writes};
use crate::kernels::{Command, TensorId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// A command with the name of its op.
type Named = (&'static str, Command);

fn renamed(command: &Command, names: &HashMap<TensorId, TensorId>) -> Command {
    let of = |tensor: TensorId| names.get(&tensor).copied().unwrap_or(tensor);
    match command {
        Command::Clear(tensor) => Command::Clear(of(*tensor)),
        Command::Launch(launch) => {
            let mut launch = launch.clone();
            launch.buffers.iter_mut().for_each(|(tensor, _)| *tensor = of(*tensor));
            launch.partly.iter_mut().for_each(|(tensor, _)| *tensor = of(*tensor));
            Command::Launch(launch)
        }
    }
}

/// Repeats the commands of each segment (a range of `commands`) where a command from `backward` on
/// first wants what the segment made.
pub(super) fn recompute(
    tensors: &mut Vec<Planned>,
    commands: Vec<Named>,
    segments: &[Range<usize>],
    backward: usize,
) -> Vec<Named> {
    // What each segment makes, and what forward wants of it elsewhere, which is kept.
    // Ordered, so that a plan is the same in every process.
    let mut of_segment: BTreeMap<TensorId, usize> = BTreeMap::new();
    for (number, segment) in segments.iter().enumerate() {
        for (_, command) in &commands[segment.clone()] {
            for tensor in touched(command) {
                if tensors[tensor.0 as usize].is_made() && writes(command, tensor) {
                    of_segment.entry(tensor).or_insert(number);
                }
            }
        }
    }
    for (index, (_, command)) in commands[..backward].iter().enumerate() {
        for tensor in touched(command) {
            let outside = |number: &usize| !segments[*number].contains(&index);
            if of_segment.get(&tensor).is_some_and(outside) {
                of_segment.remove(&tensor);
            }
        }
    }
    // Backward commands of a segment use its tensors under their new names.
    let mut names: HashMap<TensorId, TensorId> = HashMap::new();
    let mut repeated: HashSet<usize> = HashSet::new();
    let mut result: Vec<Named> = commands[..backward].to_vec();
    for (op, command) in &commands[backward..] {
        for tensor in touched(command) {
            let Some(number) = of_segment.get(&tensor).copied() else { continue };
            if !repeated.insert(number) {
                continue;
            }
            let segment = &commands[segments[number].clone()];
            for (tensor, _) in of_segment.iter().filter(|(_, of)| **of == number) {
                let again = tensors[tensor.0 as usize].again();
                tensors.push(again);
                names.insert(*tensor, TensorId(tensors.len() as u32 - 1));
            }
            // Only what leads to something that backward wants.
            let mut wanted: HashSet<TensorId> =
                commands[backward..].iter().flat_map(|(_, command)| touched(command)).collect();
            let mut needed = vec![false; segment.len()];
            for (index, (_, command)) in segment.iter().enumerate().rev() {
                let is_needed = touched(command).into_iter().any(|tensor| {
                    wanted.contains(&tensor)
                        && names.contains_key(&tensor)
                        && writes(command, tensor)
                });
                if is_needed {
                    needed[index] = true;
                    wanted.extend(touched(command));
                }
            }
            // A tensor that is kept is written again by a command that also makes others: into a
            // place of its own, so that nothing changes what is kept.
            let again = segment.iter().zip(&needed).filter(|(_, needed)| **needed);
            for ((op, command), _) in again {
                let mut of_command = names.clone();
                for tensor in touched(command) {
                    if writes(command, tensor) && !names.contains_key(&tensor) {
                        let spare = tensors[tensor.0 as usize].again();
                        tensors.push(spare);
                        of_command.insert(tensor, TensorId(tensors.len() as u32 - 1));
                    }
                }
                result.push((op, renamed(command, &of_command)));
            }
        }
        result.push((op, renamed(command, &names)));
    }
    result
}
