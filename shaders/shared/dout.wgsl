// Gradients as single floats; reads `dout` and HEAD_DIM, writes `dqkv`.

// Four components from `origin + 4 · quad` on; what lies beyond the head counts as zero.
fn load_dout(origin: u32, quad: u32) -> vec4f {
    let i = origin + quad * 4u;
    if (HEAD_DIM % 4u == 0u) {
        return vec4f(f32(dout[i]), f32(dout[i + 1u]), f32(dout[i + 2u]), f32(dout[i + 3u]));
    }
    var value = vec4f(f32(dout[i]), 0.0, 0.0, 0.0);
    if (quad * 4u + 1u < HEAD_DIM) { value.y = f32(dout[i + 1u]); }
    if (quad * 4u + 2u < HEAD_DIM) { value.z = f32(dout[i + 2u]); }
    if (quad * 4u + 3u < HEAD_DIM) { value.w = f32(dout[i + 3u]); }
    return value;
}

// Writes four components likewise.
fn write_dqkv(origin: u32, quad: u32, value: vec4f) {
    let i = origin + quad * 4u;
    dqkv[i] = Dqkv(value.x);
    if (quad * 4u + 1u < HEAD_DIM) { dqkv[i + 1u] = Dqkv(value.y); }
    if (quad * 4u + 2u < HEAD_DIM) { dqkv[i + 2u] = Dqkv(value.z); }
    if (quad * 4u + 3u < HEAD_DIM) { dqkv[i + 3u] = Dqkv(value.w); }
}
