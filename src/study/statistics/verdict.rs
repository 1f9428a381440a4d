//! A difference in accuracy in words.

use super::summary::Interval;

/// The gain in accuracy that the paper reports for sparse attention, in percentage points.
pub const PAPER_GAIN_POINTS: f64 = 0.97;

/// What a difference in accuracy says, in two or three sentences, with the numbers it rests on.
///
/// `difference_points` and the 95 % interval are percentage points of accuracy, other minus dense;
/// the interval is [`super::PairedDifference::over_both`], or
/// [`super::PairedDifference::over_examples`] for one seed. The ends are rounded outwards to
/// hundredths first, and the verdict is that of the rounded interval, so that the words never say
/// more than the numbers beside them:
///
/// - it excludes 0: better, or worse;
/// - it includes 0 and lies between −1 and +1: a difference of 1 point or more is excluded;
/// - it includes 0 and reaches −1 or +1: no difference was shown, and which of a gain and a loss of
///   1 point cannot be excluded.
///
/// Then where [`PAPER_GAIN_POINTS`] lies, and for one seed what that leaves open. An interval that
/// is not two finite numbers in order counts as none.
pub fn verdict(
    name: &str,
    difference_points: f64,
    interval_points: Option<Interval>,
    seeds: usize,
    examples: usize,
) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let counts = format!("{seeds} seed{}, {examples} example{}", plural(seeds), plural(examples));
    if seeds == 0 || examples == 0 || !difference_points.is_finite() {
        return format!("{name}: nothing to compare with dense attention was measured ({counts}).");
    }
    let difference = signed(hundredths(difference_points, f64::round));
    let one_seed = "One seed does not tell how far seeds differ.";

    let usable = interval_points.filter(|interval| {
        interval.low <= interval.high && interval.low.is_finite() && interval.high.is_finite()
    });
    let Some(interval) = usable else {
        let mut text = format!(
            "{name}: {difference} points against dense attention ({counts}); without an interval \
             this neither shows nor excludes a difference."
        );
        if seeds == 1 {
            text = format!("{text} {one_seed}");
        }
        return text;
    };

    // A value that is a hundredth but for its last bits stays that hundredth.
    let low = hundredths(interval.low, |value| (value + 1e-6).floor());
    let high = hundredths(interval.high, |value| (value - 1e-6).ceil());
    let finding = finding(low, high);
    let paper = place_of_paper(low, high);
    let mut text = format!(
        "{name}{finding} ({difference} points, 95 % interval {} to {}, {counts}). The paper's gain \
         of {} points lies {paper} this interval.",
        signed(low),
        signed(high),
        signed(PAPER_GAIN_POINTS),
    );
    if seeds == 1 {
        text = format!(
            "For this one pair of models, {text} {one_seed} The interval covers other examples, \
             not other seeds."
        );
    }
    text
}

/// What the interval, in points, shows or excludes: the words behind the name.
fn finding(low: f64, high: f64) -> &'static str {
    if low > 0.0 {
        " is better than dense attention"
    } else if high < 0.0 {
        " is worse than dense attention"
    } else {
        match (low <= -1.0, high >= 1.0) {
            (false, false) => {
                ": no difference from dense attention was shown, and a difference of 1 point or \
                 more is excluded"
            }
            (false, true) => {
                ": no difference from dense attention was shown, but a gain of 1 point cannot be \
                 excluded"
            }
            (true, false) => {
                ": no difference from dense attention was shown, but a loss of 1 point cannot be \
                 excluded"
            }
            (true, true) => {
                ": no difference from dense attention was shown, and neither a gain nor a loss of \
                 1 point can be excluded"
            }
        }
    }
}

/// Where the paper's gain lies in relation to the interval, in points.
fn place_of_paper(low: f64, high: f64) -> &'static str {
    if PAPER_GAIN_POINTS < low {
        "below"
    } else if PAPER_GAIN_POINTS > high {
        "above"
    } else {
        "inside"
    }
}

/// Rounds to hundredths by `round`; a 0 has no sign.
fn hundredths(value: f64, round: impl Fn(f64) -> f64) -> f64 {
    round(value * 100.0) / 100.0 + 0.0
}

/// Two decimals and a sign, which 0 has not.
fn signed(value: f64) -> String {
    if value == 0.0 { "0.00".into() } else { format!("{value:+.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(difference: f64, low: f64, high: f64, seeds: usize) -> String {
        verdict("top-k 50 %", difference, Some(Interval { low, high }), seeds, 872)
    }

    #[test]
    fn a_verdict_says_better_and_worse() {
        assert_eq!(
            said(1.2, 0.4, 2.0, 5),
            "top-k 50 % is better than dense attention (+1.20 points, 95 % interval +0.40 to \
             +2.00, 5 seeds, 872 examples). The paper's gain of +0.97 points lies inside this \
             interval."
        );
        assert_eq!(
            said(-1.2, -2.0, -0.4, 5),
            "top-k 50 % is worse than dense attention (-1.20 points, 95 % interval -2.00 to -0.40, \
             5 seeds, 872 examples). The paper's gain of +0.97 points lies above this interval."
        );
        assert_eq!(
            said(1.6, 1.2, 2.0, 10),
            "top-k 50 % is better than dense attention (+1.60 points, 95 % interval +1.20 to \
             +2.00, 10 seeds, 872 examples). The paper's gain of +0.97 points lies below this \
             interval."
        );
    }

    #[test]
    fn a_verdict_says_what_is_excluded() {
        assert_eq!(
            said(-0.1, -0.6, 0.4, 5),
            "top-k 50 %: no difference from dense attention was shown, and a difference of 1 point \
             or more is excluded (-0.10 points, 95 % interval -0.60 to +0.40, 5 seeds, 872 \
             examples). The paper's gain of +0.97 points lies above this interval."
        );
        assert_eq!(
            said(0.001, -0.99, 0.97, 5),
            "top-k 50 %: no difference from dense attention was shown, and a difference of 1 point \
             or more is excluded (0.00 points, 95 % interval -0.99 to +0.97, 5 seeds, 872 \
             examples). The paper's gain of +0.97 points lies inside this interval."
        );
        assert_eq!(
            said(0.3, -0.7, 1.3, 3),
            "top-k 50 %: no difference from dense attention was shown, but a gain of 1 point \
             cannot be excluded (+0.30 points, 95 % interval -0.70 to +1.30, 3 seeds, 872 \
             examples). The paper's gain of +0.97 points lies inside this interval."
        );
        assert_eq!(
            said(-0.3, -1.3, 0.7, 3),
            "top-k 50 %: no difference from dense attention was shown, but a loss of 1 point \
             cannot be excluded (-0.30 points, 95 % interval -1.30 to +0.70, 3 seeds, 872 \
             examples). The paper's gain of +0.97 points lies above this interval."
        );
        assert_eq!(
            said(0.3, -2.0, 2.6, 2),
            "top-k 50 %: no difference from dense attention was shown, and neither a gain nor a \
             loss of 1 point can be excluded (+0.30 points, 95 % interval -2.00 to +2.60, 2 seeds, \
             872 examples). The paper's gain of +0.97 points lies inside this interval."
        );
    }

    #[test]
    fn a_verdict_on_one_seed_says_what_one_seed_cannot() {
        assert_eq!(
            said(1.5, 0.2, 2.8, 1),
            "For this one pair of models, top-k 50 % is better than dense attention (+1.50 points, \
             95 % interval +0.20 to +2.80, 1 seed, 872 examples). The paper's gain of +0.97 points \
             lies inside this interval. One seed does not tell how far seeds differ. The interval \
             covers other examples, not other seeds."
        );
        assert_eq!(
            verdict("window", 1.5, None, 1, 1),
            "window: +1.50 points against dense attention (1 seed, 1 example); without an interval \
             this neither shows nor excludes a difference. One seed does not tell how far seeds \
             differ."
        );
    }

    #[test]
    fn a_verdict_without_an_interval_claims_nothing() {
        let without = "window: -0.50 points against dense attention (2 seeds, 872 examples); \
                       without an interval this neither shows nor excludes a difference.";
        for (low, high) in [(f64::NAN, 1.0), (f64::NEG_INFINITY, 1.0), (1.0, -1.0)] {
            assert_eq!(verdict("window", -0.5, Some(Interval { low, high }), 2, 872), without);
        }
        assert_eq!(verdict("window", -0.5, None, 2, 872), without);
        for (difference, seeds, examples) in [(0.1, 0, 872), (0.1, 2, 0), (f64::NAN, 2, 872)] {
            assert_eq!(
                verdict(
                    "window",
                    difference,
                    Some(Interval { low: 0.0, high: 1.0 }),
                    seeds,
                    examples
                ),
                format!(
                    "window: nothing to compare with dense attention was measured ({seeds} seeds, \
                     {examples} examples)."
                )
            );
        }
    }

    /// The words follow the numbers as printed: an end that prints as 0.00 or 1.00 is 0 or 1.
    #[test]
    fn a_verdict_rounds_its_interval_outwards() {
        let text = said(0.5, 0.004, 0.991, 5);
        assert!(text.contains("but a gain of 1 point cannot be excluded"), "{text}");
        assert!(text.contains("interval 0.00 to +1.00,"), "{text}");
        let text = said(-0.5, -0.981, -0.004, 5);
        assert!(text.contains("and a difference of 1 point or more is excluded"), "{text}");
        assert!(text.contains("interval -0.99 to 0.00,"), "{text}");
        // 0.29 · 100 is a little less than 29, and 0.07 · 100 a little more than 7.
        assert!(said(0.2, 0.07, 0.29, 5).contains("interval +0.07 to +0.29,"));
        assert!(said(0.3, 0.29, 0.57, 5).contains("interval +0.29 to +0.57,"));
    }
}
