//! A small transformer's training step, op by op: what tests of plans and of specialised shaders
//! look at. Its weights are parameters named `w0`, `w1`, …

use crisp::error::Result;
use crisp::graph::ops::{self, Affine, LayerRule, MaskInputs, RowUpdates, TokenInputs, Updated};
use crisp::graph::{Graph, Pass, Seed, gradients};
use crisp::kernels::Heads;
use crisp::kernels::embedding::SortedTokens;
use crisp::kernels::matmul::Activation;
use crisp::kernels::optimizer::AdamW;
use crisp::kernels::pointwise::Dropout;
use crisp::kernels::{Element, Size, Symbol, TensorId};
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
    let pass = match training {
        true => Pass::Training { recompute: false },
        false => Pass::Inference,
    };
    let [per_token, per_sequence, distinct] =
        [Symbol::Tokens, Symbol::Sequences, Symbol::Distinct].map(Size::from);
    let pairs = [per_token, Size::from(2u32)];
    let placed_ids = graph.input("ids and places", Element::U32, pairs);
    let mut input = |name: &str, size: Size| graph.input(name, Element::U32, [size]);
    let tokens = TokenInputs {
        placed_ids,
        places: input("places", per_token),
        offsets: input("offsets", per_sequence.and(1)),
        sorted: SortedTokens {
            tokens: input("sorted tokens", per_token),
            segments: input("segments", distinct.and(1)),
            ids: input("segment ids", distinct),
        },
    };
    let labels = input("labels", per_sequence);
    let rules = settings.policy.for_layers(1)?;
    let mask = MaskInputs::new(graph, &rules.rules[0], rules.block);

    let heads = settings.heads;
    let width = u64::from(heads.count * heads.dim);
    let dropped = |graph: &mut Graph, dropout, x| match dropout {
        Some(dropout) => ops::dropout(graph, dropout, x, tokens.places),
        None => Ok(x),
    };
    let words = weight(graph, &[settings.vocabulary, width]);
    let positions = weight(graph, &[settings.positions, width]);
    let x = ops::embedding(graph, words, positions, tokens)?;
    let norm = Affine { weight: weight(graph, &[width]), bias: weight(graph, &[width]) };
    let x = ops::layer_norm(graph, x, None, norm, 1e-12)?;
    let mut x = dropped(graph, next_dropout(), x)?;
    for layer in 0..settings.layers {
        let mut linear = |graph: &mut Graph, x, out: u64, inputs: u64, activation| {
            let affine =
                Affine { weight: weight(graph, &[out, inputs]), bias: weight(graph, &[out]) };
            ops::linear(graph, x, affine, activation, pass)
        };
        let qkv = linear(graph, x, 3 * width, width, Activation::None)?;
        let followed = LayerRule { rule: &rules.rules[0], block: rules.block, layer: layer as u32 };
        let chosen = ops::mask(graph, followed, heads, qkv, mask)?;
        let context = ops::attention(graph, heads, next_dropout(), chosen, qkv)?;
        let projected = linear(graph, context, width, width, Activation::None)?;
        let projected = dropped(graph, next_dropout(), projected)?;
        let norm = Affine { weight: weight(graph, &[width]), bias: weight(graph, &[width]) };
        let y = ops::layer_norm(graph, x, Some(projected), norm, 1e-12)?;
        let mut linear = |graph: &mut Graph, x, out: u64, inputs: u64, activation| {
            let affine =
                Affine { weight: weight(graph, &[out, inputs]), bias: weight(graph, &[out]) };
            ops::linear(graph, x, affine, activation, pass)
        };
        let inner = linear(graph, y, settings.inner, width, settings.activation)?;
        let outer = linear(graph, inner, width, settings.inner, Activation::None)?;
        let of_outer = next_dropout().map(|dropout| (dropout, tokens.places));
        let norm = Affine { weight: weight(graph, &[width]), bias: weight(graph, &[width]) };
        x = ops::dropout_layer_norm(graph, of_outer, outer, Some(y), norm, 1e-12)?;
    }
    let first = ops::first_token(graph, x, tokens)?;
    let dense = Affine { weight: weight(graph, &[width, width]), bias: weight(graph, &[width]) };
    let pooled = ops::linear(graph, first, dense, Activation::Relu, pass)?;
    let out = Affine {
        weight: weight(graph, &[settings.classes, width]),
        bias: weight(graph, &[settings.classes]),
    };
    let logits = ops::linear(graph, pooled, out, Activation::None, pass)?;
    let loss = ops::cross_entropy(graph, logits, labels)?;

    let (mut found, mut norm) = (Vec::new(), loss);
    if training {
        let all = gradients(graph, loss, Seed::One)?;
        found = weights.iter().map(|weight| all[weight]).collect();
        norm = ops::clip(graph, &found, 1.0)?;
        let settings = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 };
        // The first is the word embedding.
        let rows = RowUpdates::new(graph, weights[0], settings)?;
        rows.adamw(graph, tokens.sorted.ids, found[0], norm)?;
        for (weight, gradient) in weights.iter().zip(&found).skip(1) {
            ops::adamw(
                graph,
                Updated { weight: *weight, gradient: *gradient, settings, half: None },
                norm,
            )?;
        }
    }
    let graph = std::mem::take(graph);
    Ok(Step { graph, tokens, mask, labels, logits, loss, weights, gradients: found, norm })
}
