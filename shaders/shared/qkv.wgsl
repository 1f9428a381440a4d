// Query, key and value as single floats; reads `qkv` and HEAD_DIM.

// Four components from `origin + 4 · quad` on; what lies beyond the head counts as zero.
fn load_qkv(origin: u32, quad: u32) -> vec4f {
    let i = origin + quad * 4u;
    if (HEAD_DIM % 4u == 0u) {
        return vec4f(f32(qkv[i]), f32(qkv[i + 1u]), f32(qkv[i + 2u]), f32(qkv[i + 3u]));
    }
    var value = vec4f(f32(qkv[i]), 0.0, 0.0, 0.0);
    if (quad * 4u + 1u < HEAD_DIM) { value.y = f32(qkv[i + 1u]); }
    if (quad * 4u + 2u < HEAD_DIM) { value.z = f32(qkv[i + 2u]); }
    if (quad * 4u + 3u < HEAD_DIM) { value.w = f32(qkv[i + 3u]); }
    return value;
}
