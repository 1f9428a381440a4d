//! The block mask of a batch: which blocks of keys each block of queries visits.

use super::Policy;
use std::fmt;

/// A mask over the block pairs of a packed batch, in the words that the kernels read.
///
/// Sentences are cut into blocks of `block` tokens, each from its own start. A list is `count,
/// entries…`; an entry is a block number, with [`BlockMask::PARTIAL`] set where only some pairs of the
/// two blocks count. Here every head shares the lists: where a policy chooses per head, the device
/// writes bits, or lists of its own, in the places that this layout gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMask {
    /// Tokens in a full block.
    pub block: u32,
    /// `[blocks, 8]`: first token, tokens, first token of its sentence, number of its sentence, first
    /// block of its sentence, blocks of its sentence, its first pair, keys (or blocks) to keep.
    pub blocks: Vec<u32>,
    /// `[pairs + blocks]`: for each query block, the key blocks to visit.
    pub lists: Vec<u32>,
    /// `[pairs + blocks]`: for each key block, the query blocks that visit it.
    pub transposed: Vec<u32>,
    pairs: u32,
}

impl BlockMask {
    /// Flag of an entry of which only the pairs in the bits count.
    pub const PARTIAL: u32 = 1 << 31;

    /// The mask of a batch of sentences, `offsets [sentences + 1]` being where each starts.
    ///
    /// For `topk` every entry is partial, its bits to be written by the device. For `block-topk` the
    /// lists are those of a dense mask: the device writes shorter ones.
    pub fn new(policy: &Policy, offsets: &[u32]) -> Self {
        let block = policy.block();
        let flag = if matches!(policy, Policy::Topk { .. }) { Self::PARTIAL } else { 0 };
        let (mut blocks, mut lists) = (Vec::new(), Vec::new());
        let mut pairs = 0;
        for (sequence, ends) in offsets.windows(2).enumerate() {
            let length = ends[1] - ends[0];
            let count = length.div_ceil(block);
            let blocks_first = (blocks.len() / 8) as u32;
            for index in 0..count {
                let first = ends[0] + index * block;
                blocks.extend([
                    first,
                    block.min(ends[1] - first),
                    ends[0],
                    sequence as u32,
                    blocks_first,
                    count,
                    pairs,
                    policy.keep(length),
                ]);
                lists.push(count);
                lists.extend((blocks_first..blocks_first + count).map(|key| key | flag));
                pairs += count;
            }
        }
        // All blocks of a sentence visit each other, so the mask is its own transpose.
        Self { block, blocks, transposed: lists.clone(), lists, pairs }
    }

    /// Blocks in the batch.
    pub fn block_count(&self) -> u32 {
        (self.blocks.len() / 8) as u32
    }

    /// Pairs of blocks of one sentence.
    pub fn pair_count(&self) -> u32 {
        self.pairs
    }

    /// The mask of one head as `[tokens, tokens]`, row by row, with the head's own `lists` and `bits`
    /// (one word per pair and query row) where the device has written them.
    pub fn expand(&self, lists: &[u32], bits: &[u32]) -> Vec<bool> {
        let tokens = self.blocks.chunks_exact(8).map(|b| b[0] + b[1]).max().unwrap_or(0) as usize;
        let mut dense = vec![false; tokens * tokens];
        for (index, query) in self.blocks.chunks_exact(8).enumerate() {
            let list = query[6] as usize + index;
            for entry in &lists[list + 1..][..lists[list] as usize] {
                let number = entry & !Self::PARTIAL;
                let key = &self.blocks[number as usize * 8..][..8];
                let pair = query[6] + number - query[4];
                for row in 0..query[1] {
                    let word = if entry & Self::PARTIAL == 0 {
                        u32::MAX
                    } else {
                        bits[(pair * self.block + row) as usize]
                    };
                    for column in (0..key[1]).filter(|column| word >> column & 1 == 1) {
                        dense[(query[0] + row) as usize * tokens + (key[0] + column) as usize] =
                            true;
                    }
                }
            }
        }
        dense
    }

    /// Share of the pairs of tokens of one sentence that an expanded mask leaves out.
    pub fn sparsity(&self, dense: &[bool]) -> f64 {
        let kept = dense.iter().filter(|kept| **kept).count();
        let mut all = 0u64;
        for query in self.blocks.chunks_exact(8).filter(|query| query[0] == query[2]) {
            let length: u64 = self
                .blocks
                .chunks_exact(8)
                .filter(|other| other[3] == query[3])
                .map(|other| u64::from(other[1]))
                .sum();
            all += length * length;
        }
        1.0 - kept as f64 / all.max(1) as f64
    }
}

impl fmt::Display for BlockMask {
    /// One line a query block: its tokens and the key blocks it visits, partial ones with a `~`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, query) in self.blocks.chunks_exact(8).enumerate() {
            let list = query[6] as usize + index;
            write!(f, "{index} [{}..{}]:", query[0], query[0] + query[1])?;
            for entry in &self.lists[list + 1..][..self.lists[list] as usize] {
                let mark = if entry & Self::PARTIAL == 0 { "" } else { "~" };
                write!(f, " {mark}{}", entry & !Self::PARTIAL)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dense_mask_keeps_every_pair_of_a_sentence_and_no_other() {
        let offsets = [0, 1, 18, 50];
        let mask = BlockMask::new(&Policy::Dense, &offsets);
        assert_eq!((mask.block_count(), mask.pair_count()), (1 + 2 + 2, 1 + 4 + 4));
        let dense = mask.expand(&mask.lists, &[]);
        let sentence = |token: u32| offsets.iter().filter(|start| **start <= token).count();
        for query in 0..50 {
            for key in 0..50 {
                let kept = dense[(query * 50 + key) as usize];
                assert_eq!(kept, sentence(query) == sentence(key), "{query} {key}");
            }
        }
        assert_eq!(mask.sparsity(&dense), 0.0);
    }

    #[test]
    fn bits_decide_in_partial_pairs() {
        let mask = BlockMask::new(&Policy::Topk { sparsity: 0.5, over: None }, &[0, 4]);
        let dense = mask.expand(&mask.lists, &[0b0011; 16]);
        assert_eq!(dense[..4], [true, true, false, false]);
        assert_eq!(mask.sparsity(&dense), 0.5);
        assert_eq!(mask.to_string(), "0 [0..4]: ~0\n");
    }
}
