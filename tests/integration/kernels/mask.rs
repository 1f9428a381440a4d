//! Which keys the policies choose, read back from the device and compared with a selection on the
//! host: the highest scores, the lowest index among equals, exactly k.

use super::attention::{qkv_shape, random_qkv};
use super::reference::{dot, pcg4d};
use crate::support::trial::*;
use crisp::graph::{Session, ops};
use crisp::kernels::Heads;
use crisp::kernels::mask::Mask;
use crisp::kernels::{Scalars, Sizes};
use crisp::measure::reference::attention::expand;
use crisp::sparsity::{Block, Policy, Rule, Share};

/// The `keep` highest of the scores, the first of those that are equal; ascending.
fn highest(scores: &[f64], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.truncate(keep);
    order.sort_unstable();
    order
}

/// max(1, ceil((1 - s) · n)) for s in tenths.
fn share(tenths: usize, n: usize) -> usize {
    ((10 - tenths) * n).div_ceil(10).max(1)
}

/// Small whole numbers: their products and sums are exact in float32, and often equal.
fn whole_qkv(heads: Heads, tokens: usize, random: &mut Random) -> Vec<f32> {
    let count = tokens * 3 * (heads.count * heads.dim) as usize;
    (0..count).map(|_| random.below(5) as f32 - 2.0).collect()
}

/// Bits, or else visits, that a policy writes.
fn choose(
    session: &mut Session,
    packed: &Packed,
    heads: Heads,
    qkv_values: &[f32],
    target: crisp::gpu::Abilities,
) -> Vec<u32> {
    let scalars = Scalars { seed: 42, step: 1, learning_rate: 0.0, ..Scalars::default() };
    choose_at(packed, heads, qkv_values, target, scalars)(session)
}

/// The same for the scalars of a step.
fn choose_at(
    packed: &Packed,
    heads: Heads,
    qkv_values: &[f32],
    target: crisp::gpu::Abilities,
    scalars: Scalars,
) -> impl Fn(&mut Session) -> Vec<u32> {
    let mut trial = Trial::new(packed.sizes);
    trial.scalars = scalars;
    let qkv = trial.floats("qkv", qkv_shape(heads), qkv_values);
    let inputs = trial.mask_inputs(&packed.mask);
    let mask: Mask = ops::mask(&mut trial.graph, packed.followed(), heads, qkv, inputs).unwrap();
    move |session| {
        trial.run_words(session, target, &[mask.bits.unwrap_or(mask.visits)]).swap_remove(0)
    }
}

/// Query (0) or key (1) of a token.
fn part(qkv: &[f64], heads: Heads, which: usize, head: usize, token: usize) -> &[f64] {
    let (count, dim) = (heads.count as usize, heads.dim as usize);
    &qkv[(token * 3 + which) * count * dim + head * dim..][..dim]
}

const HEADS: [Heads; 3] =
    [Heads { count: 1, dim: 6 }, Heads { count: 3, dim: 32 }, Heads { count: 12, dim: 64 }];

#[test]
fn topk_keeps_the_highest_scores_and_the_lowest_key_among_equals() {
    let mut session = session();
    let mut random = Random(70);
    for heads in HEADS {
        for (tenths, over) in [(0, None), (5, None), (8, None), (9, None), (8, Some(40))] {
            let sparsity = Share::fixed(tenths as f64 / 10.0);
            let policy = Policy::from(Rule::Topk { sparsity, over });
            for lengths in [&[1][..], &LENGTHS] {
                let packed = Packed::new(lengths, &policy, 10, &mut random);
                let count = packed.tokens();
                let places = packed.places();
                for exact in [true, false] {
                    let values = if exact {
                        whole_qkv(heads, count, &mut random)
                    } else {
                        random_qkv(heads, count, &mut random)
                    };
                    let qkv64 = wide(&values);
                    let chosen = choose(&mut session, &packed, heads, &values, TARGETS[1]);
                    let streamed = choose(&mut session, &packed, heads, &values, TARGETS[0]);
                    let masks = expand(&packed.mask, heads, &[], &chosen);
                    let streamed = expand(&packed.mask, heads, &[], &streamed);
                    assert!(!exact || masks == streamed, "{policy} {heads:?}: the two targets");
                    for (query, (sequence, position)) in places.iter().enumerate() {
                        let (first, length) = (query - position, lengths[*sequence]);
                        let keep = share(tenths, over.map_or(length, |n| n as usize)).min(length);
                        for (head, mask) in masks.iter().enumerate() {
                            let row = &mask[query * count..][..count];
                            let got: Vec<usize> = (0..count).filter(|key| row[*key]).collect();
                            let scores: Vec<f64> = (first..first + length)
                                .map(|key| {
                                    let query = part(&qkv64, heads, 0, head, query);
                                    dot(query, part(&qkv64, heads, 1, head, key))
                                })
                                .collect();
                            let what = format!("{policy} {heads:?} head {head} query {query}");
                            check_choice(&what, &got, first, &scores, keep, exact);
                        }
                    }
                }
            }
        }
    }
}

/// Where scores are exact the choice is one and the same; where they are rounded, none that was
/// left out may be higher than one that was kept by more than rounding.
fn check_choice(what: &str, got: &[usize], first: usize, scores: &[f64], keep: usize, exact: bool) {
    assert_eq!(got.len(), keep, "{what}: how many are kept");
    if exact {
        let want: Vec<usize> = highest(scores, keep).iter().map(|key| first + key).collect();
        assert_eq!(got, want, "{what}: {scores:?}");
        return;
    }
    let largest = scores.iter().fold(0.0f64, |largest, score| largest.max(score.abs()));
    let kept = |key: &usize| got.contains(&(first + key));
    let lowest = (0..scores.len()).filter(kept).map(|key| scores[key]).fold(f64::MAX, f64::min);
    for key in (0..scores.len()).filter(|key| !kept(key)) {
        assert!(
            scores[key] <= lowest + 1e-5 * largest,
            "{what}: {key} with {} was left out for one with {lowest}",
            scores[key]
        );
    }
}

/// Scores of a row have room only for a turn: workgroups go on with other blocks.
#[test]
fn masks_are_chosen_in_turns_where_room_is_scarce() {
    let mut session = session();
    let mut random = Random(74);
    let heads = Heads { count: 3, dim: 32 };
    for policy in ["topk:0.7", "block-topk:0.7,block=4"] {
        let policy: Policy = policy.parse().unwrap();
        let packed = Packed::new(&LENGTHS, &policy, 10, &mut random);
        let values = random_qkv(heads, packed.tokens(), &mut random);
        for target in TARGETS {
            // Rows beyond the end of a block are anything.
            let of_rows = |chosen: &[u32]| match policy.to_string().starts_with("block") {
                true => expand(&packed.mask, heads, chosen, &[]),
                false => expand(&packed.mask, heads, &[], chosen),
            };
            let at_once = of_rows(&choose(&mut session, &packed, heads, &values, target));
            // The plan takes this for the longest sentence, so that a few rows of scores fill the
            // room.
            let scarce = Sizes { longest: 1 << 18, ..packed.sizes };
            let room = Packed { sizes: scarce, ..packed.clone() };
            let in_turns = choose(&mut session, &room, heads, &values, target);
            assert!(at_once == of_rows(&in_turns), "{policy} {target:?}");
        }
    }
}

/// Sentences of more keys than a workgroup has invocations, and of more blocks than a word has bits,
/// with many equal scores: both targets choose the same.
#[test]
fn both_targets_choose_alike_in_long_sentences() {
    let mut session = session();
    let mut random = Random(76);
    for (heads, policy, lengths) in [
        (Heads { count: 2, dim: 64 }, "topk:0.9", &[701usize, 40][..]),
        (Heads { count: 1, dim: 128 }, "topk:0.5", &[300, 33]),
        (Heads { count: 2, dim: 32 }, "block-topk:0.8,block=4", &[800, 64, 4]),
        (Heads { count: 1, dim: 64 }, "block-topk:0.95,block=8", &[2400]),
    ] {
        let policy: Policy = policy.parse().unwrap();
        let packed = Packed::new(lengths, &policy, 10, &mut random);
        let values = whole_qkv(heads, packed.tokens(), &mut random);
        let [streamed, counted] = TARGETS.map(|target| {
            let chosen = choose(&mut session, &packed, heads, &values, target);
            match policy.to_string().starts_with("block") {
                true => expand(&packed.mask, heads, &chosen, &[]),
                false => expand(&packed.mask, heads, &[], &chosen),
            }
        });
        assert!(streamed == counted, "{policy}");
    }
}

/// The words are those of the generator, drawn here once more.
#[test]
fn a_random_mask_keeps_the_highest_words() {
    let mut session = session();
    let mut random = Random(75);
    let heads = Heads { count: 3, dim: 6 };
    for (policy, tenths, over, seed) in
        [("random:0.8", 8, None, 0u32), ("random:0.5,over=40,seed=7", 5, Some(40), 7)]
    {
        let policy: Policy = policy.parse().unwrap();
        let packed = Packed::new(&LENGTHS, &policy, 10, &mut random);
        let count = packed.tokens();
        let values = vec![0.0; count * 54];
        let mut before = None;
        for (run_seed, step) in [(0u64, 0u32), (0x12_0000_0042, 1), (0x12_0000_0042, 2)] {
            let scalars =
                Scalars { seed: run_seed, step, learning_rate: 0.0, ..Scalars::default() };
            let of = |target| choose_at(&packed, heads, &values, target, scalars);
            let chosen = of(TARGETS[0])(&mut session);
            let masks = expand(&packed.mask, heads, &[], &chosen);
            assert!(masks == expand(&packed.mask, heads, &[], &of(TARGETS[1])(&mut session)));
            for (query, (sequence, position)) in packed.places().iter().enumerate() {
                let (first, length) = (query - position, LENGTHS[*sequence]);
                let keep = share(tenths, over.unwrap_or(length)).min(length);
                for (head, mask) in masks.iter().enumerate() {
                    let got: Vec<usize> =
                        (0..count).filter(|key| mask[query * count + key]).collect();
                    let words: Vec<f64> = (0..length)
                        .map(|key| {
                            let layer = packed.followed().layer;
                            let of = if step == 0 { 0 } else { *sequence as u32 };
                            let counter = [
                                run_seed as u32 ^ (layer << 16) ^ seed.wrapping_mul(0x9e37_79b9),
                                (run_seed >> 32) as u32 ^ step,
                                (of << 16) | *position as u32,
                                ((head as u32) << 16) | key as u32,
                            ];
                            f64::from(pcg4d(counter)[1])
                        })
                        .collect();
                    let what = format!("{policy} step {step} head {head} query {query}");
                    check_choice(&what, &got, first, &words, keep, true);
                }
            }
            assert!(before.replace(masks.clone()) != Some(masks), "another step, another mask");
        }
    }
}

/// All scores equal, and both zeros: the first keys win.
#[test]
fn topk_of_equal_scores_keeps_the_first_keys() {
    let mut session = session();
    let heads = Heads { count: 2, dim: 6 };
    let policy: Policy = "topk:0.5".parse().unwrap();
    let packed = Packed::new(&[33, 7], &policy, 10, &mut Random(71));
    for value in [0.0, -0.0, 1.0, -3.0] {
        let mut qkv_values = vec![value; packed.tokens() * 36];
        // Signs that alternate make products of 0 and -0.
        qkv_values.iter_mut().step_by(5).for_each(|x| *x *= if value == 0.0 { -1.0 } else { 1.0 });
        let chosen = choose(&mut session, &packed, heads, &qkv_values, TARGETS[0]);
        for mask in expand(&packed.mask, heads, &[], &chosen) {
            for query in 0..40 {
                let (first, keep) = if query < 33 { (0, 17) } else { (33, 4) };
                let row = &mask[query * 40..][..40];
                let got: Vec<usize> = (0..40).filter(|key| row[*key]).collect();
                assert_eq!(got, (first..first + keep).collect::<Vec<_>>(), "{value} {query}");
            }
        }
    }
}

/// The key blocks that each block of one head visits.
fn entries(packed: &Packed, visits: &[u32], head: usize) -> Vec<Vec<usize>> {
    let mask = &packed.mask;
    let stride = mask.visits.len();
    let visits = &visits[head * stride..][..stride];
    let of = |block: &Block| mask.visited(*block, visits).map(|key| key as usize).collect();
    mask.blocks.iter().map(of).collect()
}

/// The score of two blocks is the product of the mean query of one and the mean key of the other.
#[test]
fn block_topk_keeps_the_highest_blocks_and_the_lowest_among_equals() {
    let mut session = session();
    let mut random = Random(72);
    // The last block of each of these holds a power of two of tokens: their means are exact.
    let exact_lengths = [1, 8, 66, 16, 64, 36, 136];
    for heads in HEADS {
        for block in [4, 8, 16, 32] {
            for (tenths, over) in [(0, None), (5, None), (8, None), (8, Some(160))] {
                let sparsity = Share::fixed(tenths as f64 / 10.0);
                let policy = Policy::from(Rule::BlockTopk { sparsity, block, over });
                for (lengths, exact) in [(&exact_lengths[..], true), (&LENGTHS, false)] {
                    let packed = Packed::new(lengths, &policy, 10, &mut random);
                    let values = if exact {
                        whole_qkv(heads, packed.tokens(), &mut random)
                    } else {
                        random_qkv(heads, packed.tokens(), &mut random)
                    };
                    let chosen = choose(&mut session, &packed, heads, &values, TARGETS[1]);
                    for head in 0..heads.count as usize {
                        let lists = entries(&packed, &chosen, head);
                        let means = means(&packed, heads, head, &wide(&values));
                        for (query, got) in lists.iter().enumerate() {
                            let of = packed.mask.blocks[query];
                            let (first, blocks) = (of.blocks_first as usize, of.blocks as usize);
                            let length = lengths[of.sequence as usize];
                            let n = over.map_or(length, |n| n as usize).div_ceil(block as usize);
                            let keep = share(tenths, n).min(blocks);
                            let scores: Vec<f64> = (first..first + blocks)
                                .map(|key| dot(&means[query].0, &means[key].1))
                                .collect();
                            let what = format!("{policy} {heads:?} head {head} block {query}");
                            check_choice(&what, got, first, &scores, keep, exact);
                        }
                    }
                }
            }
        }
    }
}

/// Mean query and mean key of each block.
fn means(packed: &Packed, heads: Heads, head: usize, qkv: &[f64]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let mean = |which: usize, first: usize, length: usize| -> Vec<f64> {
        let sum = |d: usize| -> f64 {
            (first..first + length).map(|token| part(qkv, heads, which, head, token)[d]).sum()
        };
        (0..heads.dim as usize).map(|d| sum(d) / length as f64).collect()
    };
    let blocks = packed.mask.blocks.iter();
    let range = blocks.map(|block| (block.first as usize, block.length as usize));
    range.map(|(first, length)| (mean(0, first, length), mean(1, first, length))).collect()
}

#[test]
fn block_topk_of_equal_blocks_keeps_the_first() {
    let mut session = session();
    let heads = Heads { count: 2, dim: 6 };
    for block in [8, 16, 32] {
        let sparsity = Share::fixed(0.5);
        let policy = Policy::from(Rule::BlockTopk { sparsity, block, over: None });
        let packed = Packed::new(&[100], &policy, 10, &mut Random(73));
        let qkv_values = vec![0.5; packed.tokens() * 36];
        let chosen = choose(&mut session, &packed, heads, &qkv_values, TARGETS[0]);
        let keep = 100usize.div_ceil(block as usize).div_ceil(2);
        for head in 0..2 {
            for got in entries(&packed, &chosen, head) {
                assert_eq!(got, (0..keep).collect::<Vec<_>>(), "block {block}");
            }
        }
    }
}
