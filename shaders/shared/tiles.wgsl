// Rows of heads on their way between memory, workgroup memory and octets. There are two tiles, one
// of keys or queries and one, SECOND rows behind it, of values or gradients.
const STRIDE: u32 = LANES * PARTS; // vec4 of a row in a tile
const SECOND: u32 = TEAMS * TILE;

var<workgroup> tiles: array<vec4f, 2u * SECOND * STRIDE>;

// Which tensor a row is of.
const QKV: u32 = 0u;
const OUT: u32 = 1u;
const DOUT: u32 = 2u;

fn row_of(tensor: u32, row: u32, lane: u32) -> Row {
    var it: Row;
    it.a = quad_of(tensor, row, lane);
    if (PARTS > 1u) { it.b = quad_of(tensor, row, lane + LANES); }
    if (PARTS > 2u) { it.c = quad_of(tensor, row, lane + 2u * LANES); }
    if (PARTS > 3u) { it.d = quad_of(tensor, row, lane + 3u * LANES); }
    return it;
}

// The octet's rows of a tensor: the head's in the block's first token is `row`, and `step` rows lie
// between those of neighbouring tokens.
fn own_rows(place: Place, tensor: u32, row: u32, step: u32) -> Rows {
    let first = row + place.row * step;
    let rest = place.block.length - min(place.block.length, place.row);
    var it: Rows;
    if (rest > 0u) { it.a = row_of(tensor, first, place.lane); }
    if (ROWS > 1u && rest > 1u) { it.b = row_of(tensor, first + step, place.lane); }
    if (ROWS > 2u && rest > 2u) { it.c = row_of(tensor, first + 2u * step, place.lane); }
    if (ROWS > 2u && rest > 3u) { it.d = row_of(tensor, first + 3u * step, place.lane); }
    return it;
}

fn write_row(row: u32, lane: u32, it: Row) {
    write_quad(row, lane, it.a);
    if (PARTS > 1u) { write_quad(row, lane + LANES, it.b); }
    if (PARTS > 2u) { write_quad(row, lane + 2u * LANES, it.c); }
    if (PARTS > 3u) { write_quad(row, lane + 3u * LANES, it.d); }
}

// Writes the octet's rows of the result, which lie as `own_rows` has it.
fn write_own(place: Place, row: u32, step: u32, it: Rows) {
    let first = row + place.row * step;
    let rest = place.block.length - min(place.block.length, place.row);
    if (rest > 0u) { write_row(first, place.lane, it.a); }
    if (ROWS > 1u && rest > 1u) { write_row(first + step, place.lane, it.b); }
    if (ROWS > 2u && rest > 2u) { write_row(first + 2u * step, place.lane, it.c); }
    if (ROWS > 2u && rest > 3u) { write_row(first + 3u * step, place.lane, it.d); }
}

fn put_row(row: u32, lane: u32, it: Row) {
    let at = row * STRIDE + lane;
    tiles[at] = it.a;
    if (PARTS > 1u) { tiles[at + LANES] = it.b; }
    if (PARTS > 2u) { tiles[at + 2u * LANES] = it.c; }
    if (PARTS > 3u) { tiles[at + 3u * LANES] = it.d; }
}

fn take_row(row: u32, lane: u32) -> Row {
    let at = row * STRIDE + lane;
    var it: Row;
    it.a = tiles[at];
    if (PARTS > 1u) { it.b = tiles[at + LANES]; }
    if (PARTS > 2u) { it.c = tiles[at + 2u * LANES]; }
    if (PARTS > 3u) { it.d = tiles[at + 3u * LANES]; }
    return it;
}

// OTHERS rows of a tile.
fn take_others(row: u32, lane: u32) -> Rows {
    var it: Rows;
    it.a = take_row(row, lane);
    if (OTHERS > 1u) { it.b = take_row(row + 1u, lane); }
    if (OTHERS > 2u) { it.c = take_row(row + 2u, lane); it.d = take_row(row + 3u, lane); }
    return it;
}
