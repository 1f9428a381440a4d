//! `crisp doctor`: every kernel against float64 on the adapter that is there; what is wrong is set
//! aside, and what was found is kept and handed on.

use crate::support::binary::{crisp, fails, json, run, succeeds, text};
use crisp::gpu::{Abilities, Device};
use crisp::graph::Session;
use crisp::kernels::matmul::{Products, Transposition, Variant};
use crisp::kernels::tune::Tuning;
use crisp::kernels::{Size, Sizes};
use crisp::measure::doctor::examine;
use crisp::measure::{load_tuning, save_tuning};
use std::fs;

fn session() -> Session {
    Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")))
}

#[test]
fn the_adapter_of_the_tests_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    let report = json(&succeeds(directory.path(), &["doctor", "--json"]));
    assert_eq!(report["passed"], true);
    assert!(report["adapter"]["name"].as_str().is_some_and(|name| !name.is_empty()));
    for figure in ["bandwidth_gb_s", "gflops", "seconds"] {
        assert!(report[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report}");
    }
    let kernels = report["kernels"].as_array().unwrap();
    assert!(kernels.len() > 30);
    for kernel in kernels {
        let [error, bound] = ["max_error", "bound"].map(|key| kernel[key].as_f64().unwrap());
        assert!(error <= bound && kernel["passed"] == true, "{kernel}");
        // Exact things have no rounding; everything else has some, or it was not computed.
        let is_exact = bound == 0.0;
        assert!(is_exact == (error == 0.0), "{kernel}");
    }
}

/// The kernels for cards on the same adapter, octets of invocations among them.
#[test]
fn kernels_for_cards_are_examined_too() {
    // Without subgroup functions only attention differs.
    for (abilities, only) in [(Abilities::GPU, ""), (Abilities::PLAIN_GPU, "attention")] {
        let mut session = session();
        session.tuning = abilities.into();
        let mut heard = 0;
        let found = examine(&mut session, only, |_| heard += 1).unwrap();
        let wrong: Vec<_> = found.kernels.iter().filter(|kernel| !kernel.passed).collect();
        assert!(found.passed && wrong.is_empty(), "{wrong:?}");
        assert_eq!(heard, found.kernels.len());
        let variants = |what: &str| {
            found.kernels.iter().filter(|kernel| kernel.variant.contains(what)).count()
        };
        assert!(only == "attention" || variants("matmul_blocked") >= 3);
        assert_eq!(variants("matmul_streaming"), 0);
        let of_attention = if session.device.adapter.shader_f16 { 9 + 3 } else { 9 };
        assert_eq!(variants(&format!("for {}:", abilities.name())), of_attention);
        let within = found.kernels.iter().filter(|kernel| kernel.name.contains("within")).count();
        assert!(only == "attention" || within >= 9);
        assert!(session.tuning.set_aside.is_empty());
    }
}

/// A variant that is set aside is taken no more, neither as the tuner's choice nor by default.
#[test]
fn what_is_set_aside_has_a_successor() {
    let products = Products::One(Transposition::Nt);
    let sizes = [512u32, 768, 768].map(Size::from);
    for abilities in [Abilities::CPU, Abilities::GPU] {
        let mut tuning = Tuning::from(abilities);
        let mut taken = Vec::new();
        loop {
            let variant = tuning.products((products, sizes).into(), &Sizes::default());
            if taken.contains(&variant) {
                break;
            }
            taken.push(variant);
            tuning.set_aside(variant.to_string());
        }
        let candidates = Variant::candidates(abilities, (products, sizes).into());
        assert_eq!(taken.len(), candidates.len(), "{taken:?}");
        assert!(tuning.abilities == abilities);
        tuning.set_aside(Tuning::SUBGROUPS);
        assert!(!tuning.abilities.subgroups);
    }
}

#[test]
fn what_was_found_is_kept_and_handed_on() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let adapter = session().device.adapter;
    fails(here, &["tune", "--export", "none.json"], 1, &["nothing has been measured"]);
    let file = here.join("tuned").join("tuning.json");
    let mut tuning = load_tuning(&file, &adapter);
    tuning.set_aside("matmul_streaming 16x3");
    save_tuning(&tuning, &file, &adapter).unwrap();
    // `train` and its like say so.
    let product = ["bench", "matmul", "--m", "8", "--n", "8", "--k", "8"];
    let output = run(here, &product);
    let said = text(&output.stderr);
    assert!(said.contains("set aside") && said.contains("matmul_streaming 16x3"), "{said}");
    assert_eq!(succeeds(here, &["tune", "--export", "all.json"]), "1 adapters, in all.json\n");
    let elsewhere = here.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::copy(here.join("all.json"), elsewhere.join("all.json")).unwrap();
    succeeds(&elsewhere, &["tune", "--import", "all.json"]);
    let known = elsewhere.join("tuned").join("tuning.json");
    assert_eq!(load_tuning(&known, &adapter), tuning);
    fs::write(elsewhere.join("bad.json"), "{\"adapters\": 3}").unwrap();
    fails(&elsewhere, &["tune", "--import", "bad.json"], 1, &["bad.json", "tune --export"]);
    fails(&elsewhere, &["tune", "--import", "missing.json"], 1, &["missing.json"]);
    fails(&elsewhere, &["tune"], 2, &["--model"]);
    // The doctor looks again: what is right now is taken again.
    let said = succeeds(here, &["doctor"]);
    assert!(said.contains("kernels compute what they should"), "{said}");
    assert!(said.contains("GB/s") && said.contains(&adapter.name), "{said}");
    assert!(load_tuning(&file, &adapter).set_aside.is_empty());
    let output = run(here, &product);
    assert!(!text(&output.stderr).contains("set aside"));
}

/// Vectors of a software driver are its subgroups: of 4, 8 and 16 invocations. Octets need 8.
#[test]
fn kernels_are_right_in_subgroups_of_every_size() {
    let directory = tempfile::tempdir().unwrap();
    if !session().device.adapter.name.starts_with("llvmpipe") {
        // A card has one size, which the other tests run with.
        return;
    }
    for (bits, size) in [("128", 4), ("512", 16)] {
        for (kind, only) in [("cpu", "gradient"), ("gpu", "attention")] {
            let mut command = crisp(directory.path());
            command.args(["doctor", "--json", "--kernels", kind, "--only", only]);
            // The driver would take kernels from its cache that it compiled for another width.
            command.env("LP_NATIVE_VECTOR_WIDTH", bits).env("MESA_SHADER_CACHE_DISABLE", "1");
            let output = command.output().unwrap();
            assert!(output.status.success(), "{bits} {kind}: {}", text(&output.stderr));
            let report = json(&text(&output.stdout));
            assert_eq!(report["subgroup"]["size"], size, "{bits} bits");
            let kernels = report["kernels"].as_array().unwrap();
            let set_aside = kernels.iter().filter(|kernel| kernel["set_aside"].is_string()).count();
            // What is right without octets is found to be so after they have failed.
            assert_eq!(set_aside > 0, kind == "gpu" && size < 8, "{bits} {kind}: {report}");
        }
    }
}
