// Attention forward over a block mask: result = softmax(query·keyᵀ / sqrt(HEAD_DIM)) · value over the
// keys that the mask keeps, with an online softmax; the scores are never stored. Writes
// `log_sum_exp` for backward. A row that keeps no key gives zero.
const LOWEST: f32 = -3.0e38;
const TURN: u32 = min(ROWS, TILE / OTHERS); // times OTHERS keys are taken between two rescalings

// The score of this invocation's pair, of own rows with the OTHERS keys from `at` on in the tile;
// bit 0 of `kept` says whether the mask keeps that of the octet's first own row and first key.
fn score_of(query: Rows, at: u32, index: u32, kept: u32) -> f32 {
    let score = scatter(products(query, take_others(at, index % LANES)), index);
    return select(LOWEST, score, ((kept >> (index % 4u / ROWS)) & 1u) == 1u);
}

fn attend(group: vec3u, index: u32) {
    let head = group.y;
    let place = place_of(group.x, index);
    let block = place.block;
    let step = 3u * params.heads;
    var query = own_rows(place, QKV, block.first * step + head, step);
    query = times_own(query, vec4f(SCALE));
    var sums: Rows;
    var largest = LOWEST;
    var scale = 0.0; // this invocation's part of Σ exp(score - largest)
    let row = place.row + index % ROWS; // of this invocation's pairs
    let head_visits = head * params.visits_stride;
    let visits_row = head_visits + block.visits_first;
    var pair = block.pairs_first;
    let course = course_of(place);
    let crew = select(place.team, 0u, course.together);
    let blocks_first = select(block.blocks_first, course.blocks_first, course.together);
    let tile = select(TILE, min(TILE * TEAMS, BLOCK), course.together);
    let octets = select(SLICE / ROWS, SLICE / ROWS * TEAMS, course.together);
    let octet = index / LANES % octets;
    let room = crew * TILE;
    for (var first = 0u; first < course.blocks; first += WINDOW) {
        clear_marks(index);
        mark_visits(place, crew, visits_row, first);
        let count = count_marks(crew);
        let most = most_of(place, count);
        var other = 0u;
        for (var walked = 0u; walked < most; walked++) {
            var keys = Block();
            var row_bits = 0u; // the keys that count for this invocation's row
            if (walked < count) {
                other = next_mark(crew, other);
                keys = blocks[blocks_first + first + other];
                if (!course.together
                    || (block.length > 0u && is_visited(visits_row, first + other))) {
                    row_bits = 0xffffffffu >> (32u - keys.length);
                    if (BITS) {
                        row_bits &= bits[head * params.bits_stride + pair * BLOCK + row];
                    }
                    pair += 1u;
                }
                other += 1u;
            }
            for (var begin = 0u; begin < course.reach; begin += tile) {
                workgroupBarrier();
                for (var i = octet; i < tile; i += octets) {
                    // Rows beyond the block repeat its last one; no bit keeps them.
                    let key = keys.first + min(begin + i, max(keys.length, 1u) - 1u);
                    let at = key * step + params.heads + head;
                    put_row(room + i, place.lane, row_of(QKV, at, place.lane));
                    put_row(SECOND + room + i, place.lane,
                        row_of(QKV, at + params.heads, place.lane));
                }
                workgroupBarrier();
                let end = min(tile, course.reach - begin);
                for (var j = 0u; j < end; j += TURN * OTHERS) {
                    let at = room + j;
                    let kept = row_bits >> (begin + j);
                    var scores = vec4f(LOWEST);
                    scores.x = score_of(query, at, index, kept);
                    if (TURN > 1u) {
                        scores.y = score_of(query, at + OTHERS, index, kept >> OTHERS);
                    }
                    if (TURN > 2u) {
                        scores.z = score_of(query, at + 2u * OTHERS, index, kept >> (2u * OTHERS));
                        scores.w = score_of(query, at + 3u * OTHERS, index, kept >> (3u * OTHERS));
                    }
                    let top = max(scores.xy, scores.zw);
                    let larger = max(largest, largest_of_row(max(top.x, top.y), index));
                    let shrink = exp(largest - larger);
                    largest = larger;
                    var weights =
                        select(vec4f(0.0), exp(scores - larger), scores > vec4f(LOWEST));
                    scale = scale * shrink + total(weights);
                    if (DROPOUT) {
                        let key = begin + j + index % 4u / ROWS;
                        weights *= dropout_of(place, head, row, keys.first + key);
                    }
                    sums = times_own(sums, gather(shrink, index));
                    sums = plus_others(sums, gather(weights.x, index),
                        take_others(SECOND + at, place.lane));
                    if (TURN > 1u) {
                        sums = plus_others(sums, gather(weights.y, index),
                            take_others(SECOND + at + OTHERS, place.lane));
                    }
                    if (TURN > 2u) {
                        sums = plus_others(sums, gather(weights.z, index),
                            take_others(SECOND + at + 2u * OTHERS, place.lane));
                        sums = plus_others(sums, gather(weights.w, index),
                            take_others(SECOND + at + 3u * OTHERS, place.lane));
                    }
                }
            }
        }
    }
    let total_scale = sum_of_row(scale, index);
    if (place.lane < ROWS && row < block.length) {
        // 1e30 makes exp(score - log_sum_exp) zero in backward for a row without keys.
        log_sum_exp[head * params.tokens + block.first + row] =
            select(1.0e30, largest + log(total_scale), total_scale > 0.0);
    }
    let normalize = gather(select(0.0, 1.0 / total_scale, total_scale > 0.0), index);
    write_own(place, block.first * params.heads + head, params.heads, times_own(sums, normalize));
}

// What dropout makes of the weights that a row gives keys OTHERS apart.
fn dropout_of(place: Place, head: u32, row: u32, key: u32) -> vec4f {
    let sequence = place.block.sequence;
    let query = place.block.first + row - place.block.sequence_first;
    let at = key - place.block.sequence_first;
    var factors = vec4f(1.0);
    factors.x = weight_factor(head, sequence, query, at);
    if (TURN > 1u) { factors.y = weight_factor(head, sequence, query, at + OTHERS); }
    if (TURN > 2u) {
        factors.z = weight_factor(head, sequence, query, at + 2u * OTHERS);
        factors.w = weight_factor(head, sequence, query, at + 3u * OTHERS);
    }
    return factors;
}
