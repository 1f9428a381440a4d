// Rows of heads as vec4f, QUADS of them a row: where the size of a head is a multiple of four.
// Reads `qkv`, `out` and `dout`, writes `result`.

// Part of a row; what lies beyond the head is zero.
fn quad_of(tensor: u32, row: u32, quad: u32) -> vec4f {
    if (QUADS % LANES != 0u && quad >= QUADS) { return vec4f(0.0); }
    let i = row * QUADS + quad;
    if (tensor == OUT) { return vec4f(out[i]); }
    if (tensor == DOUT) { return vec4f(dout[i]); }
    return vec4f(qkv[i]);
}

fn write_quad(row: u32, quad: u32, value: vec4f) {
    if (QUADS % LANES != 0u && quad >= QUADS) { return; }
    result[row * QUADS + quad] = Result(value);
}
