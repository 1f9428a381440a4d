//! The block mask of a batch: which blocks of keys each block of queries visits.

use super::Rule;
use std::fmt;

/// A block of consecutive tokens of one sentence, in the words that the kernels read: the structure
/// in `shaders/shared/block.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Block {
    /// Its first token.
    pub first: u32,
    /// Its tokens.
    pub length: u32,
    /// First token of its sentence.
    pub sequence_first: u32,
    /// Its sentence, by its number within the whole step.
    pub sequence: u32,
    /// First block of its sentence.
    pub blocks_first: u32,
    /// Blocks of its sentence.
    pub blocks: u32,
    /// Number of the first pair that it visits, where pairs have bits.
    pub pairs_first: u32,
    /// How many keys (or key blocks) a query (or query block) keeps.
    pub keep: u32,
    /// First word of its row of visits.
    pub visits_first: u32,
    /// A slice of the batch, [`Block::NO_SLICE`] where there are fewer: the list of them, by which
    /// cards share out the rows, has two entries a block, so that it needs no buffer of its own.
    pub even_slice: u32,
    /// The slice after that.
    pub odd_slice: u32,
}

impl Block {
    /// Stands in the list of slices behind the last.
    pub const NO_SLICE: u32 = u32::MAX;

    /// Rows of a slice, where blocks have so many tokens: half a block, or all of a small one. As
    /// sentences are short, cards take rows by the slice and not by the block: less of their lanes
    /// idle behind a sentence's end.
    pub fn slice(block: u32) -> u32 {
        if block > 8 { block / 2 } else { block }
    }

    /// Words that the kernels read of a block.
    pub const WORDS: u32 = (size_of::<Self>() / size_of::<u32>()) as u32;

    /// Words of a row of visits: a bit for each block of its sentence.
    pub fn visit_words(&self) -> u32 {
        self.blocks.div_ceil(32)
    }
}

/// A mask over the block pairs of a packed batch.
///
/// Sentences are cut into blocks of `block` tokens, each from its own start. Which key blocks a
/// query block visits is a row of bits, one for each block of its sentence, so that memory is next
/// to linear in the length of a sentence. Where a mask has `bits`, of a visited pair only those
/// pairs of tokens count that are set in there. Here every head shares the mask: where a rule
/// chooses per head, the device writes visits, or bits, of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMask {
    /// Tokens in a full block.
    pub block: u32,
    /// The blocks of the batch, in the order of its tokens.
    pub blocks: Vec<Block>,
    /// For each block as query its row of visits.
    pub visits: Vec<u32>,
    /// `[visited pairs, block]`: for each row of the query block the keys of the pair that it
    /// keeps. Pairs are numbered by query block and then by key block. Only where a rule is known
    /// on the host and cuts through blocks.
    pub bits: Vec<u32>,
    /// What made it.
    pub rule: Rule,
}

impl BlockMask {
    /// The mask of a batch of sentences, `offsets [sentences + 1]` being where each starts, in
    /// blocks of `block` tokens.
    ///
    /// For `topk` and `random` every pair of blocks is visited, and the device writes the bits. For
    /// `block-topk` the visits are those of a dense mask: the device writes others.
    pub fn new(rule: &Rule, block: u32, offsets: &[u32]) -> Self {
        let mut mask = Self { block, blocks: vec![], visits: vec![], bits: vec![], rule: *rule };
        let mut pairs = 0;
        for (sequence, ends) in offsets.windows(2).enumerate() {
            let length = ends[1] - ends[0];
            let count = length.div_ceil(block);
            let blocks_first = mask.blocks.len() as u32;
            for index in 0..count {
                let first = ends[0] + index * block;
                let of = Block {
                    first,
                    length: block.min(ends[1] - first),
                    sequence_first: ends[0],
                    sequence: sequence as u32,
                    blocks_first,
                    blocks: count,
                    pairs_first: pairs,
                    keep: rule.keep(length),
                    visits_first: mask.visits.len() as u32,
                    even_slice: Block::NO_SLICE,
                    odd_slice: Block::NO_SLICE,
                };
                let row = |key: u32| match *rule {
                    Rule::Local { window, global } => local(index, key, block, window, global),
                    _ => true,
                };
                for word in 0..of.visit_words() {
                    let keys = (word * 32..count.min(word * 32 + 32)).filter(|key| row(*key));
                    let word = keys.fold(0u32, |word, key| word | 1 << (key % 32));
                    // Where there are too many to count, the plan refuses their memory.
                    pairs = u32::saturating_add(pairs, word.count_ones());
                    mask.visits.push(word);
                }
                mask.blocks.push(of);
            }
        }
        mask.list_slices();
        if let Rule::Local { window, global } = *rule {
            mask.bits = mask.local_bits(window, global);
        }
        mask
    }

    /// Writes the list of slices that have rows: twice the number of the block, and 1 for the
    /// second of its slices.
    fn list_slices(&mut self) {
        let rows = Block::slice(self.block);
        let slices: Vec<u32> = (0u32..)
            .zip(&self.blocks)
            .flat_map(|(number, block)| {
                (0..block.length.div_ceil(rows)).map(move |half| 2 * number + half)
            })
            .collect();
        for (block, pair) in self.blocks.iter_mut().zip(slices.chunks(2)) {
            block.even_slice = pair[0];
            block.odd_slice = pair.get(1).copied().unwrap_or(Block::NO_SLICE);
        }
    }

    /// Numbers the sentences from `first` on: a batch may be a part of a step.
    pub fn number_from(&mut self, first: u32) {
        self.blocks.iter_mut().for_each(|block| block.sequence += first);
    }

    /// Pairs of blocks that have bits here.
    pub fn bit_pairs(&self) -> u32 {
        self.bits.len() as u32 / self.block
    }

    /// Blocks in the batch.
    pub fn block_count(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Pairs of blocks of one sentence.
    pub fn pair_count(&self) -> u32 {
        self.blocks.iter().fold(0, |pairs, block| pairs.saturating_add(block.blocks))
    }

    /// The key blocks that a block visits, by number, ascending.
    pub fn visited<'a>(
        &self,
        block: Block,
        visits: &'a [u32],
    ) -> impl Iterator<Item = u32> + use<'a> {
        let row = &visits[block.visits_first as usize..][..block.visit_words() as usize];
        let seen = move |key: &u32| row[(key / 32) as usize] >> (key % 32) & 1 == 1;
        (0..block.blocks).filter(seen).map(move |key| block.blocks_first + key)
    }

    /// For each visited pair and row of its query block, the keys within the window.
    fn local_bits(&self, window: u32, global: bool) -> Vec<u32> {
        let mut bits = Vec::new();
        for query in &self.blocks {
            for key in self.visited(*query, &self.visits) {
                let key = self.blocks[key as usize];
                for row in 0..self.block {
                    let row = query.first + row;
                    let sees = |column: &u32| {
                        let key = key.first + column;
                        let near = row.abs_diff(key) <= window;
                        near || global
                            && (row == query.sequence_first || key == query.sequence_first)
                    };
                    bits.push((0..key.length).filter(sees).fold(0, |word, bit| word | 1 << bit));
                }
            }
        }
        bits
    }

    /// Pairs of query and key that count for one head, with the head's own `visits` and `bits`
    /// where the device has written them.
    pub fn pairs(&self, visits: &[u32], bits: &[u32]) -> u64 {
        let mut pairs = 0;
        for query in &self.blocks {
            for (rank, key) in self.visited(*query, visits).enumerate() {
                let all = u64::from(query.length) * u64::from(self.blocks[key as usize].length);
                pairs += if bits.is_empty() {
                    all
                } else {
                    let first = (query.pairs_first as usize + rank) * self.block as usize;
                    let rows = &bits[first..][..query.length as usize];
                    rows.iter().map(|word| u64::from(word.count_ones())).sum()
                };
            }
        }
        pairs
    }

    /// Pairs of query and key that count for each head, where the host can know that: with
    /// `block-topk` it depends on whether a sentence's last, shorter block is among those that the
    /// device chooses.
    pub fn known_pairs(&self) -> Option<u64> {
        match self.rule {
            Rule::Dense | Rule::Local { .. } => Some(self.pairs(&self.visits, &self.bits)),
            Rule::Topk { .. } | Rule::Random { .. } => {
                let of_rows = |block: &Block| u64::from(block.length) * u64::from(block.keep);
                Some(self.blocks.iter().map(of_rows).sum())
            }
            Rule::BlockTopk { .. } => None,
        }
    }

    /// Pairs of query and key of one sentence: what a dense mask counts.
    pub fn all_pairs(&self) -> u64 {
        let of_sentence = |block: &Block| {
            let last = &self.blocks[(block.blocks_first + block.blocks - 1) as usize];
            u64::from(last.first + last.length - block.sequence_first)
        };
        self.blocks.iter().map(|block| u64::from(block.length) * of_sentence(block)).sum()
    }

    /// The mask of one head as `[tokens, tokens]`, row by row, with the head's own `visits` and
    /// `bits` where the device has written them.
    pub fn expand(&self, visits: &[u32], bits: &[u32]) -> Vec<bool> {
        let tokens = self.blocks.last().map_or(0, |block| block.first + block.length) as usize;
        let mut dense = vec![false; tokens * tokens];
        for query in &self.blocks {
            for (rank, key) in self.visited(*query, visits).enumerate() {
                let key = self.blocks[key as usize];
                for row in 0..query.length {
                    let word = match bits {
                        [] => u32::MAX,
                        bits => {
                            bits[(query.pairs_first as usize + rank) * self.block as usize
                                + row as usize]
                        }
                    };
                    for column in (0..key.length).filter(|column| word >> column & 1 == 1) {
                        dense[(query.first + row) as usize * tokens
                            + (key.first + column) as usize] = true;
                    }
                }
            }
        }
        dense
    }
}

/// Whether two blocks (numbered within their sentence) have a pair of tokens within the window.
fn local(query: u32, key: u32, block: u32, window: u32, global: bool) -> bool {
    // From the last token of the one to the first of the other.
    let gap = query.abs_diff(key).saturating_sub(1) * block + u32::from(query != key);
    gap <= window || global && (query == 0 || key == 0)
}

impl fmt::Display for BlockMask {
    /// One line a query block: its tokens and the key blocks it visits, marked `~` where bits
    /// decide.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.rule {
            Rule::Dense | Rule::BlockTopk { .. } => "",
            Rule::Topk { .. } | Rule::Local { .. } | Rule::Random { .. } => "~",
        };
        for (index, query) in self.blocks.iter().enumerate() {
            write!(f, "{index} [{}..{}]:", query.first, query.first + query.length)?;
            for key in self.visited(*query, &self.visits) {
                write!(f, " {mark}{key}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsity::Share;

    #[test]
    fn a_dense_mask_keeps_every_pair_of_a_sentence_and_no_other() {
        let offsets = [0, 1, 18, 50, 50 + 16 * 40];
        let mask = BlockMask::new(&Rule::Dense, 16, &offsets);
        assert_eq!((mask.block_count(), mask.pair_count()), (1 + 2 + 2 + 40, 1 + 4 + 4 + 1600));
        assert_eq!(mask.visits.len(), 1 + 2 + 2 + 80);
        let dense = mask.expand(&mask.visits, &[]);
        let tokens = 50 + 16 * 40;
        let sentence = |token: u32| offsets.iter().filter(|start| **start <= token).count();
        for query in 0..tokens {
            for key in 0..tokens {
                let kept = dense[(query * tokens + key) as usize];
                assert_eq!(kept, sentence(query) == sentence(key), "{query} {key}");
            }
        }
        let all = 1 + 17 * 17 + 32 * 32 + 640 * 640;
        assert_eq!((mask.all_pairs(), mask.known_pairs()), (all, Some(all)));
    }

    /// Each row of each block is some slice's, and no slice is without rows.
    #[test]
    fn slices_cover_every_row_once() {
        for block in [4, 8, 16, 32] {
            let offsets = [0, 1, 9, 9 + 16, 9 + 16 + 17, 120, 300];
            let mask = BlockMask::new(&Rule::Dense, block, &offsets);
            let listed = mask.blocks.iter().flat_map(|it| [it.even_slice, it.odd_slice]);
            let slices: Vec<u32> = listed.filter(|slice| *slice != Block::NO_SLICE).collect();
            let mut rows = Vec::new();
            for slice in slices {
                let of = mask.blocks[(slice / 2) as usize];
                let first = slice % 2 * Block::slice(block);
                assert!(first < of.length, "a slice without rows");
                let end = of.length.min(first + Block::slice(block));
                rows.extend((first..end).map(|row| of.first + row));
            }
            assert_eq!(rows, (0..300).collect::<Vec<_>>(), "blocks of {block}");
        }
    }

    #[test]
    fn bits_decide_in_a_pair() {
        let rule = Rule::Topk { sparsity: Share::fixed(0.5), over: None };
        let mask = BlockMask::new(&rule, 16, &[0, 4]);
        let bits = [0b0011; 16];
        let dense = mask.expand(&mask.visits, &bits);
        assert_eq!(dense[..4], [true, true, false, false]);
        assert_eq!((mask.pairs(&mask.visits, &bits), mask.known_pairs()), (8, Some(8)));
        assert_eq!(mask.to_string(), "0 [0..4]: ~0\n");
    }

    #[test]
    fn a_local_mask_keeps_the_keys_within_its_window() {
        for block in [4, 8, 16, 32] {
            for (window, global) in
                [(0, false), (0, true), (1, false), (5, true), (16, false), (200, true)]
            {
                let rule = Rule::Local { window, global };
                let offsets = [0, 1, 2, 19, 100, 164];
                let mask = BlockMask::new(&rule, block, &offsets);
                let dense = mask.expand(&mask.visits, &mask.bits);
                let mut kept = 0;
                for ends in offsets.windows(2) {
                    for query in ends[0]..ends[1] {
                        for key in ends[0]..ends[1] {
                            let near = query.abs_diff(key) <= window;
                            let wanted = near || global && (query == ends[0] || key == ends[0]);
                            let found = dense[(query * 164 + key) as usize];
                            assert_eq!(found, wanted, "{rule} {block}: {query} {key}");
                            kept += u64::from(wanted);
                        }
                    }
                }
                let count = dense.iter().filter(|kept| **kept).count() as u64;
                assert_eq!((count, mask.known_pairs()), (kept, Some(kept)), "{rule} {block}");
            }
        }
    }

    /// What a local mask takes grows with the length, not with its square.
    #[test]
    fn a_local_mask_visits_only_what_is_near() {
        let rule = Rule::Local { window: 32, global: false };
        let bits = |length| BlockMask::new(&rule, 16, &[0, length]).bits.len();
        assert!(bits(4096) < 18 * bits(256), "{} {}", bits(4096), bits(256));
    }
}
