//! Writing SVG: texts that are cut to their room, paths in few letters, and a file of its own.
//!
//! What is drawn here names its colours by class only. In a page they come from the page's style;
//! [`standalone`] gives them to an SVG that is to be a file of its own.

use crate::report::page::escape;
use std::fmt::Write;

const STYLE: &str = include_str!("../../../assets/figure.css");

/// Font size of a title.
pub const TITLE: f64 = 14.5;
/// Font size of names.
pub const PLAIN: f64 = 12.5;
/// Font size of the class `small`: numbers and notes.
pub const SMALL: f64 = 12.0;

/// The inside of an SVG in the making. Its size is known last, when [`Svg::finish`] closes it.
#[derive(Default)]
pub struct Svg {
    body: String,
}

impl Svg {
    /// Adds a text at a baseline point, cut to a width at a font size and then whole in a tooltip.
    pub fn text(&mut self, at: (f64, f64), class: &str, text: &str, font: f64, width: f64) {
        if text.is_empty() {
            return;
        }
        let short = shorten(text, font, width);
        let tooltip =
            if short == text { String::new() } else { format!("<title>{}</title>", escape(text)) };
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.put(format_args!(
            "<text x=\"{}\" y=\"{}\"{class}>{tooltip}{}</text>",
            px(at.0),
            px(at.1),
            escape(&short)
        ));
    }

    /// Adds a path.
    pub fn path(&mut self, class: &str, data: &str) {
        self.put(format_args!("<path class=\"{class}\" d=\"{data}\"/>"));
    }

    /// Adds a path unless there is nothing to draw.
    pub fn path_if_any(&mut self, class: &str, data: &str) {
        if !data.is_empty() {
            self.path(class, data);
        }
    }

    /// Adds markup as it is.
    pub fn put(&mut self, markup: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(markup);
    }

    /// Adds the title, if there is one, to a picture of this width, and returns the height where
    /// what comes below it begins; `margin` where there is none.
    pub fn heading(&mut self, title: &str, margin: f64, width: f64) -> f64 {
        if title.is_empty() {
            return margin;
        }
        self.text((0.0, 15.0), "title", title, TITLE, width);
        margin + 20.0
    }

    /// What has been drawn, to be put into another SVG.
    pub fn into_body(self) -> String {
        self.body
    }

    /// The whole SVG of a class and size, with a title and a description in words.
    pub fn finish(self, kind: &str, size: (f64, f64), title: &str, description: &str) -> String {
        let (width, height) = (px(size.0), px(size.1));
        let name = escape(or(title, "Figure"));
        format!(
            "<svg class=\"fig {kind}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{name}\" style=\"--natural:{width}px\"><title>{name}</title>\
             <desc>{}</desc>{}</svg>\n",
            escape(description),
            self.body
        )
    }

    /// The chart below `top` says that there are no data.
    pub fn no_data(mut self, title: &str, top: f64, width: f64) -> String {
        self.text((0.0, top + 30.0), "small", "no data", SMALL, width);
        self.finish("chart", (width, top + 60.0), title, "No data.")
    }
}

/// The text, or another where it is empty.
pub fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// The SVG as a file of its own: with its namespace and its colours, light and dark.
pub fn standalone(svg: &str) -> String {
    let Some(start) = svg.find("<svg") else { return svg.to_string() };
    let Some(length) = svg[start..].find('>') else { return svg.to_string() };
    let (before, tag) = (&svg[..start], &svg[start..start + length]);
    let rest = &svg[start + length + 1..];
    let (tag, rest) = match tag.strip_suffix('/') {
        Some(tag) => (tag, format!("</svg>{rest}")),
        None => (tag, rest.to_string()),
    };
    let space = if tag.contains("xmlns=") { "" } else { " xmlns=\"http://www.w3.org/2000/svg\"" };
    let tag = with_margin(tag).unwrap_or_else(|| tag.to_string());
    // Programs that know no custom properties ignore the rules with them, and follow those before.
    format!(
        "{before}{tag}{space}><style>{}{STYLE}svg.fig {{ background: var(--paper); }}\n\
         </style>{rest}",
        light_style()
    )
}

/// The tag of an SVG with room around the picture, which in a page the page gives. `None` if its
/// view box does not start at zero: it is not from here, or has room already.
fn with_margin(tag: &str) -> Option<String> {
    let (before, view) = tag.split_once("viewBox=\"0 0 ")?;
    let (size, after) = view.split_once('"')?;
    let (width, height) = size.split_once(' ')?;
    let wider = |length: &str| length.parse::<f64>().ok().map(|length| px(length + 24.0));
    let (width, height) = (wider(width)?, wider(height)?);
    Some(format!("{before}viewBox=\"-12 -12 {width} {height}\"{after}"))
}

/// The rules of the style with the colours of light paper put in.
fn light_style() -> String {
    let (palette, rest) = STYLE.split_once('}').unwrap_or(("", STYLE));
    let rules = rest.find("\nsvg").map_or("", |start| &rest[start..]);
    let mut style = rules.to_string();
    for line in palette.lines() {
        let property = line.trim().trim_end_matches(';').split_once(": ");
        if let Some((name, value)) = property.filter(|(name, _)| name.starts_with("--")) {
            style = style.replace(&format!("var({name})"), value);
        }
    }
    style
}

/// About how wide a text is in a sans-serif font, rather too wide than too narrow.
pub fn width_of(text: &str, font: f64) -> f64 {
    let width = |character: char| match character {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.32,
        'f' | 't' | 'r' | ' ' | '(' | ')' | '[' | ']' | '-' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.96,
        'A'..='Z' | '−' | '#' | '+' | '=' | '<' | '>' | '×' => 0.74,
        '…' | '\u{1100}'..='\u{115f}' | '\u{2e80}'.. => 1.05,
        _ => 0.62,
    };
    text.chars().map(width).sum::<f64>() * font
}

/// The width of the widest of some texts, but at most a limit.
pub fn widest<'a>(texts: impl Iterator<Item = &'a str>, font: f64, limit: f64) -> f64 {
    texts.map(|text| width_of(text, font)).fold(0.0, f64::max).min(limit)
}

/// The text, or as much of it as fits, with an ellipsis.
pub fn shorten(text: &str, font: f64, limit: f64) -> String {
    // The slack is for sums of widths that differ in their last bits.
    if width_of(text, font) <= limit + 0.01 {
        return text.to_string();
    }
    let room = limit - width_of("…", font);
    let (mut width, mut end) = (0.0, 0);
    for (start, character) in text.char_indices() {
        let next = start + character.len_utf8();
        width += width_of(&text[start..next], font);
        if width > room {
            break;
        }
        end = next;
    }
    format!("{}…", text[..end].trim_end())
}

/// A length with one decimal at most.
pub fn px(length: f64) -> String {
    let mut text = String::new();
    tenths(&mut text, (length * 10.0).round() as i64);
    text
}

/// Writes a number of tenths in as few letters as possible.
fn tenths(out: &mut String, number: i64) {
    if number < 0 {
        out.push('-');
    }
    let (whole, part) = (number.unsigned_abs() / 10, number.unsigned_abs() % 10);
    if whole > 0 || part == 0 {
        let _ = write!(out, "{whole}");
    }
    if part > 0 {
        let _ = write!(out, ".{part}");
    }
}

/// Path data: each stroke's first point, and the others by their distance from the one before,
/// which takes fewer letters. The points are rounded first, so that nothing adds up.
#[derive(Default)]
pub struct Path {
    /// The data so far.
    pub data: String,
    /// Where the pen is, in tenths.
    last: Option<(i64, i64)>,
    /// Whether the letter `l` holds for what follows.
    lines: bool,
}

impl Path {
    /// The next point begins a stroke.
    pub fn lift(&mut self) {
        self.last = None;
    }

    /// Draws to a point, or begins a stroke there.
    pub fn to(&mut self, (x, y): (f64, f64)) {
        let (x, y) = ((x * 10.0).round() as i64, (y * 10.0).round() as i64);
        let (a, b) = match self.last {
            None => {
                self.data.push('M');
                self.lines = false;
                (x, y)
            }
            Some((x_last, y_last)) => {
                if !self.lines {
                    self.data.push('l');
                } else if x >= x_last {
                    self.data.push(' ');
                }
                self.lines = true;
                (x - x_last, y - y_last)
            }
        };
        tenths(&mut self.data, a);
        if b >= 0 {
            self.data.push(' ');
        }
        tenths(&mut self.data, b);
        self.last = Some((x, y));
    }

    /// Closes the stroke.
    pub fn close(&mut self) {
        self.data.push('z');
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::report::page::tests::check;

    /// A text that no markup may take literally.
    pub const NASTY: &str = "<b>&\"'\u{7}</svg>";

    /// Fails if a number of the SVG is not one, or a text has its point outside of the picture.
    pub fn sane(svg: &str) {
        check(svg);
        check(&standalone(svg));
        let start = svg.find("<title>").unwrap();
        for word in ["NaN", "inf"] {
            let paths = svg[start..].split(" d=\"").skip(1).map(|p| p.split('"').next().unwrap());
            assert!(paths.into_iter().all(|path| !path.contains(word)));
        }
        let size = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split('"').next().unwrap();
        let (width, height) = size.split_once(' ').unwrap();
        let (width, height): (f64, f64) = (width.parse().unwrap(), height.parse().unwrap());
        for text in svg.split("<text ").skip(1) {
            let value = |name: &str| -> f64 {
                text.split(name).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
            };
            let (x, y) = (value("x=\""), value("y=\""));
            assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "{x} {y} {svg}");
        }
    }

    #[test]
    fn lengths_are_written_short() {
        assert_eq!(["0", ".4", "-1.6", "12"], [0.0, 0.41, -1.6, 12.0].map(px)[..]);
        let mut path = Path::default();
        for point in [(0.0, 0.0), (1.54, -0.4), (0.5, 3.0), (0.5, 3.0)] {
            path.to(point);
        }
        assert_eq!(path.data, "M0 0l1.5-.4-1 3.4 0 0");
    }

    #[test]
    fn alone_an_svg_has_its_namespace_once_and_its_colours() {
        let mut svg = Svg::default();
        svg.path("line s1 d1", "M0 0h9");
        let svg = standalone(&svg.finish("chart", (720.0, 350.0), "", ""));
        assert_eq!(svg.matches("xmlns=").count(), 1);
        assert_eq!(standalone(&svg).matches("xmlns=").count(), 1);
        assert!(svg.contains("prefers-color-scheme: dark") && svg.contains("var(--series-1)"));
        assert!(svg.contains("viewBox=\"-12 -12 744 374\""));
        let plain = light_style();
        assert!(plain.contains(".s1 { color: #") && !plain.contains("var("), "{plain}");
        check(&standalone("<svg/>"));
        assert_eq!(standalone("text"), "text");
        assert_eq!(standalone("<svg"), "<svg");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shorten("short", 12.0, 100.0), "short");
        let cut = shorten(&"öabc ".repeat(50), 12.0, 100.0);
        assert!(cut.ends_with('…') && width_of(&cut, 12.0) <= 100.0, "{cut}");
        assert_eq!(shorten("abc", 12.0, 0.0), "…");
    }
}
