//! An encoder and its head, described by data.

use crate::kernels::Heads;
use crate::kernels::matmul::Activation;

/// A transformer encoder: post-LayerNorm blocks over the sum of word and position embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding: the longest sentence, in word pieces.
    pub max_positions: usize,
    /// Width of the hidden states.
    pub dim: usize,
    /// Width between the two feed-forward matrices.
    pub hidden_dim: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; they divide `dim`.
    pub heads: usize,
    /// Between the feed-forward matrices.
    pub activation: Activation,
    /// Probability of dropping an element of the embeddings and of the feed-forward output.
    pub dropout: f32,
    /// Probability of dropping an attention weight.
    pub attention_dropout: f32,
    /// Standard deviation of freshly drawn weights.
    pub initializer_range: f32,
    /// Added to the variance in every LayerNorm. DistilBERT's is 1e-12 and always that in
    /// `transformers`; a BERT checkpoint brings its own. Another value than 1e-12 is written under
    /// the key `crisp`, where this crate finds it again and `transformers` does not look: there
    /// such a model computes with 1e-12.
    pub layer_norm_eps: f32,
    /// Whose row of a freshly drawn word embedding is zero.
    pub pad_token_id: usize,
    /// Whether fresh position embeddings are sines and cosines rather than drawn.
    pub sinusoidal_positions: bool,
}

impl Encoder {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Its attention heads.
    pub fn attention_heads(&self) -> Heads {
        Heads { count: self.heads as u32, dim: self.head_dim() as u32 }
    }
}

/// What turns hidden states into outputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// The hidden state of the first token, through a matrix with ReLU, and another to the outputs.
    FirstToken {
        /// Probability of dropping an input of the last matrix.
        dropout: f32,
    },
}
