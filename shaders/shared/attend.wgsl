// Attention forward over a block mask: result = softmax(query·keyᵀ / sqrt(HEAD_DIM)) · value over
// the keys that the mask keeps, with an online softmax; the scores are never stored. Writes
// `log_sum_exp` for backward. A row that keeps no key gives zero.
// An octet takes four pairs of rows at a time: each of its ROWS queries with each of OTHERS keys.
// Pair i is of query i % ROWS and key i / ROWS, and is dealt with where lane % 4 is i.
const OTHERS: u32 = 4u / ROWS;
const LOWEST: f32 = -3.0e38;
const TURN: u32 = min(ROWS, TILE / OTHERS); // times OTHERS keys are taken between two rescalings

// The score of this invocation's pair, of own rows with the OTHERS keys from `at` on in the tile;
// bit 0 of `kept` says whether the mask keeps that of the octet's first own row and first key.
fn score_of(query: Rows, at: u32, index: u32, kept: u32) -> f32 {
    let score = octet_sum(products(query, take_others(at, index % LANES)), index);
    return select(LOWEST, score, ((kept >> (index % 4u / ROWS)) & 1u) == 1u);
}

fn attend(group: vec3u, index: u32) {
    let head = group.y;
    let place = place_of(group.x, index);
    let query = times_own(own_rows(place, QKV, 0u, head), vec4f(SCALE));
    var sums: Rows;
    var largest = LOWEST;
    var scale = 0.0; // this invocation's part of Σ exp(score - largest)
    let row = place.row + index % ROWS; // of this invocation's pairs
    let course = course_of(place);
    let room = crew_of(place, course) * TILE;
    for (var first = 0u; first < course.blocks; first += WINDOW) {
        let steps = begin_walk(place, course, head, first, false);
        for (var step = 0u; step < steps; step++) {
            walk(place, course, head, first, step, false);
            var row_bits = 0u;
            for (var begin = 0u; begin < course.reach; begin += course.tile) {
                workgroupBarrier();
                if (begin == 0u) { row_bits = row_bits_of(place, head, row); }
                fill_tiles(place, course, head, begin);
                workgroupBarrier();
                let end = min(course.tile, course.reach - begin);
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
                        weights *= dropout_of(place, head, row, begin + j + index % 4u / ROWS);
                    }
                    sums = times_own(sums, quad_values(shrink, index));
                    sums = plus_others(sums, quad_values(weights.x, index),
                        take_others(SECOND + at, place.lane));
                    if (TURN > 1u) {
                        sums = plus_others(sums, quad_values(weights.y, index),
                            take_others(SECOND + at + OTHERS, place.lane));
                    }
                    if (TURN > 2u) {
                        sums = plus_others(sums, quad_values(weights.z, index),
                            take_others(SECOND + at + 2u * OTHERS, place.lane));
                        sums = plus_others(sums, quad_values(weights.w, index),
                            take_others(SECOND + at + 3u * OTHERS, place.lane));
                    }
                }
            }
        }
    }
    let all = sum_of_row(scale, index);
    if (place.lane < ROWS && row < slices[place.team].block.length) {
        // 1e30 makes exp(score - log_sum_exp) zero in backward for a row without keys.
        log_sum_exp[head * params.tokens + slices[place.team].block.first + row] =
            select(1.0e30, largest + log(all), all > 0.0);
    }
    let normalize = quad_values(select(0.0, 1.0 / all, all > 0.0), index);
    write_own(place, 0u, 1u, head, times_own(sums, normalize));
}

// What dropout makes of the weights that a row gives keys OTHERS apart in the block at hand.
fn dropout_of(place: Place, head: u32, row: u32, key: u32) -> vec4f {
    let sequence = slices[place.team].block.sequence;
    let start = slices[place.team].block.sequence_first;
    let query = slices[place.team].block.first + row - start;
    let at = stops[place.team].first + key - start;
    var factors = vec4f(1.0);
    factors.x = weight_factor(head, sequence, query, at);
    if (TURN > 1u) { factors.y = weight_factor(head, sequence, query, at + OTHERS); }
    if (TURN > 2u) {
        factors.z = weight_factor(head, sequence, query, at + 2u * OTHERS);
        factors.w = weight_factor(head, sequence, query, at + 3u * OTHERS);
    }
    return factors;
}

// OTHERS rows of a tile.
fn take_others(row: u32, lane: u32) -> Rows {
    var it: Rows;
    it.a = take_row(row, lane);
    if (OTHERS > 1u) { it.b = take_row(row + 1u, lane); }
    if (OTHERS > 2u) { it.c = take_row(row + 2u, lane); it.d = take_row(row + 3u, lane); }
    return it;
}

// This invocation's part of the products of the four pairs.
fn products(own: Rows, others: Rows) -> vec4f {
    let first = product(own.a, others.a);
    if (ROWS == 4u) {
        return vec4f(first, product(own.b, others.a), product(own.c, others.a),
            product(own.d, others.a));
    }
    if (ROWS == 2u) {
        return vec4f(first, product(own.b, others.a), product(own.a, others.b),
            product(own.b, others.b));
    }
    return vec4f(first, product(own.a, others.b), product(own.a, others.c),
        product(own.a, others.d));
}

// Adds to each own row the others, each with the factor of the pair.
fn plus_others(sums: Rows, factors: vec4f, others: Rows) -> Rows {
    var more = sums;
    if (ROWS == 4u) {
        more.a = plus(sums.a, factors.x, others.a);
        more.b = plus(sums.b, factors.y, others.a);
        more.c = plus(sums.c, factors.z, others.a);
        more.d = plus(sums.d, factors.w, others.a);
    } else if (ROWS == 2u) {
        more.a = plus(plus(sums.a, factors.x, others.a), factors.z, others.b);
        more.b = plus(plus(sums.b, factors.y, others.a), factors.w, others.b);
    } else {
        more.a = plus(plus(sums.a, factors.x, others.a), factors.y, others.b);
        more.a = plus(plus(more.a, factors.z, others.c), factors.w, others.d);
    }
    return more;
}

// Of a value of each pair the largest in the pair's own row.
fn largest_of_row(x: f32, index: u32) -> f32 {
    if (ROWS == 4u) { return x; }
    let all = quad_values(x, index);
    let of_rows = max(all.xy, all.zw);
    if (ROWS == 1u) { return max(of_rows.x, of_rows.y); }
    return select(of_rows.x, of_rows.y, index % 2u == 1u);
}

// Of a value of each pair the sum over the pair's own row.
fn sum_of_row(x: f32, index: u32) -> f32 {
    if (ROWS == 4u) { return x; }
    let all = quad_values(x, index);
    let of_rows = all.xy + all.zw;
    if (ROWS == 1u) { return of_rows.x + of_rows.y; }
    return select(of_rows.x, of_rows.y, index % 2u == 1u);
}
