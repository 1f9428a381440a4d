//! Lines over a common x, with their spread.

use super::axis::{
    Axis, Frame, LINE, LISTED, Scale, Ticks, colour, drawable, extent, mark, plain, roomy,
};
use super::svg::{PLAIN, Path, SMALL, Svg, or, px, widest, width_of};
use std::fmt::Write;

/// Points of a line are thinned out to the least and the greatest of this many stretches: more than
/// the screen has columns for them cannot be seen, and would make the file large.
const STRETCHES: usize = 160;

/// Dash patterns in `figure.css`, the first of them solid.
const DASHES: usize = 5;
/// Lowest picture of what is between the axes.
const LOWEST: f64 = 120.0;
/// Width of a line's sample in the legend, with the room before its name.
const SAMPLE: f64 = 36.0;

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

/// A line with a name and a point to write it beside.
struct Named<'a> {
    index: usize,
    name: &'a str,
    /// The last point that can be drawn.
    end: (f64, f64),
}

/// Both axes.
struct Axes {
    x: Axis,
    y: Axis,
}

impl Axes {
    fn at(&self, point: (f64, f64)) -> (f64, f64) {
        (self.x.scale.at(point.0), self.y.scale.at(point.1))
    }
}

impl LineChart {
    /// The chart, as wide as a page.
    pub fn svg(&self) -> String {
        self.draw(720.0, 350.0)
    }

    /// The chart at about half that width, for [`crate::report::page::Page::figures`].
    pub fn small_svg(&self) -> String {
        self.draw(400.0, 260.0)
    }

    fn draw(&self, width: f64, height: f64) -> String {
        let mut svg = Svg::default();
        let mut top = svg.heading(&self.title, 10.0, width);
        if !self.y.is_empty() {
            svg.text((0.0, top + 6.0), "small", &self.y, SMALL, width);
            top += 18.0;
        }
        let Some((across, up)) = self.ranges() else {
            return svg.no_data(&self.title, top, width);
        };
        let below = Frame::room_below(&self.x);
        let names = self.names();
        let texts = names.iter().map(|named| named.name);
        let name_width = widest(texts, PLAIN, (width * 0.28).min(170.0));
        let places = places_at_ends(&names, across, &Scale::new(up, (height - below, top)));
        let right = match &places {
            _ if names.is_empty() => width - 10.0,
            Some(_) => width - name_width - 22.0,
            None => {
                let rows = legend(&mut svg, &names, top + 4.0, width);
                top += rows as f64 * LINE + 10.0;
                width - 10.0
            }
        };
        // A legend of many rows must not push the chart out of its own picture.
        let bottom = (height - below).max(top + LOWEST);
        let ticks = Ticks::new(up, (bottom - top) / 36.0);
        let left = ticks.widest() + 10.0;
        let y = Axis { scale: Scale::new(up, (bottom, top)), ticks };
        let ticks = Ticks::new(across, (right - left) / 80.0);
        let x = Axis { scale: Scale::new(across, (left, right)), ticks };
        let axes = Axes { x, y };
        let frame = Frame { left, right, top, bottom, width };
        axes.draw(&mut svg, &frame);
        frame.name_x(&mut svg, &self.x);
        self.draw_series(&mut svg, &axes);
        for (named, place) in names.iter().zip(places.iter().flatten()) {
            named.draw_at_end(&mut svg, &axes, *place, right + 10.0, name_width);
        }
        svg.finish("chart", (width, bottom + below), &self.title, &self.description())
    }

    /// The ranges of x and y, with some room above and below; `None` if there is nothing to draw.
    fn ranges(&self) -> Option<((f64, f64), (f64, f64))> {
        let points = || {
            let all = self.series.iter().flat_map(|series| &series.points).copied();
            all.filter(|point| drawable(*point))
        };
        let bands = || {
            let all = self.series.iter().flat_map(|series| &series.band).copied();
            all.filter(|band| drawable_band(*band))
        };
        let across = extent(points().map(|point| point.0).chain(bands().map(|band| band.0)))?;
        let heights = bands().flat_map(|band| [band.1, band.2]);
        let up = extent(points().map(|point| point.1).chain(heights))?;
        Some((across, roomy(up)))
    }

    fn names(&self) -> Vec<Named<'_>> {
        let named = |(index, series): (usize, &'_ Series)| {
            let end = series.points.iter().rev().find(|point| drawable(**point)).copied()?;
            Some((index, end))
        };
        let all = self.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty());
        all.filter_map(named)
            .map(|(index, end)| Named { index, name: &self.series[index].name, end })
            .collect()
    }

    /// Adds bands, lines and marks, those of later series above those of earlier ones.
    fn draw_series(&self, svg: &mut Svg, axes: &Axes) {
        for (index, series) in self.series.iter().enumerate() {
            let path = band_path(&series.band, axes);
            svg.path_if_any(&format!("band s{}", colour(index)), &path);
        }
        for (index, series) in self.series.iter().enumerate() {
            let path = line_path(&series.points, axes);
            svg.path_if_any(&format!("line {}", style(index)), &path);
        }
        for (index, series) in self.series.iter().enumerate() {
            let share = (index as f64 + 0.5) / self.series.len() as f64;
            let path = mark_path(&series.points, mark(index), share, axes);
            svg.path_if_any(&format!("mark s{}", colour(index)), &path);
        }
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

impl Axes {
    /// Adds light lines and numbers at the ticks of y, the x axis and its numbers.
    fn draw(&self, svg: &mut Svg, frame: &Frame) {
        frame.rows(svg, &self.y);
        for (at, label) in self.y.places() {
            svg.text((frame.left - 8.0, at + 4.2), "small e", label, SMALL, frame.left);
        }
        let mut line = frame.base_line();
        for (at, label) in self.x.places() {
            let _ = write!(line, "M{} {}v4", px(at), px(frame.bottom));
            let half = width_of(label, SMALL) / 2.0;
            let at = at.min(frame.width - half).max(half);
            svg.text((at, frame.bottom + 18.0), "small c", label, SMALL, frame.width);
        }
        svg.path("axis", &line);
    }
}

impl Named<'_> {
    /// Adds the name at its place, with a thin line to it from the end of its line.
    fn draw_at_end(&self, svg: &mut Svg, axes: &Axes, place: f64, to: f64, width: f64) {
        let colour = colour(self.index);
        let (x, y) = axes.at(self.end);
        let leader = format!("M{} {}L{} {}", px(x + 5.0), px(y), px(to), px(place));
        svg.path(&format!("leader s{colour}"), &leader);
        let class = format!("named s{colour}");
        svg.text((to + 4.0, place + 4.4), &class, self.name, PLAIN, width);
    }
}

/// Heights for the names at the ends of their lines; `None` where lines end early, names would be
/// far from them or there are too many, so that a legend is better.
fn places_at_ends(names: &[Named<'_>], across: (f64, f64), y: &Scale) -> Option<Vec<f64>> {
    let (top, bottom) = (y.end, y.start);
    let heights: Vec<f64> = names.iter().map(|named| y.at(named.end.1)).collect();
    let places = spread(&heights, (top - 4.0, bottom));
    let ends_late = across.1 - (across.1 - across.0) * 0.06;
    let direct = names.iter().all(|named| named.end.0 >= ends_late)
        && heights.iter().zip(&places).all(|(a, b)| (a - b).abs() <= 2.5 * LINE)
        && names.len() as f64 * LINE <= bottom - top;
    direct.then_some(places)
}

/// Places near the wanted ones, but a line apart and within bounds as far as possible.
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

/// Adds the names with samples of their lines, in rows from a height on; returns how many rows.
fn legend(svg: &mut Svg, names: &[Named<'_>], top: f64, width: f64) -> usize {
    let (mut x, mut row) = (0.0, 0);
    for (count, named) in names.iter().enumerate() {
        let more = count == LISTED;
        let name =
            if more { format!("and {} more", names.len() - count) } else { named.name.to_owned() };
        let room = width_of(&name, PLAIN).min(width - SAMPLE - 10.0).min(260.0);
        if x > 0.0 && x + SAMPLE + room > width {
            (x, row) = (0.0, row + 1);
        }
        let y = top + row as f64 * LINE + 4.0;
        if more {
            svg.text((x, y + 4.4), "small", &name, PLAIN, room);
            break;
        }
        svg.path(&format!("line {}", style(named.index)), &format!("M{} {}h28", px(x), px(y)));
        let sample = format!("M{} {}{}", px(x + SAMPLE / 2.0 - 4.0), px(y), mark(named.index));
        svg.path(&format!("mark s{}", colour(named.index)), &sample);
        svg.text((x + SAMPLE, y + 4.4), "", &name, PLAIN, room);
        x += SAMPLE + room + 18.0;
    }
    row + 1
}

/// The classes of a line: with marks, no two of the first sixty are alike.
fn style(index: usize) -> String {
    format!("s{} d{}", colour(index), index % DASHES + 1)
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

/// The points, or if there are too many the least and the greatest of each stretch of them. The
/// first and the last stay.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * STRETCHES {
        return points.to_vec();
    }
    let last = points.len() - 1;
    let mut chosen = vec![0];
    let stretch = points.len().div_ceil(STRETCHES);
    for first in (0..points.len()).step_by(stretch) {
        let range = || first..(first + stretch).min(points.len());
        let least = range().min_by(|a, b| points[*a].1.total_cmp(&points[*b].1)).unwrap_or(first);
        let most = range().max_by(|a, b| points[*a].1.total_cmp(&points[*b].1)).unwrap_or(first);
        chosen.extend([least.min(most), least.max(most)]);
    }
    chosen.push(last);
    chosen.dedup();
    chosen.into_iter().map(|index| points[index]).collect()
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

fn line_path(points: &[(f64, f64)], axes: &Axes) -> String {
    let mut path = Path::default();
    for run in runs(points, drawable).iter().filter(|run| run.len() > 1) {
        path.lift();
        for point in thin(run) {
            path.to(axes.at(point));
        }
    }
    path.data
}

fn band_path(band: &[(f64, f64, f64)], axes: &Axes) -> String {
    let mut path = Path::default();
    for run in runs(band, drawable_band).iter().filter(|run| run.len() > 1) {
        let run = thin_band(run);
        path.lift();
        for (x, _, high) in &run {
            path.to(axes.at((*x, *high)));
        }
        for (x, low, _) in run.iter().rev() {
            path.to(axes.at((*x, *low)));
        }
        path.close();
    }
    path.data
}

/// The marks of a line: all points if they are few, otherwise some and the last. `share` of the way
/// between two marks, 0 to 1, is where they begin, so that those of different lines are apart.
fn mark_path(points: &[(f64, f64)], shape: &str, share: f64, axes: &Axes) -> String {
    let points: Vec<(f64, f64)> = points.iter().filter(|p| drawable(**p)).copied().collect();
    let Some(last) = points.last() else { return String::new() };
    let marked: Vec<(f64, f64)> = if points.len() <= 12 {
        points
    } else {
        // Not up to the end, where the last mark is.
        let share = share * 0.8;
        let some = (0..4).map(|part| (part as f64 + share) / 4.0 * (points.len() - 1) as f64);
        some.map(|place| points[place as usize]).chain([*last]).collect()
    };
    let place = |point: &(f64, f64)| {
        let (x, y) = axes.at(*point);
        format!("M{} {}{shape}", px(x), px(y))
    };
    marked.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::{NASTY, sane};
    use super::*;

    fn lines(series: Vec<Series>) -> LineChart {
        LineChart { title: "Loss".into(), x: "step".into(), y: "loss".into(), series }
    }

    fn series(name: &str, points: Vec<(f64, f64)>) -> Series {
        Series { name: name.into(), points, band: vec![] }
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

    #[test]
    fn alone_a_chart_shows_what_it_shows_in_a_page() {
        let svg = lines(vec![series("a", vec![(0.0, 1.0), (1.0, 2.0)])]).svg();
        let alone = super::super::standalone(&svg);
        assert!(alone.contains("viewBox=\"-12 -12 744 374\"") && svg.contains("0 0 720 350"));
    }
}
