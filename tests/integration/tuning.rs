//! What was measured on an adapter is kept, used again, and never trusted blindly.

use crisp::gpu::{Abilities, AdapterDescription, Device};
use crisp::graph::Session;
use crisp::kernels::attention::{AttentionClass, Division};
use crisp::kernels::matmul::{Products, Transposition, Variant};
use crisp::kernels::tune::{Choice, ProductClass, Tuning};
use crisp::kernels::{Element, Heads, Size, Sizes, Symbol};
use crisp::measure::{load_tuning, save_tuning, tune, tune_attention};

fn session() -> Session {
    Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")))
}

const SIZES: [u64; 3] = [20, 36, 12];

fn choice() -> Choice {
    Choice { variant: Variant::Tiled, gflops: 1.5 }
}

#[test]
fn the_tuner_finds_a_variant_that_works_and_tries_them_all() {
    let mut session = session();
    let one = [Transposition::Nn, Transposition::Nt, Transposition::Tn].map(Products::One);
    for products in one.into_iter().chain([Products::Gradients]) {
        for target in [Abilities::CPU, Abilities::GPU] {
            if products == Products::Gradients && target == Abilities::CPU {
                continue; // They are computed one by one there.
            }
            session.tuning = target.into();
            let class = ProductClass { products, sizes: SIZES, factors: Element::F32 };
            let mut tried = Vec::new();
            let before = session.device.allocated_bytes();
            let choice = tune(&mut session, class, |variant, seconds| {
                assert!(seconds.as_ref().is_ok_and(|seconds| *seconds > 0.0), "{variant}");
                tried.push(variant);
            })
            .unwrap();
            let candidates = Variant::candidates(target, class.into());
            assert_eq!(tried, candidates);
            assert!(tried.contains(&choice.variant) && choice.gflops > 0.0, "{choice:?}");
            assert_eq!(session.device.allocated_bytes(), before, "memory is given back");
        }
    }
}

/// Every candidate is held against float64, forward and backward, before it is measured.
#[test]
fn the_tuner_tries_every_division_of_attention() {
    let mut session = session();
    for (target, dim, backward) in [
        (Abilities::GPU, 64, false),
        (Abilities::GPU, 64, true),
        (Abilities::GPU, 128, false),
        (Abilities::PLAIN_GPU, 64, true),
    ] {
        let heads = Heads { count: 2, dim };
        let class = AttentionClass { backward, heads, block: 16, longest: 32 };
        session.tuning = target.into();
        let mut tried = Vec::new();
        let before = (session.tuning.clone(), session.device.allocated_bytes());
        let choice = tune_attention(&mut session, class, 3, |division, seconds| {
            assert!(seconds.as_ref().is_ok_and(|seconds| *seconds > 0.0), "{class} {division}");
            tried.push(division);
        });
        let choice = choice.unwrap().expect("a choice");
        assert_eq!(tried, class.candidates(target));
        assert!(tried.contains(&choice.variant) && choice.gflops > 0.0, "{choice:?}");
        assert_eq!((session.tuning.clone(), session.device.allocated_bytes()), before);
        session.tuning = Abilities::CPU.into();
        assert!(tune_attention(&mut session, class, 3, |_, _| ()).unwrap().is_none());
    }
}

#[test]
fn a_division_counts_for_its_class_and_only_where_it_can() {
    let heads = Heads { count: 12, dim: 64 };
    let class = AttentionClass { backward: true, heads, block: 16, longest: 64 };
    let default = class.default_for(Abilities::GPU);
    let other = class.candidates(Abilities::GPU).into_iter().find(|it| *it != default).unwrap();
    let mut tuning = Tuning::from(Abilities::GPU);
    tuning.attention.insert(class.to_string(), Choice { variant: other, gflops: 1.0 });
    let largest = |longest| Sizes { longest, ..Sizes::default() };
    let taken = |tuning: &Tuning, longest, backward| {
        tuning.division(AttentionClass::of(backward, heads, 16, &largest(longest)))
    };
    assert_eq!([33, 64].map(|longest| taken(&tuning, longest, true)), [other; 2]);
    assert_eq!([32, 65].map(|longest| taken(&tuning, longest, true)), [default; 2]);
    assert_ne!(taken(&tuning, 64, false), other);
    for (lanes, rows, tile) in [(0, 2, 4), (8, 0, 4), (8, 2, 0), (8, 4, 4), (16, 2, 4), (8, 2, 5)] {
        let variant = Division { lanes, rows, tile };
        tuning.attention.insert(class.to_string(), Choice { variant, gflops: 1e6 });
        assert_eq!(taken(&tuning, 64, true), default, "{variant}");
    }
}

#[test]
fn choices_are_kept_by_adapter_and_a_damaged_store_is_as_good_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new").join("tuning.json");
    let adapter = session().device.adapter;
    let other = AdapterDescription { driver_version: "another".into(), ..adapter.clone() };
    let mut tuning = load_tuning(&path, &adapter);
    assert!(tuning.chosen.is_empty());
    let class = ProductClass {
        products: Products::Gradients,
        sizes: [512, 768, 768],
        factors: Element::F32,
    };
    tuning.chosen.insert(class.to_string(), choice());
    let heads = Heads { count: 12, dim: 64 };
    let class = AttentionClass { backward: false, heads, block: 16, longest: 64 };
    let variant = Division { lanes: 8, rows: 2, tile: 8 };
    tuning.attention.insert(class.to_string(), Choice { variant, gflops: 2.5 });
    save_tuning(&tuning, &path, &adapter).unwrap();
    let nothing = load_tuning(&path, &other);
    assert!(nothing.chosen.is_empty());
    save_tuning(&nothing, &path, &other).unwrap();
    assert_eq!(load_tuning(&path, &adapter), tuning);
    for damage in ["", "{", "[1]", r#"{"adapters": 3}"#] {
        std::fs::write(&path, damage).unwrap();
        assert!(load_tuning(&path, &adapter).chosen.is_empty(), "{damage}");
    }
}

/// A store that somebody edited, or a run that began on another kind of adapter, may name any
/// variant.
#[test]
fn a_variant_that_is_no_candidate_is_not_taken() {
    let sizes = [8u32, 8, 8].map(Size::from);
    let products = Products::One(Transposition::Nn);
    let class = ProductClass { products, sizes: [8, 8, 8], factors: Element::F32 };
    for (target, variant) in [
        (Abilities::CPU, Variant::Blocked { tile: [64, 64], thread: [4, 4], slices: 1 }),
        (Abilities::CPU, Variant::Streaming { rows: 0, quads: 3, by_rows: false }),
        (Abilities::GPU, Variant::Streaming { rows: 16, quads: 2, by_rows: false }),
        (Abilities::GPU, Variant::Blocked { tile: [64, 64], thread: [0, 4], slices: 1 }),
    ] {
        let mut tuning = Tuning::from(target);
        tuning.chosen.insert(class.to_string(), Choice { variant, gflops: 1e6 });
        let taken = tuning.products((products, sizes).into(), &Sizes::default());
        assert_eq!(taken, tuning.default((products, sizes).into(), &Sizes::default()));
    }
}

/// What compilers say of an adapter's registers decides where nothing was measured.
#[test]
fn apple_cores_have_room_for_small_workgroups() {
    let adapter = session().device.adapter;
    let named = |name: &str| {
        let name = name.into();
        let adapter = AdapterDescription { name, software: false, ..adapter.clone() };
        let sizes = [576u32, 3072, 768].map(Size::from);
        let products = [Products::One(Transposition::Nt), Products::Gradients];
        products.map(|products| {
            let asked = (products, sizes).into();
            let default = Tuning::from(&adapter).default(asked, &Sizes::default());
            let candidates = Variant::candidates(Abilities::GPU, asked);
            assert!(candidates.contains(&default), "{default}");
            default.to_string()
        })
    };
    let of = |slices: u32| [0; 2].map(|_| format!("matmul_blocked 64x64/8x8 in {slices} slices"));
    assert_eq!(named("Apple M2"), of(2));
    assert_eq!(named("NVIDIA GeForce RTX 4090"), of(4));
}

#[test]
fn a_choice_counts_for_batches_of_its_class_only() {
    let mut tuning = Tuning::from(Abilities::CPU);
    let products = Products::One(Transposition::Nt);
    let class = ProductClass { products, sizes: [512, 768, 3072], factors: Element::F32 };
    tuning.chosen.insert(class.to_string(), choice());
    let sizes = [Symbol::Tokens.into(), Size::from(768u32), Size::from(3072u32)];
    let variant = |tokens| {
        let largest = Sizes { tokens, ..Sizes::default() };
        tuning.products((products, sizes).into(), &largest)
    };
    assert_eq!(variant(257), Variant::Tiled);
    assert_eq!(variant(512), Variant::Tiled);
    assert_ne!(variant(256), Variant::Tiled);
    assert_ne!(variant(513), Variant::Tiled);
}

/// What an older version has recorded is read, and no candidate any more.
#[test]
fn a_choice_of_an_older_version_is_the_default() {
    let old = r#"{"variant":{"blocked":{"tile":[64,64],"thread":[4,4],"split":2}},"gflops":1.0}"#;
    let choice: Choice = serde_json::from_str(old).unwrap();
    let sizes = [8u32, 8, 8].map(Size::from);
    let products = Products::One(Transposition::Nn);
    assert!(
        !Variant::candidates(Abilities::GPU, (products, sizes).into()).contains(&choice.variant)
    );
}

/// Without AVX-512 there are 16 registers for vectors, which another order of the products suits.
#[test]
fn the_default_of_a_software_adapter_follows_the_registers_of_its_processor() {
    let adapter = session().device.adapter;
    let mesa = |version: &str| AdapterDescription {
        software: true,
        driver_version: format!("Mesa {version} (LLVM 15.0.6)"),
        ..adapter.clone()
    };
    let default = |version, avx512| Tuning::of(&mesa(version), avx512).streaming;
    let three = |by_rows| Variant::Streaming { rows: 16, quads: 3, by_rows };
    assert_eq!(default("22.3.6", true), three(false));
    assert_eq!(default("22.3.6", false), three(true));
    assert_eq!(default("25.0.7", true), Variant::STREAMING);
    assert_eq!(default("25.0.7", false), Variant::STREAMING);
    assert_eq!(three(true).to_string(), "matmul_streaming 16x3 by rows");
}
