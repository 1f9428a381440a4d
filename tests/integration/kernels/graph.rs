//! Plans and their execution as a whole: memory, batches of other sizes, determinism, and what the
//! errors say.

use crate::support::transformer::{self, Settings, Step};
use crate::support::trial::*;
use crisp::error::Error;
use crisp::gpu::{Abilities, Device};
use crisp::graph::ops::{self, Affine, RowUpdates};
use crisp::graph::{Graph, Pass, Place, Plan, Program, Role, Session};
use crisp::kernels::Heads;
use crisp::kernels::matmul::Activation;
use crisp::kernels::optimizer::AdamW;
use crisp::kernels::pointwise::Dropout;
use crisp::kernels::{Command, Element, Scalars, Size, Sizes, TensorId};
use crisp::sparsity::Policy;
use std::collections::HashMap;

const POLICIES: [&str; 5] =
    ["dense", "topk:0.5", "block-topk:0.5,block=8", "local:5,global", "random:0.5"];

fn settings(policy: &str) -> Settings {
    Settings {
        vocabulary: 40,
        positions: 70,
        heads: Heads { count: 3, dim: 8 },
        inner: 52,
        layers: 2,
        classes: 2,
        activation: Activation::Gelu,
        dropout: 0.1,
        policy: policy.parse().unwrap(),
    }
}

/// Name, shape and elements of a weight.
fn stored(step: &Step, weight: TensorId) -> (&str, Vec<u64>, usize) {
    let shape: Vec<u64> =
        step.graph.shape(weight).0.iter().map(|size| size.fixed().unwrap()).collect();
    let count = shape.iter().product::<u64>() as usize;
    (step.graph.name(weight), shape, count)
}

/// Fresh weights, so that every run of a step starts from the same ones.
fn set_weights(session: &mut Session, step: &Step) {
    let mut random = Random(80);
    for weight in &step.weights {
        let (name, shape, count) = stored(step, *weight);
        session.set(name, Role::Weight, &shape, &random.normals(count)).unwrap();
        for moment in Role::MOMENTS {
            session.set(name, moment, &shape, &vec![0.0; count]).unwrap();
        }
    }
}

/// The words of these outputs, and of the updated weights, after one step of this batch in a plan
/// that has them, and perhaps others, as its outputs.
fn run(
    session: &mut Session,
    step: &Step,
    packed: &Packed,
    plan: Plan,
    outputs: &[TensorId],
) -> Vec<Vec<u32>> {
    set_weights(session, step);
    let mut program = Program::new(session, plan, 1).unwrap();
    let all = submit(session, step, packed, &mut program);
    let mut got: Vec<Vec<u32>> = outputs.iter().map(|output| all[output].clone()).collect();
    for weight in &step.weights {
        got.push(bits(&session.get(step.graph.name(*weight), Role::Weight).unwrap()));
    }
    got
}

/// One step of this batch; the words of the plan's outputs.
fn submit(
    session: &Session,
    step: &Step,
    packed: &Packed,
    program: &mut Program,
) -> HashMap<TensorId, Vec<u32>> {
    let (tokens, batch) = (step.tokens, &packed.batch);
    let mut inputs: Vec<(TensorId, &[u32])> = vec![
        (tokens.placed_ids, &batch.placed_ids),
        (tokens.places, &batch.places),
        (tokens.offsets, &batch.offsets),
        (tokens.sorted.tokens, &batch.sorted_tokens),
        (tokens.sorted.segments, &batch.segments),
        (tokens.sorted.ids, &batch.segment_ids),
        (step.mask.blocks, bytemuck::cast_slice(&packed.mask.blocks)),
        (step.mask.visits, &packed.mask.visits),
        (step.labels, &batch.labels),
    ];
    inputs.extend(step.mask.bits.map(|bits| (bits, packed.mask.bits.as_slice())));
    let scalars = Scalars { seed: 5, step: 1, learning_rate: 1e-3, ..Scalars::default() };
    let of_step = crisp::graph::Step { sizes: packed.sizes, scalars, inputs: &inputs };
    let words = program
        .run(session, &of_step)
        .and_then(|pending| pending.wait(&session.device))
        .unwrap_or_else(|why| panic!("{why}"));
    program.plan().outputs.iter().copied().zip(words).collect()
}

/// The tensors of a plan that are made within the step.
fn made(plan: &Plan) -> Vec<TensorId> {
    let all = (0..plan.tensors.len() as u32).map(TensorId);
    all.filter(|id| matches!(plan.planned(*id).place, Place::Slot(_))).collect()
}

fn wanted(step: &Step) -> Vec<TensorId> {
    [step.logits, step.loss, step.norm].into_iter().chain(step.gradients.iter().copied()).collect()
}

fn is_finite(words: &[Vec<u32>]) -> bool {
    words.iter().flatten().all(|word| f32::from_bits(*word).is_finite())
}

/// First and last command that touches each tensor of a slot; outputs stay to the end.
fn lifetimes(plan: &Plan, outputs: &[TensorId]) -> Vec<(TensorId, usize, usize, usize)> {
    let mut lives: Vec<(TensorId, usize, usize, usize)> = Vec::new();
    for (index, (_, command)) in plan.commands.iter().enumerate() {
        let touched: Vec<TensorId> = match command {
            Command::Clear(tensor) => vec![*tensor],
            Command::Launch(launch) => launch.buffers.iter().map(|buffer| buffer.0).collect(),
        };
        for tensor in touched {
            let Place::Slot(slot) = plan.tensors[tensor.0 as usize].place else { continue };
            match lives.iter_mut().find(|life| life.0 == tensor) {
                Some(life) => life.3 = index,
                None => lives.push((tensor, slot, index, index)),
            }
        }
    }
    for life in &mut lives {
        if outputs.contains(&life.0) {
            life.3 = usize::MAX;
        }
    }
    lives
}

#[test]
fn tensors_that_are_alive_together_never_share_memory() {
    let packed = Packed::new(&LENGTHS, &Policy::dense(), 40, &mut Random(81));
    for policy in POLICIES {
        for target in TARGETS {
            let step = transformer::step(&settings(policy), true).unwrap();
            let outputs = wanted(&step);
            let plan = Plan::new(&step.graph, target, packed.sizes, &outputs).unwrap();
            let lives = lifetimes(&plan, &outputs);
            assert!(lives.len() > 50, "{} tensors are too few to test with", lives.len());
            for (index, (tensor, slot, first, last)) in lives.iter().enumerate() {
                assert!(
                    plan.bytes(*tensor) <= plan.slots[*slot],
                    "{} does not fit its slot",
                    plan.tensors[tensor.0 as usize].name
                );
                for (other, other_slot, other_first, other_last) in &lives[index + 1..] {
                    assert!(
                        slot != other_slot || last < other_first || other_last < first,
                        "{} and {} share slot {slot}",
                        plan.tensors[tensor.0 as usize].name,
                        plan.tensors[other.0 as usize].name
                    );
                }
            }
            let apart: u64 = lives.iter().map(|life| plan.bytes(life.0)).sum();
            let shared = plan.made_bytes();
            assert!(shared < apart / 2 + apart / 4, "{shared} of {apart} bytes: little is shared");
        }
    }
}

#[test]
fn a_plan_can_be_read() {
    let step = transformer::step(&settings("topk:0.5"), true).unwrap();
    let plan = Plan::new(&step.graph, Abilities::CPU, rows(4), &wanted(&step)).unwrap();
    let text = plan.to_string();
    assert_eq!(text.lines().count(), plan.commands.len() + 1);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("embedding: embedding_forward() on w0 [40, 24] (weight)"), "{first}");
    let adamw = text.lines().find(|line| line.starts_with("AdamW: ")).unwrap();
    assert!(adamw.contains("w0 [40, 24] (first moment)"), "{adamw}");
    assert!(text.lines().any(|line| line.contains("mask bits") && line.contains("(slot ")));
    assert!(text.lines().last().unwrap().starts_with("slots: ["));
}

/// A value is written before it is read: nothing is left over from the step before.
#[test]
fn commands_write_before_they_read() {
    use crisp::gpu::Access;
    for policy in POLICIES {
        for target in TARGETS {
            let step = transformer::step(&settings(policy), true).unwrap();
            let plan = Plan::new(&step.graph, target, rows(4), &wanted(&step)).unwrap();
            let mut written = Vec::new();
            for (op, command) in &plan.commands {
                let buffers = match command {
                    Command::Clear(tensor) => vec![(*tensor, Access::Write)],
                    Command::Launch(launch) => launch.buffers.clone(),
                };
                for (tensor, access) in buffers {
                    let planned = &plan.tensors[tensor.0 as usize];
                    if access == Access::Write {
                        written.push(tensor);
                    } else if matches!(planned.place, Place::Slot(_)) {
                        assert!(written.contains(&tensor), "{op} reads {} first", planned.name);
                    }
                }
            }
        }
    }
}

/// Sharing memory, room for a larger batch and a second run change no bit of any result.
#[test]
fn memory_room_and_repetition_change_no_bit() {
    let mut session = session();
    for policy in POLICIES {
        let mut random = Random(82);
        let settings = settings(policy);
        let packed = Packed::new(&LENGTHS, &settings.policy, 40, &mut random);
        let larger = Packed::new(&[70, 3, 69, 1, 40, 40, 12], &settings.policy, 40, &mut random);
        let step = transformer::step(&settings, true).unwrap();
        let outputs = wanted(&step);
        let roomy = larger.sizes.max(packed.sizes);
        assert_ne!(roomy, packed.sizes);
        for target in TARGETS {
            // With every tensor an output, nothing is ever freed.
            let everything: Vec<TensorId> = {
                let plan = Plan::new(&step.graph, target, packed.sizes, &outputs).unwrap();
                made(&plan)
            };
            let mut results = Vec::new();
            for (what, largest, kept) in [
                ("as it is", packed.sizes, &outputs),
                ("again", packed.sizes, &outputs),
                ("with room for more", roomy, &outputs),
                ("without sharing memory", packed.sizes, &everything),
            ] {
                let plan = Plan::new(&step.graph, target, largest, kept).unwrap();
                let got = run(&mut session, &step, &packed, plan, &outputs);
                assert!(is_finite(&got), "{policy} {target:?} {what}: not finite");
                results.push((what, got));
            }
            let first = &results[0].1;
            assert!(first[1][0] != 0, "the loss is zero");
            for (what, got) in &results[1..] {
                for (index, (got, want)) in got.iter().zip(first).enumerate() {
                    assert!(got == want, "{policy} {target:?} {what}: result {index} differs");
                }
            }
        }
    }
}

/// However a dispatch is cut, each workgroup computes the same.
#[test]
fn dispatches_in_pieces_change_no_bit() {
    let mut session = session();
    for policy in POLICIES {
        let settings = settings(policy);
        let packed = Packed::new(&[1, 7, 33, 16], &settings.policy, 40, &mut Random(86));
        let step = transformer::step(&settings, true).unwrap();
        let outputs = wanted(&step);
        for target in TARGETS.into_iter().chain([Abilities::PLAIN_GPU]) {
            let run = |session: &mut Session, most: u64| {
                session.device.pace.at_most(most);
                let plan = Plan::new(&step.graph, target, packed.sizes, &outputs).unwrap();
                run(session, &step, &packed, plan, &outputs)
            };
            let whole = run(&mut session, u64::MAX);
            assert!(is_finite(&whole), "{policy} {target:?}");
            // The second: one workgroup at a time.
            for most in [100_000, 1] {
                let pieces = run(&mut session, most);
                for (index, (got, want)) in pieces.iter().zip(&whole).enumerate() {
                    assert!(got == want, "{policy} {target:?}: result {index} differs");
                }
            }
        }
    }
}

/// A larger batch whose numbers are all NaN leaves them behind in every buffer. The next, smaller
/// batch must read none of them, and write nothing behind its own end.
#[test]
fn a_batch_neither_reads_nor_writes_behind_its_end() {
    let mut session = session();
    for policy in POLICIES {
        let mut random = Random(85);
        let settings = settings(policy);
        let small = Packed::new(&[5, 18, 1, 41, 2], &settings.policy, 40, &mut random);
        let large = Packed::new(&[70, 3, 69, 1, 40, 40, 12], &settings.policy, 40, &mut random);
        let step = transformer::step(&settings, true).unwrap();
        let outputs = wanted(&step);
        for target in TARGETS {
            let plan = Plan::new(&step.graph, target, small.sizes, &outputs).unwrap();
            let clean = run(&mut session, &step, &small, plan, &outputs);

            // Without sharing, so that each tensor has its own end.
            let plan = Plan::new(&step.graph, target, large.sizes, &outputs).unwrap();
            let plan = Plan::new(&step.graph, target, large.sizes, &made(&plan)).unwrap();
            let of_batch: Vec<(TensorId, usize)> = made(&plan)
                .into_iter()
                .map(|id| (id, plan.planned(id).shape.elements()))
                .filter(|(_, elements)| elements.symbol.is_some())
                .map(|(id, elements)| (id, elements.at(&small.sizes) as usize))
                .collect();
            assert!(of_batch.len() > 50, "{} tensors are too few to test with", of_batch.len());
            let name = |id: TensorId| &plan.planned(id).name;
            for weight in &step.weights {
                let (name, shape, count) = stored(&step, *weight);
                session.set(name, Role::Weight, &shape, &vec![f32::NAN; count]).unwrap();
            }
            let mut program = Program::new(&mut session, plan.clone(), 1).unwrap();
            let look = |session: &Session, program: &Program| -> Vec<Vec<u32>> {
                of_batch.iter().map(|(id, _)| program.peek(session, *id).unwrap()).collect()
            };
            submit(&session, &step, &large, &mut program);
            let before = look(&session, &program);
            set_weights(&mut session, &step);
            submit(&session, &step, &small, &mut program);
            let after = look(&session, &program);
            for (index, (id, small)) in of_batch.iter().enumerate() {
                let end = plan.planned(*id).shape.elements().at(&large.sizes) as usize;
                assert!(
                    before[index][*small..end] == after[index][*small..end],
                    "{policy} {target:?}: {} is written behind its end",
                    name(*id)
                );
            }
            set_weights(&mut session, &step);
            let again = submit(&session, &step, &small, &mut program);
            for (want, id) in clean.iter().zip(&outputs) {
                assert!(
                    &again[id] == want,
                    "{policy} {target:?}: {} read what was left",
                    name(*id)
                );
            }
        }
    }
}

/// The kernels of the two targets are different programs for the same step.
#[test]
fn both_targets_take_the_same_step() {
    let mut session = session();
    for policy in POLICIES {
        let settings = settings(policy);
        let packed = Packed::new(&LENGTHS, &settings.policy, 40, &mut Random(83));
        let step = transformer::step(&settings, true).unwrap();
        let outputs = wanted(&step);
        let [cpu, gpu] = TARGETS.map(|target| {
            let plan = Plan::new(&step.graph, target, packed.sizes, &outputs).unwrap();
            assert!(shaders(&plan).contains(&"matmul_narrow"));
            assert_eq!(shaders(&plan).contains(&"matmul_streaming"), target == Abilities::CPU);
            run(&mut session, &step, &packed, plan, &outputs)
        });
        for (index, (cpu, gpu)) in cpu.iter().zip(&gpu).take(outputs.len()).enumerate() {
            let floats = |words: &[u32]| -> Vec<f32> {
                words.iter().map(|word| f32::from_bits(*word)).collect()
            };
            let what = format!("{policy}: result {index} of both targets");
            close(&what, &floats(cpu), &wide(&floats(gpu)), 1e-3);
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let mut session = session();
    let mut trial = Trial::new(rows(8));
    let width = Size::from(3u32);
    let a = trial.floats("a", [tokens(), width], &[1.0; 24]);
    let y = ops::add(&mut trial.graph, a, a).unwrap();
    let plan = trial.plan(Abilities::GPU, rows(8), &[y]);
    let mut program = Program::new(&mut session, plan, 1).unwrap();
    let mut run = |sizes: Sizes, words: &[u32]| {
        let inputs: [(TensorId, &[u32]); 1] = [(a, words)];
        let step = crisp::graph::Step { sizes, scalars: Scalars::default(), inputs: &inputs };
        program.run(&session, &step).map(|_| ())
    };
    let why = run(rows(9), &[0; 27]).unwrap_err().to_string();
    assert!(why.contains('9') && why.contains('8'), "{why}");
    let why = run(rows(7), &[0; 20]).unwrap_err().to_string();
    assert!(why.contains("input a") && why.contains("20") && why.contains("21"), "{why}");
    assert!(run(rows(8), &[0; 99]).is_err(), "too many words must not reach the buffer");
    run(rows(7), &[0; 21]).unwrap();
}

#[test]
fn errors_of_shape_name_the_op_and_both_shapes() {
    let graph = &mut Graph::new();
    let fixed =
        |sizes: &[u32]| crisp::graph::Shape(sizes.iter().map(|size| Size::from(*size)).collect());
    let x = graph.input("x", Element::F32, [tokens(), Size::from(6u32)]);
    let other = graph.input("other", Element::F32, [tokens(), Size::from(5u32)]);
    let vector = graph.input("vector", Element::F32, [tokens()]);
    let weight = graph.input("weight", Element::F32, fixed(&[4, 5]));
    let good_weight = graph.input("good weight", Element::F32, fixed(&[4, 6]));
    let bias = graph.input("bias", Element::F32, fixed(&[3]));
    let six = graph.input("six", Element::F32, fixed(&[6]));
    let heads = Heads { count: 2, dim: 3 };
    let settings = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0 };
    let mut trial = Trial::new(rows(1));
    let packed = Packed::new(&[3], &Policy::dense(), 4, &mut Random(84));
    let mask_inputs = trial.mask_inputs(&packed.mask);
    let inputs = trial.token_inputs(&packed.batch);
    let dense = crisp::kernels::mask::Mask {
        blocks: x,
        visits: x,
        bits: None,
        visits_stride: 0u32.into(),
        bits_stride: 0u32.into(),
        block: 16,
    };
    let (none, pass) = (Activation::None, Pass::Training { recompute: false });
    let affine = |weight, bias| Affine { weight, bias };
    let dropout = Dropout { probability: 0.1, site: 0 };
    let weights = ops::Updated { weight: good_weight, gradient: weight, settings, half: None };
    fn err<T>(result: Result<T, Error>) -> String {
        result.err().map(|why| why.to_string()).unwrap_or_default()
    }
    let cases = [
        (err(ops::add(graph, x, other)), "add", "other", "[tokens, 5]", "[tokens, 6]"),
        (
            err(ops::linear(graph, x, affine(weight, bias), none, pass)),
            "linear",
            "weight",
            "[4, 5]",
            "[4, 6]",
        ),
        (
            err(ops::linear(graph, x, affine(good_weight, bias), none, pass)),
            "linear",
            "bias",
            "[3]",
            "[4]",
        ),
        (
            err(ops::layer_norm(graph, x, Some(other), affine(six, six), 0.1)),
            "layer norm",
            "other",
            "[tokens, 5]",
            "[tokens, 6]",
        ),
        (
            err(ops::layer_norm(graph, x, None, affine(bias, six), 0.1)),
            "layer norm",
            "bias",
            "[3]",
            "[6]",
        ),
        (
            err(ops::layer_norm(graph, x, None, affine(six, bias), 0.1)),
            "layer norm",
            "bias",
            "[3]",
            "[6]",
        ),
        (
            err(ops::embedding(graph, weight, good_weight, inputs)),
            "embedding",
            "good weight",
            "[4, 6]",
            "[4, 5]",
        ),
        (
            err(ops::dropout(graph, dropout, vector, vector)),
            "dropout",
            "vector",
            "[tokens]",
            "matrix",
        ),
        (
            err(ops::attention(graph, heads, None, dense, x)),
            "attention",
            "x",
            "[tokens, 6]",
            "[tokens, 18]",
        ),
        (
            err(ops::mask(graph, packed.followed(), heads, x, mask_inputs)),
            "mask",
            "x",
            "[tokens, 6]",
            "[tokens, 18]",
        ),
        (
            err(ops::first_token(graph, weight, inputs)),
            "first token",
            "weight",
            "[4, 5]",
            "[tokens, 5]",
        ),
        (
            err(ops::cross_entropy(graph, x, vector)),
            "cross-entropy",
            "x",
            "[tokens, 6]",
            "[sequences, 6]",
        ),
        (
            err(RowUpdates::new(graph, weight, weights.settings)
                .and_then(|rows| rows.adamw(graph, inputs.sorted.ids, x, six))),
            "AdamW by rows",
            "x",
            "[tokens, 6]",
            "[20, 5]",
        ),
        (err(ops::adamw(graph, weights, six)), "AdamW", "weight", "[4, 5]", "[4, 6]"),
    ];
    for (why, op, tensor, has, needs) in cases {
        for part in [op, tensor, has, needs] {
            assert!(why.contains(part), "an error of {op} should say {part}: '{why}'");
        }
    }
}

#[test]
fn tensors_too_large_to_count_are_refused() {
    let graph = &mut Graph::new();
    let x = graph.input("x", Element::F32, [tokens(), Size::from(1u32 << 20)]);
    ops::add(graph, x, x).unwrap();
    let why = Plan::new(graph, Abilities::GPU, rows(4096), &[]).unwrap_err().to_string();
    assert!(why.contains("4294967296 elements") && why.contains("smaller batches"), "{why}");
}

#[test]
fn an_adapter_that_is_not_there_is_answered_with_those_that_are() {
    let there = session().device.adapter.name.clone();
    let why = Device::open(Some("no such adapter")).err().expect("there is none of that name");
    let why = why.to_string();
    assert!(why.contains("'no such adapter'") && why.contains(&there), "{why}");
    // Every part of a description can be asked for, in any case.
    Device::open(Some(&there.to_uppercase())).unwrap();
}

#[test]
fn parameters_keep_their_values_and_their_size() {
    let mut session = session();
    session.set("values", Role::Weight, &[3], &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!(session.get("values", Role::Weight).unwrap(), [1.0, 2.0, 3.0]);
    let why = session.set("values", Role::Weight, &[100], &[0.0; 100]).unwrap_err().to_string();
    assert!(why.contains("values") && why.contains("[100]") && why.contains("[3]"), "{why}");
    let why = session.set("values", Role::Weight, &[3], &[0.0; 4]).unwrap_err().to_string();
    assert!(why.contains("values") && why.contains("4 values") && why.contains("[3]"), "{why}");
    // Another role is another tensor.
    session.set("values", Role::FirstMoment, &[2], &[4.0, 5.0]).unwrap();
    assert_eq!(session.get("values", Role::Weight).unwrap(), [1.0, 2.0, 3.0]);
    let why = session.get("nothing", Role::Weight).unwrap_err().to_string();
    assert!(why.contains("nothing"), "{why}");
}
