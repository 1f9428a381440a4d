//! Every shader must mean the same on Vulkan, Metal and DX12 and fit the default limits of WebGPU.
//!
//! No device is needed: naga, the compiler inside wgpu, parses and validates each text and
//! translates it for all three. Chrome's compiler refuses some of what naga accepts;
//! `tests/chrome/check.mjs` asks it (`make shaders-in-chrome`).

use crate::support::binary::{crisp, fails, small};
use crisp::gpu::{Access, in_pieces};
use crisp::kernels::{Launch, Scalar, Shader, Word};
use crisp::train::Shaders;
use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The default limits of WebGPU, which every adapter holds.
const STORAGE_BUFFERS: usize = 8;
const WORKGROUP_BYTES: u32 = 16 * 1024;
const INVOCATIONS: u32 = 256;
const WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];

/// The line that Chrome's compiler requires, and naga refuses, before subgroup functions.
const ENABLE_SUBGROUPS: &str = "enable subgroups;";

/// The line of kernels for devices with cooperative matrices. Those ask for more workgroup memory;
/// Chrome knows no such matrices, and neither does what naga translates to for DX12.
const ENABLE_MATRICES: &str = "enable wgpu_cooperative_matrix;";
const WORKGROUP_BYTES_WITH_MATRICES: u32 = 32 * 1024;

/// Every shader as its file stands, with its parts, by its name.
static KERNELS: LazyLock<BTreeMap<String, Shader>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let entries = fs::read_dir(&directory)
        .unwrap_or_else(|why| panic!("{}: cannot list: {why}", directory.display()));
    let paths = entries.map(|entry| entry.expect("a directory entry can be read").path());
    let is_shader = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "wgsl");
    let kernel = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|why| panic!("{}: cannot read: {why}", path.display()));
        (name.clone(), Shader::new(name.leak(), &text))
    };
    paths.filter(is_shader).map(kernel).collect()
});

/// Every text that plans of models of many shapes are made of, and those that the tuner tries.
static TEXTS: LazyLock<Shaders> =
    LazyLock::new(|| Shaders::all().unwrap_or_else(|why| panic!("{why}")));

/// The name and text of every shader: as the files stand, and as plans specialise it.
fn variants() -> impl Iterator<Item = (String, &'static str)> {
    let plain = KERNELS.iter().map(|(name, shader)| (format!("{name}.wgsl"), &*shader.text));
    let special = TEXTS.iter().map(|(name, text)| (name.to_owned(), &*text.launch.shader.text));
    plain.chain(special)
}

/// A text without the line that naga refuses.
fn for_naga(text: &str) -> String {
    // Blanks of the same length keep the columns and lines of messages right.
    let blank = " ".repeat(ENABLE_SUBGROUPS.len());
    let line =
        |line: &str| if line.trim() == ENABLE_SUBGROUPS { blank.clone() } else { line.into() };
    text.lines().map(|it| line(it) + "\n").collect()
}

/// Parses, validates, measures and translates one shader text.
///
/// # Errors
/// Says which rule the text breaks and, where naga knows it, in which line.
fn check(name: &str, text: &str) -> Result<(), String> {
    let (float16, own) = match text.strip_prefix("enable f16; ") {
        Some(own) => (Capabilities::SHADER_FLOAT16, own),
        None => (Capabilities::empty(), text),
    };
    let says = |line: &&str| !line.starts_with("// with:");
    if !own.lines().find(says).is_some_and(|line| line.starts_with("//")) {
        return Err(format!("{name}: must begin with a comment that says what it computes"));
    }

    let subgroups = text.lines().any(|line| line.trim() == ENABLE_SUBGROUPS);
    let text = &for_naga(text);
    let subgroups = if subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };
    let matrices = text.lines().any(|line| line.trim() == ENABLE_MATRICES);
    let mut capabilities = float16 | subgroups;
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, matrices);

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

    let bytes = if matrices { WORKGROUP_BYTES_WITH_MATRICES } else { WORKGROUP_BYTES };
    check_entry_points(&module, &info, bytes).map_err(|why| format!("{name}: {why}"))?;
    // Release builds leave out the bounds checks, debug builds keep them: both must translate.
    for policy in [BoundsCheckPolicy::Unchecked, BoundsCheckPolicy::Restrict] {
        translate(&module, &info, policy, matrices).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

/// Compares what each entry point uses with the default limits of WebGPU, and so many bytes of
/// workgroup memory.
fn check_entry_points(module: &Module, info: &ModuleInfo, bytes: u32) -> Result<(), String> {
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
        if workgroup_bytes > bytes {
            return Err(format!(
                "{name}: {workgroup_bytes} bytes of workgroup memory, at most {bytes}"
            ));
        }
    }
    Ok(())
}

/// Translates for Vulkan (SPIR-V 1.3), Metal (2.1) and DX12 (shader model 6.0): the oldest of each
/// that has subgroup functions. Cooperative matrices came with Metal 2.3.
fn translate(
    module: &Module,
    info: &ModuleInfo,
    policy: BoundsCheckPolicy,
    matrices: bool,
) -> Result<(), String> {
    let bounds_check_policies =
        BoundsCheckPolicies { index: policy, buffer: policy, ..Default::default() };

    let options =
        spv::Options { lang_version: (1, 3), bounds_check_policies, ..Default::default() };
    spv::write_vec(module, info, &options, None).map_err(|why| format!("SPIR-V: {why}"))?;

    let options = msl::Options {
        lang_version: if matrices { (2, 3) } else { (2, 1) },
        bounds_check_policies,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let (_, translated) = msl::write_string(module, info, &options, &Default::default())
        .map_err(|why| format!("MSL: {why}"))?;
    for entry in translated.entry_point_names {
        entry.map_err(|why| format!("MSL: {why}"))?;
    }

    if matrices {
        return Ok(());
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
fn every_kernel_is_launched_and_belongs_to_a_family() {
    let launched: BTreeSet<&str> = TEXTS.iter().map(|(_, text)| text.launch.shader.name).collect();
    let files: BTreeSet<&str> = KERNELS.keys().map(String::as_str).collect();
    assert_eq!(files, launched);
    let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels");
    for kernel in files {
        let ends = kernel.match_indices('_').map(|(end, _)| end).chain([kernel.len()]);
        let named = |end| families.join(&kernel[..end]).with_extension("rs").is_file();
        assert!(ends.into_iter().any(named), "{kernel}: no family in src/kernels has its name");
    }
}

/// One that only a plan makes: it must not happen that these are lost unnoticed.
#[test]
fn plans_specialise_shaders() {
    let (start, constants) = ("attention_forward_rows-", "HEAD_DIM=6u,QUADS=2u,BLOCK=8u");
    let found = |(name, _): (&str, _)| name.starts_with(start) && name.contains(constants);
    assert!(TEXTS.iter().any(found));
    assert!(TEXTS.iter().count() >= 466, "{} texts", TEXTS.iter().count());
}

/// Parameters and bindings are written down twice, in Rust and in WGSL: both must say the same.
#[test]
fn launches_bind_what_their_shaders_declare() {
    for (name, text) in TEXTS.iter() {
        let source = for_naga(&text.launch.shader.text);
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|why| panic!("{}", why.emit_to_string_with_path(&source, name)));
        check_parameters(&module, &text.launch).unwrap_or_else(|why| panic!("{name}: {why}"));
        check_bindings(&module, &text.launch).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// A dispatch that takes long is cut (`gpu/cut.rs`): by texts that hold the same rules. Those of one
/// workgroup cannot be.
#[test]
fn every_text_computes_pieces_too() {
    let mut whole = BTreeSet::new();
    for (name, text) in variants() {
        match in_pieces(text) {
            Some(pieces) => check(&name, &pieces).unwrap_or_else(|why| panic!("in pieces: {why}")),
            None => _ = whole.insert(text.lines().next().unwrap_or_default()),
        }
    }
    let text = |name: &&str| KERNELS[*name].text.lines().next().unwrap_or_default();
    let one = ["cross_entropy_forward", "optimizer_norm_total", "probe_subgroups"];
    assert_eq!(whole, one.iter().map(text).collect());
}

/// A number within a structure.
struct Member {
    name: String,
    scalar: naga::Scalar,
    /// In bytes.
    offset: u32,
}

/// The numbers that a type is made of, in order.
fn scalars(module: &Module, ty: naga::Handle<naga::Type>, name: &str, offset: u32) -> Vec<Member> {
    match &module.types[ty].inner {
        TypeInner::Scalar(scalar) => vec![Member { name: name.into(), scalar: *scalar, offset }],
        TypeInner::Vector { size, scalar } => (0..*size as u32)
            .map(|at| Member { name: name.into(), scalar: *scalar, offset: offset + 4 * at })
            .collect(),
        TypeInner::Struct { members, .. } => members
            .iter()
            .flat_map(|member| {
                let name = member.name.as_deref().unwrap_or_default();
                scalars(module, member.ty, name, offset + member.offset)
            })
            .collect(),
        TypeInner::Array { base, size: naga::ArraySize::Constant(count), stride } => (0..count
            .get())
            .flat_map(|at| scalars(module, *base, name, offset + at * stride))
            .collect(),
        other => panic!("{name}: parameters are numbers, not {other:?}"),
    }
}

/// Compares the words of a launch with the members of `Params`, which are 32 bits each.
fn check_parameters(module: &Module, launch: &Launch) -> Result<(), String> {
    let mut types = module.types.iter();
    let Some((params, _)) = types.find(|(_, kind)| kind.name.as_deref() == Some("Params")) else {
        return Err("no structure Params".into());
    };
    let members = scalars(module, params, "", 0);
    if members.len() != launch.parameters.len() {
        let words = launch.parameters.len();
        return Err(format!("Params has {} members, the launch {words} words", members.len()));
    }
    for (index, (member, word)) in members.iter().zip(&launch.parameters).enumerate() {
        let Member { name: member_name, scalar: member_scalar, offset } = member;
        let (scalar, name) = match word {
            Word::Size(_) => (naga::Scalar::U32, None),
            Word::Float(_) => (naga::Scalar::F32, None),
            Word::Step(Scalar::Seed) => (naga::Scalar::U32, Some("seed")),
            Word::Step(Scalar::SeedHigh) => (naga::Scalar::U32, Some("seed_high")),
            Word::Step(Scalar::Step) => (naga::Scalar::U32, Some("step")),
            Word::Step(Scalar::LearningRate) => (naga::Scalar::F32, Some("learning_rate")),
            Word::Step(Scalar::Correction(_)) => (naga::Scalar::F32, None),
            Word::Step(Scalar::Sentences) => (naga::Scalar::U32, Some("sentences")),
            // Its name says what it is the first of.
            Word::Step(Scalar::FirstSentence) => (naga::Scalar::U32, None),
            Word::Step(Scalar::Settled) => (naga::Scalar::U32, Some("settled")),
        };
        let same = *member_scalar == scalar
            && *offset as usize == 4 * index
            && name.is_none_or(|name| name == member_name);
        if !same {
            return Err(format!("word {index} is {word:?}, the member {member_name} is not"));
        }
    }
    Ok(())
}

/// Compares the tensors of a launch with the variables from binding 1 on.
fn check_bindings(module: &Module, launch: &Launch) -> Result<(), String> {
    let mut declared = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        let access = match variable.space {
            AddressSpace::Uniform => continue,
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => "changed",
            AddressSpace::Storage { .. } => "read",
            _ => "texels",
        };
        declared.insert(binding.binding, access);
    }
    let bound = launch.buffers.iter().map(|(_, access)| match access {
        Access::Read => "read",
        Access::Texels | Access::HalfTexels => "texels",
        Access::Write | Access::Update => "changed",
    });
    let bound: BTreeMap<u32, &str> = (1..).zip(bound).collect();
    if declared == bound { Ok(()) } else { Err(format!("declares {declared:?}, binds {bound:?}")) }
}

#[test]
fn every_shader_is_portable() {
    let failures: Vec<String> =
        variants().filter_map(|(name, text)| check(&name, text).err()).collect();
    assert!(failures.is_empty(), "{} refused:\n\n{}", failures.len(), failures.join("\n"));
}

/// What `crisp shaders` writes is all there is, under names that any file system takes.
#[test]
fn texts_are_written_with_a_list_that_explains_them() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let count = TEXTS.write(directory.path()).unwrap_or_else(|why| panic!("{why}"));
    let list = fs::read_to_string(directory.path().join("shaders.json")).expect("a list");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(
        (count, list.as_object().map(|list| list.len())),
        (TEXTS.iter().count(), Some(count))
    );
    for (name, text) in TEXTS.iter() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-=,".contains(c);
        assert!(name.len() < 250 && name.chars().all(is_plain), "no file name: {name}");
        let written = fs::read_to_string(directory.path().join(name)).expect("a file for each");
        assert!(written == *text.launch.shader.text, "{name}: is not the whole text");
        let entry = &list[name];
        assert_eq!(entry["kernel"], text.launch.shader.name);
        for constant in text.launch.shader.constants.split(',').filter(|it| !it.is_empty()) {
            let (constant, value) = constant.split_once('=').expect("a value");
            if constant == "F16" {
                let names: Vec<&str> = value.split('.').collect();
                assert_eq!(entry["float16"], serde_json::json!(names), "{name}");
                continue;
            }
            assert_eq!(entry["constants"][constant], value, "{name}");
            assert!(written.contains(&format!(" = {value};")), "{name}: {constant} is not set");
        }
        assert!(entry["used"].as_array().is_some_and(|used| !used.is_empty()), "{name}");
    }
    let why = TEXTS.write(directory.path()).expect_err("there are files").to_string();
    assert!(why.contains("has files already") && why.contains("empty directory"), "{why}");
}

#[test]
fn the_shaders_of_a_model_are_written_without_an_adapter() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (model, _) = small(directory.path());
    let arguments = ["shaders", "texts", "--model", &model];
    let mut command = crisp(directory.path());
    let output = command.args(arguments).env("VK_DRIVER_FILES", "none").output().expect("a run");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries = fs::read_dir(directory.path().join("texts")).expect("the directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let texts: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "wgsl")).collect();
    assert_eq!(stdout, format!("{} shaders in texts\n", texts.len()));
    for path in &texts {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(path).expect("a text");
        check(&name, &text).unwrap_or_else(|why| panic!("{why}"));
    }
    let start = "attention_forward_streaming-HEAD_DIM=8u";
    let named = |path: &std::path::PathBuf| {
        path.file_name().unwrap_or_default().to_string_lossy().starts_with(start)
    };
    assert!(texts.iter().any(named), "{texts:?}");
    fails(directory.path(), &arguments, 2, &["texts: has files already", "a new or an empty"]);
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
