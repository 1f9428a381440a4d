//! A policy of one's own: attention in stripes. The attention kernels know only the format of a
//! mask, so a new policy is a function that fills one.
//!
//! ```sh
//! cargo run --release --example new_policy
//! ```

use crisp::Result;
use crisp::gpu::Device;
use crisp::graph::ops::{self, LayerRule, MaskInputs};
use crisp::graph::{Graph, Program, Session, Step};
use crisp::kernels::{Element, Heads, Scalars, Size, Sizes, Symbol};
use crisp::random::SplitMix64;
use crisp::sparsity::{BlockMask, Rule};

/// Tokens in a block of the mask.
const BLOCK: u32 = 16;

fn main() -> Result<()> {
    let mask = stripes(128, 3);
    println!("{mask}");
    let change = run(&mask, 128)?;
    println!("context differs from that of dense attention by {change:.4} (root mean square)");
    Ok(())
}

/// A mask of one sentence in which a block of queries visits the blocks of keys that lie a multiple
/// of `apart` blocks away.
pub fn stripes(tokens: u32, apart: u32) -> BlockMask {
    let mut mask = BlockMask::new(&Rule::Dense, BLOCK, &[0, tokens]);
    for (query, block) in mask.blocks.iter().enumerate() {
        // A row of bits for each block of queries: bit j stands for the sentence's j-th block of
        // keys.
        let row = block.visits_first as usize;
        for key in 0..block.blocks {
            if !(query as u32).abs_diff(key).is_multiple_of(apart) {
                mask.visits[row + key as usize / 32] &= !(1 << (key % 32));
            }
        }
    }
    mask
}

/// How far attention over a mask is from dense attention, on random queries, keys and values.
pub fn run(mask: &BlockMask, tokens: u32) -> Result<f64> {
    let mut session = Session::new(Device::open(None)?);
    let dense = BlockMask::new(&Rule::Dense, BLOCK, &[0, tokens]);
    let [sparse, dense] = [attend(&mut session, mask)?, attend(&mut session, &dense)?];
    let squares = sparse.iter().zip(&dense).map(|(a, b)| f64::from(a - b).powi(2));
    Ok((squares.sum::<f64>() / dense.len() as f64).sqrt())
}

fn attend(session: &mut Session, mask: &BlockMask) -> Result<Vec<f32>> {
    let heads = Heads { count: 2, dim: 32 };
    let tokens: u32 = mask.blocks.iter().map(|block| block.length).sum();
    let sizes = Sizes {
        tokens,
        sequences: 1,
        blocks: mask.block_count(),
        pairs: mask.pair_count(),
        visits: mask.visits.len() as u32,
        longest: tokens,
        ..Sizes::default()
    };
    let mut graph = Graph::new();
    let shape = [Symbol::Tokens.into(), Size::from(3 * heads.width())];
    let qkv = graph.input("qkv", Element::F32, shape);
    let inputs = MaskInputs::new(&mut graph, &Rule::Dense, BLOCK);
    let rule = LayerRule { rule: &Rule::Dense, block: BLOCK, layer: 0 };
    let chosen = ops::mask(&mut graph, rule, heads, qkv, inputs)?;
    let context = ops::attention(&mut graph, heads, None, chosen, qkv)?;
    let mut program = Program::build(session, &graph, sizes, &[context], 1)?;

    let mut generator = SplitMix64(1);
    let mut draw = || (generator.word() >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let values: Vec<u32> = (0..tokens * 3 * heads.width()).map(|_| draw().to_bits()).collect();
    let words: [(_, &[u32]); 3] = [
        (qkv, &values),
        (inputs.blocks, bytemuck::cast_slice(&mask.blocks)),
        (inputs.visits, &mask.visits),
    ];
    let step = Step { sizes, scalars: Scalars::default(), inputs: &words };
    Ok(program.run(session, &step)?.wait(&session.device)?.swap_remove(0))
}
