//! Attention over block masks, and its gradients.

use super::reference::{check_gradient, dot};
use crate::support::trial::*;
use crisp::gpu::Abilities;
use crisp::graph::{Session, ops};
use crisp::kernels::Heads;
use crisp::kernels::mask::{Mask, bits_words};
use crisp::kernels::pointwise::Dropout;
use crisp::kernels::{Scalars, Size, Symbol, TensorId};
use crisp::measure::reference::attention::{Attention, Gradient, dropout_factors, expand};
use crisp::sparsity::{Block, BlockMask, Policy, Rule};

/// Random query, key and value. Queries and keys have outliers that make scores of about a hundred,
/// values have larger ones.
pub fn random_qkv(heads: Heads, tokens: usize, random: &mut Random) -> Vec<f32> {
    let width = (heads.count * heads.dim) as usize;
    let mut qkv = Vec::new();
    for _ in 0..tokens {
        qkv.extend(random.outliers(2 * width, 40.0).iter().map(|x| x * 0.5));
        qkv.extend(random.outliers(width, 100.0));
    }
    qkv
}

pub fn qkv_shape(heads: Heads) -> [Size; 2] {
    [tokens(), Size::from(3 * heads.count * heads.dim)]
}

/// Each kind of adapter that has kernels of its own for such heads. Those without subgroup functions
/// differ in nothing that depends on whether a head has 32 or 64 components.
fn targets(heads: Heads) -> Vec<Abilities> {
    match heads.dim {
        dim if !dim.is_multiple_of(4) => vec![Abilities::GPU],
        64 => vec![Abilities::CPU, Abilities::GPU],
        _ => vec![Abilities::CPU, Abilities::GPU, Abilities::PLAIN_GPU],
    }
}

/// Compares forward and gradient with the reference over the mask that the policy has chosen.
fn check_policy(
    session: &mut Session,
    lengths: &[usize],
    heads: Heads,
    policy: &str,
    dropout: Option<Dropout>,
) {
    check_policy_on(&targets(heads), session, lengths, heads, policy, dropout);
}

fn check_policy_on(
    targets: &[Abilities],
    session: &mut Session,
    lengths: &[usize],
    heads: Heads,
    policy: &str,
    dropout: Option<Dropout>,
) {
    let policy: Policy = policy.parse().unwrap();
    let mut random = Random(60 + u64::from(heads.count * heads.dim));
    let packed = Packed::new(lengths, &policy, 10, &mut random);
    let qkv_values = random_qkv(heads, packed.tokens(), &mut random);
    let width = (heads.count * heads.dim) as usize;
    let dout_values = random.outliers(packed.tokens() * width, 60.0);

    let mut trial = Trial::new(packed.sizes);
    trial.scalars =
        Scalars { seed: 0xfeed_0000_0042, step: 3, learning_rate: 0.0, ..Scalars::default() };
    let qkv = trial.floats("qkv", qkv_shape(heads), &qkv_values);
    let inputs = trial.mask_inputs(&packed.mask);
    let mask = ops::mask(&mut trial.graph, packed.followed(), heads, qkv, inputs).unwrap();
    let out = ops::attention(&mut trial.graph, heads, dropout, mask, qkv).unwrap();
    let found = trial.gradients(out, &dout_values);
    let mut outputs = vec![out, found[&qkv]];
    let of_device = match packed.followed().rule {
        Rule::Dense | Rule::Local { .. } => None,
        Rule::Topk { .. } | Rule::Random { .. } => mask.bits,
        Rule::BlockTopk { .. } => Some(mask.visits),
    };
    outputs.extend(of_device);
    let (qkv64, dout64) = (wide(&qkv_values), wide(&dout_values));
    // What the reference makes of a mask: all targets choose the same, but for scores next to equal.
    let mut known: Option<(Vec<Vec<bool>>, Vec<f64>, Gradient)> = None;
    for target in targets.iter().copied() {
        let mut got = trial.run_words(session, target, &outputs);
        let chosen = of_device.map(|_| got.pop().unwrap()).unwrap_or_default();
        let masks = match packed.followed().rule {
            Rule::BlockTopk { .. } => expand(&packed.mask, heads, &chosen, &[]),
            _ => expand(&packed.mask, heads, &[], &chosen),
        };
        if known.as_ref().is_none_or(|(known, ..)| *known != masks) {
            let factors = dropout
                .map(|settings| dropout_factors(&packed.places(), heads, settings, trial.scalars));
            let tokens = packed.tokens();
            let reference = Attention { heads, tokens, masks: masks.clone(), factors };
            let forward = reference.forward(&qkv64);
            known = Some((masks, forward, reference.backward(&qkv64, &dout64)));
        }
        let (_, forward, backward) = known.as_ref().unwrap();
        let floats = |words: &[u32]| words.iter().map(|w| f32::from_bits(*w)).collect::<Vec<_>>();
        let dropped = dropout.map_or(0.0, |dropout| dropout.probability);
        let what = format!("attention {policy} {heads:?} {lengths:?} dropout {dropped} {target:?}");
        close(&what, &floats(&got[0]), forward, PRODUCT);
        check_parts(&what, heads, &floats(&got[1]), backward);
    }
}

/// Query, key and value apart: their gradients differ in size.
fn check_parts(what: &str, heads: Heads, got: &[f32], want: &Gradient) {
    for (which, name) in ["dquery", "dkey", "dvalue"].iter().enumerate() {
        let what = format!("{what}: {name}");
        let (got, terms) = (part(heads, which, got), part(heads, which, &want.terms));
        let floor: Vec<f64> = terms.iter().map(|term| term.max(1e-30)).collect();
        close_to(&what, &got, &part(heads, which, &want.dqkv), &floor, PRODUCT);
    }
}

/// The query's (0), key's (1) or value's (2) part of all tokens.
fn part<T: Copy>(heads: Heads, which: usize, qkv: &[T]) -> Vec<T> {
    let width = (heads.count * heads.dim) as usize;
    qkv.chunks_exact(width).skip(which).step_by(3).flatten().copied().collect()
}

const HEADS: [Heads; 3] =
    [Heads { count: 3, dim: 6 }, Heads { count: 1, dim: 32 }, Heads { count: 3, dim: 64 }];

fn check_policies(policies: &[&str], dropout: Option<Dropout>) {
    let mut session = session();
    for heads in HEADS {
        check_policy(&mut session, &[1], heads, policies[0], dropout);
        for policy in policies {
            check_policy(&mut session, &LENGTHS, heads, policy, dropout);
        }
    }
}

#[test]
fn dense_attention_and_its_gradient() {
    check_policies(&["dense"], None);
}

#[test]
fn topk_attention_and_its_gradient() {
    check_policies(&["topk:0.5", "topk:0.8", "topk:0.5,over=20"], None);
}

#[test]
fn block_topk_attention_and_its_gradient() {
    check_policies(&["block-topk:0.6,block=8", "block-topk:0.5", "block-topk:0.5,block=32"], None);
}

#[test]
fn attention_with_dropout_and_its_gradient() {
    let dropout = Dropout { probability: 0.3, site: 9 };
    check_policies(&["dense", "topk:0.5", "block-topk:0.6,block=8", "local:5"], Some(dropout));
    check_policies(&["random:0.5"], Some(dropout));
}

#[test]
fn local_attention_and_its_gradient() {
    check_policies(&["local:0", "local:5", "local:16,global", "local:100"], None);
}

#[test]
fn random_attention_and_its_gradient() {
    check_policies(&["random:0.5", "random:0.8", "random:0.5,over=20,seed=3"], None);
}

/// More blocks than a word of visits has bits.
#[test]
fn attention_of_a_long_sentence_and_its_gradient() {
    let mut session = session();
    let heads = Heads { count: 2, dim: 8 };
    for policy in ["dense", "block-topk:0.9,block=4", "local:7,global", "topk:0.9", "random:0.9"] {
        for lengths in [&[530][..], &[3, 300, 129]] {
            check_policy(&mut session, lengths, heads, policy, None);
        }
    }
    // More than cards mark at a time.
    let heads = Heads { count: 1, dim: 8 };
    check_policy(&mut session, &[5, 1060], heads, "block-topk:0.9,block=4", None);
}

/// Without outliers nothing cancels: each element is as exact as the tensor's typical one.
#[test]
fn attention_of_ordinary_values() {
    let mut session = session();
    for heads in HEADS {
        let mut random = Random(65);
        let packed = Packed::new(&LENGTHS, &Policy::dense(), 10, &mut random);
        let count = packed.tokens();
        let width = (heads.count * heads.dim) as usize;
        let (qkv_values, dout) = (random.normals(count * 3 * width), random.normals(count * width));
        let mut trial = Trial::new(packed.sizes);
        let qkv = trial.floats("qkv", qkv_shape(heads), &qkv_values);
        let inputs = trial.mask_inputs(&packed.mask);
        let mask = ops::mask(&mut trial.graph, packed.followed(), heads, qkv, inputs).unwrap();
        let outputs = attention_and_gradient(&mut trial, heads, mask, qkv, &dout);
        let dense = packed.mask.expand(&packed.mask.visits, &[]);
        let masks = vec![dense; heads.count as usize];
        let reference = Attention { heads, tokens: count, masks, factors: None };
        let (qkv64, dout64) = (wide(&qkv_values), wide(&dout));
        let forward = reference.forward(&qkv64);
        let backward = reference.backward(&qkv64, &dout64).dqkv;
        for target in [Abilities::GPU, Abilities::PLAIN_GPU] {
            let got = trial.run(&mut session, target, &outputs);
            let what = format!("ordinary attention {heads:?} {target:?}");
            close(&what, &got[0], &forward, PRODUCT);
            for (which, name) in ["dquery", "dkey", "dvalue"].iter().enumerate() {
                let (got, want) = (part(heads, which, &got[1]), part(heads, which, &backward));
                close(&format!("{what}: {name}"), &got, &want, PRODUCT);
            }
        }
    }
}

#[test]
fn attention_with_other_head_sizes() {
    let mut session = session();
    let lengths = [1, 19, 5];
    for dim in [1, 4, 5, 7, 12, 20, 36] {
        check_policy(&mut session, &lengths, Heads { count: 2, dim }, "topk:0.5", None);
    }
    for dim in [5, 36] {
        for policy in ["dense", "block-topk:0.5,block=4"] {
            check_policy(&mut session, &lengths, Heads { count: 2, dim }, policy, None);
        }
    }
}

/// Each octet holds fewer rows of them.
#[test]
fn attention_with_wide_heads() {
    let mut session = session();
    let lengths = [1, 19, 5];
    let dropout = Some(Dropout { probability: 0.3, site: 9 });
    let cards = [Abilities::GPU, Abilities::PLAIN_GPU];
    let heads = Heads { count: 2, dim: 96 };
    check_policy_on(&cards, &mut session, &lengths, heads, "dense", None);
    check_policy(&mut session, &lengths, Heads { count: 2, dim: 128 }, "topk:0.5", dropout);
    for (dim, policy) in [(128, "block-topk:0.5,block=32"), (136, "dense")] {
        let heads = Heads { count: 1, dim };
        check_policy_on(&[Abilities::GPU], &mut session, &lengths, heads, policy, None);
    }
}

/// In whatever order workgroups run: each sum has its own. Neither does it matter what else is in the
/// batch.
#[test]
fn attention_gives_the_same_bits_every_time() {
    let mut session = session();
    let mut random = Random(67);
    let dropout = Some(Dropout { probability: 0.3, site: 9 });
    for (dim, policy) in [(32, "local:5"), (64, "dense")] {
        let heads = Heads { count: 2, dim };
        let policy: Policy = policy.parse().unwrap();
        let row = (heads.count * heads.dim) as usize;
        let qkv_values = random_qkv(heads, LENGTHS.iter().sum(), &mut random);
        let dout = random.outliers(LENGTHS.iter().sum::<usize>() * row, 60.0);
        let mut run = |target, first: usize| {
            let packed = Packed::new(&LENGTHS[first..], &policy, 10, &mut Random(68));
            let before = LENGTHS[..first].iter().sum::<usize>();
            let mut trial = Trial::new(packed.sizes);
            let qkv = trial.floats("qkv", qkv_shape(heads), &qkv_values[before * 3 * row..]);
            let mut mask = packed.mask.clone();
            mask.number_from(first as u32);
            let inputs = trial.mask_inputs(&mask);
            let mask = ops::mask(&mut trial.graph, packed.followed(), heads, qkv, inputs).unwrap();
            let out = ops::attention(&mut trial.graph, heads, dropout, mask, qkv).unwrap();
            let found = trial.gradients(out, &dout[before * row..]);
            trial.run_words(&mut session, target, &[out, found[&qkv]])
        };
        for target in [Abilities::GPU, Abilities::PLAIN_GPU] {
            let all = run(target, 0);
            assert!(all == run(target, 0), "{heads:?} {target:?}: run again");
            let rest = run(target, 3);
            for (all, rest) in all.iter().zip(&rest) {
                assert!(all.ends_with(rest), "{heads:?} {target:?}: in another batch");
            }
        }
    }
}

#[test]
fn dropping_with_probability_zero_changes_no_bit() {
    let mut session = session();
    let heads = Heads { count: 3, dim: 6 };
    let mut random = Random(61);
    let packed = Packed::new(&LENGTHS, &Policy::dense(), 10, &mut random);
    let mut trial = Trial::new(packed.sizes);
    let qkv_values = random_qkv(heads, packed.tokens(), &mut random);
    let qkv = trial.floats("qkv", qkv_shape(heads), &qkv_values);
    let inputs = trial.mask_inputs(&packed.mask);
    let mask = ops::mask(&mut trial.graph, packed.followed(), heads, qkv, inputs).unwrap();
    let zero = Some(Dropout { probability: 0.0, site: 1 });
    let dropped = ops::attention(&mut trial.graph, heads, zero, mask, qkv).unwrap();
    let plain = ops::attention(&mut trial.graph, heads, None, mask, qkv).unwrap();
    let got = trial.run_words(&mut session, Abilities::GPU, &[dropped, plain]);
    assert!(got[0] == got[1]);
}

/// A mask that the test has written: visits and bits of each head, as inputs.
struct HandMade {
    /// The blocks, with the numbers of their first pairs. All heads share them, and visit the same
    /// pairs.
    blocks: Vec<Block>,
    visits: Vec<u32>,
    bits: Vec<u32>,
}

impl HandMade {
    /// `visited(query block, key block)`: whether the pair is visited; `rows(head)`: the bits of
    /// each row of one that is.
    fn new(
        mask: &BlockMask,
        heads: Heads,
        mut visited: impl FnMut(u32, u32) -> bool,
        mut rows: impl FnMut(u32) -> Vec<u32>,
    ) -> Self {
        let mut made =
            Self { blocks: mask.blocks.clone(), visits: vec![0; mask.visits.len()], bits: vec![] };
        let mut pairs = 0;
        for (query, block) in made.blocks.iter_mut().enumerate() {
            block.pairs_first = pairs;
            for key in (0..block.blocks)
                .filter(|key| visited(query as u32, block.blocks_first + key))
                .collect::<Vec<_>>()
            {
                made.visits[(block.visits_first + key / 32) as usize] |= 1 << (key % 32);
                pairs += 1;
            }
        }
        let words = (mask.pair_count() * mask.block) as usize;
        for head in 0..heads.count {
            let before = made.bits.len();
            (0..pairs).for_each(|_| made.bits.extend(rows(head)));
            made.bits.resize(before + words, 0);
        }
        made.visits = made.visits.repeat(heads.count as usize);
        made
    }

    /// The masks of all heads.
    fn expand(&self, mask: &BlockMask, heads: Heads) -> Vec<Vec<bool>> {
        let mask = BlockMask { blocks: self.blocks.clone(), ..mask.clone() };
        expand(&mask, heads, &self.visits, &self.bits)
    }

    fn inputs(&self, trial: &mut Trial, mask: &BlockMask, heads: Heads) -> Mask {
        let shape = [Symbol::Blocks.into(), Size::from(Block::WORDS)];
        let count = Size::from(heads.count);
        let visits = Size::from(Symbol::Visits);
        let words = bits_words(mask.block);
        Mask {
            blocks: trial.words("own blocks", shape, bytemuck::cast_slice(&self.blocks)),
            visits: trial.words("own visits", [count, visits], &self.visits),
            bits: Some(trial.words("own bits", [count, words], &self.bits)),
            visits_stride: visits,
            bits_stride: words,
            block: mask.block,
        }
    }
}

/// Attention over a mask, and the gradient of `qkv`.
fn attention_and_gradient(
    trial: &mut Trial,
    heads: Heads,
    mask: Mask,
    qkv: TensorId,
    dout: &[f32],
) -> [TensorId; 2] {
    let out = ops::attention(&mut trial.graph, heads, None, mask, qkv).unwrap();
    let found = trial.gradients(out, dout);
    [out, found[&qkv]]
}

#[test]
fn a_mask_of_all_pairs_gives_the_dense_result_bit_for_bit() {
    let mut session = session();
    let mut random = Random(62);
    for heads in HEADS {
        for policy in ["block-topk:0.5,block=8", "dense", "block-topk:0.5,block=32"] {
            // The driver compiles kernels of wide heads for long: one size of blocks will do.
            if heads.dim == 64 && policy != "dense" {
                continue;
            }
            // The policy only gives the size of the blocks: its visits are those of a dense mask.
            let policy: Policy = policy.parse().unwrap();
            let packed = Packed::new(&LENGTHS, &policy, 10, &mut random);
            let qkv_values = random_qkv(heads, packed.tokens(), &mut random);
            let width = (heads.count * heads.dim) as usize;
            let dout = random.outliers(packed.tokens() * width, 60.0);
            let block = packed.rules.block;
            let all =
                HandMade::new(&packed.mask, heads, |_, _| true, |_| vec![u32::MAX; block as usize]);

            let mut trial = Trial::new(packed.sizes);
            let qkv = trial.floats("qkv", qkv_shape(heads), &qkv_values);
            let own = all.inputs(&mut trial, &packed.mask, heads);
            let shared = trial.mask_inputs(&packed.mask);
            let dense = Mask {
                blocks: shared.blocks,
                visits: shared.visits,
                bits: None,
                visits_stride: 0u32.into(),
                bits_stride: 0u32.into(),
                block,
            };
            let own = attention_and_gradient(&mut trial, heads, own, qkv, &dout);
            let dense = attention_and_gradient(&mut trial, heads, dense, qkv, &dout);
            let outputs = [own[0], dense[0], own[1], dense[1]];
            let got = trial.run_words(&mut session, Abilities::GPU, &outputs);
            assert!(got[0] == got[1], "{heads:?} block {block}: out");
            assert!(got[2] == got[3], "{heads:?} block {block}: gradient");
        }
    }
}

/// Random masks of each head: pairs left out, full and partial, and rows and keys that no entry
/// reaches. Those are zero, and so are their gradients.
#[test]
fn any_mask_and_rows_without_keys() {
    let mut session = session();
    let mut random = Random(63);
    for dim in [6, 32, 64] {
        let heads = Heads { count: 3, dim };
        // The driver compiles kernels of wide heads for long: one size of blocks will do.
        for block in if dim == 64 { vec![16u32] } else { vec![4, 8, 16, 32] } {
            let policy: Policy = format!("block-topk:0.5,block={block}").parse().unwrap();
            let packed = Packed::new(&[1, 7, 65, 16, 17, 33, 2], &policy, 10, &mut random);
            let count = packed.tokens();
            let qkv_values = random_qkv(heads, count, &mut random);
            let width = (heads.count * heads.dim) as usize;
            let dout = random.outliers(count * width, 60.0);
            let mut chance = Random(66);
            let row = |random: &mut Random| match random.below(3) {
                0 => 0,
                1 => random.bits() as u32,
                _ => (random.bits() & random.bits()) as u32,
            };
            let made = HandMade::new(
                &packed.mask,
                heads,
                // The first block, a sentence of one token, visits nothing at all.
                |query, _| query > 0 && chance.below(4) > 0,
                |_| match random.below(3) {
                    0 => vec![u32::MAX; block as usize],
                    _ => (0..block).map(|_| row(&mut random)).collect(),
                },
            );
            let masks = made.expand(&packed.mask, heads);
            let empty = |head: usize, query: usize| {
                masks[head][query * count..][..count].iter().all(|kept| !kept)
            };
            let mut empty_rows = 0;
            let mut trial = Trial::new(packed.sizes);
            let qkv = trial.floats("qkv", qkv_shape(heads), &qkv_values);
            let mask = made.inputs(&mut trial, &packed.mask, heads);
            let outputs = attention_and_gradient(&mut trial, heads, mask, qkv, &dout);
            // Those without subgroup functions read masks as the others do.
            let target = if block == 32 { Abilities::PLAIN_GPU } else { Abilities::GPU };
            let got = trial.run(&mut session, target, &outputs);
            let dim = heads.dim as usize;
            for head in 0..heads.count as usize {
                for query in (0..count).filter(|query| empty(head, *query)) {
                    empty_rows += 1;
                    let row = &got[0][query * width + head * dim..][..dim];
                    assert!(row.iter().all(|x| *x == 0.0), "out of an empty row: {row:?}");
                    let row = &got[1][query * 3 * width + head * dim..][..dim];
                    assert!(row.iter().all(|x| *x == 0.0), "dquery of an empty row: {row:?}");
                }
            }
            assert!(empty_rows > 3, "the masks were to have rows without keys");
            let reference = Attention { heads, tokens: count, masks: masks.clone(), factors: None };
            let what = format!("attention over random masks, {heads:?}, block {block}");
            let (qkv64, dout64) = (wide(&qkv_values), wide(&dout));
            close(&what, &got[0], &reference.forward(&qkv64), PRODUCT);
            check_parts(&what, heads, &got[1], &reference.backward(&qkv64, &dout64));
        }
    }
}

#[test]
fn the_reference_of_attention_agrees_with_differences() {
    let heads = Heads { count: 2, dim: 3 };
    let mut random = Random(64);
    let packed = Packed::new(&[1, 4, 3], &Policy::dense(), 10, &mut random);
    let count = packed.tokens();
    let dense = packed.mask.expand(&packed.mask.visits, &[]);
    let masks =
        (0..2).map(|_| dense.iter().map(|kept| *kept && random.below(3) > 0).collect()).collect();
    let settings = Dropout { probability: 0.25, site: 1 };
    let scalars = Scalars { seed: 1, step: 1, learning_rate: 0.0, ..Scalars::default() };
    let factors = Some(dropout_factors(&packed.places(), heads, settings, scalars));
    let reference = Attention { heads, tokens: count, masks, factors };
    let qkv = wide(&random.normals(count * 18));
    let dout = wide(&random.outliers(count * 6, 40.0));
    check_gradient("dqkv", &qkv, &reference.backward(&qkv, &dout).dqkv, |qkv| {
        dot(&dout, &reference.forward(qkv))
    });
}
