//! Charts as SVG: lines over steps, and intervals around estimates.
//!
//! What is drawn here names its colours by class only. In a page they come from the page's style;
//! [`standalone`] gives them to an SVG that is to be a file of its own.

use super::page::escape;
use std::fmt::Write;

const STYLE: &str = include_str!("../../assets/figure.css");

/// Points of a line are thinned out to the least and the greatest of this many stretches: more than
/// the screen has columns for them cannot be seen, and would make the file large.
const STRETCHES: usize = 160;

/// Colours of series in `figure.css`.
const COLOURS: usize = 6;
/// Dash patterns there, the first of them solid.
const DASHES: usize = 5;
/// Circle, square, triangle, diamond, around the point where the pen is.
const MARKS: [&str; 4] = [
    "m-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "m-3-3h6v6h-6z",
    "m0-4l3.8 6.6h-7.6z",
    "m0-4.3l4.3 4.3-4.3 4.3-4.3-4.3z",
];

/// Above this no value is drawn: differences of such values might not be finite.
const HUGE: f64 = 1e100;
/// Series that a legend or a description lists.
const LISTED: usize = 24;
/// Distance of labels one above the other.
const LINE: f64 = 16.0;

/// One line of a chart.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Its name, beside the line or in the legend; none if empty.
    pub name: String,
    /// Its points by ascending x. Where one is not finite, the line has a gap.
    pub points: Vec<(f64, f64)>,
    /// The spread around it, as `(x, low, high)`; may be empty.
    pub band: Vec<(f64, f64, f64)>,
}

/// Lines over a common x.
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    /// What it shows.
    pub title: String,
    /// Name of the x axis.
    pub x: String,
    /// Name of the y axis.
    pub y: String,
    /// The lines.
    pub series: Vec<Series>,
}

impl LineChart {
    /// The chart, as wide as a page.
    pub fn svg(&self) -> String {
        self.draw(720.0, 350.0)
    }

    /// The chart at about half that width, for [`super::page::Page::figures`].
    pub fn small_svg(&self) -> String {
        self.draw(400.0, 260.0)
    }

    fn draw(&self, width: f64, height: f64) -> String {
        let named = |series: &&Series| {
            !series.name.is_empty() && series.points.iter().any(|point| drawable(*point))
        };
        let names: Vec<(usize, &Series)> =
            self.series.iter().enumerate().filter(|(_, series)| named(series)).collect();
        let points = || self.series.iter().flat_map(|series| &series.points).copied();
        let points = || points().filter(|point| drawable(*point));
        let bands = || self.series.iter().flat_map(|series| &series.band).copied();
        let bands = || bands().filter(|band| drawable_band(*band));
        let across = extent(points().map(|point| point.0).chain(bands().map(|band| band.0)));
        let up =
            extent(points().map(|point| point.1).chain(bands().flat_map(|band| [band.1, band.2])));

        let mut top = 10.0;
        let mut heading = String::new();
        if !self.title.is_empty() {
            put(&mut heading, (0.0, 15.0), "title", &self.title, (14.5, width));
            top += 20.0;
        }
        if !self.y.is_empty() {
            put(&mut heading, (0.0, top + 6.0), "small", &self.y, (12.0, width));
            top += 18.0;
        }
        let (Some(across), Some(up)) = (across, up) else {
            let mut svg = open("chart", (width, top + 60.0), &self.title, "No data.");
            svg.push_str(&heading);
            put(&mut svg, (0.0, top + 30.0), "small", "no data", (12.0, width));
            return svg + "</svg>\n";
        };
        let up = roomy(up);
        let bottom = height - if self.x.is_empty() { 26.0 } else { 44.0 };
        let label_room = (width * 0.28).min(170.0);
        let label_width = |series: &Series| width_of(&series.name, 12.5).min(label_room);
        let longest = names.iter().map(|(_, series)| label_width(series)).fold(0.0, f64::max);

        // Names stand at the ends of the lines if there is room, which takes a trial.
        let ends: Vec<(f64, f64)> = names
            .iter()
            .filter_map(|(_, series)| series.points.iter().rev().find(|p| drawable(**p)).copied())
            .collect();
        let trial = Scale { from: up.0, to: up.1, start: bottom, end: top };
        let heights: Vec<f64> = ends.iter().map(|end| trial.at(end.1)).collect();
        let places = spread(&heights, (top - 4.0, bottom));
        let direct = ends.iter().all(|end| end.0 >= across.1 - (across.1 - across.0) * 0.06)
            && heights.iter().zip(&places).all(|(a, b)| (a - b).abs() <= 2.5 * LINE)
            && names.len() as f64 * LINE <= bottom - top;
        let right = if names.is_empty() {
            width - 10.0
        } else if direct {
            width - longest - 22.0
        } else {
            let rows = legend(&mut heading, &names, top + 4.0, width);
            top += rows as f64 * LINE + 10.0;
            width - 10.0
        };
        // A legend of many rows must not push the chart out of its own picture.
        let (bottom, height) = if bottom - top < 120.0 {
            (top + 120.0, height + 120.0 - (bottom - top))
        } else {
            (bottom, height)
        };

        let up_ticks = Ticks::new(up, (bottom - top) / 36.0);
        let wide = up_ticks.labels.iter().map(|label| width_of(label, 12.0)).fold(0.0, f64::max);
        let left = wide + 10.0;
        let across_ticks = Ticks::new(across, (right - left) / 80.0);
        let x = Scale { from: across.0, to: across.1, start: left, end: right };
        let y = Scale { from: up.0, to: up.1, start: bottom, end: top };

        let mut svg = open("chart", (width, height), &self.title, &self.description());
        svg.push_str(&heading);
        grid_lines(&mut svg, &up_ticks, |value| {
            format!("M{} {}H{}", px(left), px(y.at(value)), px(right))
        });
        for (value, label) in up_ticks.all() {
            put(&mut svg, (left - 8.0, y.at(value) + 4.2), "small e", label, (12.0, left));
        }
        let mut axis = format!("M{} {}H{}", px(left), px(bottom), px(right));
        for (value, label) in across_ticks.all() {
            let at = x.at(value);
            let _ = write!(axis, "M{} {}v4", px(at), px(bottom));
            let half = width_of(label, 12.0) / 2.0;
            let at = at.min(width - half).max(half);
            put(&mut svg, (at, bottom + 18.0), "small c", label, (12.0, width));
        }
        let _ = write!(svg, "<path class=\"axis\" d=\"{axis}\"/>");
        let middle = (left + right) / 2.0;
        put(&mut svg, (middle, bottom + 37.0), "small c", &self.x, (12.0, width));

        for (index, series) in self.series.iter().enumerate() {
            let path = band_path(&series.band, &x, &y);
            if !path.is_empty() {
                let _ = write!(svg, "<path class=\"band s{}\" d=\"{path}\"/>", colour(index));
            }
        }
        for (index, series) in self.series.iter().enumerate() {
            let path = line_path(&series.points, &x, &y);
            if !path.is_empty() {
                let _ = write!(svg, "<path class=\"line {}\" d=\"{path}\"/>", style(index));
            }
        }
        for (index, series) in self.series.iter().enumerate() {
            let path = mark_path(&series.points, (index, self.series.len()), &x, &y);
            if !path.is_empty() {
                let _ = write!(svg, "<path class=\"mark s{}\" d=\"{path}\"/>", colour(index));
            }
        }
        if direct {
            for (((index, series), end), place) in names.iter().zip(&ends).zip(&places) {
                let colour = colour(*index);
                let (from, to) = (x.at(end.0) + 5.0, right + 10.0);
                let _ = write!(
                    svg,
                    "<path class=\"leader s{colour}\" d=\"M{} {}L{} {}\"/>",
                    px(from),
                    px(y.at(end.1)),
                    px(to),
                    px(*place)
                );
                let class = format!("named s{colour}");
                put(&mut svg, (to + 4.0, place + 4.4), &class, &series.name, (12.5, longest));
            }
        }
        svg + "</svg>\n"
    }

    /// The chart in words, for those who cannot see it.
    fn description(&self) -> String {
        let mut text = format!("Line chart of {} over {}.", or(&self.y, "y"), or(&self.x, "x"));
        for series in self.series.iter().take(LISTED) {
            let mut points = series.points.iter().filter(|point| drawable(**point));
            let Some(first) = points.next() else { continue };
            let last = points.next_back().unwrap_or(first);
            let _ = write!(
                text,
                " {}: from {} at {} to {} at {}.",
                or(&series.name, "a line"),
                plain(first.1),
                plain(first.0),
                plain(last.1),
                plain(last.0)
            );
        }
        text
    }
}

/// An estimate and the interval around it.
#[derive(Debug, Clone, Default)]
pub struct Interval {
    /// What is estimated.
    pub label: String,
    /// The estimate; if not finite, the row says that there is none.
    pub estimate: f64,
    /// Lower end; negative infinity is drawn as an arrow.
    pub low: f64,
    /// Upper end; infinity is drawn as an arrow.
    pub high: f64,
}

/// Intervals one below the other over a common x, and lines across them to compare with.
#[derive(Debug, Clone, Default)]
pub struct IntervalChart {
    /// What it shows.
    pub title: String,
    /// Name of the x axis.
    pub x: String,
    /// The intervals, from the top.
    pub rows: Vec<Interval>,
    /// Vertical lines and what they mean.
    pub marks: Vec<(f64, String)>,
}

impl IntervalChart {
    /// The chart, as wide as a page.
    pub fn svg(&self) -> String {
        let width = 720.0;
        let marks: Vec<&(f64, String)> =
            self.marks.iter().filter(|mark| drawable((mark.0, 0.0))).collect();
        let rows: Vec<Interval> = self.rows.iter().map(tidy).collect();
        let values = rows
            .iter()
            .filter(|row| row.estimate.is_finite())
            .flat_map(|row| [row.estimate, row.low, row.high]);
        let mut top = 12.0;
        let mut heading = String::new();
        if !self.title.is_empty() {
            put(&mut heading, (0.0, 15.0), "title", &self.title, (14.5, width));
            top += 20.0;
        }
        let Some((low, high)) = extent(values.chain(marks.iter().map(|mark| mark.0))) else {
            let mut svg = open("chart", (width, top + 60.0), &self.title, "No data.");
            svg.push_str(&heading);
            put(&mut svg, (0.0, top + 30.0), "small", "no data", (12.0, width));
            return svg + "</svg>\n";
        };
        let pad = (high - low) * 0.05;
        let range = (low - pad, high + pad);

        // Names to the left of the intervals, numbers to the right.
        let ticks = Ticks::new(range, 5.0);
        let numbers: Vec<String> = rows.iter().map(|row| ticks.interval(row)).collect();
        let widest = |texts: &mut dyn Iterator<Item = &String>, most: f64| {
            texts.map(|text| width_of(text, 12.5)).fold(0.0, f64::max).min(most)
        };
        let names = widest(&mut rows.iter().map(|row| &row.label), 240.0);
        let figures = widest(&mut numbers.iter(), 200.0);
        let (left, right) = (names + 24.0, width - figures - 24.0);
        let x = Scale { from: range.0, to: range.1, start: left, end: right };

        // Labels of marks stand above the rows, those too close to each other on several lines.
        let mut order: Vec<usize> = (0..marks.len()).collect();
        order.sort_by(|a, b| marks[*a].0.total_cmp(&marks[*b].0));
        let mut lanes: Vec<f64> = Vec::new();
        let mut labels = Vec::new();
        for (value, label) in order.into_iter().map(|index| marks[index]) {
            let half = width_of(label, 12.0).min(260.0) / 2.0;
            let at = x.at(*value).max(half).min(width - half);
            let free = lanes.iter().position(|end| end + 10.0 < at - half);
            let lane = free.unwrap_or(lanes.len().min(3));
            if lane == lanes.len() {
                lanes.push(0.0);
            }
            // Where even the last lane is taken, the line stays without a label.
            let fits = lanes[lane] == 0.0 || lanes[lane] + 10.0 < at - half;
            if fits {
                lanes[lane] = at + half;
            }
            labels.push((x.at(*value), at, lane, label, fits));
        }
        top += lanes.len() as f64 * LINE + 6.0;
        let row_height = 28.0;
        let bottom = top + rows.len().max(1) as f64 * row_height + 4.0;
        let height = bottom + if self.x.is_empty() { 26.0 } else { 44.0 };

        let mut svg = open("chart", (width, height), &self.title, &self.description(&rows, &ticks));
        svg.push_str(&heading);
        grid_lines(&mut svg, &ticks, |value| {
            format!("M{} {}V{}", px(x.at(value)), px(top), px(bottom))
        });
        let _ =
            write!(svg, "<path class=\"axis\" d=\"M{} {}H{}\"/>", px(left), px(bottom), px(right));
        for (value, label) in ticks.all() {
            put(&mut svg, (x.at(value), bottom + 17.0), "small c", label, (12.0, width));
        }
        let middle = (left + right) / 2.0;
        put(&mut svg, (middle, bottom + 37.0), "small c", &self.x, (12.0, width));
        for (value, at, lane, label, fits) in labels {
            // The lowest lane is the first: a line reaches up to its label only.
            let foot = top - 4.0 - lane as f64 * LINE;
            let _ = write!(
                svg,
                "<path class=\"ref\" d=\"M{} {}V{}\"/>",
                px(value),
                px(foot),
                px(bottom)
            );
            if fits {
                put(&mut svg, (at, foot - 4.0), "small c", label, (12.0, 260.0));
            }
        }
        let mut bars = String::new();
        let mut points = String::new();
        for (index, (row, number)) in rows.iter().zip(&numbers).enumerate() {
            let y = top + (index as f64 + 0.5) * row_height + 2.0;
            put(&mut svg, (0.0, y + 4.4), "", &row.label, (12.5, names));
            if !row.estimate.is_finite() {
                put(&mut svg, (width, y + 4.4), "small e", number, (12.0, figures));
                continue;
            }
            put(&mut svg, (width, y + 4.4), "e", number, (12.5, figures));
            let (from, to) = (end_of(&x, row.low), end_of(&x, row.high));
            let _ = write!(bars, "M{} {}H{}", px(from), px(y), px(to));
            // An end that is not there is an arrow, one that is there a bar.
            for (end, at, way) in [(row.low, from, 1.0), (row.high, to, -1.0)] {
                if end.is_infinite() {
                    let (tip, back) = (px(at + 6.0 * way), px(-6.0 * way));
                    let ahead = px(6.0 * way);
                    let _ = write!(bars, "M{tip} {}l{back} 5l{ahead} 5", px(y - 5.0));
                } else {
                    let _ = write!(bars, "M{} {}v8", px(at), px(y - 4.0));
                }
            }
            let _ = write!(points, "M{} {}{}", px(x.at(row.estimate)), px(y), MARKS[0]);
        }
        let _ = write!(svg, "<path class=\"interval s1\" d=\"{bars}\"/>");
        let _ = write!(svg, "<path class=\"mark s1\" d=\"{points}\"/>");
        svg + "</svg>\n"
    }

    fn description(&self, rows: &[Interval], ticks: &Ticks) -> String {
        let mut text = format!("Intervals of {}.", or(&self.x, "an estimate"));
        for row in rows.iter().take(LISTED) {
            let _ = write!(text, " {}: {}.", row.label, ticks.interval(row));
        }
        for (value, label) in self.marks.iter().take(LISTED) {
            let _ = write!(text, " Line at {}: {label}.", plain(*value));
        }
        text
    }
}

/// The interval with its ends in order, each a number or infinite.
fn tidy(row: &Interval) -> Interval {
    let bound = |end: f64| {
        if end.is_nan() {
            row.estimate
        } else if end.abs() > HUGE {
            f64::INFINITY.copysign(end)
        } else {
            end
        }
    };
    let (low, high) = (bound(row.low), bound(row.high));
    let estimate = if drawable((row.estimate, 0.0)) { row.estimate } else { f64::NAN };
    Interval { label: row.label.clone(), estimate, low: low.min(high), high: high.max(low) }
}

/// Where an end of an interval is; the edge for one that is infinite.
fn end_of(x: &Scale, value: f64) -> f64 {
    if value.is_finite() {
        x.at(value)
    } else if value > 0.0 {
        x.end
    } else {
        x.start
    }
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
        "{before}{tag}{space}><style>{}{STYLE}svg.fig {{ background: var(--paper); }}\n</style>{rest}",
        light_style()
    )
}

/// The tag of an SVG with room around the picture, which in a page the page gives. `None` if its view
/// box does not start at zero: it is not from here, or has room already.
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

/// The start of an SVG, with its title and description.
pub(super) fn open(kind: &str, size: (f64, f64), title: &str, description: &str) -> String {
    let (width, height) = (px(size.0), px(size.1));
    let name = escape(or(title, "Figure"));
    format!(
        "<svg class=\"fig {kind}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{name}\" style=\"--natural:{width}px\"><title>{name}</title>\
         <desc>{}</desc>",
        escape(description)
    )
}

/// Adds a text at a baseline point, cut to a width at a font size (`fit`) and then whole in a tooltip.
pub(super) fn put(svg: &mut String, at: (f64, f64), class: &str, text: &str, fit: (f64, f64)) {
    if text.is_empty() {
        return;
    }
    let short = shorten(text, fit.0, fit.1);
    let tooltip =
        if short == text { String::new() } else { format!("<title>{}</title>", escape(text)) };
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\"{class}>{tooltip}{}</text>",
        px(at.0),
        px(at.1),
        escape(&short)
    );
}

/// About how wide a text is in a sans-serif font, rather too wide than too narrow.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    let width = |character: char| match character {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.32,
        'f' | 't' | 'r' | ' ' | '(' | ')' | '[' | ']' | '-' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.96,
        'A'..='Z' | '−' | '#' | '+' | '=' | '<' | '>' | '×' => 0.74,
        '…' | '\u{1100}'..='\u{115f}' | '\u{2e80}'.. => 1.05,
        _ => 0.62,
    };
    text.chars().map(width).sum::<f64>() * size
}

/// The text, or as much of it as fits, with an ellipsis.
pub(super) fn shorten(text: &str, size: f64, limit: f64) -> String {
    // The slack is for sums of widths that differ in their last bits.
    if width_of(text, size) <= limit + 0.01 {
        return text.to_string();
    }
    let room = limit - width_of("…", size);
    let (mut width, mut end) = (0.0, 0);
    for (start, character) in text.char_indices() {
        let next = start + character.len_utf8();
        width += width_of(&text[start..next], size);
        if width > room {
            break;
        }
        end = next;
    }
    format!("{}…", text[..end].trim_end())
}

/// A length with one decimal at most.
pub(super) fn px(length: f64) -> String {
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

/// Path data: each stroke's first point, and the others by their distance from the one before, which
/// takes fewer letters. The points are rounded first, so that nothing adds up.
#[derive(Default)]
struct Path {
    data: String,
    last: Option<(i64, i64)>,
    lines: bool,
}

impl Path {
    fn lift(&mut self) {
        self.last = None;
    }

    fn to(&mut self, x: f64, y: f64) {
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
}

/// Whether both are finite, and not so large that their differences might not be.
fn drawable(point: (f64, f64)) -> bool {
    // Not a number is not within the bound either.
    point.0.abs() <= HUGE && point.1.abs() <= HUGE
}

fn drawable_band(band: (f64, f64, f64)) -> bool {
    drawable((band.0, band.1)) && drawable((band.2, 0.0))
}

/// The runs of items between those that cannot be drawn; the gaps are closed if there are too many.
fn runs<T: Copy>(items: &[T], can: impl Fn(T) -> bool) -> Vec<Vec<T>> {
    let runs: Vec<Vec<T>> =
        items.split(|item| !can(*item)).filter(|run| !run.is_empty()).map(<[T]>::to_vec).collect();
    if runs.len() <= STRETCHES { runs } else { vec![runs.concat()] }
}

/// The points, or if there are too many the least and the greatest of each stretch of them. The first
/// and the last stay.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * STRETCHES {
        return points.to_vec();
    }
    let last = points.len() - 1;
    let mut kept = vec![0];
    let stretch = points.len().div_ceil(STRETCHES);
    for first in (0..points.len()).step_by(stretch) {
        let range = || first..(first + stretch).min(points.len());
        let least = range().min_by(|a, b| points[*a].1.total_cmp(&points[*b].1)).unwrap_or(first);
        let most = range().max_by(|a, b| points[*a].1.total_cmp(&points[*b].1)).unwrap_or(first);
        kept.extend([least.min(most), least.max(most)]);
    }
    kept.push(last);
    kept.dedup();
    kept.into_iter().map(|index| points[index]).collect()
}

/// The same for a band: of each stretch the least low and the greatest high.
fn thin_band(band: &[(f64, f64, f64)]) -> Vec<(f64, f64, f64)> {
    if band.len() <= 2 * STRETCHES {
        return band.to_vec();
    }
    let last = band.len() - 1;
    let stretch = band.len().div_ceil(STRETCHES);
    let whole = |first: usize| {
        let part = &band[first..(first + stretch).min(band.len())];
        // The ends stay where they are, so that the band is as long as its line.
        let place = if first == 0 {
            0
        } else if first + stretch > last {
            last
        } else {
            first + part.len() / 2
        };
        let low = part.iter().map(|item| item.1.min(item.2)).fold(f64::INFINITY, f64::min);
        let high = part.iter().map(|item| item.1.max(item.2)).fold(f64::NEG_INFINITY, f64::max);
        (band[place].0, low, high)
    };
    (0..band.len()).step_by(stretch).map(whole).collect()
}

fn line_path(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut path = Path::default();
    for run in runs(points, drawable).iter().filter(|run| run.len() > 1) {
        path.lift();
        for point in thin(run) {
            path.to(x.at(point.0), y.at(point.1));
        }
    }
    path.data
}

fn band_path(band: &[(f64, f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut path = Path::default();
    for run in runs(band, drawable_band).iter().filter(|run| run.len() > 1) {
        let run = thin_band(run);
        path.lift();
        for item in &run {
            path.to(x.at(item.0), y.at(item.2));
        }
        for item in run.iter().rev() {
            path.to(x.at(item.0), y.at(item.1));
        }
        path.data.push('z');
    }
    path.data
}

/// The marks of a line: all points if they are few, otherwise some, those of different lines at
/// different places, and the last.
fn mark_path(points: &[(f64, f64)], (index, of): (usize, usize), x: &Scale, y: &Scale) -> String {
    let points: Vec<(f64, f64)> = points.iter().filter(|p| drawable(**p)).copied().collect();
    let Some(last) = points.last() else { return String::new() };
    let marked: Vec<(f64, f64)> = if points.len() <= 12 {
        points
    } else {
        // Not up to the end, where the last mark is.
        let share = (index as f64 + 0.5) / of as f64 * 0.8;
        let some = (0..4).map(|part| (part as f64 + share) / 4.0 * (points.len() - 1) as f64);
        some.map(|place| points[place as usize]).chain([*last]).collect()
    };
    let shape = MARKS[index % MARKS.len()];
    marked.iter().map(|p| format!("M{} {}{shape}", px(x.at(p.0)), px(y.at(p.1)))).collect()
}

/// Adds the names with samples of their lines, in rows from a height on; returns how many rows.
fn legend(svg: &mut String, names: &[(usize, &Series)], top: f64, width: f64) -> usize {
    let (mut x, mut row) = (0.0, 0);
    let sample = 36.0;
    for (count, (index, series)) in names.iter().enumerate() {
        let more = count == LISTED;
        let name =
            if more { format!("and {} more", names.len() - count) } else { series.name.clone() };
        let room = width_of(&name, 12.5).min(width - sample - 10.0).min(260.0);
        if x > 0.0 && x + sample + room > width {
            (x, row) = (0.0, row + 1);
        }
        let y = top + row as f64 * LINE + 4.0;
        if more {
            put(svg, (x, y + 4.4), "small", &name, (12.5, room));
            break;
        }
        let (line, mark) = (style(*index), MARKS[index % MARKS.len()]);
        let (from, middle, y_text) = (px(x), px(x + sample / 2.0 - 4.0), px(y));
        let colour = colour(*index);
        let _ = write!(
            svg,
            "<path class=\"line {line}\" d=\"M{from} {y_text}h28\"/>\
             <path class=\"mark s{colour}\" d=\"M{middle} {y_text}{mark}\"/>"
        );
        put(svg, (x + sample, y + 4.4), "", &name, (12.5, room));
        x += sample + room + 18.0;
    }
    row + 1
}

/// Places near the given ones, but a line apart and within bounds as far as possible.
fn spread(wanted: &[f64], (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut down: Vec<f64> = order.iter().map(|index| wanted[*index]).collect();
    let mut up = down.clone();
    for next in 1..down.len() {
        down[next] = down[next].max(down[next - 1] + LINE);
    }
    for next in (1..up.len()).rev() {
        up[next - 1] = up[next - 1].min(up[next] - LINE);
    }
    // Both are a line apart, so their mean is, and it moves none far.
    let mut mean: Vec<f64> = down.iter().zip(&up).map(|(a, b)| (a + b) / 2.0).collect();
    let mut limit = bottom;
    for place in mean.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - LINE;
    }
    let mut limit = top;
    for place in &mut mean {
        *place = place.max(limit);
        limit = *place + LINE;
    }
    let mut places = vec![0.0; wanted.len()];
    for (place, index) in mean.into_iter().zip(order) {
        places[index] = place;
    }
    places
}

/// Adds the light lines at the ticks.
fn grid_lines(svg: &mut String, ticks: &Ticks, line: impl Fn(f64) -> String) {
    let lines: String = ticks.values.iter().map(|value| line(*value)).collect();
    let _ = write!(svg, "<path class=\"grid\" d=\"{lines}\"/>");
}

fn colour(index: usize) -> usize {
    index % COLOURS + 1
}

/// The classes of a line: with marks, no two of the first sixty are alike.
fn style(index: usize) -> String {
    format!("s{} d{}", colour(index), index % DASHES + 1)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// A straight map from values to lengths.
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }
}

/// The least and the greatest of those values that can be drawn, or bounds around the one there is.
fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let bounds = values
        .filter(|value| drawable((*value, 0.0)))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    let (low, high) = bounds;
    if low > high {
        return None;
    }
    // Closer together than this, ticks between them would be the same number.
    let size = low.abs().max(high.abs());
    if high - low > (size * 1e-9).max(1e-90) {
        return Some(bounds);
    }
    let half = if size < 1e-80 { 1.0 } else { size * 0.1 };
    Some((low - half, high + half))
}

/// The range with some room, or down to zero where that is not far.
fn roomy((low, high): (f64, f64)) -> (f64, f64) {
    let room = (high - low) * 0.05;
    let from = if low < 0.0 {
        low - room
    } else if low < high * 0.35 {
        0.0
    } else {
        (low - room).max(0.0)
    };
    (from, high + room)
}

/// Round numbers on an axis: multiples of 1, 2 or 5 times a power of ten.
struct Ticks {
    values: Vec<f64>,
    labels: Vec<String>,
    /// Decimals of the labels, and the power of ten that they leave out.
    decimals: usize,
    power: Option<i32>,
}

impl Ticks {
    /// About `count` of them within a range.
    fn new((low, high): (f64, f64), count: f64) -> Self {
        let raw = (high - low) / count.max(1.0);
        let mut power = raw.log10().floor() as i32;
        let base = 10f64.powi(power);
        let step = match raw / base {
            share if share <= 1.0 + 1e-9 => base,
            share if share <= 2.0 + 1e-9 => 2.0 * base,
            share if share <= 5.0 + 1e-9 => 5.0 * base,
            _ => {
                power += 1;
                10.0 * base
            }
        };
        let first = (low / step - 1e-6).ceil() as i64;
        let last = (high / step + 1e-6).floor() as i64;
        let values: Vec<f64> = (first..=last).map(|number| number as f64 * step).collect();
        let size = low.abs().max(high.abs());
        let scale = size.log10().floor() as i32;
        // Numbers with many digits are easier to compare by their first ones.
        let outside = (size >= 1e6 || power < -5).then_some(scale);
        let decimals = (outside.unwrap_or(0) - power).max(0) as usize;
        let mut ticks = Self { values, labels: Vec::new(), decimals, power: outside };
        ticks.labels = ticks.values.iter().map(|value| ticks.number(*value, 0)).collect();
        ticks
    }

    fn all(&self) -> impl Iterator<Item = (f64, &str)> {
        self.values.iter().zip(&self.labels).map(|(value, label)| (*value, label.as_str()))
    }

    /// The number as on the axis, with `more` decimals.
    fn number(&self, value: f64, more: usize) -> String {
        let decimals = self.decimals + more;
        match self.power {
            None => fixed(value, decimals),
            Some(_) if value == 0.0 => "0".into(),
            Some(power) => {
                let digits = power.to_string().chars().map(raised).collect::<String>();
                format!("{}×10{digits}", fixed(value / 10f64.powi(power), decimals))
            }
        }
    }

    /// An estimate and its interval in numbers.
    fn interval(&self, row: &Interval) -> String {
        if !row.estimate.is_finite() {
            return "no estimate".into();
        }
        let [estimate, low, high] = [row.estimate, row.low, row.high].map(|value| {
            if value.is_finite() {
                self.number(value, 1)
            } else if value > 0.0 {
                "∞".into()
            } else {
                "−∞".into()
            }
        });
        format!("{estimate} [{low}, {high}]")
    }
}

/// A digit, or the sign of a power, raised.
fn raised(digit: char) -> char {
    match digit {
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '-' => '⁻',
        '0' | '4'..='9' => char::from_u32(0x2070 + (digit as u32 - '0' as u32)).unwrap_or(digit),
        _ => digit,
    }
}

/// The number with a minus sign that is as wide as a plus, and commas from 10,000 on.
fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut number = String::new();
    if value < 0.0 && text.chars().any(|digit| ('1'..='9').contains(&digit)) {
        number.push('−');
    }
    for (index, digit) in whole.chars().enumerate() {
        if whole.len() > 4 && index > 0 && (whole.len() - index) % 3 == 0 {
            number.push(',');
        }
        number.push(digit);
    }
    if !part.is_empty() {
        number.push('.');
        number.push_str(part);
    }
    number
}

/// A number in four digits or so, for a sentence.
fn plain(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        value.to_string()
    } else if size != 0.0 && !(1e-4..1e7).contains(&size) {
        format!("{value:.3e}")
    } else {
        let decimals = (3.0 - size.max(1e-4).log10().floor()).clamp(0.0, 7.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::check;
    use super::*;

    const NASTY: &str = "<b>&\"'\u{7}</svg>";

    fn lines(series: Vec<Series>) -> LineChart {
        LineChart { title: "Loss".into(), x: "step".into(), y: "loss".into(), series }
    }

    fn series(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, band: vec![] }
    }

    /// Fails if a number of the SVG is not one, or a text has its point outside of the picture.
    fn sane(svg: &str) {
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
    fn ticks_are_round_numbers_within_the_range() {
        let labels = |low, high, count| Ticks::new((low, high), count).labels;
        assert_eq!(labels(0.0, 300.0, 6.0), ["0", "50", "100", "150", "200", "250", "300"]);
        assert_eq!(labels(0.0, 1.0, 5.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-0.013, 0.011, 4.0), ["−0.01", "0.00", "0.01"]);
        assert_eq!(labels(0.0, 20000.0, 2.0), ["0", "10,000", "20,000"]);
        assert_eq!(labels(0.0, 3e9, 3.0), ["0", "1×10⁹", "2×10⁹", "3×10⁹"]);
        assert_eq!(labels(0.0, 2.1e-7, 3.0), ["0", "1×10⁻⁷", "2×10⁻⁷"]);
        assert_eq!(labels(0.95, 1.0, 5.0), ["0.95", "0.96", "0.97", "0.98", "0.99", "1.00"]);
    }

    #[test]
    fn any_range_has_some_ticks_but_not_many() {
        let mut sizes: Vec<f64> = (-98..=99).map(|power| 10f64.powi(power)).collect();
        sizes.extend([0.0, 5e-324, f64::MAX, f64::INFINITY, f64::NAN, 1.0 + 1e-15]);
        for a in &sizes {
            for b in &sizes {
                for pair in [[*a, *b], [-a, *b], [-a, -b]] {
                    let Some(range) = extent(pair.into_iter()) else { continue };
                    let count = Ticks::new(roomy(range), 6.0).values.len();
                    assert!((2..=14).contains(&count), "{pair:?} {count}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_written_short() {
        assert_eq!(["0", ".4", "-1.6", "12"], [0.0, 0.41, -1.6, 12.0].map(px)[..]);
        assert_eq!(
            ["−1,234,567.9", "0.0", "1234.0"],
            [-1234567.89, -0.01, 1234.0].map(|v| fixed(v, 1))[..]
        );
        assert_eq!(
            ["0.9123", "300", "0", "1.5e-9"],
            [0.91234, 300.0, 0.0, 1.5e-9].map(|v| plain(v).replace("1.500", "1.5"))[..]
        );
        let mut path = Path::default();
        for (x, y) in [(0.0, 0.0), (1.54, -0.4), (0.5, 3.0), (0.5, 3.0)] {
            path.to(x, y);
        }
        assert_eq!(path.data, "M0 0l1.5-.4-1 3.4 0 0");
    }

    #[test]
    fn a_line_chart_draws_its_lines_and_names_them_at_their_ends() {
        let falling = (0..50).map(|step| (step as f64, 1.0 / (step + 1) as f64)).collect();
        let flat: Vec<_> = (0..50).map(|step| (step as f64, 0.5)).collect();
        let mut chart = lines(vec![series("dense", falling), series("topk:0.5", flat.clone())]);
        chart.series[1].band = flat.iter().map(|(x, y)| (*x, y - 0.1, y + 0.1)).collect();
        let svg = chart.svg();
        sane(&svg);
        assert_eq!(svg.matches("class=\"line ").count(), 2);
        assert_eq!(svg.matches("class=\"band ").count(), 1);
        assert!(svg.contains("class=\"named s2\">topk:0.5<") && svg.contains("s2 d2"));
        assert!(svg.contains("dense: from 1 at 0 to 0.02 at 49."));
        assert!(!svg.contains("xmlns"));
        sane(&chart.small_svg());
    }

    #[test]
    fn names_that_do_not_fit_at_the_ends_go_into_a_legend() {
        let bundle = |count: usize| {
            let line = |index: usize| series(&format!("run {index}"), vec![(0.0, 0.0), (1.0, 1.0)]);
            lines((0..count).map(line).collect()).svg()
        };
        assert!(bundle(4).contains("class=\"named"));
        assert!(!bundle(9).contains("class=\"named"));
        sane(&bundle(9));
        sane(&bundle(300));
        assert!(bundle(300).contains("and 276 more"));
        // One line is shorter than the other.
        let svg = lines(vec![
            series("a", vec![(0.0, 0.0), (9.0, 1.0)]),
            series("b", vec![(0.0, 0.0), (1.0, 1.0)]),
        ])
        .svg();
        assert!(!svg.contains("class=\"named"));
    }

    #[test]
    fn labels_are_spread_but_stay_near() {
        let places = spread(&[100.0, 100.0, 10.0, 100.0], (0.0, 200.0));
        assert_eq!(places, [84.0, 100.0, 10.0, 116.0]);
        let places = spread(&[200.0, 199.0], (0.0, 200.0));
        assert_eq!(places, [200.0, 184.0]);
        assert!(spread(&[], (0.0, 1.0)).is_empty());
    }

    #[test]
    fn thinning_keeps_peaks_ends_and_small_files() {
        let mut points: Vec<(f64, f64)> =
            (0..20_000).map(|step| (step as f64, (step as f64 * 0.7).sin())).collect();
        points[7_777].1 = 40.0;
        points[12_345].1 = -30.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= 2 * STRETCHES + 2 && thinned.is_sorted_by(|a, b| a.0 < b.0));
        for index in [0, 7_777, 12_345, 19_999] {
            assert!(thinned.contains(&points[index]), "{index}");
        }
        let band: Vec<_> = points.iter().map(|(x, y)| (*x, y - 1.0, y + 1.0)).collect();
        let thinned = thin_band(&band);
        assert!(thinned.len() <= STRETCHES + 1);
        assert!(thinned.iter().any(|item| item.2 == 41.0));
        assert_eq!((thinned[0].0, thinned[thinned.len() - 1].0), (0.0, 19_999.0));
        let one = Series { name: "run".into(), points, band };
        let svg = lines(vec![one; 4]).svg();
        sane(&svg);
        assert!(svg.len() < 40_000, "{}", svg.len());
    }

    #[test]
    fn any_points_make_a_chart() {
        let (nan, huge) = (f64::NAN, f64::INFINITY);
        let gaps: Vec<_> =
            (0..5000).map(|i| (i as f64, if i % 2 == 0 { 1.0 } else { nan })).collect();
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(3.0, 5.0); 40],
            vec![(nan, nan), (huge, -huge)],
            vec![(0.0, 1.0), (1.0, nan), (2.0, 3.0), (3.0, huge), (4.0, 1.0)],
            vec![(-f64::MAX, f64::MAX), (f64::MAX, -f64::MAX)],
            vec![(0.0, 5e-324), (5e-324, 0.0)],
            vec![(1e99, -1e99), (-1e99, 1e99)],
            vec![(9.0, 1.0), (0.0, 2.0)],
            gaps,
        ] {
            let band = points.iter().map(|(x, y)| (*x, y + 1.0, y - 1.0)).collect();
            let name = NASTY.repeat(30);
            let one = Series { name: name.clone(), points, band };
            let chart = LineChart {
                title: name.clone(),
                x: name.clone(),
                y: name,
                series: vec![one.clone(), Series::default(), one],
            };
            sane(&chart.svg());
            sane(&chart.small_svg());
            sane(&LineChart { series: chart.series, ..LineChart::default() }.svg());
        }
        sane(&LineChart::default().svg());
    }

    fn interval(label: &str, estimate: f64, low: f64, high: f64) -> Interval {
        Interval { label: label.into(), estimate, low, high }
    }

    #[test]
    fn an_interval_chart_draws_rows_and_marks() {
        let chart = IntervalChart {
            title: "Accuracy kept".into(),
            x: "share of dense accuracy".into(),
            rows: vec![
                interval("topk:0.2", 0.99, 0.981, 1.004),
                interval("topk:0.8", 0.95, 0.93, 0.97),
            ],
            marks: vec![(1.0, "no difference".into()), (0.97, "the paper's".into())],
        };
        let svg = chart.svg();
        sane(&svg);
        assert_eq!(svg.matches("class=\"ref\"").count(), 2);
        assert!(svg.contains(">no difference<") && svg.contains("0.990 [0.981, 1.004]"));
    }

    #[test]
    fn any_intervals_make_a_chart() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let rows = vec![
            interval(&NASTY.repeat(40), 1.0, 0.5, 1.5),
            interval("", nan, 0.0, 1.0),
            interval("open", 1.0, -inf, inf),
            interval("no ends", 1.0, nan, nan),
            interval("swapped", 1.0, 2.0, 0.0),
            interval("huge", 1e300, -1e300, 1e308),
        ];
        let mut marks: Vec<_> = (0..40).map(|i| (i as f64 / 40.0, NASTY.repeat(9))).collect();
        marks.push((nan, "nowhere".into()));
        for count in 0..=rows.len() {
            for many in [0, 1, marks.len()] {
                let chart = IntervalChart {
                    title: NASTY.repeat(40),
                    x: NASTY.into(),
                    rows: rows[..count].to_vec(),
                    marks: marks[..many].to_vec(),
                };
                sane(&chart.svg());
            }
        }
        assert!(IntervalChart { rows, ..IntervalChart::default() }.svg().contains("no estimate"));
        sane(&IntervalChart::default().svg());
    }

    #[test]
    fn alone_an_svg_has_its_namespace_once_and_its_colours() {
        let svg = standalone(&lines(vec![series("a", vec![(0.0, 1.0), (1.0, 2.0)])]).svg());
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
