//! The drivers of cards, and what they make of kernels.

use super::kernels::Compiled;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a driver comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian's sid, the newest there is (`scripts/cards.sh`).
    Sid,
    /// Backports of Debian's stable release, which hardly change (`scripts/cards.sh`).
    Backports,
    /// The Mesa of this system: RADV compiles without a card if it is told for which.
    Installed,
}

impl Suite {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sid => "sid",
            Self::Backports => "backports",
            Self::Installed => "installed",
        }
    }
}

/// What decides how many invocations a multiprocessor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The driver counts workgroup memory, but not what a SIMD has room for: so many waves.
    Amd { waves: u64 },
    /// The driver counts registers only. A multiprocessor has room for so many warps and
    /// workgroups, and so many bytes of workgroup memory.
    Nvidia { warps: u64, workgroups: u64, bytes: u64 },
    /// The driver says how many threads a workgroup may have.
    Apple,
    /// The driver counts waves.
    Adreno,
}

/// A card, by its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    pub suite: Suite,
    pub name: &'static str,
    pub kind: Kind,
}

const RDNA: Kind = Kind::Amd { waves: 16 };
const GCN: Kind = Kind::Amd { waves: 10 };
const TURING: Kind = Kind::Nvidia { warps: 32, workgroups: 16, bytes: 64 << 10 };
const AMPERE: Kind = Kind::Nvidia { warps: 48, workgroups: 16, bytes: 100 << 10 };
const ADA: Kind = Kind::Nvidia { warps: 48, workgroups: 24, bytes: 100 << 10 };
const HOPPER: Kind = Kind::Nvidia { warps: 64, workgroups: 32, bytes: 228 << 10 };
const BLACKWELL: Kind = Kind::Nvidia { warps: 48, workgroups: 24, bytes: 100 << 10 };

/// The cards of the page.
pub const FETCHED: [Card; 14] = [
    Card { suite: Suite::Sid, name: "navi21", kind: RDNA },
    Card { suite: Suite::Sid, name: "navi31", kind: RDNA },
    Card { suite: Suite::Sid, name: "gfx1201", kind: RDNA },
    Card { suite: Suite::Sid, name: "vega10", kind: GCN },
    Card { suite: Suite::Sid, name: "tu104", kind: TURING },
    Card { suite: Suite::Sid, name: "ga102", kind: AMPERE },
    Card { suite: Suite::Sid, name: "ad102", kind: ADA },
    Card { suite: Suite::Sid, name: "gh100", kind: HOPPER },
    Card { suite: Suite::Sid, name: "gb202", kind: BLACKWELL },
    Card { suite: Suite::Sid, name: "m1", kind: Kind::Apple },
    Card { suite: Suite::Sid, name: "adreno", kind: Kind::Adreno },
    Card { suite: Suite::Backports, name: "navi21", kind: RDNA },
    Card { suite: Suite::Backports, name: "navi31", kind: RDNA },
    Card { suite: Suite::Backports, name: "vega10", kind: GCN },
];

/// The driver of Debian 12, which `make driver` installs there.
const DEBIAN_12: &str = "radv Mesa 22.3.6";

/// The cards that it compiles for, by the names that it has for them.
pub const INSTALLED: [Card; 3] = [
    Card { suite: Suite::Installed, name: "navi21", kind: RDNA },
    Card { suite: Suite::Installed, name: "gfx1100", kind: RDNA },
    Card { suite: Suite::Installed, name: "vega20", kind: GCN },
];

/// A figure that no driver gives: it is counted in the code that it has made.
pub const MATRIX_INSTRUCTIONS: &str = "Matrix instructions";

/// What a compiler made of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statistics {
    /// Registers of an invocation, as its maker counts them.
    pub registers: u64,
    /// Registers that were put elsewhere for want of room. Adreno: accesses to such.
    pub spills: u64,
    /// Bytes of memory that stand in for registers: scratch of a wave (AMD), local memory of an
    /// invocation (others).
    pub memory: u64,
    /// Waves of a SIMD (AMD), warps of a multiprocessor (NVIDIA), threads of a workgroup (Apple),
    /// waves of a core (Adreno) that there is room for.
    pub occupancy: u64,
    /// Instructions that multiply matrices, where the kernel has any to multiply.
    pub matrices: u64,
}

/// What a driver said.
pub struct Answers {
    /// The driver's name and version.
    pub driver: String,
    /// What it made of each module, in their order; nothing of those that are not for this card.
    pub statistics: Vec<Option<Statistics>>,
}

impl Answers {
    /// Whether they come from a driver whose figures are known. For the packages that are fetched
    /// the script says that.
    pub fn are_known(&self, card: &Card) -> bool {
        card.suite != Suite::Installed || self.driver == DEBIAN_12
    }
}

impl Card {
    /// Invocations of the subgroups that multiply matrices of float16, where the card and its driver
    /// do; 0 where not.
    pub fn lanes(&self) -> u32 {
        match (self.suite, self.kind, self.name) {
            (Suite::Installed, ..) => 0,
            (_, Kind::Nvidia { .. }, _) => 32,
            (_, _, "navi31" | "gfx1201") => 64,
            _ => 0,
        }
    }

    /// What this card's compiler makes of modules that lie in a directory. `program` is the one
    /// that `tests/cards/program.rs` is.
    ///
    /// # Errors
    /// The driver cannot be started, or does not compile a module.
    pub fn compile(
        &self,
        program: &Path,
        directory: &Path,
        modules: &[Compiled],
    ) -> Result<Answers, String> {
        let mut command = self.command(program)?;
        let output = command
            .args(["statistics".as_ref(), directory])
            .arg(self.lanes().to_string())
            .output()
            .map_err(|why| format!("{self}: {command:?}: {why}"))?;
        if !output.status.success() {
            return Err(format!("{self}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let (driver, rest) = text.split_once('\n').ok_or_else(|| format!("{self}: no answer"))?;
        if rest.lines().count() != modules.len() {
            return Err(format!("{self}: {} answers", rest.lines().count()));
        }
        let read = |(line, module): (&str, &Compiled)| {
            let said: Map<String, Value> =
                serde_json::from_str(line).map_err(|why| format!("{self}: {why}: {line}"))?;
            if said.is_empty() && module.lanes != self.lanes() {
                return Ok(None);
            }
            let statistics = self.statistics(&said, module);
            statistics.map(Some).ok_or_else(|| format!("{self}: {}: {line}", module.name))
        };
        let statistics = rest.lines().zip(modules).map(read).collect::<Result<_, _>>()?;
        Ok(Answers { driver: driver.into(), statistics })
    }

    fn command(&self, program: &Path) -> Result<Command, String> {
        if self.suite != Suite::Installed {
            let mut command = script();
            command.arg("run").arg(format!("{}/{}", self.suite.name(), self.name)).arg(program);
            return Ok(command);
        }
        let manifest = installed_radv().ok_or("RADV is not installed")?;
        let mut command = Command::new(program);
        // Older loaders know the second name only.
        command.env("VK_DRIVER_FILES", &manifest).env("VK_ICD_FILENAMES", &manifest);
        command.env("RADV_FORCE_FAMILY", self.name).env("MESA_SHADER_CACHE_DISABLE", "1");
        Ok(command)
    }

    /// Reads what a driver said; none where it says something else than it should.
    fn statistics(&self, said: &Map<String, Value>, module: &Compiled) -> Option<Statistics> {
        let number = |name: &str| said.get(name)?.as_u64();
        let matrices = if module.lanes > 0 { number(MATRIX_INSTRUCTIONS)? } else { 0 };
        Some(match self.kind {
            Kind::Amd { waves } => Statistics {
                registers: number("VGPRs")?,
                spills: number("Spilled VGPRs")? + number("Spilled SGPRs")?,
                memory: number("Scratch size")?,
                // Where a wave has 32 lanes the driver counts twice as many as there can be.
                occupancy: number("Subgroups per SIMD")?.min(waves),
                matrices,
            },
            Kind::Nvidia { warps, workgroups, bytes } => {
                let each = u64::from(module.invocations.div_ceil(32));
                let by_registers = number("Max warps/SM")?.min(warps) / each;
                // A kilobyte of each workgroup is the system's own.
                let by_memory = bytes / (u64::from(module.workgroup_bytes) + 1024);
                Statistics {
                    registers: number("Number of GPRs")?,
                    spills: number("Spills to memory")?,
                    memory: number("SLM size")?,
                    occupancy: by_registers.min(workgroups).min(by_memory) * each,
                    matrices,
                }
            }
            Kind::Apple => Statistics {
                registers: number("GPRs")?,
                spills: number("Spills")?,
                memory: number("Scratch")?,
                occupancy: number("Threads")?,
                matrices,
            },
            Kind::Adreno => Statistics {
                registers: number("Registers used")?,
                spills: number("STP Count")? + number("LDP Count")?,
                memory: 0,
                occupancy: number("Max Waves Per Core")?,
                matrices,
            },
        })
    }
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.suite.name(), self.name)
    }
}

/// `scripts/cards.sh`, to be given what it is to do.
pub fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cards.sh"));
    command
}

/// Where Linux distributions put the manifests of their drivers.
pub const MANIFESTS: &str = "/usr/share/vulkan/icd.d";

/// The manifest of the RADV that is installed on this system.
pub fn installed_radv() -> Option<PathBuf> {
    let entries = std::fs::read_dir(MANIFESTS).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_radv = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("radeon_icd") && name.ends_with(".json") && !name.contains("i686")
    };
    paths.filter(is_radv).min()
}

/// Writes modules to a temporary directory, in their order and each with its number of storage
/// buffers and its lanes in its name, from where drivers take them.
///
/// # Errors
/// What the operating system refuses.
pub fn laid_out(modules: &[Compiled]) -> Result<tempfile::TempDir, String> {
    let says = |why: std::io::Error| format!("a temporary directory: {why}");
    let directory = tempfile::tempdir().map_err(says)?;
    for (number, module) in modules.iter().enumerate() {
        let name = format!("{number:04}-{}-{}.spv", module.storage_buffers, module.lanes);
        let code = bytemuck::cast_slice(&module.code);
        std::fs::write(directory.path().join(name), code).map_err(says)?;
    }
    Ok(directory)
}
