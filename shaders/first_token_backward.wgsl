// Gradient of first-token selection: dx[t] = dy[sequence of t] where t is the first token of its
// sequence, and zero elsewhere.
//   dx [tokens, columns], dy [sequences, columns];  places [tokens]: sequence << 16 | position,
//   sequences being numbered within the whole step, of which this batch may be a part.

struct Params { tokens: u32, columns: u32, first_sequence: u32 }

alias Dy = f32;
alias Dx = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Dx>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let token = i / params.columns;
    if (token >= params.tokens) { return; }
    let place = places[token];
    var value = 0.0;
    if ((place & 0xffffu) == 0u) {
        let sequence = (place >> 16u) - params.first_sequence;
        value = f32(dy[sequence * params.columns + i % params.columns]);
    }
    dx[i] = Dx(value);
}
