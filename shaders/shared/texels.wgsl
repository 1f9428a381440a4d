// Tensors as texels of storage textures: four consecutive values each.
const WIDTH: u32 = 2048u; // texels in a row of a texture

// Where the texel of that number lies.
fn coordinates(texel: u32) -> vec2u { return vec2u(texel % WIDTH, texel / WIDTH); }
