//! A rule: which keys a query of one layer looks at.

use std::fmt;

/// Which keys each query keeps. `sparsity` is the share of keys (or key blocks) that is dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// `dense`: every key of the sentence.
    Dense,
    /// `topk:S[,over=N]`: per head and query, the keys with the highest scores.
    Topk {
        /// Share of the keys that is dropped.
        sparsity: Share,
        /// Length over which k is taken, instead of the sentence's own.
        over: Option<u32>,
    },
    /// `block-topk:S[,block=B][,over=N]`: per head and query block, the key blocks with the highest
    /// product of mean query and mean key.
    BlockTopk {
        /// Share of the key blocks that is dropped.
        sparsity: Share,
        /// Tokens in a block.
        block: u32,
        /// Length over which k is taken, instead of the sentence's own.
        over: Option<u32>,
    },
    /// `local:W[,global]`: the keys at a distance of at most W tokens.
    Local {
        /// Tokens seen on each side.
        window: u32,
        /// The first token sees all, and is seen by all.
        global: bool,
    },
    /// `random:S[,over=N][,seed=N]`: per head and query, keys drawn at random, as many as `topk:S`
    /// keeps. In training they are drawn anew at each step; in evaluation they follow from the
    /// seed.
    Random {
        /// Share of the keys that is dropped.
        sparsity: Share,
        /// Length over which k is taken, instead of the sentence's own.
        over: Option<u32>,
        /// What they are drawn from, besides the seed of a run.
        seed: u32,
    },
}

/// A share of keys to drop, in `[0, 1)`, which may grow in the course of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// At the first step.
    pub from: f64,
    /// In the end.
    pub to: f64,
    /// Steps from the one to the other; half of the run where it is not said.
    pub warmup: Option<u32>,
}

impl Share {
    /// A share that stays.
    pub fn fixed(share: f64) -> Self {
        Self { from: share, to: share, warmup: None }
    }

    fn grows(&self) -> bool {
        self.from != self.to
    }

    /// from + (to - from) · (step - 1) / warm-up, in whole millionths, so that it reads well.
    fn at(&self, step: u32, total: u32) -> Self {
        let over = f64::from(self.warmup.unwrap_or(total / 2).max(1));
        let done = (f64::from(step.saturating_sub(1)) / over).min(1.0);
        let share = self.from + (self.to - self.from) * done;
        Self::fixed(if done < 1.0 { (share * 1e6).round() / 1e6 } else { self.to })
    }

    /// max(1, ceil((1 - share) · n)), where a product that is a whole number but for rounding
    /// counts as that number: (1 - 0.7) · 10 is 3, not 3.0000000000000004.
    fn keep(&self, n: u32) -> u32 {
        let exact = (1.0 - self.to) * f64::from(n);
        ((exact - 1e-9 * exact.max(1.0)).ceil() as u32).max(1)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let share = |text: &str| {
            let share = text.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share));
            share.ok_or_else(|| format!("'{text}' is not a share in [0, 1)"))
        };
        match text.split_once('→').or_else(|| text.split_once("->")) {
            Some((from, to)) => Ok(Self { from: share(from)?, to: share(to)?, warmup: None }),
            None => Ok(Self::fixed(share(text)?)),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.grows() {
            true => write!(f, "{}→{}", self.from, self.to),
            false => write!(f, "{}", self.to),
        }
    }
}

impl Rule {
    /// Tokens in a block where nothing is said.
    pub const BLOCK: u32 = 16;

    /// The size of blocks that the rule asks for, if it cares.
    pub(super) fn block(&self) -> Option<u32> {
        match self {
            Self::BlockTopk { block, .. } => Some(*block),
            _ => None,
        }
    }

    /// How many keys (for `block-topk`: key blocks) a query (query block) keeps of a sentence of
    /// `length` tokens in the end: max(1, ceil((1 - S) · n)), and no more than there are. For
    /// `local` all: there the distance decides.
    pub fn keep(&self, length: u32) -> u32 {
        match *self {
            Self::Dense | Self::Local { .. } => length,
            Self::Topk { sparsity, over } | Self::Random { sparsity, over, .. } => {
                sparsity.keep(over.unwrap_or(length)).min(length)
            }
            Self::BlockTopk { sparsity, block, over } => {
                let blocks = |tokens: u32| tokens.div_ceil(block);
                sparsity.keep(blocks(over.unwrap_or(length))).min(blocks(length))
            }
        }
    }

    fn share_mut(&mut self) -> Option<&mut Share> {
        match self {
            Self::Topk { sparsity, .. }
            | Self::BlockTopk { sparsity, .. }
            | Self::Random { sparsity, .. } => Some(sparsity),
            Self::Dense | Self::Local { .. } => None,
        }
    }

    /// The rule at a step (counted from 1) of a run of `total`.
    pub(super) fn at(mut self, step: u32, total: u32) -> Self {
        if let Some(share) = self.share_mut().filter(|share| share.grows()) {
            *share = share.at(step, total);
        }
        self
    }

    /// The rule once it has warmed up.
    pub(super) fn settled(mut self) -> Self {
        if let Some(share) = self.share_mut() {
            *share = Share::fixed(share.to);
        }
        self
    }

    /// Reads `name:value` and the options that follow it.
    pub(super) fn parse(words: &[&str]) -> Result<Self, String> {
        let (head, options) = words.split_first().ok_or("nothing is said")?;
        let (name, value) = match head.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (*head, None),
        };
        let (mut over, mut block, mut warmup, mut seed, mut global) =
            (None, None, None, None, false);
        let by_share = ["topk", "block-topk", "random"].contains(&name);
        for option in options {
            let (key, text) = option.split_once('=').unwrap_or((option, ""));
            let number = || {
                text.parse::<u32>()
                    .map_err(|_| format!("'{option}': '{text}' is no whole number below 2^32"))
            };
            let positive = || match number()? {
                0 => Err(format!("'{option}': it must be at least 1")),
                number => Ok(Some(number)),
            };
            match key {
                "over" if by_share => over = positive()?,
                "warmup" if by_share => warmup = positive()?,
                "block" if name == "block-topk" => block = positive()?,
                "seed" if name == "random" => seed = Some(number()?),
                "global" if name == "local" && *option == "global" => global = true,
                _ => return Err(format!("'{option}' is no option of {name}")),
            }
        }
        let sparsity = || -> Result<Share, String> {
            let share = Share::parse(value.ok_or_else(|| format!("{name} needs a share"))?)?;
            if warmup.is_some() && !share.grows() {
                return Err("a warm-up goes from one share to another, as `0->0.8`".into());
            }
            Ok(Share { warmup, ..share })
        };
        Ok(match name {
            "dense" if value.is_some() => return Err("dense takes no share".into()),
            "dense" => Self::Dense,
            "topk" => Self::Topk { sparsity: sparsity()?, over },
            "random" => Self::Random { sparsity: sparsity()?, over, seed: seed.unwrap_or(0) },
            "block-topk" => {
                let block = block.unwrap_or(Self::BLOCK);
                if ![4, 8, 16, 32].contains(&block) {
                    return Err(format!("a block of {block} tokens; it is 4, 8, 16 or 32"));
                }
                Self::BlockTopk { sparsity: sparsity()?, block, over }
            }
            "local" => {
                let value = value.ok_or("local needs a number of tokens")?;
                let window =
                    value.parse().map_err(|_| format!("'{value}' is no number of tokens"))?;
                Self::Local { window, global }
            }
            _ => return Err(format!("no policy is called '{name}'")),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = |f: &mut fmt::Formatter<'_>, over: &Option<u32>, share: &Share| {
            over.map_or(Ok(()), |over| write!(f, ",over={over}"))?;
            share.warmup.map_or(Ok(()), |steps| write!(f, ",warmup={steps}"))
        };
        match self {
            Self::Dense => f.write_str("dense"),
            Self::Topk { sparsity, over: length } => {
                write!(f, "topk:{sparsity}")?;
                over(f, length, sparsity)
            }
            Self::BlockTopk { sparsity, block, over: length } => {
                write!(f, "block-topk:{sparsity}")?;
                if *block != Self::BLOCK {
                    write!(f, ",block={block}")?;
                }
                over(f, length, sparsity)
            }
            Self::Local { window, global } => {
                write!(f, "local:{window}{}", if *global { ",global" } else { "" })
            }
            Self::Random { sparsity, over: length, seed } => {
                write!(f, "random:{sparsity}")?;
                over(f, length, sparsity)?;
                if *seed != 0 { write!(f, ",seed={seed}") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_is_the_rounded_up_share_and_at_least_one() {
        let topk = |sparsity| Rule::Topk { sparsity: Share::fixed(sparsity), over: None };
        for (sparsity, length, keep) in
            [(0.8, 1, 1), (0.8, 5, 1), (0.8, 6, 2), (0.5, 7, 4), (0.7, 10, 3), (0.0, 9, 9)]
        {
            assert_eq!(topk(sparsity).keep(length), keep, "{sparsity} of {length}");
        }
        let padded = Rule::Topk { sparsity: Share::fixed(0.8), over: Some(128) };
        assert_eq!(padded.keep(13), 13);
        assert_eq!(padded.keep(100), 26);
        let block = Rule::BlockTopk { sparsity: Share::fixed(0.5), block: 16, over: None };
        assert_eq!([block.keep(16), block.keep(17), block.keep(66)], [1, 1, 3]);
    }
}
