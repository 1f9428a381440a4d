// Rows of heads as single floats, HEAD_DIM of them a row: heads of any size. Reads `qkv`, `out` and
// `dout`, writes `result`.

fn float_of(tensor: u32, i: u32) -> f32 {
    if (tensor == OUT) { return out[i]; }
    if (tensor == DOUT) { return dout[i]; }
    return qkv[i];
}

// Part of a row; what lies beyond the head is zero.
fn quad_of(tensor: u32, row: u32, quad: u32) -> vec4f {
    let first = quad * 4u;
    let i = row * HEAD_DIM + first;
    var value = vec4f(0.0);
    if (first < HEAD_DIM) { value.x = float_of(tensor, i); }
    if (first + 1u < HEAD_DIM) { value.y = float_of(tensor, i + 1u); }
    if (first + 2u < HEAD_DIM) { value.z = float_of(tensor, i + 2u); }
    if (first + 3u < HEAD_DIM) { value.w = float_of(tensor, i + 3u); }
    return value;
}

fn write_quad(row: u32, quad: u32, value: vec4f) {
    let first = quad * 4u;
    let i = row * HEAD_DIM + first;
    if (first < HEAD_DIM) { result[i] = value.x; }
    if (first + 1u < HEAD_DIM) { result[i + 1u] = value.y; }
    if (first + 2u < HEAD_DIM) { result[i + 2u] = value.z; }
    if (first + 3u < HEAD_DIM) { result[i + 3u] = value.w; }
}
