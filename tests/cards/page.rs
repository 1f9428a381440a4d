//! `docs/cards.md`.

use super::budgets::{Budget, Figure, Findings, KERNELS, PLAN, Place, STEPS};
use super::drivers::{Card, FETCHED, Statistics, Suite};
use super::kernels::{Catalogue, Kernel, MODELS};
use super::steps::{Recorded, Steps};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What is measured of all cards: by card, of each module that is for it.
pub type Measured = Vec<(Card, Vec<Option<Statistics>>)>;

/// The page. `versions` are the packages that drivers come from, as `scripts/cards.sh` lists them.
pub fn page(
    catalogue: &Catalogue,
    measured: &Measured,
    steps: &Steps,
    found: &Findings,
    versions: &str,
) -> String {
    let mut page = String::new();
    introduction(&mut page, versions);
    budgets(&mut page, found);
    commands(&mut page, steps);
    for (model, kernels) in &catalogue.models {
        let (name, heads) = (model.name, model.config().encoder.heads);
        let (mixed, single): (Vec<&Kernel>, Vec<&Kernel>) =
            kernels.iter().partition(|kernel| kernel.constants.contains("F16="));
        for (precision, kernels) in [("f32", single), ("what else mixed takes", mixed)] {
            let heading = format!("{name}: {heads} heads of {}, {precision}", model.head_dim);
            let _ = writeln!(page, "\n## {heading}\n");
            table(&mut page, &kernels, measured);
        }
    }
    page
}

/// What stands before all figures.
const INTRODUCTION: &str = include_str!("introduction.md");

fn introduction(page: &mut String, versions: &str) {
    let mut drivers = String::from("| from Debian's | package | version |\n|---|---|---|");
    for line in versions.lines() {
        let _ = write!(drivers, "\n| {} |", line.split(' ').collect::<Vec<_>>().join(" | "));
    }
    page.push_str(&INTRODUCTION.replace("@DRIVERS@", &drivers));
}

fn budgets(page: &mut String, found: &Findings) {
    page.push_str(
        "\n## Budgets\n\nWhat is broken today is listed in `tests/cards/known.toml`: it may get \
         no worse, and what got better has to be written down.\n\n\
         | figure | of | on | budget | today |\n|---|---|---|---|---|\n",
    );
    let any = |text: &str, otherwise: &str| {
        if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
    };
    for budget in &KERNELS {
        let heads: Vec<String> = budget.head_dims.iter().map(u32::to_string).collect();
        let kernels = match budget.kernels {
            "" => "every kernel".to_owned(),
            start => format!("`{start}…`"),
        };
        let of = format!("{kernels}, heads of {}", heads.join(" and "));
        let on = any(&budget.cards.join(", "), "all cards");
        let limit = match budget.figure {
            Figure::Occupancy => format!("at least {}", budget.limit),
            _ => budget.limit.to_string(),
        };
        let broken: BTreeSet<String> = found
            .broken
            .keys()
            .filter(|place| is_of(budget, place))
            .map(|place| format!("`{}`", place.subject))
            .collect();
        let broken: Vec<String> = broken.into_iter().collect();
        let today = any(&broken.join(", "), "holds");
        let _ = writeln!(page, "| {} | {of} | {on} | {limit} | {today} |", budget.figure.name());
    }
    for (phase, figure, limit) in STEPS {
        let place = found.broken.iter().find(|(place, _)| {
            place.card == PLAN && (place.subject.as_str(), place.figure) == (phase, figure)
        });
        let today = place.map_or("holds".into(), |(_, value)| value.to_string());
        let _ = writeln!(
            page,
            "| {} | a step of {phase} on SST-2, {} | | {limit} | {today} |",
            figure.name(),
            MODELS[0].name
        );
    }
}

/// Whether a figure is one that a budget limits.
fn is_of(budget: &Budget, place: &Place) -> bool {
    let card = place.card.rsplit('/').next().unwrap_or_default();
    let model = MODELS.iter().find(|model| model.name == place.model);
    place.figure == budget.figure
        && place.subject.starts_with(budget.kernels)
        && model.is_some_and(|model| budget.head_dims.contains(&model.head_dim))
        && (budget.cards.is_empty() || budget.cards.contains(&card))
}

fn commands(page: &mut String, steps: &Steps) {
    let _ = write!(
        page,
        "\n## Dispatches and barriers\n\nA step of {} on 32 sentences of 18 tokens, as wgpu \
         records it on Vulkan: dispatches / calls of `vkCmdPipelineBarrier`, one for each input \
         that the host writes included. In parts: one part, and the update.\n\n\
         | policy | training | in parts | evaluation |\n|---|---|---|---|\n",
        MODELS[0].name
    );
    for of_policy in steps.chunk_by(|a, b| a.0 == b.0) {
        let _ = write!(page, "| `{}` |", of_policy[0].0);
        for (_, _, Recorded { dispatches, barriers }) in of_policy {
            let _ = write!(page, " {dispatches} / {barriers} |");
        }
        page.push('\n');
    }
}

fn table(page: &mut String, kernels: &[&Kernel], measured: &Measured) {
    let heads: Vec<String> = FETCHED
        .iter()
        .map(|card| match card.suite {
            Suite::Sid => card.name.to_owned(),
            suite => format!("{} ({})", card.name, suite.name()),
        })
        .collect();
    let _ =
        writeln!(page, "| kernel | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for family in kernels.chunk_by(|a, b| a.name == b.name) {
        // Texts that all compilers make the same of share a row.
        let mut rows: BTreeMap<Vec<String>, Vec<&Kernel>> = BTreeMap::new();
        for kernel in family.iter().copied() {
            let cells = measured.iter().map(|(_, all)| cell(all[kernel.module])).collect();
            rows.entry(cells).or_default().push(kernel);
        }
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by_key(|(_, texts)| texts[0].constants.clone());
        let all: Vec<&[&Kernel]> = rows.iter().map(|(_, texts)| texts.as_slice()).collect();
        for ((cells, texts), constants) in rows.iter().zip(distinguishing(&all)) {
            let mut name = format!("`{}` {constants}", texts[0].name).trim_end().to_owned();
            if texts.iter().all(|kernel| !kernel.with_subgroups) {
                name.push_str(", without subgroup functions");
            }
            let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
        }
    }
}

fn cell(statistics: Option<Statistics>) -> String {
    let Some(Statistics { registers, spills, memory, occupancy, matrices }) = statistics else {
        return String::new();
    };
    let matrices = if matrices > 0 { format!(" · {matrices}") } else { String::new() };
    let beside = match (spills, memory) {
        (0, 0) => String::new(),
        (spills, 0) => format!(" **{spills}**"),
        (spills, memory) => format!(" **{spills}, {memory} B**"),
    };
    format!("{registers} · {occupancy}{matrices}{beside}")
}

/// Values of constants by name, of all texts of a row.
type Constants = BTreeMap<String, BTreeSet<String>>;

/// The few constants that tell each row of a kernel from the others, as `NAME=value` for each row.
fn distinguishing(rows: &[&[&Kernel]]) -> Vec<String> {
    let rows: Vec<Constants> = rows.iter().map(|texts| constants(texts)).collect();
    // How many pairs of rows some constant tells apart: by values that only one of them has, or at
    // least by other values.
    let told_apart = |names: &[&String]| {
        let pairs =
            rows.iter().enumerate().flat_map(|(at, a)| rows[at + 1..].iter().map(move |b| (a, b)));
        pairs.fold((0, 0), |(strictly, somehow), (a, b)| {
            let strict = names.iter().any(|name| match (a.get(*name), b.get(*name)) {
                (Some(a), Some(b)) => a.is_disjoint(b),
                (a, b) => a != b,
            });
            let other = names.iter().any(|name| a.get(*name) != b.get(*name));
            (strictly + usize::from(strict), somehow + usize::from(other))
        })
    };
    let all: BTreeSet<&String> = rows.iter().flat_map(BTreeMap::keys).collect();
    let mut chosen: Vec<&String> = Vec::new();
    // Each time the one that tells most apart, and of several the first, until no further does.
    loop {
        let with = |name| [chosen.as_slice(), &[name]].concat();
        match all.iter().rev().max_by_key(|name| told_apart(&with(name))) {
            Some(name) if told_apart(&with(name)) > told_apart(&chosen) => chosen.push(name),
            _ => break,
        }
    }
    let label = |row: &Constants| {
        let values = chosen.iter().map(|name| {
            let values: Vec<&str> =
                row.get(*name).into_iter().flatten().map(String::as_str).collect();
            format!("{name}={}", values.join("\\|"))
        });
        values.collect::<Vec<_>>().join(" ")
    };
    rows.iter().map(label).collect()
}

fn constants(texts: &[&Kernel]) -> Constants {
    let mut values = Constants::new();
    for kernel in texts {
        for (name, value) in kernel.constants.split(',').filter_map(|it| it.split_once('=')) {
            let value = value.strip_suffix('u').unwrap_or(value);
            values.entry(name.into()).or_default().insert(value.into());
        }
    }
    values
}
