// Matrices as storage textures: four consecutive values of a row are a texel, and a row of the
// matrix is a row of the texture. So loads that have a row or a column in common share what the
// driver computes of it.
const FOLD: u32 = 1u; // rows of a matrix that lie side by side in a row of the texture

// Where a texel of a row lies, `texels` being those of a row.
fn coordinates(row: u32, texel: u32, texels: u32) -> vec2u {
    if (FOLD == 1u) { return vec2u(texel, row); }
    return vec2u(row % FOLD * texels + texel, row / FOLD);
}
