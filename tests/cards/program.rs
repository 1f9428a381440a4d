//! What the compilers of graphics cards make of the kernels, on a machine without a card.
//!
//! ```text
//! cards page [--record | --check]   docs/cards.md; fails where a budget is broken
//! cards statistics DIR LANES        what the first Vulkan device makes of SPIR-V in a directory
//! cards products                    whether it computes products as it should
//! ```
//!
//! `page` (`make cards`) starts itself as `statistics` under the driver of each card, and as
//! `products` under one that computes.

mod budgets;
mod client;
mod computed;
mod drivers;
mod kernels;
mod page;
mod record;
mod steps;

use budgets::{Findings, Known};
use crisp::parallel;
use drivers::{Card, FETCHED, INSTALLED, Suite};
use kernels::Catalogue;
use page::Measured;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use steps::Steps;

/// What becomes of the page and of known figures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The page is written; figures must be known.
    Write,
    /// Both are written, and the packages that they were made with.
    Record,
    /// Nothing is written, and all must be as it is.
    Check,
}

const USAGE: &str =
    "cards page [--record | --check], cards statistics DIR LANES, or cards products";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["statistics", directory, lanes] => match lanes.parse() {
            Ok(lanes) => client::print_statistics(Path::new(directory), lanes),
            Err(why) => Err(format!("{lanes}: {why}")),
        },
        ["products"] => computed::print_products(),
        ["page"] => page(Mode::Write),
        ["page", "--record"] => page(Mode::Record),
        ["page", "--check"] => page(Mode::Check),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cards: {why}");
            ExitCode::FAILURE
        }
    }
}

fn page(mode: Mode) -> Result<(), String> {
    let (versions, news) = (script("versions")?, script("news")?);
    // Other packages than those that are known may make something else of the same kernels.
    let is_other = |suite: &str| {
        news.lines()
            .any(|line| mode != Mode::Record && line.starts_with(&format!("cards: {suite} ")))
    };
    let is_there = |suite: Suite| match suite {
        Suite::Installed => mode == Mode::Record && drivers::installed_radv().is_some(),
        _ => versions.lines().any(|line| line.starts_with(suite.name())),
    };
    let cards: Vec<Card> =
        FETCHED.into_iter().chain(INSTALLED).filter(|card| is_there(card.suite)).collect();
    if is_there(Suite::Sid) {
        match computed::products(&this_program()?) {
            Ok(found) => eprintln!("cards: {found}"),
            Err(why) if is_other("sid") => eprintln!("cards: {why} (no error)"),
            Err(why) => return Err(why),
        }
    }
    let catalogue = Catalogue::new();
    let measured = measure(&catalogue, &cards, is_other)?;
    let steps = steps::steps();
    let found = find(&catalogue, &measured, &steps);
    if mode == Mode::Record {
        record::record(Known::load()?, &found, &versions)?;
    }
    let mut errors = 0;
    for (place, line) in found.news(&Known::load()?) {
        if is_other(place.card.split('/').next().unwrap_or_default()) {
            eprintln!("cards: {line} (by other packages than known: no error)");
        } else {
            eprintln!("cards: {line}");
            errors += 1;
        }
    }
    let fetched = |(card, _): &(Card, _)| card.suite != Suite::Installed;
    let measured: Measured = measured.into_iter().filter(fetched).collect();
    if measured.len() < FETCHED.len() {
        eprintln!("cards: docs/cards.md is left as it is, because not every driver answers");
    } else {
        let found = find(&catalogue, &measured, &steps);
        let text = page::page(&catalogue, &measured, &steps, &found, &versions);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cards.md");
        if mode != Mode::Check {
            fs::write(&path, text).map_err(|why| format!("{}: {why}", path.display()))?;
        } else if news.is_empty() && fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            return Err("docs/cards.md is not what these kernels come to: run `make cards`".into());
        }
    }
    match errors {
        0 => Ok(()),
        _ => Err(format!("{errors} figures are not as tests/cards/known.toml has them")),
    }
}

/// What each card makes of every module. A driver that is not known may fail.
fn measure(
    catalogue: &Catalogue,
    cards: &[Card],
    is_other: impl Fn(&str) -> bool,
) -> Result<Measured, String> {
    let modules = &catalogue.modules;
    let directory = drivers::laid_out(modules)?;
    let program = this_program()?;
    let compile =
        |card: &Card| Ok::<_, Infallible>(card.compile(&program, directory.path(), modules));
    let Ok(answers) = parallel::map(cards, compile);
    let mut measured = Measured::new();
    for (card, answers) in cards.iter().zip(answers) {
        match answers {
            Ok(answers) if answers.are_known(card) => measured.push((*card, answers.statistics)),
            Ok(answers) => eprintln!("cards: {card}: {} is not known", answers.driver),
            Err(why) if is_other(card.suite.name()) => eprintln!("cards: {why} (no error)"),
            Err(why) => return Err(why),
        }
    }
    Ok(measured)
}

/// What breaks a budget.
fn find(catalogue: &Catalogue, measured: &Measured, steps: &Steps) -> Findings {
    let mut found = Findings::default();
    for (model, kernels) in &catalogue.models {
        for kernel in kernels {
            for (card, statistics) in measured {
                if let Some(statistics) = &statistics[kernel.module] {
                    found.kernel(model, kernel.name, card, statistics);
                }
            }
        }
    }
    for (policy, phase, recorded) in steps {
        found.step(policy, phase, recorded);
    }
    found
}

fn this_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|why| format!("this program: {why}"))
}

/// What `scripts/cards.sh` says.
fn script(command: &str) -> Result<String, String> {
    let output = drivers::script().arg(command).output().map_err(|why| format!("bash: {why}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into())
}
