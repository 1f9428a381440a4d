//! What a launch is: a shader with its constants fixed, buffers, parameters and a number of
//! workgroups, all plain data.

use super::{Size, Sizes};
use crate::gpu::Access;
use std::fmt;
use std::sync::Arc;

/// A number that the host gives anew at each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Low word of the run's seed.
    Seed,
    /// High word of the run's seed.
    SeedHigh,
    /// The step, counted from 1.
    Step,
    /// The learning rate of this step.
    LearningRate,
    /// 1 - βᵗ for this β and the step t.
    Correction(f32),
    /// Sentences of the whole step, which losses and gradients are divided by.
    Sentences,
    /// Number within the whole step of the first sentence of a batch.
    FirstSentence,
    /// The step after which all rows that wait for their updates were last brought up to date.
    Settled,
}

/// The scalars of one step.
#[derive(Debug, Clone, Copy)]
pub struct Scalars {
    /// The run's seed, from which dropout is drawn.
    pub seed: u64,
    /// The step, counted from 1.
    pub step: u32,
    /// The learning rate.
    pub learning_rate: f32,
    /// Sentences of the whole step, which losses and gradients are divided by.
    pub sentences: u32,
    /// Number within the whole step of the first sentence of this batch: a step may be computed in
    /// parts.
    pub first_sentence: u32,
    /// The step after which all rows that wait for their updates were last brought up to date.
    pub settled: u32,
}

impl Default for Scalars {
    fn default() -> Self {
        Self { seed: 0, step: 0, learning_rate: 0.0, sentences: 1, first_sentence: 0, settled: 0 }
    }
}

/// One 32-bit word of a kernel's parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Word {
    /// A size, as `u32`.
    Size(Size),
    /// A number, as `f32`.
    Float(f32),
    /// A number of the step.
    Step(Scalar),
}

impl Word {
    /// The bits that the kernel reads.
    pub fn bits(self, sizes: &Sizes, scalars: &Scalars) -> u32 {
        match self {
            // Plans refuse tensors of 2³² elements, so this never cuts anything.
            Self::Size(size) => size.at(sizes) as u32,
            Self::Float(value) => value.to_bits(),
            Self::Step(Scalar::Seed) => scalars.seed as u32,
            Self::Step(Scalar::SeedHigh) => (scalars.seed >> 32) as u32,
            Self::Step(Scalar::Step) => scalars.step,
            Self::Step(Scalar::LearningRate) => scalars.learning_rate.to_bits(),
            Self::Step(Scalar::Correction(beta)) => {
                let power = f64::from(beta).powi(scalars.step as i32);
                ((1.0 - power) as f32).to_bits()
            }
            Self::Step(Scalar::Sentences) => scalars.sentences,
            Self::Step(Scalar::FirstSentence) => scalars.first_sentence,
            Self::Step(Scalar::Settled) => scalars.settled,
        }
    }
}

impl<T: Into<Size>> From<T> for Word {
    fn from(size: T) -> Self {
        Self::Size(size.into())
    }
}

/// A tensor, by its number in the graph or plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// `ceil(size / per)` workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What is to be covered.
    pub size: Size,
    /// How much of it one workgroup covers.
    pub per: u32,
}

impl Count {
    /// `ceil(size / per)`.
    pub fn new(size: impl Into<Size>, per: u32) -> Self {
        Self { size: size.into(), per }
    }

    fn at(self, sizes: &Sizes) -> u64 {
        self.size.at(sizes).div_ceil(u64::from(self.per))
    }
}

/// How many workgroups a launch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// That many, spread over x and y because a dimension holds 65,535 at most. The shader counts
    /// them as `group.y · groups.x + group.x` and ignores what lies beyond its size.
    Linear(Count),
    /// Along x and along y.
    Plane(Count, Count),
    /// Along x and y, and so many along z.
    Layers(Count, Count, u32),
}

impl Grid {
    /// The numbers to dispatch.
    pub fn at(self, sizes: &Sizes) -> [u64; 3] {
        match self {
            Self::Linear(count) => {
                let count = count.at(sizes);
                let rows = count.div_ceil(u64::from(Self::LIMIT)).max(1);
                [count.div_ceil(rows), rows, 1]
            }
            Self::Plane(x, y) => [x.at(sizes), y.at(sizes), 1],
            Self::Layers(x, y, z) => [x.at(sizes), y.at(sizes), u64::from(z)],
        }
    }

    /// Workgroups in one dimension that every WebGPU device grants.
    pub const LIMIT: u32 = 65_535;
}

/// A shader: its complete text, with the values of its constants fixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The file's name without `.wgsl`.
    pub name: &'static str,
    /// The constants that were set, for people.
    pub constants: String,
    /// The whole text.
    pub text: Arc<str>,
}

impl Shader {
    /// The shader of a file with this text, and the parts that its first line names behind it.
    ///
    /// # Panics
    /// There is no such part: a mistake in Crisp itself, which a test finds.
    pub fn new(name: &'static str, own: &str) -> Self {
        let text = super::parts::complete(own)
            .unwrap_or_else(|part| panic!("{name}.wgsl: there is no shaders/shared/{part}.wgsl"));
        Self { name, constants: String::new(), text: text.into() }
    }

    /// Sets the value in the line `const NAME: type = value;`.
    ///
    /// # Panics
    /// The shader has no such line: a mistake in Crisp itself, which any launch of it shows.
    pub fn with(self, constant: &str, value: impl fmt::Display) -> Self {
        let start = format!("const {constant}: ");
        let mut found = false;
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            match line.strip_prefix(&start).and_then(|rest| rest.split_once(" = ")) {
                Some((kind, rest)) => {
                    let after = rest.split_once(';').map_or("", |(_, after)| after);
                    text.push_str(&format!("{start}{kind} = {value};{after}\n"));
                    found = true;
                }
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        assert!(found, "{}.wgsl has no constant {constant}", self.name);
        let constants = self.with_note(format_args!("{constant}={value}"));
        Self { name: self.name, constants, text: text.into() }
    }

    fn with_note(&self, note: impl fmt::Display) -> String {
        let comma = if self.constants.is_empty() { "" } else { "," };
        format!("{}{comma}{note}", self.constants)
    }

    /// The text that stores in float16 what is at a binding, and the name of what is there; `None`
    /// where the shader knows no such tensor there. A shader that does calls the elements of
    /// `query_key` by a name of their own, in a line `alias QueryKey = vec4f;`, and converts where
    /// it loads and stores. Texels are converted by the device.
    fn in_float16(&self, binding: usize) -> Option<(String, String)> {
        const ENABLE: &str = "enable f16; ";
        let place = format!("@group(0) @binding({binding}) var");
        let declaration = self.text.lines().find(|line| line.starts_with(&place))?;
        let (declared, kind) = declaration[place.len()..].split_once(": ")?;
        let name = declared.rsplit(' ').next()?;
        let text = if kind.starts_with("texture_storage_2d<rgba32float") {
            self.text.replacen(declaration, &declaration.replace("rgba32", "rgba16"), 1)
        } else {
            let alias = format!("alias {} = ", camel_case(name));
            let (_, stored) = self.text.split_once(&alias)?;
            let (before, after) = match stored.split_once(';')?.0 {
                "vec4f" => ("vec4f;", "vec4h;"),
                "f32" => ("f32;", "f16;"),
                _ => return None,
            };
            let text = self.text.replacen(&(alias.clone() + before), &(alias + after), 1);
            if text.starts_with(ENABLE) { text } else { format!("{ENABLE}{text}") }
        };
        Some((text, name.to_owned()))
    }
}

/// `query_key` as `QueryKey`.
fn camel_case(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// One launch of a kernel.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kernel.
    pub shader: Shader,
    /// What it reads and writes, from binding 1 on.
    pub buffers: Vec<(TensorId, Access)>,
    /// Columns of the matrices that it reads as texels, in the order of their bindings.
    pub columns: Vec<u64>,
    /// Its parameters (binding 0), 64 words at most.
    pub parameters: Vec<Word>,
    /// How many workgroups.
    pub grid: Grid,
    /// Floating-point operations, where they are what the kernel's time goes into: the product of
    /// these.
    pub operations: Vec<Size>,
    /// Tensors of which a launch touches only so many elements.
    pub partly: Vec<(TensorId, Size)>,
}

impl Launch {
    /// A launch without buffers yet.
    pub fn new(shader: Shader, parameters: Vec<Word>, grid: Grid) -> Self {
        Self {
            shader,
            buffers: Vec::new(),
            columns: Vec::new(),
            parameters,
            grid,
            operations: Vec::new(),
            partly: Vec::new(),
        }
    }

    /// Adds a buffer that the kernel reads.
    pub fn read(mut self, tensor: TensorId) -> Self {
        self.buffers.push((tensor, Access::Read));
        self
    }

    /// Adds a buffer that the kernel writes.
    pub fn write(mut self, tensor: TensorId) -> Self {
        self.buffers.push((tensor, Access::Write));
        self
    }

    /// Adds a buffer that the kernel changes in place.
    pub fn update(mut self, tensor: TensorId) -> Self {
        self.buffers.push((tensor, Access::Update));
        self
    }

    /// Adds a tensor that the kernel uses in this way.
    pub fn bind(mut self, tensor: TensorId, access: Access) -> Self {
        self.buffers.push((tensor, access));
        self
    }

    /// Adds a matrix of so many columns, which the kernel may read as texels.
    pub fn matrix(mut self, tensor: TensorId, access: Access, columns: impl Into<u64>) -> Self {
        if access.texel().is_some() {
            self.columns.push(columns.into());
        }
        self.bind(tensor, access)
    }

    /// Stores in float16 what is such a tensor. A tensor that stands in for an absent one is taken
    /// for whatever the kernel declares.
    ///
    /// # Errors
    /// The number of a binding that holds float16, and that the kernel does not know to.
    pub fn in_float16(mut self, is_float16: impl Fn(TensorId) -> bool) -> Result<Self, usize> {
        let mut names: Vec<String> = Vec::new();
        for index in 0..self.buffers.len() {
            let (tensor, access) = self.buffers[index];
            if !is_float16(tensor) {
                continue;
            }
            let stands_in = self.buffers[..index].iter().any(|(before, _)| *before == tensor);
            match self.shader.in_float16(index + 1) {
                Some((text, name)) => {
                    self.shader.text = text.into();
                    // What stands in follows from the constants.
                    names.extend((!stands_in).then_some(name));
                }
                None if stands_in => continue,
                None => return Err(index + 1),
            }
            if access == Access::Texels {
                self.buffers[index].1 = Access::HalfTexels;
            }
        }
        if !names.is_empty() {
            let note = format!("F16={}", names.join("."));
            self.shader.constants = self.shader.with_note(note);
        }
        Ok(self)
    }

    /// Says how many floating-point operations a launch needs: the product of these.
    pub fn counting(mut self, operations: impl Into<Vec<Size>>) -> Self {
        self.operations = operations.into();
        self
    }

    /// Says that a launch touches only so many elements of a tensor.
    pub fn touching(mut self, tensor: TensorId, elements: Size) -> Self {
        self.partly.push((tensor, elements));
        self
    }
}

/// What one step does, in order.
#[expect(clippy::large_enum_variant, reason = "nearly all commands are launches")]
#[derive(Debug, Clone)]
pub enum Command {
    /// Runs a kernel.
    Launch(Launch),
    /// Fills a tensor with zeros.
    Clear(TensorId),
}
