//! Packed batches, and the order in which an epoch visits its examples.

use crate::error::{Error, Result};
use crate::random::SplitMix64;

/// One example as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Word-piece ids, `[CLS]` and `[SEP]` included.
    pub ids: Vec<u32>,
    /// The class, where it is known.
    pub label: Option<u32>,
}

/// One packed stream of tokens: sentences laid end to end, never padded.
///
/// Everything is `u32`, ready to be uploaded. `sorted_tokens`, `segments` and `segment_ids` are the
/// transposed view of `ids`: they let the gradient of the word embedding be a sum over each run of
/// equal ids, in a fixed order and without atomics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `[tokens]`: the word-piece id of each token.
    pub ids: Vec<u32>,
    /// `[tokens]`: `sequence << 16 | position in the sequence`, sequences being numbered within the
    /// whole step, of which a batch may be a part.
    pub places: Vec<u32>,
    /// `[tokens, 2]`: id and place of each token, for a kernel that wants both.
    pub placed_ids: Vec<u32>,
    /// `[sequences + 1]`: the first token of each sequence, then the number of tokens.
    pub offsets: Vec<u32>,
    /// `[sequences]`: the class, or [`Batch::NO_LABEL`].
    pub labels: Vec<u32>,
    /// `[tokens]`: token indices sorted by (id, token index).
    pub sorted_tokens: Vec<u32>,
    /// `[distinct + 1]`: where each run of equal ids starts in `sorted_tokens`, then the number of
    /// tokens.
    pub segments: Vec<u32>,
    /// `[distinct]`: the id of each run, ascending.
    pub segment_ids: Vec<u32>,
    /// Number of the first sequence within the whole step.
    pub first_sequence: u32,
}

impl Batch {
    /// Stands in `labels` for an example whose class is not known.
    pub const NO_LABEL: u32 = u32::MAX;

    /// The most sequences in a batch, and the most tokens in a sequence: each has 16 bits of
    /// `places`.
    pub const MAX: usize = 65_535;

    /// Lays the examples of a whole step end to end.
    ///
    /// # Errors
    /// An empty batch, more than [`Batch::MAX`] sequences, and a sequence without tokens or with
    /// more than [`Batch::MAX`]; names the sequence (counted from 0) and its length.
    pub fn pack(examples: &[&Encoded]) -> Result<Self> {
        Self::part(examples, 0)
    }

    /// As [`Batch::pack`], for a part of a step, of which these many sequences came before.
    ///
    /// # Errors
    /// As [`Batch::pack`], the sequences before included.
    pub fn part(examples: &[&Encoded], before: usize) -> Result<Self> {
        if examples.is_empty() {
            return Err(Error::input("a batch needs at least one sequence, got none"));
        }
        if before + examples.len() > Self::MAX {
            return Err(Error::usage(format!(
                "a batch holds at most {} sequences, got {}",
                Self::MAX,
                before + examples.len()
            ))
            .remedy("Choose a smaller batch size."));
        }
        for (sequence, example) in examples.iter().enumerate() {
            if example.ids.is_empty() {
                return Err(Error::input(format!(
                    "sequence {sequence} of the batch has no tokens"
                )));
            }
            if example.ids.len() > Self::MAX {
                return Err(Error::input(format!(
                    "sequence {sequence} of the batch has {} tokens; at most {} fit",
                    example.ids.len(),
                    Self::MAX
                ))
                .remedy("Choose a smaller max length."));
            }
        }

        // 65,535 sequences of 65,535 tokens are fewer than 2^32: every index below fits.
        let tokens = examples.iter().map(|example| example.ids.len()).sum();
        let mut ids = Vec::with_capacity(tokens);
        let mut places = Vec::with_capacity(tokens);
        let mut offsets = Vec::with_capacity(examples.len() + 1);
        offsets.push(0);
        let first_sequence = before as u32;
        for (sequence, example) in (first_sequence..).zip(examples) {
            ids.extend_from_slice(&example.ids);
            places.extend((0..example.ids.len()).map(|at| sequence << 16 | at as u32));
            offsets.push(ids.len() as u32);
        }
        let placed_ids = ids.iter().zip(&places).flat_map(|(id, place)| [*id, *place]).collect();
        let labels = examples.iter().map(|example| example.label.unwrap_or(Self::NO_LABEL));

        let mut sorted_tokens: Vec<u32> = (0..tokens as u32).collect();
        sorted_tokens.sort_unstable_by_key(|&token| (ids[token as usize], token));
        let mut segments = Vec::new();
        let mut segment_ids = Vec::new();
        for (at, &token) in sorted_tokens.iter().enumerate() {
            let id = ids[token as usize];
            if segment_ids.last() != Some(&id) {
                segments.push(at as u32);
                segment_ids.push(id);
            }
        }
        segments.push(tokens as u32);

        Ok(Self {
            ids,
            places,
            placed_ids,
            offsets,
            labels: labels.collect(),
            sorted_tokens,
            segments,
            segment_ids,
            first_sequence,
        })
    }

    /// How many tokens the stream holds.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many sequences it holds.
    pub fn sequences(&self) -> usize {
        self.labels.len()
    }

    /// How many different ids occur in it.
    pub fn distinct(&self) -> usize {
        self.segment_ids.len()
    }
}

/// The order in which an epoch (counted from 0) visits `examples` examples (at most 2^32).
///
/// Shuffled, it is a Fisher-Yates permutation, from the last place down to the second, drawn from
/// SplitMix64. The generator starts from the first output of the generator seeded with `seed`, plus
/// `epoch`, so that neither neighbouring seeds nor neighbouring epochs share a stream. Not
/// shuffled, it is `0..examples` in every epoch.
pub fn epoch_order(examples: usize, seed: u64, epoch: u32, shuffle: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..examples).map(|example| example as u32).collect();
    if shuffle {
        let start = SplitMix64(seed).word().wrapping_add(u64::from(epoch));
        let mut generator = SplitMix64(SplitMix64(start).word());
        for last in (1..order.len()).rev() {
            let chosen = generator.below(last as u64 + 1) as usize;
            order.swap(last, chosen);
        }
    }
    order
}

/// Cuts an epoch's order into batches; the last may be short. A size of 0 is taken as 1.
pub fn batches(order: &[u32], batch_size: usize) -> impl Iterator<Item = &[u32]> {
    order.chunks(batch_size.max(1))
}
