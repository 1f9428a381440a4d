// with: attend attention block dropout exchange_subgroups forward_quads head_rows octets random
// with: teams total visitors
// Attention forward over a block mask, for cards with subgroup functions.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   result [tokens, heads · HEAD_DIM];  log_sum_exp [heads, tokens], for backward.

enable subgroups;

alias Qkv = vec4f;
alias Result = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read> visits: array<u32>;
@group(0) @binding(4) var<storage, read> bits: array<u32>;
@group(0) @binding(5) var<storage, read_write> result: array<Result>;
@group(0) @binding(6) var<storage, read_write> log_sum_exp: array<f32>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    attend(group, index);
}
