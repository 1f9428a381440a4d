//! Data walks downstairs (`docs/architecture.md`): a module of `src/` uses those below it and never
//! those above, and the parts of a module use each other in no circle. Tests within `src/` may look
//! anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The modules of the crate, each below all those before it.
const FLOORS: [&str; 17] = [
    "cli", "study", "report", "train", "engine", "model", "measure", "graph", "kernels", "gpu",
    "sparsity", "data", "timing", "random", "parallel", "files", "error",
];

/// What a module must not name although it is below it: pages and statistics are made from records.
const BARRED: [(&str, &[&str]); 2] =
    [("report", &["graph", "kernels", "gpu"]), ("study", &["graph", "kernels", "gpu"])];

/// Files that use a module above them, until that is mended. An entry without need fails the test.
const UPWARDS: [(&str, &str); 0] = [];

/// Uses that close a circle within a module, until they are mended: without them there is none. An
/// entry without need fails the test.
const CIRCLES: [(&str, &str); 0] = [];

/// Names of modules from the crate's root on; empty for the root itself.
type Module = Vec<String>;

/// The text of every file, by module.
struct House {
    files: BTreeMap<Module, Source>,
}

/// What a file names.
#[derive(Default)]
struct Source {
    /// Paths from the crate's root, as they are written.
    paths: Vec<Vec<String>>,
    /// Names that `use` brings into the module, and what they stand for.
    names: BTreeMap<String, Vec<String>>,
}

impl House {
    /// The house of some files: their paths below `src/`, and their texts.
    fn new(texts: &[(String, String)]) -> Self {
        let texts: BTreeMap<Module, Vec<String>> = texts
            .iter()
            .filter(|(path, _)| path != "main.rs")
            .map(|(path, text)| (module_of(path), tokens(text)))
            .collect();
        let modules: BTreeSet<Module> = texts.keys().cloned().collect();
        let files = texts
            .iter()
            .map(|(module, tokens)| (module.clone(), Source::new(module, tokens, &modules)))
            .collect();
        Self { files }
    }

    /// The module whose file defines what a path names, behind all re-exports.
    fn resolve(&self, path: &[String], depth: usize) -> Module {
        let mut module = Module::new();
        for (index, name) in path.iter().enumerate() {
            module.push(name.clone());
            if self.files.contains_key(&module) {
                continue;
            }
            module.pop();
            let meant = self.files.get(&module).and_then(|source| source.names.get(name));
            return match meant {
                Some(meant) if depth < 10 => {
                    self.resolve(&[meant.as_slice(), &path[index + 1..]].concat(), depth + 1)
                }
                _ => module,
            };
        }
        module
    }

    /// Every use of another module: by whom, the path as written, and where that leads.
    fn uses(&self) -> impl Iterator<Item = (&Module, &Vec<String>, Module)> {
        self.files.iter().flat_map(move |(module, source)| {
            source.paths.iter().map(move |path| (module, path, self.resolve(path, 0)))
        })
    }

    /// Uses of a module above, as `(file, module)`.
    fn upwards(&self) -> BTreeSet<(String, String)> {
        let floor = |module: &String| {
            FLOORS.iter().position(|name| name == module).unwrap_or_else(|| {
                panic!("src/{module} has no floor yet: put it among the FLOORS of this test")
            })
        };
        let mut upwards = BTreeSet::new();
        for (user, path, target) in self.uses() {
            let Some(from) = user.first() else { continue };
            for to in path.first().into_iter().chain(target.first()) {
                let is_module = self.files.contains_key(&vec![to.clone()]);
                let barred = BARRED.iter().any(|(module, barred)| {
                    from == module && path.first() == Some(to) && barred.contains(&to.as_str())
                });
                if is_module && (barred || floor(from) > floor(to)) {
                    upwards.insert((user.join("/"), to.clone()));
                }
            }
        }
        upwards
    }

    /// Which part of a module uses which other part of it. The module's own file is none of its
    /// parts: it names them all, and they may use what it holds for all of them. What the modules
    /// of the root use is a matter of floors.
    fn parts(&self) -> BTreeSet<(String, String)> {
        let mut parts = BTreeSet::new();
        for (user, _, target) in self.uses() {
            let common = user.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if 0 < common && common < user.len() && common < target.len() {
                parts.insert((user[..=common].join("/"), target[..=common].join("/")));
            }
        }
        parts
    }
}

/// Those of some uses that are part of a circle.
fn circles(uses: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(part) = open.pop() {
            for (_, next) in uses.iter().filter(|(user, _)| user == part) {
                if next == to {
                    return true;
                }
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    };
    uses.iter().filter(|(from, to)| reaches(to, from)).cloned().collect()
}

fn module_of(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

impl Source {
    fn new(module: &Module, tokens: &[String], modules: &BTreeSet<Module>) -> Self {
        let mut source = Self::default();
        let absolute = |path: &[String]| -> Option<Vec<String>> {
            let child = [module.as_slice(), &path[..1]].concat();
            let (mut base, mut rest) = match path[0].as_str() {
                "crate" => (Module::new(), &path[1..]),
                "self" => (module.clone(), &path[1..]),
                "super" => (module.clone(), path),
                _ if modules.contains(&child) => (module.clone(), path),
                _ => return None,
            };
            while rest.first().is_some_and(|name| name == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
            Some([base.as_slice(), rest].concat())
        };
        let mut index = 0;
        while index < tokens.len() {
            let start = index;
            index += 1;
            match tokens[start].as_str() {
                "use" => {
                    let mut uses = Vec::new();
                    tree(tokens, &mut index, &mut Vec::new(), &mut uses);
                    for (path, name) in uses {
                        if let Some(path) = absolute(&path) {
                            source.names.insert(name, path.clone());
                            source.paths.push(path);
                        }
                    }
                }
                "crate" | "super" | "self"
                    if tokens.get(index).is_some_and(|next| next == "::") =>
                {
                    let mut path = vec![tokens[start].clone()];
                    while tokens.get(index).is_some_and(|next| next == "::")
                        && tokens.get(index + 1).is_some_and(|name| is_name(name))
                    {
                        path.push(tokens[index + 1].clone());
                        index += 2;
                    }
                    source.paths.extend(absolute(&path));
                }
                _ => {}
            }
        }
        source
    }
}

/// Reads one tree of a `use`, with what stands before it, into paths and the names that they bring.
fn tree(
    tokens: &[String],
    index: &mut usize,
    before: &mut Vec<String>,
    uses: &mut Vec<(Vec<String>, String)>,
) {
    let depth = before.len();
    while let Some(token) = tokens.get(*index) {
        match token.as_str() {
            "{" => {
                *index += 1;
                while tokens.get(*index).is_some_and(|next| next != "}") {
                    tree(tokens, index, before, uses);
                    *index += usize::from(tokens.get(*index).is_some_and(|next| next == ","));
                }
                *index += 1;
                before.truncate(depth);
                return;
            }
            "::" => *index += 1,
            "as" => {
                uses.push((before.clone(), tokens[*index + 1].clone()));
                *index += 2;
                before.truncate(depth);
                return;
            }
            // `a::{self}` is `a`.
            "self" if depth > 0 && before.len() == depth => *index += 1,
            name if is_name(name) => {
                before.push(token.clone());
                *index += 1;
            }
            "*" => *index += 1,
            _ => break,
        }
    }
    if let Some(name) = before.last().cloned() {
        uses.push((before.clone(), name));
    }
    before.truncate(depth);
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens of a text without its comments, literals and what is compiled for tests only.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if is_name(rest) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..end].into());
            end
        } else if rest.starts_with("::") {
            tokens.push("::".into());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.into());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    without_tests(tokens)
}

/// The length of a string, character or lifetime that a text begins with.
fn literal(text: &str) -> Option<usize> {
    let raw = text.strip_prefix('b').unwrap_or(text);
    if let Some(raw) = raw.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let open = text.len() - raw.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(open + text[open..].find(&end)? + end.len());
        }
    }
    let body = raw.strip_prefix(['"', '\''])?;
    let open = text.len() - body.len();
    let mut characters = body.char_indices();
    if raw.starts_with('"') {
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Some(open + at + 1),
                '\\' => {
                    characters.next();
                }
                _ => {}
            }
        }
        return None;
    }
    // A character, `\n` or `x`; otherwise a lifetime, whose name is no path.
    let end = if body.starts_with('\\') { 2 } else { characters.nth(1)?.0 };
    let end = match body.starts_with('\\') || body[end..].starts_with('\'') {
        true => end + body[end..].find('\'')? + 1,
        false => body.find(|c: char| !c.is_alphanumeric() && c != '_')?,
    };
    Some(open + end)
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut left = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if !tokens[index..].iter().take(attribute.len()).eq(attribute.iter()) {
            left.push(tokens[index].clone());
            index += 1;
            continue;
        }
        let mut depth = 0;
        while let Some(token) = tokens.get(index) {
            index += 1;
            depth += i32::from(token == "{") - i32::from(token == "}");
            if depth == 0 && (token == ";" || token == "}") {
                break;
            }
        }
    }
    left
}

fn read(directory: &Path, below: &str, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &format!("{name}/"), texts);
        } else if name.ends_with(".rs") {
            texts.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn pairs(allowed: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    allowed.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

#[test]
fn every_module_uses_only_those_below_it_and_no_parts_use_each_other_in_a_circle() {
    let mut texts = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut texts);
    let house = House::new(&texts);
    assert!(house.files.len() > 50 && house.uses().count() > 500, "src/ was not read");
    assert_eq!(house.upwards(), pairs(&UPWARDS), "uses of a module above (or barred)");
    let (parts, known) = (house.parts(), pairs(&CIRCLES));
    assert!(known.is_subset(&circles(&parts)), "CIRCLES has an entry too many");
    let rest = parts.difference(&known).cloned().collect();
    assert_eq!(circles(&rest), BTreeSet::new(), "parts of a module that use each other");
}

#[test]
fn what_breaks_the_order_is_seen() {
    let house = |files: &[(&str, &str)]| {
        let own = |(path, text): &(&str, &str)| (path.to_string(), text.to_string());
        House::new(&files.iter().map(own).collect::<Vec<_>>())
    };
    let straight = [
        ("lib.rs", "pub mod train; pub mod gpu; pub mod report;"),
        (
            "train/mod.rs",
            "mod a; mod b; pub use a::{A, Other as Second}; pub use crate::gpu::Device;",
        ),
        ("train/a.rs", "use crate::gpu; use super::b::B; fn f() { gpu::open() }"),
        (
            "train/b.rs",
            "// use super::A;\nconst T: &str = \"crate::report\"; fn f<'a>(x: &'a str) {}",
        ),
        ("gpu.rs", "pub fn open() {} #[cfg(test)] mod tests { use crate::report::run; }"),
        ("report/mod.rs", "use crate::train::{self, Device, a::A};"),
    ];
    let fine = house(&straight);
    assert_eq!((fine.upwards(), circles(&fine.parts())), (BTreeSet::new(), BTreeSet::new()));
    let seen = |path: &str, text: &str| {
        let mut files = straight.to_vec();
        files.iter_mut().filter(|file| file.0 == path).for_each(|file| file.1 = text);
        let house = house(&files);
        let pairs = house.upwards().into_iter().chain(circles(&house.parts()));
        pairs.map(|(from, to)| format!("{from} {to}")).collect::<Vec<_>>()
    };
    assert_eq!(seen("gpu.rs", "pub fn f() { crate::report::run(r#\"\"#) }"), ["gpu report"]);
    assert_eq!(seen("gpu.rs", "use crate::{files::x, train::Device};"), ["gpu train"]);
    assert_eq!(seen("report/mod.rs", "use crate::{gpu, train};"), ["report gpu"]);
    let circle = ["train/a train/b", "train/b train/a"];
    // By its file, by the name that the module gives it, within a body.
    assert_eq!(seen("train/b.rs", "use super::a;"), circle);
    assert_eq!(seen("train/b.rs", "use crate::train::Second;"), circle);
    assert_eq!(seen("train/b.rs", "fn f(c: char) -> super::A { c == '\"'; super::A }"), circle);
}
