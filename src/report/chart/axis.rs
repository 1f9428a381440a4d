//! What charts have in common: the range of values, ticks at round numbers, the frame around them.

use super::svg::{SMALL, Svg, px, widest};

/// Above this no value is drawn: differences of such values might not be finite.
pub const HUGE: f64 = 1e100;
/// Series that a legend or a description lists.
pub const LISTED: usize = 24;
/// Distance of labels one above the other.
pub const LINE: f64 = 16.0;

/// Colours of series in `figure.css`.
const COLOURS: usize = 6;
/// Circle, square, triangle, diamond, around the point where the pen is.
const MARKS: [&str; 4] = [
    "m-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "m-3-3h6v6h-6z",
    "m0-4l3.8 6.6h-7.6z",
    "m0-4.3l4.3 4.3-4.3 4.3-4.3-4.3z",
];

/// The colour of a series: N in the class `sN`, from 1.
pub fn colour(series: usize) -> usize {
    series % COLOURS + 1
}

/// The path of a series' mark, relative to its place.
pub fn mark(series: usize) -> &'static str {
    MARKS[series % MARKS.len()]
}

/// Whether both are finite, and not so large that their differences might not be.
pub fn drawable(point: (f64, f64)) -> bool {
    // Not a number is not within the bound either.
    point.0.abs() <= HUGE && point.1.abs() <= HUGE
}

/// A straight map from values to lengths.
pub struct Scale {
    /// The value at the start.
    pub from: f64,
    /// The value at the end.
    pub to: f64,
    /// Where the start is in the picture.
    pub start: f64,
    /// Where the end is in the picture.
    pub end: f64,
}

impl Scale {
    /// A map of a range onto a stretch, both from the start to the end.
    pub fn new(range: (f64, f64), stretch: (f64, f64)) -> Self {
        Self { from: range.0, to: range.1, start: stretch.0, end: stretch.1 }
    }

    /// Where a value is in the picture.
    pub fn at(&self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }
}

/// A scale with its ticks.
pub struct Axis {
    /// Where values are.
    pub scale: Scale,
    /// Round values along it.
    pub ticks: Ticks,
}

impl Axis {
    /// Ticks with the place of each in the picture and its label.
    pub fn places(&self) -> impl Iterator<Item = (f64, &str)> {
        self.ticks.all().map(|(value, label)| (self.scale.at(value), label))
    }
}

/// Where a chart is drawn within its picture.
pub struct Frame {
    /// Left end of the x axis.
    pub left: f64,
    /// Right end of the x axis.
    pub right: f64,
    /// Top of what is drawn.
    pub top: f64,
    /// Height of the x axis.
    pub bottom: f64,
    /// Width of the picture.
    pub width: f64,
}

impl Frame {
    /// Room below the x axis for its labels and its name.
    pub fn room_below(name: &str) -> f64 {
        if name.is_empty() { 26.0 } else { 44.0 }
    }

    /// Adds light lines across at the ticks of a vertical axis.
    pub fn rows(&self, svg: &mut Svg, axis: &Axis) {
        let line = |(at, _)| format!("M{} {}H{}", px(self.left), px(at), px(self.right));
        svg.path("grid", &axis.places().map(line).collect::<String>());
    }

    /// Adds light lines downwards at the ticks of a horizontal axis.
    pub fn columns(&self, svg: &mut Svg, axis: &Axis) {
        let line = |(at, _)| format!("M{} {}V{}", px(at), px(self.top), px(self.bottom));
        svg.path("grid", &axis.places().map(line).collect::<String>());
    }

    /// The path of the x axis, without ticks.
    pub fn base_line(&self) -> String {
        format!("M{} {}H{}", px(self.left), px(self.bottom), px(self.right))
    }

    /// Adds the name of the x axis below its middle.
    pub fn name_x(&self, svg: &mut Svg, name: &str) {
        let middle = (self.left + self.right) / 2.0;
        svg.text((middle, self.bottom + 37.0), "small c", name, SMALL, self.width);
    }
}

/// The least and the greatest of those values that can be drawn, or bounds around the one there is.
pub fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
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
pub fn roomy((low, high): (f64, f64)) -> (f64, f64) {
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
pub struct Ticks {
    /// Where they are.
    pub values: Vec<f64>,
    /// Their numbers.
    pub labels: Vec<String>,
    /// Decimals of the labels, and the power of ten that they leave out.
    decimals: usize,
    power: Option<i32>,
}

impl Ticks {
    /// About `count` of them within a range.
    pub fn new((low, high): (f64, f64), count: f64) -> Self {
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

    /// The ticks with their labels.
    pub fn all(&self) -> impl Iterator<Item = (f64, &str)> {
        self.values.iter().zip(&self.labels).map(|(value, label)| (*value, label.as_str()))
    }

    /// Width of the widest label.
    pub fn widest(&self) -> f64 {
        widest(self.labels.iter().map(String::as_str), SMALL, f64::INFINITY)
    }

    /// The number as on the axis, with `more` decimals.
    pub fn number(&self, value: f64, more: usize) -> String {
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
pub fn plain(value: f64) -> String {
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
    use super::*;

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
        assert_eq!(
            ["−1,234,567.9", "0.0", "1234.0"],
            [-1234567.89, -0.01, 1234.0].map(|v| fixed(v, 1))[..]
        );
        assert_eq!(
            ["0.9123", "300", "0", "1.5e-9"],
            [0.91234, 300.0, 0.0, 1.5e-9].map(|v| plain(v).replace("1.500", "1.5"))[..]
        );
    }
}
