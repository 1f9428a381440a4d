//! What kernels and steps may cost, and what is known to cost more.
//!
//! `known.toml` has the figures that break a budget today. A figure that is not there, or another
//! one, is an error, and so is one that breaks no budget any more: it may only get better, and is
//! then written down. `make cards ARGS=--record` writes the file.

use super::drivers::{Card, FETCHED, INSTALLED, Statistics};
use super::kernels::{MODELS, Model};
use super::steps::Recorded;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Registers that were put elsewhere for want of room.
    Spills,
    /// Bytes of memory that stand in for registers.
    Memory,
    /// Waves or warps that there is room for.
    Occupancy,
    /// Dispatches of a step.
    Dispatches,
    /// Barriers of a step.
    Barriers,
}

impl Figure {
    const ALL: [Self; 5] =
        [Self::Spills, Self::Memory, Self::Occupancy, Self::Dispatches, Self::Barriers];

    pub fn name(self) -> &'static str {
        match self {
            Self::Spills => "spills",
            Self::Memory => "memory",
            Self::Occupancy => "occupancy",
            Self::Dispatches => "dispatches",
            Self::Barriers => "barriers",
        }
    }

    /// The worse of two values.
    fn worse(self, a: u64, b: u64) -> u64 {
        if self == Self::Occupancy { a.min(b) } else { a.max(b) }
    }
}

/// A figure of the kernels of some families, or of a step, on some cards, and its limit.
pub struct Budget {
    pub figure: Figure,
    /// What the names of the kernels begin with.
    pub kernels: &'static str,
    /// Components of a head.
    pub head_dims: &'static [u32],
    /// Cards by name, whichever driver compiles for them; all where there is none.
    pub cards: &'static [&'static str],
    pub limit: u64,
}

const ALL: &[&str] = &[];
const WITHOUT_SMALL_FILES: &[&str] = &[
    "navi21", "navi31", "gfx1100", "gfx1201", "vega10", "vega20", "tu104", "ga102", "ad102",
    "gh100", "gb202",
];

pub const KERNELS: [Budget; 6] = [
    // Nothing that belongs in a register lies elsewhere. The register files of Apple and Adreno are
    // half as large as the others, too small for heads of 128.
    Budget { figure: Figure::Spills, kernels: "", head_dims: &[32, 64], cards: ALL, limit: 0 },
    Budget { figure: Figure::Memory, kernels: "", head_dims: &[32, 64], cards: ALL, limit: 0 },
    Budget {
        figure: Figure::Spills,
        kernels: "",
        head_dims: &[128],
        cards: WITHOUT_SMALL_FILES,
        limit: 0,
    },
    Budget {
        figure: Figure::Memory,
        kernels: "",
        head_dims: &[128],
        cards: WITHOUT_SMALL_FILES,
        limit: 0,
    },
    // Attention at half of a SIMD's 16 waves on RDNA3, and 16 warps of a multiprocessor on Ampere
    // and Ada: enough to work while others wait for memory.
    Budget {
        figure: Figure::Occupancy,
        kernels: "attention_",
        head_dims: &[32, 64],
        cards: &["navi31", "gfx1100"],
        limit: 8,
    },
    Budget {
        figure: Figure::Occupancy,
        kernels: "attention_",
        head_dims: &[32, 64],
        cards: &["ga102", "ad102"],
        limit: 16,
    },
];

/// What a step of DistilBERT-base on SST-2 may record.
pub const STEPS: [(&str, Figure, u64); 3] = [
    ("training", Figure::Dispatches, 110),
    ("training", Figure::Barriers, 110),
    ("evaluation", Figure::Dispatches, 40),
];

impl Budget {
    /// Whether a value of the figure is within the budget.
    pub fn holds(&self, value: u64) -> bool {
        self.figure.worse(value, self.limit) == self.limit
    }

    fn is_for(&self, head_dim: u32, kernel: &str, card: &Card) -> bool {
        self.head_dims.contains(&head_dim)
            && kernel.starts_with(self.kernels)
            && (self.cards.is_empty() || self.cards.contains(&card.name))
    }
}

/// Where a figure was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub model: String,
    /// A kernel, or a phase of a step.
    pub subject: String,
    pub figure: Figure,
    /// The card; for a step `plan`.
    pub card: String,
}

/// What the figures of steps stand under instead of a card.
pub const PLAN: &str = "plan";

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, subject, figure, card } = self;
        write!(f, "{model}, {subject} on {card}: {}", figure.name())
    }
}

/// Figures that break a budget, by where, and what was looked at.
#[derive(Default)]
pub struct Findings {
    /// The figures.
    pub broken: BTreeMap<Place, u64>,
    /// The cards whose figures were looked at.
    pub cards: BTreeSet<String>,
}

impl Findings {
    /// Looks at what a card's compiler made of a text of a kernel. Of several texts the worst
    /// stands for the kernel.
    pub fn kernel(&mut self, model: &Model, kernel: &str, card: &Card, statistics: &Statistics) {
        self.cards.insert(card.to_string());
        for budget in KERNELS.iter().filter(|budget| budget.is_for(model.head_dim, kernel, card)) {
            let value = match budget.figure {
                Figure::Spills => statistics.spills,
                Figure::Memory => statistics.memory,
                Figure::Occupancy => statistics.occupancy,
                Figure::Dispatches | Figure::Barriers => panic!("a figure of steps"),
            };
            if !budget.holds(value) {
                self.add(model.name, kernel, budget.figure, &card.to_string(), value);
            }
        }
    }

    /// Looks at a step of DistilBERT-base under a policy.
    pub fn step(&mut self, policy: &str, phase: &str, recorded: &Recorded) {
        self.cards.insert(PLAN.into());
        for (budgeted, figure, limit) in STEPS {
            let value = match figure {
                Figure::Dispatches => recorded.dispatches as u64,
                _ => recorded.barriers as u64,
            };
            if policy == "dense" && phase == budgeted && value > limit {
                self.add(MODELS[0].name, phase, figure, PLAN, value);
            }
        }
    }

    fn add(&mut self, model: &str, subject: &str, figure: Figure, card: &str, value: u64) {
        let place =
            Place { model: model.into(), subject: subject.into(), figure, card: card.into() };
        let worst = self.broken.entry(place).or_insert(value);
        *worst = figure.worse(*worst, value);
    }

    /// What is otherwise than known: where, and what to say of it.
    pub fn news<'a>(&'a self, known: &'a Known) -> Vec<(&'a Place, String)> {
        let places: BTreeSet<&Place> = self.broken.keys().chain(known.0.keys()).collect();
        let looked_at = places.into_iter().filter(|place| self.cards.contains(&place.card));
        let news = |place: &Place| match (known.0.get(place), self.broken.get(place)) {
            (Some(before), Some(now)) if before == now => None,
            (Some(before), Some(now)) if place.figure.worse(*before, *now) == *now => {
                Some(format!("{place} {now} is worse than the {before} that are known"))
            }
            (Some(before), Some(now)) => {
                Some(format!("{place} {now} is better than the {before} in known.toml: tighten it"))
            }
            (None, Some(now)) => Some(format!("{place} {now} breaks a budget")),
            (Some(_), None) => Some(format!("{place} holds now: its entry in known.toml can go")),
            (None, None) => None,
        };
        looked_at.filter_map(|place| Some((place, news(place)?))).collect()
    }
}

/// The figures that are known to break a budget.
pub struct Known(pub BTreeMap<Place, u64>);

/// By model, kernel or phase, figure and card.
pub type Tables = BTreeMap<String, BTreeMap<String, BTreeMap<String, BTreeMap<String, u64>>>>;

impl Known {
    /// The committed file.
    pub fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cards/known.toml")
    }

    /// What the committed file says.
    ///
    /// # Errors
    /// It cannot be read, or names a figure or card that there is not.
    pub fn load() -> Result<Self, String> {
        let path = Self::path();
        let says = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
        let text = fs::read_to_string(&path).map_err(|why| says(&why))?;
        let tables: Tables = toml::from_str(&text).map_err(|why| says(&why))?;
        let cards: Vec<String> = FETCHED.iter().chain(&INSTALLED).map(Card::to_string).collect();
        let mut known = BTreeMap::new();
        for (model, subjects) in tables {
            for (subject, figures) in subjects {
                for (name, values) in figures {
                    let figure = Figure::ALL.into_iter().find(|figure| figure.name() == name);
                    let figure = figure.ok_or_else(|| says(&format!("no figure {name}")))?;
                    for (card, value) in values {
                        if card != PLAN && !cards.contains(&card) {
                            return Err(says(&format!("no card {card}")));
                        }
                        let (model, subject) = (model.clone(), subject.clone());
                        known.insert(Place { model, subject, figure, card }, value);
                    }
                }
            }
        }
        Ok(Self(known))
    }
}
