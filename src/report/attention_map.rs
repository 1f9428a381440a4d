//! A picture of what one attention head looked at, and of what its mask left out.

use super::chart::svg::{SMALL, Svg, px, shorten, width_of};
use super::page::escape;
use std::fmt::Write;

/// Tokens that are drawn; of a longer text, the first.
const SHOWN: usize = 128;
/// Shades. One path draws all pairs of a shade, which keeps the file small.
const SHADES: usize = 12;
/// Opacity of the first shade: a pair that was kept is never as blank as one that was not.
const FAINTEST: f64 = 0.13;
/// With more tokens than this, a thumbnail has no room for dots.
const DOTTED: usize = 32;
/// Widest label.
const LABEL: f64 = 110.0;
/// What the rows and the columns are.
const CORNER: &str = "query ↓ key →";
/// Side of a thumbnail.
const THUMB: f64 = 160.0;

/// The attention weights of one head for one text.
#[derive(Debug, Clone, Copy)]
pub struct AttentionMap<'a> {
    /// The tokens.
    pub tokens: &'a [String],
    /// `[tokens, tokens]`, a row for each query and a column for each key. What is missing counts
    /// as 0.
    pub weights: &'a [f32],
    /// Which of them the mask kept; all if `None`.
    pub kept: Option<&'a [bool]>,
}

impl AttentionMap<'_> {
    /// What the map shows and how to read it, for its caption.
    pub fn caption(&self) -> String {
        let all = self.tokens.len();
        let mut text = String::from(
            "Each row is a query, each column a key; the stronger the shade, the more weight (by \
             its square root).",
        );
        if self.kept.is_some() {
            let shown = self.shown();
            let kept = (0..shown * shown).filter(|pair| self.kept(pair / shown, pair % shown));
            let (kept, pairs) = (kept.count(), shown * shown);
            let share = kept as f64 * 100.0 / pairs.max(1) as f64;
            let _ = write!(
                text,
                " Kept: {kept} of {pairs} pairs ({share:.0}%); the others are left blank or dotted."
            );
        }
        if all > SHOWN {
            let _ = write!(text, " Only the first {SHOWN} of {all} tokens are shown.");
        }
        text
    }

    fn shown(&self) -> usize {
        self.tokens.len().min(SHOWN)
    }

    fn kept(&self, query: usize, key: usize) -> bool {
        let kept = self.kept.and_then(|kept| kept.get(query * self.tokens.len() + key));
        kept.copied().unwrap_or(true)
    }

    fn shade(&self, query: usize, key: usize) -> usize {
        let weight = self.weights.get(query * self.tokens.len() + key);
        shade(weight.copied().unwrap_or(0.0))
    }

    /// The map without its tokens.
    ///
    /// A kept pair is shaded, by the square root of its weight, so that small weights can be told
    /// apart, and even one of weight 0 lightly; the same shade is the same weight in every map. A
    /// pair that was not kept is left as paper, with a dot where there is room.
    pub fn thumbnail(&self) -> String {
        let shown = self.shown();
        let mut svg = Svg::default();
        // Within the picture by half the width of the frame's line.
        let side = THUMB - 2.0;
        svg.put(format_args!(
            "<g transform=\"translate(1 1) scale({})\">{}",
            side / shown.max(1) as f64,
            self.cells(shown <= DOTTED)
        ));
        svg.path("frame", &square(shown));
        svg.put(format_args!("</g>"));
        svg.finish("thumb", (THUMB, THUMB), "Attention map", &self.caption())
    }

    /// The map with its tokens and a key to its shades, which are those of [`Self::thumbnail`].
    pub fn svg(&self) -> String {
        let shown = self.shown();
        // Letters become smaller with the cells, down to what can just be read.
        let cell = (560.0 / shown.max(1) as f64).clamp(10.0, 24.0);
        let font = (cell * 0.92).min(12.5);
        let labels: Vec<String> =
            self.tokens[..shown].iter().map(|token| shorten(token, font, LABEL)).collect();
        let longest = labels.iter().map(|label| width_of(label, font)).fold(0.0, f64::max);
        let side = cell * shown as f64;
        // The labels of columns lean to the right by a third of a right angle.
        let (lean, rise) = (longest * 0.5, longest * 0.87);
        let left = longest.max(width_of(CORNER, SMALL)) + 8.0;
        let top = rise.max(20.0) + 16.0;
        let (key, key_end) = self.key(left);
        let width = (left + side + lean.max(12.0)).max(key_end);
        let height = top + side + 40.0;
        let mut svg = Svg::default();
        svg.put(format_args!("<g style=\"font-size:{}px\">", px(font)));
        for (index, (label, token)) in labels.iter().zip(self.tokens).enumerate() {
            let middle = (index as f64 + 0.5) * cell;
            svg.text((left - 7.0, top + middle + font * 0.35), "e", token, font, LABEL);
            svg.put(format_args!(
                "<text transform=\"translate({} {})rotate(-60)\">{}</text>",
                px(left + middle + font * 0.3),
                px(top - 6.0),
                escape(label)
            ));
        }
        svg.put(format_args!("</g>"));
        svg.text((left - 7.0, top - 6.0), "small e", CORNER, SMALL, left);
        svg.put(format_args!(
            "<g transform=\"translate({} {})scale({cell})\">{}",
            px(left),
            px(top),
            self.cells(true)
        ));
        svg.path("frame", &square(shown));
        svg.put(format_args!(
            "</g><g transform=\"translate(0 {})\">{key}</g>",
            px(top + side + 14.0)
        ));
        svg.finish("map", (width, height), "Attention map", &self.caption())
    }

    /// The cells, one unit wide and high.
    fn cells(&self, dots: bool) -> String {
        let shown = self.shown();
        // Runs of cells of one shade are strokes from the cells' left; dots are a dashed stroke
        // through the cells' middles. Each is placed relative to the end of the one before.
        let mut paths: Vec<Strokes> = (0..=SHADES).map(|_| Strokes::default()).collect();
        for query in 0..shown {
            let mut key = 0;
            let kind = |key| if self.kept(query, key) { self.shade(query, key) } else { 0 };
            while key < shown {
                let first = key;
                let shade = kind(first);
                while key < shown && kind(key) == shade {
                    key += 1;
                }
                paths[shade].run(query, first, key - first, shade == 0);
            }
        }
        let mut cells = String::new();
        for (shade, path) in paths.iter().enumerate() {
            if path.data.is_empty() || (shade == 0 && !dots) {
                continue;
            }
            let _ = if shade == 0 {
                write!(cells, "<path class=\"dropped\" d=\"M.5 .5{}\"/>", path.data)
            } else {
                write!(cells, "{}d=\"M0 .5{}\"/>", shade_path(shade), path.data)
            };
        }
        cells
    }

    /// The key to the shades, and its right end.
    fn key(&self, left: f64) -> (String, f64) {
        let mut key = Svg::default();
        let mut x = left;
        key.text((x - 7.0, 14.0), "small e", "weight", SMALL, 100.0);
        for (weight, label) in [(0.0, "0"), (0.01, ".01"), (0.1, ".1"), (0.3, ".3"), (1.0, "1")] {
            key.put(format_args!(
                "<g transform=\"translate({} 3)scale(14)\">{}d=\"M0 .5h1\"/></g>",
                px(x),
                shade_path(shade(weight))
            ));
            key.text((x + 19.0, 14.0), "small", label, SMALL, 100.0);
            x += 19.0 + width_of(label, SMALL) + 12.0;
        }
        if self.kept.is_some() {
            key.put(format_args!(
                "<g transform=\"translate({} 3)scale(14)\">\
                 <path class=\"dropped\" d=\"M.5 .5h.01\"/>\
                 <path class=\"frame\" d=\"M0 0h1v1h-1z\"/></g>",
                px(x)
            ));
            let text = "not kept";
            key.text((x + 20.0, 14.0), "small", text, SMALL, 100.0);
            x += 20.0 + width_of(text, SMALL);
        }
        (key.into_body(), x + 2.0)
    }
}

/// Strokes along rows, each from where the last one ended.
#[derive(Default)]
struct Strokes {
    data: String,
    end: (usize, usize),
}

impl Strokes {
    fn run(&mut self, row: usize, column: usize, length: usize, dots: bool) {
        // Through the middles of the cells a stroke is one unit shorter.
        let drawn = if dots { length - 1 } else { length };
        let across = column as i64 - self.end.1 as i64;
        let down = row - self.end.0;
        // The dashed stroke is a little longer than to its last dot, which would be lost to
        // rounding, and a stroke of no length has no dots at all.
        let slack = if dots { ".01m-.01 0" } else { "" };
        let _ = write!(self.data, "m{across} {down}h{drawn}{slack}");
        self.end = (row, column + drawn);
    }
}

/// The shade of a weight, from 1.
fn shade(weight: f32) -> usize {
    // What is not a number is no weight.
    let share = f64::from(weight.max(0.0)).min(1.0).sqrt();
    ((share * SHADES as f64).ceil() as usize).clamp(1, SHADES)
}

/// The start of a path of a shade.
fn shade_path(shade: usize) -> String {
    let most = SHADES as f64 - 1.0;
    let opacity = FAINTEST + (1.0 - FAINTEST) * (shade as f64 - 1.0) / most;
    format!("<path class=\"cells\" stroke-opacity=\"{opacity:.2}\" ")
}

fn square(side: usize) -> String {
    format!("M0 0h{side}v{side}h-{side}z")
}

#[cfg(test)]
mod tests {
    use super::super::chart::standalone;
    use super::super::page::tests::check;
    use super::*;

    fn words(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("word{index}")).collect()
    }

    /// Weights without any order: the hardest to merge.
    fn noise(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..count * count).map(|_| next()).collect()
    }

    /// The cells that the paths cover, with their shades, read back from the SVG.
    fn read(cells: &str, side: usize) -> Vec<usize> {
        let mut grid = vec![usize::MAX; side * side];
        for path in cells.split("<path ").skip(1) {
            let dots = path.contains("dropped");
            let shade = path.split("stroke-opacity=\"").nth(1).map_or(0, |rest| {
                let opacity: f64 = rest[..4].parse().unwrap();
                ((opacity - FAINTEST) / (1.0 - FAINTEST) * (SHADES as f64 - 1.0)).round() as usize
                    + 1
            });
            let data = path.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
            let data = data.replace(".01m-.01 0", "");
            let (mut x, mut y) = (0i64, 0usize);
            for stroke in data.split('m').skip(1) {
                let (start, length) = stroke.split_once('h').unwrap();
                let (across, down) = start.split_once(' ').unwrap();
                x += across.parse::<i64>().unwrap();
                y += down.parse::<usize>().unwrap();
                let length: usize = length.parse().unwrap();
                for column in 0..length + usize::from(dots) {
                    let cell = &mut grid[y * side + x as usize + column];
                    assert_eq!(*cell, usize::MAX, "covered twice");
                    *cell = shade;
                }
                x += length as i64;
            }
        }
        grid
    }

    #[test]
    fn every_cell_is_drawn_once_in_its_shade() {
        let (tokens, weights) = (words(23), noise(23));
        let kept: Vec<bool> = weights.iter().map(|weight| weight.fract() > 0.6).collect();
        let map = AttentionMap { tokens: &tokens, weights: &weights, kept: Some(&kept) };
        let grid = read(&map.cells(true), 23);
        for (index, found) in grid.into_iter().enumerate() {
            let expected = if kept[index] { shade(weights[index]) } else { 0 };
            assert_eq!(found, expected, "{index}");
        }
    }

    #[test]
    fn shades_follow_the_square_root() {
        assert_eq!([0.0, 0.25, 1.0].map(shade), [1, 6, 12]);
        assert_eq!([-1.0, f32::NAN, f32::NEG_INFINITY].map(shade), [1; 3]);
        assert_eq!([2.0, f32::INFINITY].map(shade), [12; 2]);
    }

    #[test]
    fn a_map_is_small_whatever_it_shows() {
        let (tokens, weights) = (words(66), noise(66));
        let kept: Vec<bool> = noise(66).iter().map(|weight| *weight > 0.5).collect();
        for kept in [None, Some(&kept[..])] {
            let map = AttentionMap { tokens: &tokens, weights: &weights, kept };
            assert!(map.thumbnail().len() < 32_000, "{}", map.thumbnail().len());
            assert!(map.svg().len() < 48_000, "{}", map.svg().len());
        }
    }

    #[test]
    fn a_map_is_well_formed() {
        let tokens =
            ["[CLS]", "<b>&\"'", "##ing", "\u{0}", "長い", &"long".repeat(90)].map(String::from);
        let weights = noise(6);
        let kept = [true; 36];
        let map = AttentionMap { tokens: &tokens, weights: &weights, kept: Some(&kept) };
        for svg in [map.svg(), map.thumbnail()] {
            check(&svg);
            check(&standalone(&svg));
            assert!(!svg.contains("xmlns"));
        }
        assert!(map.svg().contains(">[CLS]<") && map.svg().contains("…"));
        assert!(!map.thumbnail().contains("[CLS]"));
        assert!(map.thumbnail().contains("class=\"fig thumb\""));
        assert!(map.caption().contains("36 of 36 pairs (100%)"));
    }

    #[test]
    fn any_sizes_make_a_map() {
        for count in [0, 1, 2, 128] {
            let tokens = words(count);
            for (weights, kept) in [
                (vec![], vec![]),
                (vec![f32::NAN; 3], vec![false]),
                (noise(count), vec![false; count * count]),
            ] {
                let map = AttentionMap { tokens: &tokens, weights: &weights, kept: Some(&kept) };
                for svg in [map.thumbnail(), map.svg()] {
                    check(&svg);
                    assert!(!svg.contains("NaN") && !svg.contains("inf"));
                }
            }
        }
    }

    #[test]
    fn of_a_long_text_the_first_tokens_are_shown_and_the_caption_says_so() {
        let tokens = words(300);
        let mut weights = vec![0.0; 300 * 300];
        // The last pair that is shown: its row and column must be those of the whole map.
        weights[127 * 300 + 127] = 1.0;
        let map = AttentionMap { tokens: &tokens, weights: &weights, kept: None };
        assert!(map.caption().contains("first 128 of 300 tokens"));
        assert_eq!(read(&map.cells(true), 128).last(), Some(&SHADES));
        let svg = map.svg();
        check(&svg);
        assert!(svg.contains(">word127<") && !svg.contains(">word128<"));
    }
}
