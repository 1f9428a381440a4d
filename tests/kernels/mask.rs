//! Which keys the policies choose, read back from the device and compared with a selection on the
//! host: the highest scores, the lowest index among equals, exactly k.

use super::attention::{expand, qkv_shape, random_qkv};
use super::reference::dot;
use super::support::*;
use crisp::graph::{Session, ops};
use crisp::kernels::attention::Heads;
use crisp::kernels::mask::Mask;
use crisp::sparsity::Policy;

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

/// Lists, transposed lists and bits (where there are any) that a policy writes.
fn choose(
    session: &mut Session,
    packed: &Packed,
    heads: Heads,
    policy: &Policy,
    qkv_values: &[f32],
    target: crisp::kernels::Target,
) -> Vec<Vec<u32>> {
    let mut trial = Trial::new(packed.sizes);
    let qkv = trial.floats("qkv", qkv_shape(heads), qkv_values);
    let inputs = trial.mask_inputs(&packed.mask);
    let mask: Mask = ops::mask(&mut trial.graph, policy, heads, qkv, inputs).unwrap();
    match mask.bits {
        Some(bits) => trial.run_words(session, target, &[bits]),
        None => trial.run_words(session, target, &[mask.lists, mask.transposed]),
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
            let policy = Policy::Topk { sparsity: tenths as f64 / 10.0, over };
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
                    let chosen = choose(&mut session, &packed, heads, &policy, &values, TARGETS[1]);
                    let masks = expand(&packed.mask, heads, &[], &chosen[0]);
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

/// Where scores are exact the choice is one and the same; where they are rounded, none that was left
/// out may be higher than one that was kept by more than rounding.
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
        let chosen = choose(&mut session, &packed, heads, &policy, &qkv_values, TARGETS[0]);
        for mask in expand(&packed.mask, heads, &[], &chosen[0]) {
            for query in 0..40 {
                let (first, keep) = if query < 33 { (0, 17) } else { (33, 4) };
                let row = &mask[query * 40..][..40];
                let got: Vec<usize> = (0..40).filter(|key| row[*key]).collect();
                assert_eq!(got, (first..first + keep).collect::<Vec<_>>(), "{value} {query}");
            }
        }
    }
}

/// The lists of one head: for each block, its entries.
fn entries(packed: &Packed, lists: &[u32], head: usize) -> Vec<Vec<usize>> {
    let mask = &packed.mask;
    let stride = mask.lists.len();
    let lists = &lists[head * stride..][..stride];
    (0..mask.block_count() as usize)
        .map(|block| {
            let list = mask.blocks[block * 8 + 6] as usize + block;
            lists[list + 1..][..lists[list] as usize].iter().map(|entry| *entry as usize).collect()
        })
        .collect()
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
                let policy = Policy::BlockTopk { sparsity: tenths as f64 / 10.0, block, over };
                for (lengths, exact) in [(&exact_lengths[..], true), (&LENGTHS, false)] {
                    let packed = Packed::new(lengths, &policy, 10, &mut random);
                    let values = if exact {
                        whole_qkv(heads, packed.tokens(), &mut random)
                    } else {
                        random_qkv(heads, packed.tokens(), &mut random)
                    };
                    let chosen = choose(&mut session, &packed, heads, &policy, &values, TARGETS[1]);
                    for head in 0..heads.count as usize {
                        let lists = entries(&packed, &chosen[0], head);
                        let transposed = entries(&packed, &chosen[1], head);
                        let means = means(&packed, heads, head, &wide(&values));
                        for (query, got) in lists.iter().enumerate() {
                            let words = &packed.mask.blocks[query * 8..][..8];
                            let (first, blocks) = (words[4] as usize, words[5] as usize);
                            let length = lengths[words[3] as usize];
                            let n = over.map_or(length, |n| n as usize).div_ceil(block as usize);
                            let keep = share(tenths, n).min(blocks);
                            let scores: Vec<f64> = (first..first + blocks)
                                .map(|key| dot(&means[query].0, &means[key].1))
                                .collect();
                            let what = format!("{policy} {heads:?} head {head} block {query}");
                            check_choice(&what, got, first, &scores, keep, exact);
                        }
                        for (key, got) in transposed.iter().enumerate() {
                            let visits = |query: &usize| lists[*query].contains(&key);
                            let want: Vec<usize> = (0..lists.len()).filter(visits).collect();
                            assert_eq!(got, &want, "{policy}: visitors of key block {key}");
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
    let blocks = packed.mask.blocks.chunks_exact(8);
    let range = blocks.map(|words| (words[0] as usize, words[1] as usize));
    range.map(|(first, length)| (mean(0, first, length), mean(1, first, length))).collect()
}

#[test]
fn block_topk_of_equal_blocks_keeps_the_first() {
    let mut session = session();
    let heads = Heads { count: 2, dim: 6 };
    for block in [8, 16, 32] {
        let policy = Policy::BlockTopk { sparsity: 0.5, block, over: None };
        let packed = Packed::new(&[100], &policy, 10, &mut Random(73));
        let qkv_values = vec![0.5; packed.tokens() * 36];
        let chosen = choose(&mut session, &packed, heads, &policy, &qkv_values, TARGETS[0]);
        let keep = 100usize.div_ceil(block as usize).div_ceil(2);
        for head in 0..2 {
            for got in entries(&packed, &chosen[0], head) {
                assert_eq!(got, (0..keep).collect::<Vec<_>>(), "block {block}");
            }
        }
    }
}
