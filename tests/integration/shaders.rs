//! Every shader must mean the same on Vulkan, Metal and DX12 and fit the default limits of WebGPU.
//!
//! No device is needed: naga, the compiler inside wgpu, parses and validates each text and
//! translates it for all three. Chrome's compiler refuses some of what naga accepts;
//! `tests/chrome/check.mjs` asks it (`make shaders-in-chrome`).

use crate::support::transformer::{self, Settings};
use crisp::gpu::Abilities;
use crisp::graph::Plan;
use crisp::kernels::Heads;
use crisp::kernels::matmul::{Activation, Operands, Transposition, Variant, matmul};
use crisp::kernels::{Command, Size, Sizes, TensorId};
use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

/// The default limits of WebGPU, which every adapter holds.
const STORAGE_BUFFERS: usize = 8;
const WORKGROUP_BYTES: u32 = 16 * 1024;
const INVOCATIONS: u32 = 256;
const WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];

/// The line that Chrome's compiler requires, and naga refuses, before subgroup functions.
const ENABLE_SUBGROUPS: &str = "enable subgroups;";

/// The name and text of every shader: as the files stand, and as plans of real models specialise it.
fn variants() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let entries = fs::read_dir(&directory)
        .unwrap_or_else(|why| panic!("{}: cannot list: {why}", directory.display()));
    let mut texts = BTreeMap::new();
    for entry in entries {
        let path = entry.expect("a directory entry can be read").path();
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|why| panic!("{}: cannot read: {why}", path.display()));
            texts.insert(name.into_owned(), text);
        }
    }
    add_specialised(&mut texts);
    add_products(&mut texts);
    texts.into_iter().collect()
}

/// Every text that the plans of models of usual shapes are made of: both targets, training and
/// evaluation, each activation, policy and block, heads of usual and of odd sizes.
fn add_specialised(texts: &mut BTreeMap<String, String>) {
    let heads = [(12, 64), (12, 32), (8, 128), (3, 6), (1, 1)];
    let policies = [
        "dense",
        "topk:0.8",
        "block-topk:0.8,block=4",
        "block-topk:0.8,block=8",
        "block-topk:0.8",
        "block-topk:0.8,block=32",
        "local:8",
        "random:0.8",
    ];
    for (count, dim) in heads {
        for policy in policies {
            for (activation, dropout) in [(Activation::Gelu, 0.1), (Activation::Relu, 0.0)] {
                let settings = Settings {
                    vocabulary: 100,
                    positions: 512,
                    heads: Heads { count, dim },
                    inner: u64::from(4 * count * dim),
                    layers: 1,
                    classes: 2,
                    activation,
                    dropout,
                    policy: policy.parse().expect("a policy"),
                };
                for training in [true, false] {
                    let step = transformer::step(&settings, training).expect("shapes that fit");
                    for target in [Abilities::CPU, Abilities::GPU] {
                        let largest = Sizes { tokens: 512, sequences: 8, ..Sizes::default() };
                        let plan = Plan::new(&step.graph, target, largest, &[]).expect("a plan");
                        add_commands(texts, plan.commands.iter().map(|(_, command)| command));
                    }
                }
            }
        }
    }
}

/// Every text that the tuner may choose for a product.
fn add_products(texts: &mut BTreeMap<String, String>) {
    let sizes = [132u32, 68, 36].map(Size::from);
    for transposition in [Transposition::Nn, Transposition::Nt, Transposition::Tn] {
        for target in [Abilities::CPU, Abilities::GPU] {
            for variant in Variant::candidates(target, transposition, sizes) {
                for activation in [Activation::None, Activation::Gelu] {
                    let [a, b, c, bias, before] = [0, 1, 2, 3, 4].map(TensorId);
                    let keeps = activation != Activation::None;
                    let (bias, before) = (keeps.then_some(bias), keeps.then_some(before));
                    let operands = Operands { a, b, bias, c, before, activation };
                    let commands = matmul(variant, transposition, sizes, operands, |_| TensorId(5));
                    add_commands(texts, commands.iter());
                }
            }
        }
    }
}

fn add_commands<'a>(
    texts: &mut BTreeMap<String, String>,
    commands: impl Iterator<Item = &'a Command>,
) {
    for command in commands {
        let Command::Launch(launch) = command else { continue };
        let shader = &launch.shader;
        let name = format!("{}-{}.wgsl", shader.name, shader.constants);
        let known = texts.insert(name.clone(), shader.text.to_string());
        assert!(known.is_none_or(|known| known == *shader.text), "{name}");
    }
}

/// Shaders can be read alone, so some text stands in several of them: it must be the same in each.
#[test]
fn what_shaders_share_is_the_same_everywhere() {
    for (start, end) in [
        ("fn random(", "\n}"),
        ("struct Block {", "\n}"),
        ("fn erfc(x: vec4f)", "\n}"),
        ("fn erfc(x: f32)", "\n}"),
        ("fn kept(row: u32, quad: u32)", "\n}"),
        ("fn kept(head: u32", "\n}"),
        ("fn next_visit(", "\n}"),
        ("fn next_visitor(", "\n}"),
        ("fn rank(", "\n}"),
        ("fn ordered(", "\n}"),
        ("fn add(reached", "\n}"),
        ("fn refine(", "\n}"),
        ("fn find_cut(", "\n}"),
    ] {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, text) in variants().iter().filter(|(name, _)| !name.contains('-')) {
            let Some(first) = text.find(start) else { continue };
            let last = first + text[first..].find(end).expect("a closing brace");
            found.entry(text[first..last].into()).or_default().push(name.clone());
        }
        assert_eq!(found.len(), 1, "{start} differs between {:?}", found.values());
    }
}

/// Parses, validates, measures and translates one shader text.
///
/// # Errors
/// Says which rule the text breaks and, where naga knows it, in which line.
fn check(name: &str, text: &str) -> Result<(), String> {
    if !text.starts_with("//") {
        return Err(format!("{name}: the first line must be a comment that says what it computes"));
    }

    let subgroups = text.lines().any(|line| line.trim() == ENABLE_SUBGROUPS);
    // Blanks of the same length keep the columns and lines of messages right.
    let blank = " ".repeat(ENABLE_SUBGROUPS.len());
    let text =
        &text.replacen(ENABLE_SUBGROUPS, if subgroups { &blank } else { ENABLE_SUBGROUPS }, 1);
    let capabilities = if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };

    let module = naga::front::wgsl::parse_str(text)
        .map_err(|why| why.emit_to_string_with_path(text, name))?;
    if let Some((_, constant)) = module.overrides.iter().next() {
        let constant = constant.name.as_deref().unwrap_or("a constant");
        return Err(format!(
            "{name}: {constant} is an `override`; shaders specialise with `const`"
        ));
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|why| why.emit_to_string_with_path(text, name))?;

    check_entry_points(&module, &info).map_err(|why| format!("{name}: {why}"))?;
    // Release builds leave out the bounds checks, debug builds keep them: both must translate.
    for policy in [BoundsCheckPolicy::Unchecked, BoundsCheckPolicy::Restrict] {
        translate(&module, &info, policy).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

/// Compares what each entry point uses with the default limits of WebGPU.
fn check_entry_points(module: &Module, info: &ModuleInfo) -> Result<(), String> {
    if module.entry_points.is_empty() {
        return Err("no entry point (`@compute @workgroup_size(..) fn ..`)".into());
    }
    for (index, entry) in module.entry_points.iter().enumerate() {
        let name = &entry.name;
        if entry.stage != ShaderStage::Compute {
            return Err(format!("{name}: a {:?} entry point; only compute is used", entry.stage));
        }

        let size = entry.workgroup_size;
        if (0..3).any(|axis| size[axis] > WORKGROUP_SIZE[axis]) {
            return Err(format!("{name}: workgroup size {size:?}, at most {WORKGROUP_SIZE:?}"));
        }
        let invocations: u32 = size.iter().product();
        if invocations > INVOCATIONS {
            return Err(format!("{name}: {invocations} invocations, at most {INVOCATIONS}"));
        }

        let uses = info.get_entry_point(index);
        let mut storage_buffers = 0;
        let mut workgroup_bytes = 0;
        for (handle, variable) in module.global_variables.iter() {
            if uses[handle].is_empty() {
                continue;
            }
            match variable.space {
                AddressSpace::Storage { .. } => storage_buffers += 1,
                // WebGPU counts each variable in units of 16 bytes.
                AddressSpace::WorkGroup => {
                    let bytes = module.types[variable.ty].inner.size(module.to_ctx());
                    workgroup_bytes += bytes.next_multiple_of(16);
                }
                _ => {}
            }
        }
        if storage_buffers > STORAGE_BUFFERS {
            return Err(format!(
                "{name}: {storage_buffers} storage buffers, at most {STORAGE_BUFFERS}"
            ));
        }
        if workgroup_bytes > WORKGROUP_BYTES {
            return Err(format!(
                "{name}: {workgroup_bytes} bytes of workgroup memory, at most {WORKGROUP_BYTES}"
            ));
        }
    }
    Ok(())
}

/// Translates for Vulkan (SPIR-V 1.3), Metal (2.1) and DX12 (shader model 6.0): the oldest of each
/// that has subgroup functions.
fn translate(module: &Module, info: &ModuleInfo, policy: BoundsCheckPolicy) -> Result<(), String> {
    let bounds_check_policies =
        BoundsCheckPolicies { index: policy, buffer: policy, ..Default::default() };

    let options =
        spv::Options { lang_version: (1, 3), bounds_check_policies, ..Default::default() };
    spv::write_vec(module, info, &options, None).map_err(|why| format!("SPIR-V: {why}"))?;

    let options = msl::Options {
        lang_version: (2, 1),
        bounds_check_policies,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let (_, translated) = msl::write_string(module, info, &options, &Default::default())
        .map_err(|why| format!("MSL: {why}"))?;
    for entry in translated.entry_point_names {
        entry.map_err(|why| format!("MSL: {why}"))?;
    }

    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        restrict_indexing: policy == BoundsCheckPolicy::Restrict,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut text = String::new();
    let translated = hlsl::Writer::new(&mut text, &options, &Default::default())
        .write(module, info, None)
        .map_err(|why| format!("HLSL: {why}"))?;
    for entry in translated.entry_point_names {
        entry.map_err(|why| format!("HLSL: {why}"))?;
    }
    Ok(())
}

#[test]
fn there_are_shaders_and_each_has_its_own_name() {
    let mut names: Vec<String> = variants().into_iter().map(|(name, _)| name).collect();
    assert!(!names.is_empty(), "no shaders/*.wgsl: the other tests here check nothing");
    // One that only a plan makes: it must not happen that these are lost unnoticed.
    let (start, constants) = ("attention_forward-", "HEAD_DIM=6u,QUADS=2u,BLOCK=8u");
    assert!(names.iter().any(|name| name.starts_with(start) && name.contains(constants)));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two variants share a name");
}

#[test]
fn every_shader_is_portable() {
    let failures: Vec<String> =
        variants().iter().filter_map(|(name, text)| check(name, text).err()).collect();
    assert!(failures.is_empty(), "{} refused:\n\n{}", failures.len(), failures.join("\n"));
}

/// Hands the texts to Chrome's compiler, which reads files: `make shaders-in-chrome` sets the
/// directory. Without it this only names the files, so that a name that cannot be one is found.
#[test]
fn every_shader_can_be_written_to_a_file() {
    let directory = env::var_os("CRISP_WRITE_SHADERS");
    for (name, text) in variants() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+=,".contains(c);
        assert!(name.ends_with(".wgsl") && name.chars().all(is_plain), "no file name: {name}");
        if let Some(directory) = &directory {
            let path = Path::new(directory).join(&name);
            fs::write(&path, text)
                .unwrap_or_else(|why| panic!("{}: cannot write: {why}", path.display()));
        }
    }
}

/// A shader with these declarations and this body, which the tests below make sound or broken.
fn shader(declarations: &str, body: &str) -> String {
    format!(
        "// A shader to check the checker with.\n\
         {declarations}\n\
         @group(0) @binding(0) var<storage, read_write> values: array<f32>;\n\
         @compute @workgroup_size(64)\n\
         fn main(@builtin(local_invocation_id) id: vec3<u32>) {{ {body} }}\n"
    )
}

#[test]
fn sound_shaders_pass() {
    let used = "values[id.x] = tile[id.x];";
    // The four bytes short of the limit are what rounding to 16 fills.
    let full = shader("var<workgroup> tile: array<f32, 4095>;", used);
    let subgroups = shader(ENABLE_SUBGROUPS, "values[id.x] = subgroupAdd(values[id.x]);");
    let mentioned = shader("// `enable subgroups;` is not needed here.", "values[0] = 1.0;");
    let unused = shader("var<workgroup> unused: array<f32, 5000>;", "values[0] = 1.0;");
    for text in [full, subgroups, mentioned, unused] {
        check("sound.wgsl", &text).unwrap_or_else(|why| panic!("{text}\n{why}"));
    }
}

#[test]
fn broken_shaders_are_caught() {
    let buffers: String = (1..=8)
        .map(|n| format!("@group(0) @binding({n}) var<storage, read> b{n}: array<f32>;\n"))
        .collect();
    let sum: String = (1..=8).map(|n| format!("+ b{n}[id.x]")).collect();
    let wide = shader("", "values[0] = 1.0;");
    let cases = [
        ("syntax", shader("", "values[0] = ;"), "expected expression"),
        ("unknown name", shader("", "value[0] = 1.0;"), "no definition in scope"),
        ("wrong type", shader("", "values[0] = 1u;"), "u32"),
        ("no comment", wide.replace("// A shader to check the checker with.", ""), "comment"),
        ("no entry point", "// Nothing.\nfn f() {}\n".into(), "no entry point"),
        (
            "not compute",
            wide.clone() + "@fragment fn colour() -> @location(0) vec4<f32> { return vec4(1.0); }",
            "only compute",
        ),
        ("override", shader("override width: u32 = 8;", "values[0] = f32(width);"), "`override`"),
        (
            "no `enable subgroups;`",
            shader("", "values[id.x] = subgroupAdd(values[id.x]);"),
            "SUBGROUP",
        ),
        ("half floats", shader("enable f16;", "values[0] = f32(f16(values[1]));"), "f16"),
        ("double floats", shader("", "values[0] = f32(f64(values[1]));"), "f64"),
        ("9 storage buffers", shader(&buffers, &format!("values[0] = 0.0 {sum};")), "9 storage"),
        (
            "too much workgroup memory",
            shader("var<workgroup> tile: array<f32, 4097>;", "values[id.x] = tile[id.x];"),
            "16400 bytes",
        ),
        ("512 invocations", wide.replace("size(64)", "size(64, 8)"), "512 invocations"),
        ("257 in a row", wide.replace("size(64)", "size(257)"), "workgroup size [257, 1, 1]"),
        ("128 deep", wide.replace("size(64)", "size(1, 1, 128)"), "workgroup size [1, 1, 128]"),
    ];
    for (what, text, expected) in cases {
        let why = check("broken.wgsl", &text).expect_err(&format!("{what}: was not caught"));
        assert!(why.contains(expected), "{what}: caught for another reason:\n{why}");
        assert!(why.contains("broken.wgsl"), "{what}: does not name the file:\n{why}");
    }
}
