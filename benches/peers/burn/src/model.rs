//! DistilBERT for sequence classification, as `transformers` defines it, of Burn's own modules.

use burn::module::Module;
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig,
    Linear, LinearConfig,
};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Bool, Device, Int, Tensor};

const CLASSES: usize = 2;
const LAYER_NORM_EPSILON: f64 = 1e-12;

/// What counts of a `config.json`.
#[derive(serde::Deserialize)]
pub struct Config {
    pub dim: usize,
    pub n_heads: usize,
    pub n_layers: usize,
    pub hidden_dim: usize,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub seq_classif_dropout: f64,
    pub initializer_range: f64,
}

#[derive(Module, Debug)]
pub struct DistilBert {
    words: Embedding,
    places: Embedding,
    norm: LayerNorm,
    blocks: Vec<Block>,
    dense: Linear,
    classifier: Linear,
    dropout: Dropout,
    classifier_dropout: Dropout,
}

#[derive(Module, Debug)]
struct Block {
    attention: MultiHeadAttention,
    attention_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    output_norm: LayerNorm,
    dropout: Dropout,
}

impl Config {
    /// A model with fresh weights.
    pub fn init(&self, device: &Device) -> DistilBert {
        let embedding = |rows| {
            EmbeddingConfig::new(rows, self.dim).with_initializer(self.initializer()).init(device)
        };
        DistilBert {
            words: embedding(self.vocab_size),
            places: embedding(self.max_position_embeddings),
            norm: self.norm(device),
            blocks: (0..self.n_layers).map(|_| self.block(device)).collect(),
            dense: self.linear(self.dim, self.dim, device),
            classifier: self.linear(self.dim, CLASSES, device),
            dropout: DropoutConfig::new(self.dropout).init(),
            classifier_dropout: DropoutConfig::new(self.seq_classif_dropout).init(),
        }
    }

    fn block(&self, device: &Device) -> Block {
        Block {
            attention: MultiHeadAttentionConfig::new(self.dim, self.n_heads)
                .with_dropout(self.attention_dropout)
                .with_initializer(self.initializer())
                .init(device),
            attention_norm: self.norm(device),
            widen: self.linear(self.dim, self.hidden_dim, device),
            narrow: self.linear(self.hidden_dim, self.dim, device),
            output_norm: self.norm(device),
            dropout: DropoutConfig::new(self.dropout).init(),
        }
    }

    fn linear(&self, from: usize, to: usize, device: &Device) -> Linear {
        LinearConfig::new(from, to).with_initializer(self.initializer()).init(device)
    }

    fn norm(&self, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.dim).with_epsilon(LAYER_NORM_EPSILON).init(device)
    }

    fn initializer(&self) -> Initializer {
        Initializer::Normal { mean: 0.0, std: self.initializer_range }
    }
}

impl DistilBert {
    /// The mean cross-entropy of a batch. `padding` is true where a token is none.
    pub fn loss(
        &self,
        ids: Tensor<2, Int>,
        padding: Option<Tensor<2, Bool>>,
        labels: Tensor<1, Int>,
    ) -> Tensor<1> {
        let logits = self.logits(ids, padding);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, labels)
    }

    fn logits(&self, ids: Tensor<2, Int>, padding: Option<Tensor<2, Bool>>) -> Tensor<2> {
        let [_, length] = ids.dims();
        let places = Tensor::arange(0..length as i64, &ids.device()).unsqueeze();
        let embedded = self.words.forward(ids) + self.places.forward(places);
        let mut hidden = self.dropout.forward(self.norm.forward(embedded));
        for block in &self.blocks {
            hidden = block.forward(hidden, padding.clone());
        }
        let first = hidden.narrow(1, 0, 1).squeeze_dim(1);
        let pooled = relu(self.dense.forward(first));
        self.classifier.forward(self.classifier_dropout.forward(pooled))
    }
}

impl Block {
    fn forward(&self, input: Tensor<3>, padding: Option<Tensor<2, Bool>>) -> Tensor<3> {
        let mut attention = MhaInput::self_attn(input.clone());
        if let Some(padding) = padding {
            attention = attention.mask_pad(padding);
        }
        let attended = self.attention.forward(attention).context;
        let middle = self.attention_norm.forward(attended + input);
        let fed = self.narrow.forward(gelu(self.widen.forward(middle.clone())));
        self.output_norm.forward(self.dropout.forward(fed) + middle)
    }
}
