//! What was measured on an adapter is kept, used again, and never trusted blindly.

use crisp::gpu::{AdapterDescription, Device};
use crisp::graph::{Session, tune};
use crisp::kernels::matmul::{Transposition, Variant};
use crisp::kernels::tune::{Choice, Class, Tuning};
use crisp::kernels::{Size, Sizes, Symbol, Target};

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
    for transposition in [Transposition::Nn, Transposition::Nt, Transposition::Tn] {
        for target in [Target::Cpu, Target::Gpu] {
            session.tuning = target.into();
            let class = Class { transposition, sizes: SIZES };
            let mut tried = Vec::new();
            let before = session.device.allocated_bytes();
            let choice = tune(&mut session, class, |variant, seconds| {
                assert!(seconds.as_ref().is_ok_and(|seconds| *seconds > 0.0), "{variant}");
                tried.push(variant);
            })
            .unwrap();
            let candidates = Variant::candidates(target, transposition, SIZES.map(Size::from));
            assert_eq!(tried, candidates);
            assert!(tried.contains(&choice.variant) && choice.gflops > 0.0, "{choice:?}");
            assert_eq!(session.device.allocated_bytes(), before, "memory is given back");
        }
    }
}

#[test]
fn choices_are_kept_by_adapter_and_a_damaged_store_is_as_good_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new").join("tuning.json");
    let adapter = session().device.adapter;
    let other = AdapterDescription { driver_version: "another".into(), ..adapter.clone() };
    let mut tuning = Tuning::load(&path, &adapter, Target::Gpu);
    assert!(tuning.chosen.is_empty());
    let class = Class { transposition: Transposition::Tn, sizes: [768, 768, 512] };
    tuning.chosen.insert(class.to_string(), choice());
    tuning.save(&path, &adapter).unwrap();
    let nothing = Tuning::load(&path, &other, Target::Gpu);
    assert!(nothing.chosen.is_empty());
    nothing.save(&path, &other).unwrap();
    assert_eq!(Tuning::load(&path, &adapter, Target::Gpu), tuning);
    for damage in ["", "{", "[1]", r#"{"adapters": 3}"#] {
        std::fs::write(&path, damage).unwrap();
        assert!(Tuning::load(&path, &adapter, Target::Gpu).chosen.is_empty(), "{damage}");
    }
}

#[test]
fn a_choice_counts_for_batches_of_its_class_only() {
    let mut tuning = Tuning::from(Target::Cpu);
    let class = Class { transposition: Transposition::Nt, sizes: [512, 768, 3072] };
    tuning.chosen.insert(class.to_string(), choice());
    let sizes = [Symbol::Tokens.into(), Size::from(768u32), Size::from(3072u32)];
    let variant = |tokens| {
        let largest = Sizes { tokens, ..Sizes::default() };
        tuning.matmul(Transposition::Nt, sizes, &largest)
    };
    assert_eq!(variant(257), Variant::Tiled);
    assert_eq!(variant(512), Variant::Tiled);
    assert_ne!(variant(256), Variant::Tiled);
    assert_ne!(variant(513), Variant::Tiled);
}
