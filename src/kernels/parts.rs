//! What several shaders say: `shaders/shared/*.wgsl`, appended behind a kernel's own text, so that
//! the lines of a kernel keep their numbers. Its first lines name its parts, such as
//! `// with: block random`.
//!
//! A part mentions what it declares itself, what the parts that its header names declare, and
//! bindings, parameters, constants and a few functions of the kernel by fixed names.

macro_rules! parts {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../shaders/shared/", $name, ".wgsl")))),*]
    };
}

/// Every part: its name and its text.
const PARTS: &[(&str, &str)] = parts![
    "activation",
    "adamw",
    "attend",
    "attend_backward",
    "attention",
    "backward_quads",
    "block",
    "blocked",
    "dout",
    "dropout",
    "exchange",
    "exchange_subgroups",
    "finish",
    "finish_gradients",
    "finish_one",
    "forward_quads",
    "head_rows",
    "matrices",
    "octets",
    "ordered",
    "qkv",
    "random",
    "row_sums",
    "scores",
    "select",
    "teams",
    "texels",
    "tiles",
    "total",
    "visitors",
    "visits",
];

/// The parts that a kernel's first lines name.
fn names(own: &str) -> impl Iterator<Item = &str> {
    own.lines().map_while(|line| line.strip_prefix("// with:")).flat_map(str::split_whitespace)
}

/// The complete text of a kernel, as compilers and drivers see it.
///
/// # Errors
/// The name of a part that does not exist.
pub(super) fn complete(own: &str) -> Result<String, &str> {
    let mut text = own.to_owned();
    for name in names(own) {
        let (_, part) = PARTS.iter().find(|(known, _)| *known == name).ok_or(name)?;
        text.push_str(&format!("\n// shared/{name}.wgsl\n{part}"));
    }
    Ok(text)
}

/// The names of a structure's members and where they lie, in bytes, as compilers have it.
#[cfg(test)]
pub(super) fn members(text: &str, structure: &str) -> Vec<(String, u32)> {
    let module = naga::front::wgsl::parse_str(text).expect("a shader that compiles");
    let types = module.types.iter().map(|(_, kind)| kind);
    let mut named = types.filter(|kind| kind.name.as_deref() == Some(structure));
    match named.next().map(|kind| &kind.inner) {
        Some(naga::TypeInner::Struct { members, .. }) => members
            .iter()
            .map(|member| (member.name.clone().unwrap_or_default(), member.offset))
            .collect(),
        other => panic!("{structure} is {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::{fs, path::Path};

    /// The name and text of each file in `shaders/`, or in a folder of it.
    fn files(folder: &str) -> BTreeMap<String, String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders").join(folder);
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let shaders = paths.filter(|path| path.extension().is_some_and(|it| it == "wgsl"));
        let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        shaders.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
    }

    /// The names that a text declares with one of these keywords, at the beginning of a line.
    fn declared<'a>(text: &'a str, keywords: &[&str]) -> BTreeSet<&'a str> {
        let after = |line: &'a str| keywords.iter().find_map(|word| line.strip_prefix(word));
        text.lines().filter_map(after).filter_map(|rest| words(rest).next()).collect()
    }

    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
    }

    /// A text without its comments.
    fn code(text: &str) -> String {
        text.lines()
            .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
            .collect()
    }

    #[test]
    fn the_table_has_every_shared_file() {
        let files: Vec<String> = files("shared").into_keys().collect();
        assert_eq!(files, PARTS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    /// What a part is missing for, naga says: `tests/integration/shaders.rs` compiles every
    /// complete text.
    #[test]
    fn kernels_name_no_part_that_they_do_not_use() {
        for (kernel, own) in files("") {
            let text = complete(&own).unwrap_or_else(|part| panic!("{kernel}: no part {part}"));
            assert!(text.starts_with(&own), "{kernel}: its lines no longer keep their numbers");
            for (part, shared) in PARTS.iter().filter(|(part, _)| names(&own).any(|it| it == *part))
            {
                let rest = code(&text.replacen(shared, "", 1));
                let declared = declared(shared, &["fn ", "struct ", "const "]);
                let used = words(&rest).any(|word| declared.contains(word));
                assert!(used, "{kernel}: names {part} and does not use it");
            }
        }
    }

    #[test]
    fn an_unknown_part_is_refused_by_its_name() {
        assert_eq!(complete("// with: random ramdon\n"), Err("ramdon"));
        let elsewhere = "// Alone.\n// with: random\n";
        assert_eq!(complete(elsewhere).as_deref(), Ok(elsewhere));
    }

    /// Parts that say the same in other ways, of which a kernel names one; and kernels that each say
    /// what a part leaves to them.
    const ALTERNATIVES: [&[&str]; 3] = [
        &["exchange", "exchange_subgroups"],
        &["forward_quads", "backward_quads"],
        &["matmul_blocked", "normed_product", "normed_sum"],
    ];

    /// What stands in two places is to be a part, and a name has one meaning.
    #[test]
    fn no_function_or_structure_is_declared_twice() {
        let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (file, text) in files("").into_iter().chain(files("shared")) {
            let same = ALTERNATIVES.iter().find(|parts| parts.contains(&&*file));
            let file = same.map_or(file, |parts| parts[0].to_owned());
            for name in declared(&text, &["fn ", "struct "]) {
                places.entry(name.into()).or_default().insert(file.clone());
            }
        }
        // These are what each kernel is: its entry point and its parameters.
        places.retain(|name, files| files.len() > 1 && name != "main" && name != "Params");
        assert!(places.is_empty(), "{places:#?}");
    }
}
