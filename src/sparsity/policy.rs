//! The policy: how a user says which scores attention keeps.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What attention keeps, as written on the command line and in a checkpoint's `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Policy {
    /// `dense`: every key of the sentence.
    #[default]
    Dense,
    /// `topk:S[,over=N]`: per layer, head and query, the keys with the highest scores.
    Topk {
        /// Share of the keys that is dropped, in `[0, 1)`.
        sparsity: f64,
        /// Length over which k is taken, instead of the sentence's own.
        over: Option<u32>,
    },
    /// `block-topk:S[,block=B][,over=N]`: per layer, head and query block, the key blocks with the
    /// highest product of mean query and mean key.
    BlockTopk {
        /// Share of the key blocks that is dropped, in `[0, 1)`.
        sparsity: f64,
        /// Tokens in a block.
        block: u32,
        /// Length over which k is taken, instead of the sentence's own.
        over: Option<u32>,
    },
}

/// Tokens in a block where the policy does not say.
const BLOCK: u32 = 16;

impl Policy {
    /// Tokens in a block of the mask.
    pub fn block(&self) -> u32 {
        match self {
            Self::BlockTopk { block, .. } => *block,
            _ => BLOCK,
        }
    }

    /// How many keys (row policies) or key blocks (block policies) are kept of a sentence of
    /// `length` tokens: max(1, ceil((1 - S) · n)), and no more than there are.
    pub fn keep(&self, length: u32) -> u32 {
        match *self {
            Self::Dense => length,
            Self::Topk { sparsity, over } => share(sparsity, over.unwrap_or(length)).min(length),
            Self::BlockTopk { sparsity, block, over } => {
                let blocks = |tokens: u32| tokens.div_ceil(block);
                share(sparsity, blocks(over.unwrap_or(length))).min(blocks(length))
            }
        }
    }
}

/// max(1, ceil((1 - sparsity) · n)), where a product that is a whole number but for rounding counts
/// as that number: (1 - 0.7) · 10 is 3, not 3.0000000000000004.
fn share(sparsity: f64, n: u32) -> u32 {
    let exact = (1.0 - sparsity) * f64::from(n);
    ((exact - 1e-9 * exact.max(1.0)).ceil() as u32).max(1)
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self {
            Self::Dense => return f.write_str("dense"),
            Self::Topk { sparsity, over } => {
                write!(f, "topk:{sparsity}")?;
                over
            }
            Self::BlockTopk { sparsity, block, over } => {
                write!(f, "block-topk:{sparsity}")?;
                if *block != BLOCK {
                    write!(f, ",block={block}")?;
                }
                over
            }
        };
        over.map_or(Ok(()), |over| write!(f, ",over={over}"))
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::usage(format!("sparsity '{text}': {why}")).remedy(
                "It is `dense`, `topk:0.8` or `block-topk:0.8` (0.8 being the share dropped), \
                 with `,over=128` to take k over a padded length, and `,block=16` for block-topk.",
            )
        };
        let mut parts = text.trim().split(',');
        let head = parts.next().unwrap_or_default();
        let (name, value) = match head.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (head, None),
        };
        let mut over = None;
        let mut block = None;
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| wrong(format!("'{part}' is no option")))?;
            let number = value
                .parse::<u32>()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| wrong(format!("'{value}' is no positive number")))?;
            match key {
                "over" => over = Some(number),
                "block" if name == "block-topk" => block = Some(number),
                _ => return Err(wrong(format!("'{key}' is no option of {name}"))),
            }
        }
        let sparsity = || -> Result<f64> {
            let value = value.ok_or_else(|| wrong(format!("{name} needs a share")))?;
            value
                .parse::<f64>()
                .ok()
                .filter(|share| (0.0..1.0).contains(share))
                .ok_or_else(|| wrong(format!("'{value}' is not a share in [0, 1)")))
        };
        match name {
            "dense" if value.is_some() || over.is_some() => {
                Err(wrong("dense takes no options".into()))
            }
            "dense" => Ok(Self::Dense),
            "topk" => Ok(Self::Topk { sparsity: sparsity()?, over }),
            "block-topk" => {
                let block = block.unwrap_or(BLOCK);
                if ![4, 8, 16, 32].contains(&block) {
                    return Err(wrong(format!("a block of {block} tokens; it is 4, 8, 16 or 32")));
                }
                Ok(Self::BlockTopk { sparsity: sparsity()?, block, over })
            }
            _ => Err(wrong(format!("no policy is called '{name}'"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_back_as_written() {
        for text in
            ["dense", "topk:0.8", "topk:0.5,over=128", "block-topk:0.8", "block-topk:0.9,block=32"]
        {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "top",
            "topk",
            "topk:1",
            "topk:-0.1",
            "topk:nan",
            "topk:0.5,block=8",
            "dense:0.5",
            "block-topk:0.5,block=7",
            "topk:0.5,over=0",
            "topk:0.5,over",
        ] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }

    #[test]
    fn k_is_the_rounded_up_share_and_at_least_one() {
        let topk = |sparsity| Policy::Topk { sparsity, over: None };
        for (sparsity, length, keep) in
            [(0.8, 1, 1), (0.8, 5, 1), (0.8, 6, 2), (0.5, 7, 4), (0.7, 10, 3), (0.0, 9, 9)]
        {
            assert_eq!(topk(sparsity).keep(length), keep, "{sparsity} of {length}");
        }
        let padded = Policy::Topk { sparsity: 0.8, over: Some(128) };
        assert_eq!(padded.keep(13), 13);
        assert_eq!(padded.keep(100), 26);
        let block = Policy::BlockTopk { sparsity: 0.5, block: 16, over: None };
        assert_eq!([block.keep(16), block.keep(17), block.keep(66)], [1, 1, 3]);
    }
}
