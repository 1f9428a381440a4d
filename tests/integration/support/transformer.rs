//! A small transformer's training step, op by op: what tests of plans and of specialised shaders
//! look at. Its weights are parameters named `w0`, `w1`, …

use crisp::error::Result;
use crisp::graph::ops::{self, MaskInputs, TokenInputs, Updated};
use crisp::graph::{Graph, gradients};
use crisp::kernels::attention::Heads;
use crisp::kernels::embedding::SortedTokens;
use crisp::kernels::matmul::Activation;
use crisp::kernels::optimizer::AdamW;
use crisp::kernels::pointwise::Dropout;
use crisp::kernels::{Size, Symbol, TensorId};
use crisp::sparsity::Policy;

pub struct Settings {
    pub vocabulary: u64,
    pub positions: u64,
    pub heads: Heads,
    pub inner: u64,
    pub layers: u64,
    pub classes: u64,
    pub activation: Activation,
    pub dropout: f32,
    pub policy: Policy,
}

pub struct Step {
    pub graph: Graph,
    pub tokens: TokenInputs,
    pub mask: MaskInputs,
    pub labels: TensorId,
    pub logits: TensorId,
    pub loss: TensorId,
    /// The weights, and their gradients in the same order.
    pub weights: Vec<TensorId>,
    pub gradients: Vec<TensorId>,
    pub norm: TensorId,
}

/// Forward, and with `training` dropout, gradient, clip and AdamW.
pub fn step(settings: &Settings, training: bool) -> Result<Step> {
    let graph = &mut Graph::new();
    let mut weights = Vec::new();
    let mut weight = |graph: &mut Graph, sizes: &[u64]| {
        let id = graph.parameter(&format!("w{}", weights.len()), sizes);
        weights.push(id);
        id
    };
    let mut site = 0;
    let mut next_dropout = || {
        site += 1;
        (training && settings.dropout > 0.0)
            .then_some(Dropout { probability: settings.dropout, site })
    };
    let each = |symbol: Symbol| [Size::from(symbol)];
    let tokens = TokenInputs {
        ids: graph.input("ids", each(Symbol::Tokens)),
        places: graph.input("places", each(Symbol::Tokens)),
        offsets: graph.input("offsets", each(Symbol::Sequences)),
        sorted: SortedTokens {
            tokens: graph.input("sorted tokens", each(Symbol::Tokens)),
            segments: graph.input("segments", each(Symbol::Distinct)),
            ids: graph.input("segment ids", each(Symbol::Distinct)),
        },
    };
    let rules = settings.policy.for_layers(1)?;
    let mask = MaskInputs::new(graph, &rules.rules[0], rules.block);
    let labels = graph.input("labels", each(Symbol::Sequences));

    let heads = settings.heads;
    let width = u64::from(heads.count * heads.dim);
    let dropped = |graph: &mut Graph, dropout, x| match dropout {
        Some(dropout) => ops::dropout(graph, dropout, x, tokens.places),
        None => Ok(x),
    };
    let words = weight(graph, &[settings.vocabulary, width]);
    let positions = weight(graph, &[settings.positions, width]);
    let x = ops::embedding(graph, words, positions, tokens)?;
    let (gamma, beta) = (weight(graph, &[width]), weight(graph, &[width]));
    let x = ops::layer_norm(graph, x, None, gamma, beta, 1e-12)?;
    let mut x = dropped(graph, next_dropout(), x)?;
    for layer in 0..settings.layers {
        let mut linear = |graph: &mut Graph, x, out: u64, inputs: u64, activation| {
            let (w, b) = (weight(graph, &[out, inputs]), weight(graph, &[out]));
            ops::linear(graph, x, w, b, activation, training)
        };
        let qkv = linear(graph, x, 3 * width, width, Activation::None)?;
        let followed = (&rules.rules[0], rules.block, layer as u32);
        let chosen = ops::mask(graph, followed, heads, qkv, mask)?;
        let context = ops::attention(graph, heads, next_dropout(), chosen, qkv)?;
        let projected = linear(graph, context, width, width, Activation::None)?;
        let projected = dropped(graph, next_dropout(), projected)?;
        let (gamma, beta) = (weight(graph, &[width]), weight(graph, &[width]));
        let y = ops::layer_norm(graph, x, Some(projected), gamma, beta, 1e-12)?;
        let mut linear = |graph: &mut Graph, x, out: u64, inputs: u64, activation| {
            let (w, b) = (weight(graph, &[out, inputs]), weight(graph, &[out]));
            ops::linear(graph, x, w, b, activation, training)
        };
        let inner = linear(graph, y, settings.inner, width, settings.activation)?;
        let outer = linear(graph, inner, width, settings.inner, Activation::None)?;
        let of_outer = next_dropout().map(|dropout| (dropout, tokens.places));
        let norm = [weight(graph, &[width]), weight(graph, &[width])];
        x = ops::dropout_layer_norm(graph, of_outer, outer, Some(y), norm, 1e-12)?;
    }
    let first = ops::first_token(graph, x, tokens)?;
    let (w, b) = (weight(graph, &[width, width]), weight(graph, &[width]));
    let pooled = ops::linear(graph, first, w, b, Activation::Relu, training)?;
    let (w, b) = (weight(graph, &[settings.classes, width]), weight(graph, &[settings.classes]));
    let logits = ops::linear(graph, pooled, w, b, Activation::None, training)?;
    let loss = ops::cross_entropy(graph, logits, labels)?;

    let (mut found, mut norm) = (Vec::new(), loss);
    if training {
        let all = gradients(graph, loss, None)?;
        found = weights.iter().map(|weight| all[weight]).collect();
        norm = ops::clip(graph, &found, 1.0)?;
        for (weight, gradient) in weights.iter().zip(&found) {
            let settings = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 };
            ops::adamw(graph, Updated { weight: *weight, gradient: *gradient, settings }, norm)?;
        }
    }
    let graph = std::mem::take(graph);
    Ok(Step { graph, tokens, mask, labels, logits, loss, weights, gradients: found, norm })
}
