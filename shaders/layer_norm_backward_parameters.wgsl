// Gradients of LayerNorm's scale and shift: dgamma = Σ dy · x̂ and dbeta = Σ dy over the rows. A
// workgroup takes 8 columns and splits the rows among 8 invocations; the order is fixed.
//   dy, normalized [rows, columns];  dgamma, dbeta [columns].

struct Params { rows: u32, columns: u32 }

alias Dy = f32;
alias Normalized = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> normalized: array<Normalized>;
@group(0) @binding(3) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(4) var<storage, read_write> dbeta: array<f32>;

var<workgroup> partial: array<vec2f, 64>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u) {
    let column = group.x * 8u + lane.x;
    var sums = vec2f(0.0);
    if (column < params.columns) {
        for (var row = lane.y; row < params.rows; row += 8u) {
            let at = row * params.columns + column;
            sums += vec2f(f32(dy[at]) * f32(normalized[at]), f32(dy[at]));
        }
    }
    partial[lane.y * 8u + lane.x] = sums;
    workgroupBarrier();
    if (lane.y == 0u && column < params.columns) {
        var total = vec2f(0.0);
        for (var i = 0u; i < 8u; i++) { total += partial[i * 8u + lane.x]; }
        dgamma[column] = total.x;
        dbeta[column] = total.y;
    }
}
