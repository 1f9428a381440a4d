//! What kernels and steps cost on graphics cards, as far as this machine can say: the commands of
//! plans need no driver at all, and the RADV that comes with lavapipe compiles without a card.
//! `make cards` asks the drivers of more cards.

#[path = "../cards/budgets.rs"]
mod budgets;
#[path = "../cards/drivers.rs"]
mod drivers;
#[path = "../cards/kernels.rs"]
mod kernels;
#[path = "../cards/steps.rs"]
mod steps;

use budgets::{Figure, Findings, KERNELS, Known, PLAN, Place};
use crisp::graph::{Place as Memory, Plan, Planned, Shape};
use crisp::kernels::{Command, Count, Element, Grid, Launch, Shader, Size, Sizes, TensorId};
use drivers::{Card, INSTALLED, Statistics};
use kernels::{Catalogue, Compiled, MODELS};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use steps::{Recorded, recorded};

/// What is compiled: planning all models takes a while.
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::new);

/// `tests/cards/program.rs`, which asks a driver in a process of its own: a driver reads when it is
/// loaded which card it is to be.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("this program");
    let target = tests.ancestors().nth(2).expect("target/release");
    let program = target.join("examples/cards").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "first `cargo build --release --example cards`, as `make test` does");
    program
}

fn assert_known(found: &Findings) {
    let known = Known::load().unwrap_or_else(|why| panic!("{why}"));
    let news: Vec<String> = found.news(&known).into_iter().map(|(_, line)| line).collect();
    assert!(news.is_empty(), "{news:#?}");
}

#[test]
fn steps_record_no_more_than_is_known() {
    let mut found = Findings::default();
    for (policy, phase, recorded) in steps::steps() {
        found.step(policy, phase, &recorded);
    }
    assert_known(&found);
}

/// Every kernel, by the compiler of the installed driver.
#[test]
fn the_installed_compiler_needs_no_more_than_is_known() {
    if drivers::installed_radv().is_none() {
        // Debian has it in the package that lavapipe is in.
        let lavapipe = Path::new(drivers::MANIFESTS).join("lvp_icd.x86_64.json");
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        assert!(!(release.contains("bookworm") && lavapipe.exists()), "RADV is gone");
        eprintln!("no RADV is installed here: no kernel was compiled for a card");
        return;
    }
    let modules = &CATALOGUE.modules;
    // What cannot lie in registers, to see that it is seen.
    let text = "@group(0) @binding(0) var<uniform> at: u32;
        @group(0) @binding(1) var<storage, read_write> values: array<f32>;
        @compute @workgroup_size(64)
        fn main() {
            var own: array<f32, 200>;
            for (var i = 0u; i < 200u; i++) { own[(i * i * at) % 200u] += values[i]; }
            values[at] = own[at % 200u];
        }";
    let in_memory = [Compiled::new(&Shader::new("in_memory", text), 1, 0)];
    let [directory, apart] = [modules.as_slice(), &in_memory]
        .map(|modules| drivers::laid_out(modules).unwrap_or_else(|why| panic!("{why}")));
    let mut found = Findings::default();
    for card in &INSTALLED {
        let compile = |directory: &tempfile::TempDir, modules: &[Compiled]| {
            card.compile(&program(), directory.path(), modules)
                .unwrap_or_else(|why| panic!("{why}"))
        };
        let answers = compile(&directory, modules);
        if !answers.are_known(card) {
            eprintln!("{card}: compiled by {}, whose figures are not known", answers.driver);
            continue;
        }
        let bytes = compile(&apart, &in_memory).statistics[0].map(|it| it.memory);
        assert!(bytes >= Some(200 * 4), "{card}: {bytes:?} bytes");
        for (model, kernels) in &CATALOGUE.models {
            for kernel in kernels {
                if let Some(statistics) = &answers.statistics[kernel.module] {
                    found.kernel(model, kernel.name, card, statistics);
                }
            }
        }
    }
    assert_known(&found);
}

/// Kernels that these models take on no card: of widths that are no multiple of 4, of more than
/// 1,024 columns, of graphs that no model has, or of no model at all.
const ELSEWHERE: [&str; 13] = [
    "attention_backward_delta",
    "attention_backward_key_value_rows",
    "attention_backward_query_rows",
    "attention_forward_rows",
    "column_sum",
    "embedding_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "mask_block_topk",
    "mask_topk",
    "matmul_tiled",
    "pointwise_add",
    "probe_subgroups",
];

/// Every model's kernels with and without subgroup functions are there, masks included.
#[test]
fn the_catalogue_has_every_kernel_for_cards() {
    let catalogue = &*CATALOGUE;
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files = fs::read_dir(directory).expect("shaders/");
    let names: BTreeSet<String> = files
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == "wgsl"))
        .map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("_streaming"))
        .collect();
    for (model, kernels) in &catalogue.models {
        let have: BTreeSet<String> = kernels.iter().map(|kernel| kernel.name.to_owned()).collect();
        let other: BTreeSet<String> = names.difference(&have).cloned().collect();
        let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|name| (*name).into()).collect();
        assert_eq!((other, have.is_subset(&names)), (elsewhere, true), "{}", model.name);
        for kernel in kernels.iter().filter(|kernel| kernel.constants.contains("HEAD_DIM=")) {
            let head = format!("HEAD_DIM={}u", model.head_dim);
            assert!(kernel.constants.contains(&head), "{}: {}", kernel.name, kernel.constants);
        }
        assert!(kernels.iter().any(|kernel| kernel.with_subgroups), "{}", model.name);
    }
    for module in &catalogue.modules {
        assert!(module.storage_buffers >= 1 && module.invocations >= 1, "{}", module.name);
        let most = if module.lanes > 0 { 32 << 10 } else { 16 << 10 };
        assert!(module.workgroup_bytes <= most && module.code.len() > 5, "{}", module.name);
    }
}

/// A barrier stands where a buffer is used otherwise than before, or was written.
#[test]
fn barriers_are_counted_as_wgpu_records_them() {
    let tensor = |place| Planned {
        name: "tensor".into(),
        shape: Shape(vec![Size::from(4u32)]),
        element: Element::F32,
        place,
        within: None,
    };
    let [a, b, input] = [0, 1, 2].map(TensorId);
    let launch = || {
        let shader = Shader::new("nothing", "");
        Launch::new(shader, Vec::new(), Grid::Linear(Count::new(1u32, 1)))
    };
    let plan = |commands: Vec<Command>, outputs: Vec<TensorId>| Plan {
        tensors: vec![tensor(Memory::Slot(0)), tensor(Memory::Slot(1)), tensor(Memory::Input)],
        copies: vec![Vec::new(); commands.len()],
        commands: commands.into_iter().map(|command| ("op", command)).collect(),
        slots: vec![16; 2],
        textures: Vec::new(),
        products: BTreeSet::new(),
        attention: BTreeSet::new(),
        outputs,
        largest: Sizes::default(),
    };
    let of = |commands: Vec<Command>, outputs: Vec<TensorId>| {
        let plan = plan(commands, outputs);
        recorded(&[(&plan, Sizes::default())])
    };
    let write_a = || Command::Launch(launch().read(input).write(a));
    let read_a = || Command::Launch(launch().read(a).write(b));
    let only_read = || Command::Launch(launch().read(a).read(input));
    let empty = Command::Launch(Launch {
        grid: Grid::Plane(Count::new(0u32, 1), Count::new(1u32, 1)),
        ..launch()
    });
    // The input and the parameters are written, and then read: three barriers of every step.
    let none = of(vec![write_a()], vec![]);
    assert_eq!(none, Recorded { dispatches: 1, barriers: 3 });
    // Written and read, but nothing between two that read.
    let three = of(vec![write_a(), only_read(), only_read()], vec![]);
    assert_eq!(three, Recorded { dispatches: 3, barriers: 4 });
    // Written twice, where nobody reads between them.
    assert_eq!(of(vec![write_a(), write_a()], vec![]).barriers, 4);
    // A launch without workgroups is none.
    assert_eq!(
        of(vec![write_a(), empty, only_read()], vec![]),
        Recorded { dispatches: 2, barriers: 4 }
    );
    // A clear ends the pass, and what it cleared is read in the next.
    let cleared = vec![write_a(), Command::Clear(b), read_a(), only_read()];
    assert_eq!(of(cleared, vec![]), Recorded { dispatches: 3, barriers: 4 });
    // An output is copied.
    assert_eq!(of(vec![write_a()], vec![a]).barriers, 4);
}

/// It may not get worse, and what got better has to be written down.
#[test]
fn what_is_otherwise_than_known_is_said() {
    let card: &Card = &INSTALLED[1];
    let statistics =
        |spills| Statistics { registers: 256, spills, memory: 0, occupancy: 8, matrices: 0 };
    let found = |spills| {
        let mut found = Findings::default();
        found.kernel(&MODELS[0], "attention_forward", card, &statistics(spills));
        found.kernel(&MODELS[0], "attention_forward", card, &statistics(spills / 2));
        found
    };
    let place = Place {
        model: MODELS[0].name.into(),
        subject: "attention_forward".into(),
        figure: Figure::Spills,
        card: card.to_string(),
    };
    let elsewhere = Place { card: PLAN.into(), subject: "training".into(), ..place.clone() };
    let known = Known([(place.clone(), 40), (elsewhere, 400)].into());
    let says = |found: &Findings, known: &Known| {
        let news = found.news(known);
        assert!(news.iter().all(|(of, _)| **of == place));
        news.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(says(&found(40), &known), "");
    assert!(says(&found(41), &known).contains("spills 41 is worse than the 40"));
    assert!(says(&found(39), &known).contains("spills 39 is better than the 40"));
    assert!(says(&found(0), &known).contains("holds now"));
    let nothing = Known([].into());
    assert!(says(&found(1), &nothing).contains("spills 1 breaks a budget"));
    assert_eq!(says(&found(0), &nothing), "");
    // More waves are better.
    let waves = KERNELS.iter().find(|budget| budget.figure == Figure::Occupancy).expect("one");
    assert!(waves.holds(waves.limit) && waves.holds(waves.limit + 1));
    assert!(!waves.holds(waves.limit - 1));
}
