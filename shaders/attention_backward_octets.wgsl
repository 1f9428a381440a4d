// with: attend_backward attention backward_quads block dropout exchange_subgroups head_rows octets
// with: random teams total visitors
// Attention backward over a block mask, for cards with subgroup functions.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   out, dout [tokens, heads · HEAD_DIM]: the forward result and its gradient.
//   log_sum_exp [heads, tokens], from forward;  result [tokens, 3 · heads · HEAD_DIM]: dqkv.
// Workgroups of layer 0 compute the parts of key and value, those of layer 1 the query's.

enable subgroups;

alias Qkv = vec4f;
alias Out = vec4f;
alias Dout = vec4f;
alias Result = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(2) var<storage, read> out: array<Out>;
@group(0) @binding(3) var<storage, read> dout: array<Dout>;
@group(0) @binding(4) var<storage, read> log_sum_exp: array<f32>;
@group(0) @binding(5) var<storage, read> blocks: array<Block>;
@group(0) @binding(6) var<storage, read> visits: array<u32>;
@group(0) @binding(7) var<storage, read> bits: array<u32>;
@group(0) @binding(8) var<storage, read_write> result: array<Result>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    if (group.z == 0u) {
        key_value_gradient(group.xy, index);
    } else {
        query_gradient(group.xy, index);
    }
}
