//! Sizes that change from batch to batch are symbols until a step binds them, so that a plan is
//! made once and printed, counted and tested without a device.

use crate::sparsity::BlockMask;
use std::fmt;

/// What the elements of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point: how mixed precision stores what passes between kernels. They compute
    /// in 32 bits.
    F16,
    /// 32-bit words: ids, offsets, bits of a mask.
    U32,
}

impl Element {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U32 => "u32",
        })
    }
}

/// A size that a batch decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// Tokens in the packed stream.
    Tokens,
    /// Sentences.
    Sequences,
    /// Distinct word ids.
    Distinct,
    /// Blocks of the mask: up to 16 tokens each, or what the policy says.
    Blocks,
    /// Pairs of blocks of one sentence.
    Pairs,
    /// Pairs of blocks that a mask known on the host visits, where it has bits.
    BitPairs,
    /// Words of one head's visits.
    Visits,
    /// Tokens of the longest sentence.
    Longest,
}

/// The sizes of one batch, or the largest that a plan has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Tokens in the packed stream.
    pub tokens: u32,
    /// Sentences.
    pub sequences: u32,
    /// Distinct word ids.
    pub distinct: u32,
    /// Blocks of the mask: up to 16 tokens each, or what the policy says.
    pub blocks: u32,
    /// Pairs of blocks of one sentence.
    pub pairs: u32,
    /// Pairs of blocks that a mask known on the host visits, where it has bits.
    pub bit_pairs: u32,
    /// Words of one head's visits.
    pub visits: u32,
    /// Tokens of the longest sentence.
    pub longest: u32,
}

impl Sizes {
    /// The sizes of a batch of sentences, `offsets [sentences + 1]` being where each starts, with
    /// the number of distinct words in it.
    pub fn of_batch(offsets: &[u32], distinct: usize, masks: &[BlockMask]) -> Self {
        let lengths = offsets.windows(2).map(|ends| ends[1] - ends[0]);
        // All masks share their blocks.
        let blocks = masks.first();
        Self {
            tokens: offsets.last().copied().unwrap_or(0),
            sequences: lengths.len() as u32,
            distinct: distinct as u32,
            blocks: blocks.map_or(0, BlockMask::block_count),
            pairs: blocks.map_or(0, BlockMask::pair_count),
            bit_pairs: masks.iter().map(BlockMask::bit_pairs).max().unwrap_or(0),
            visits: blocks.map_or(0, |mask| mask.visits.len() as u32),
            longest: lengths.max().unwrap_or(0),
        }
    }

    fn of(&self, symbol: Symbol) -> u64 {
        u64::from(match symbol {
            Symbol::Tokens => self.tokens,
            Symbol::Sequences => self.sequences,
            Symbol::Distinct => self.distinct,
            Symbol::Blocks => self.blocks,
            Symbol::Pairs => self.pairs,
            Symbol::BitPairs => self.bit_pairs,
            Symbol::Visits => self.visits,
            Symbol::Longest => self.longest,
        })
    }

    /// The larger of each size.
    pub fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            sequences: self.sequences.max(other.sequences),
            distinct: self.distinct.max(other.distinct),
            blocks: self.blocks.max(other.blocks),
            pairs: self.pairs.max(other.pairs),
            bit_pairs: self.bit_pairs.max(other.bit_pairs),
            visits: self.visits.max(other.visits),
            longest: self.longest.max(other.longest),
        }
    }
}

/// A number, or `factor · symbol + plus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// The number, or what the symbol is multiplied with.
    pub factor: u64,
    /// The symbol, if the size depends on the batch.
    pub symbol: Option<Symbol>,
    /// What is added to the product; 0 where there is no symbol.
    pub plus: u64,
}

impl Size {
    /// Its value for a batch.
    pub fn at(self, sizes: &Sizes) -> u64 {
        self.factor * self.symbol.map_or(1, |symbol| sizes.of(symbol)) + self.plus
    }

    /// A multiple of it.
    pub fn times(self, factor: u64) -> Self {
        Self { factor: self.factor * factor, plus: self.plus * factor, ..self }
    }

    /// So many more.
    pub fn and(self, more: u64) -> Self {
        match self.symbol {
            Some(_) => Self { plus: self.plus + more, ..self },
            None => Self::from(self.factor + more),
        }
    }

    /// The product of two sizes; `None` where both depend on the batch.
    pub fn product(self, other: Self) -> Option<Self> {
        match (self.fixed(), other.fixed()) {
            (_, Some(factor)) => Some(self.times(factor)),
            (Some(factor), None) => Some(other.times(factor)),
            (None, None) => None,
        }
    }

    /// The number, if it depends on no batch.
    pub fn fixed(self) -> Option<u64> {
        self.symbol.is_none().then_some(self.factor)
    }

    /// Whether it is a multiple of `divisor` for every batch.
    pub fn is_multiple_of(self, divisor: u64) -> bool {
        self.factor.is_multiple_of(divisor) && self.plus.is_multiple_of(divisor)
    }
}

impl From<Symbol> for Size {
    fn from(symbol: Symbol) -> Self {
        Self { factor: 1, symbol: Some(symbol), plus: 0 }
    }
}

impl From<u64> for Size {
    fn from(factor: u64) -> Self {
        Self { factor, symbol: None, plus: 0 }
    }
}

impl From<u32> for Size {
    fn from(factor: u32) -> Self {
        u64::from(factor).into()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(symbol) = self.symbol else { return write!(f, "{}", self.factor) };
        let symbol = format!("{symbol:?}").to_lowercase();
        match self.factor {
            1 => write!(f, "{symbol}")?,
            factor => write!(f, "{factor}·{symbol}")?,
        }
        if self.plus > 0 { write!(f, " + {}", self.plus) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_factor_times_a_symbol_and_something_more() {
        let sizes = Sizes { sequences: 7, ..Sizes::default() };
        let offsets = Size::from(Symbol::Sequences).and(1);
        assert_eq!(offsets.at(&sizes), 8);
        assert_eq!(offsets.times(3).at(&sizes), 24);
        assert_eq!(offsets.product(Size::from(2u32)).unwrap().at(&sizes), 16);
        assert_eq!(Size::from(2u32).product(offsets), offsets.product(Size::from(2u32)));
        assert_eq!(offsets.product(Size::from(Symbol::Tokens)), None);
        assert_eq!(offsets.fixed(), None);
        assert_eq!(Size::from(4u32).and(1).fixed(), Some(5));
        assert_eq!(offsets.to_string(), "sequences + 1");
        assert_eq!(Size::from(Symbol::Tokens).times(3).to_string(), "3·tokens");
        assert!(!offsets.is_multiple_of(2) && offsets.times(2).is_multiple_of(2));
    }
}
