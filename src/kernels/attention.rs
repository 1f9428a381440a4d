//! Block-sparse attention over a mask, and its gradients.

use super::Heads;
use super::mask::Mask;
use super::pointwise::Dropout;
use super::{Command, Count, Grid, Launch, Shader, Size, Symbol, TensorId, Word, shader, texels};
use crate::gpu::{Abilities, Access};

fn specialise(shader: Shader, heads: Heads, mask: &Mask, dropout: Option<Dropout>) -> Shader {
    heads
        .fix(shader)
        .with("BLOCK", format!("{}u", mask.block))
        .with("SCALE", format!("{:?}", 1.0 / (heads.dim as f32).sqrt()))
        .with("DROPOUT", dropout.is_some())
        .with("BITS", mask.bits.is_some())
}

/// The words of `Params` in `shaders/shared/attention.wgsl`, in its order.
fn parameters(heads: Heads, mask: &Mask, dropout: Option<Dropout>) -> Vec<Word> {
    let dropout = dropout.unwrap_or(Dropout { probability: 0.0, site: 0 });
    let mut words = vec![
        Symbol::Tokens.into(),
        Symbol::Blocks.into(),
        heads.count.into(),
        mask.visits_stride.into(),
        mask.bits_stride.into(),
    ];
    words.extend(dropout.words());
    words
}

/// `factor` operations for each component, head and pair of tokens. Blocks count as full, and all
/// pairs as visited: what a mask leaves out is known only on the device.
fn operations(heads: Heads, mask: &Mask, factor: u64) -> [Size; 3] {
    let pairs = Size::from(Symbol::Pairs).times(u64::from(mask.block * mask.block));
    [pairs, heads.count.into(), Size::from(heads.dim).times(factor)]
}

fn grid(heads: Heads) -> Grid {
    Grid::Plane(Count::new(Symbol::Blocks, 1), Count::new(heads.count, 1))
}

/// `out [tokens, heads · dim]` and `log_sum_exp [heads, tokens]` from `qkv [tokens, 3 · heads ·
/// dim]`.
pub fn forward(
    abilities: Abilities,
    heads: Heads,
    dropout: Option<Dropout>,
    mask: &Mask,
    qkv: TensorId,
    out: TensorId,
    log_sum_exp: TensorId,
) -> Command {
    let (shader, access) = if heads.stream(abilities, mask.block) {
        (texels(shader!("attention_forward_streaming")), Access::Texels)
    } else {
        (shader!("attention_forward"), Access::Read)
    };
    let shader = specialise(shader, heads, mask, dropout);
    // Scores and values: a multiplication and an addition each.
    let operations = operations(heads, mask, 4);
    Command::Launch(
        Launch::new(shader, parameters(heads, mask, dropout), grid(heads))
            .bind(qkv, access)
            .read(mask.blocks)
            .read(mask.visits)
            .read(mask.bits.unwrap_or(mask.blocks))
            .write(out)
            .write(log_sum_exp)
            .counting(operations),
    )
}

/// The tensors of the backward pass.
#[derive(Debug, Clone, Copy)]
pub struct Backward {
    /// `[tokens, 3 · heads · dim]`
    pub qkv: TensorId,
    /// `[tokens, heads · dim]`, the forward result.
    pub out: TensorId,
    /// `[heads, tokens]`, from forward.
    pub log_sum_exp: TensorId,
    /// `[tokens, heads · dim]`
    pub dout: TensorId,
    /// `[heads, tokens]`, room for the rows' shared part.
    pub delta: TensorId,
    /// `[tokens, 3 · heads · dim]`, the result.
    pub dqkv: TensorId,
}

/// The gradient of query, key and value.
pub fn backward(
    abilities: Abilities,
    heads: Heads,
    dropout: Option<Dropout>,
    mask: &Mask,
    tensors: Backward,
) -> [Command; 3] {
    let rows = Size::from(Symbol::Tokens).times(u64::from(heads.count));
    let delta = Launch::new(
        shader!("attention_backward_delta").with("HEAD_DIM", format!("{}u", heads.dim)),
        vec![Symbol::Tokens.into(), heads.count.into()],
        Grid::Linear(Count::new(rows, 64)),
    )
    .read(tensors.out)
    .read(tensors.dout)
    .write(tensors.delta);
    let streaming = heads.stream(abilities, mask.block);
    let access = if streaming { Access::Texels } else { Access::Read };
    let walk = |shader: Shader, factor: u64| {
        let shader = specialise(shader, heads, mask, dropout);
        Launch::new(shader, parameters(heads, mask, dropout), grid(heads))
            .bind(tensors.qkv, access)
            .bind(tensors.dout, access)
            .read(tensors.log_sum_exp)
            .read(tensors.delta)
            .read(mask.blocks)
            .read(mask.visits)
            .read(mask.bits.unwrap_or(mask.blocks))
            .write(tensors.dqkv)
            .counting(operations(heads, mask, factor))
    };
    let (query, key_value) = if streaming {
        (
            texels(shader!("attention_backward_query_streaming")),
            texels(shader!("attention_backward_key_value_streaming")),
        )
    } else {
        (shader!("attention_backward_query"), shader!("attention_backward_key_value"))
    };
    [Command::Launch(delta), Command::Launch(walk(query, 6)), Command::Launch(walk(key_value, 8))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Scalar;

    #[test]
    fn parameters_lie_as_the_shaders_read_them() {
        let heads = Heads { count: 101, dim: 64 };
        let mask = Mask {
            blocks: TensorId(0),
            visits: TensorId(1),
            bits: None,
            visits_stride: 102u32.into(),
            bits_stride: 103u32.into(),
            block: 16,
        };
        let dropout = Dropout { probability: 0.25, site: 104 };
        let named = |name: &str| match name {
            "tokens" => Symbol::Tokens.into(),
            "blocks" => Symbol::Blocks.into(),
            "heads" => 101u32.into(),
            "visits_stride" => 102u32.into(),
            "bits_stride" => 103u32.into(),
            "seed" => Word::Step(Scalar::Seed),
            "seed_high" => Word::Step(Scalar::SeedHigh),
            "step" => Word::Step(Scalar::Step),
            "site" => 104u32.into(),
            "probability" => Word::Float(0.25),
            other => panic!("shaders/shared/attention.wgsl: Params has a new word {other}"),
        };
        let text = shader!("attention_forward").text;
        let wanted = crate::kernels::parts::members(&text, "Params");
        let wanted: Vec<Word> = wanted.iter().map(|(name, _)| named(name)).collect();
        assert_eq!(parameters(heads, &mask, Some(dropout)), wanted);
    }
}
