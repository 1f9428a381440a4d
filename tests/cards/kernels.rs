//! The kernels for cards that models take: their texts, and as what a driver gets them.

use crisp::gpu::Abilities;
use crisp::graph::{Plan, Precision};
use crisp::kernels::{Command, Launch, Shader, Sizes};
use crisp::model::Config;
use crisp::parallel;
use crisp::sparsity::Policy;
use crisp::train::{POLICIES, plans};
use naga::AddressSpace;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// A model whose kernels are compiled.
pub struct Model {
    pub name: &'static str,
    /// Components of a head, which is what budgets go by.
    pub head_dim: u32,
    /// Its `config.json`.
    config: &'static str,
}

/// One for each size of a head that is common.
pub const MODELS: [Model; 3] = [
    Model {
        name: "DistilBERT-base",
        head_dim: 64,
        config: r#"{"model_type": "distilbert", "dim": 768, "n_heads": 12, "n_layers": 6,
            "hidden_dim": 3072, "vocab_size": 30522, "max_position_embeddings": 512,
            "activation": "gelu"}"#,
    },
    Model {
        name: "MiniLM-L6",
        head_dim: 32,
        config: r#"{"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12,
            "num_hidden_layers": 6, "intermediate_size": 1536, "vocab_size": 30522,
            "max_position_embeddings": 512, "hidden_act": "gelu"}"#,
    },
    Model {
        name: "a model with heads of 128",
        head_dim: 128,
        config: r#"{"model_type": "distilbert", "dim": 1024, "n_heads": 8, "n_layers": 6,
            "hidden_dim": 4096, "vocab_size": 30522, "max_position_embeddings": 512,
            "activation": "gelu"}"#,
    },
];

/// What cards can do, and the floor that has no subgroup functions.
const ABILITIES: [Abilities; 2] = [Abilities::GPU, Abilities::PLAIN_GPU];
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Mixed];
/// The cards that have cooperative matrices of float16 for drivers that compile without a card:
/// NVIDIA's, with subgroups of 32, and AMD's, with subgroups of 64.
const WITH_MATRICES: [Abilities; 2] = [Abilities::WITH_MATRICES[0], Abilities::WITH_MATRICES[1]];

/// A batch of sentences of one length.
#[derive(Clone, Copy)]
pub struct Batch {
    pub sentences: u32,
    pub tokens: u32,
}

/// What a step on SST-2 looks like.
pub const SST2: Batch = Batch { sentences: 32, tokens: 18 };
/// What a step on long texts looks like.
const LONG: Batch = Batch { sentences: 16, tokens: 512 };

impl Batch {
    /// The sizes of such a batch, where half of the words are distinct.
    pub fn sizes(self, model: &Model, policy: &Policy) -> Sizes {
        let offsets: Vec<u32> =
            (0..=self.sentences).map(|sentence| sentence * self.tokens).collect();
        let rules = policy.training().for_layers(model.config().encoder.layers);
        let masks = rules.expect("a policy for all layers").masks(&offsets);
        Sizes::of_batch(&offsets, (self.sentences * self.tokens / 2) as usize, &masks)
    }
}

impl Model {
    pub fn config(&self) -> Config {
        Config::from_json(Path::new(self.name), self.config).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The plans of training, training in parts and evaluation under a policy.
    pub fn plans(
        &self,
        policy: &str,
        precision: Precision,
        abilities: Abilities,
        batch: Batch,
    ) -> Vec<(&'static str, Plan)> {
        let policy: Policy = policy.parse().unwrap_or_else(|why| panic!("{why}"));
        let sizes = batch.sizes(self, &policy);
        plans(&self.config(), &policy, precision, &abilities.into(), sizes)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Every text that these plans take, at SST-2's lengths and at long ones, by kernel and
    /// constants.
    fn texts(&self) -> Vec<Text> {
        let mut texts = BTreeMap::new();
        let all = ABILITIES.into_iter().flat_map(|it| PRECISIONS.map(|precision| (it, precision)));
        for (abilities, precision) in all {
            for (policy, batch) in POLICIES.iter().flat_map(|it| [(it, SST2), (it, LONG)]) {
                for launch in self.launches(policy, precision, abilities, batch) {
                    let key = (launch.shader.name, launch.shader.constants.clone());
                    let new = || Text { launch, with_subgroups: false, lanes: 0 };
                    let text = texts.entry(key).or_insert_with(new);
                    text.with_subgroups |= abilities.subgroups;
                }
            }
        }
        // Whatever the policy is, products are the same.
        for (abilities, batch) in WITH_MATRICES.into_iter().flat_map(|it| [(it, SST2), (it, LONG)])
        {
            let launches = self.launches(POLICIES[0], Precision::Mixed, abilities, batch);
            for launch in launches.filter(|launch| launch.shader.name.ends_with("_matrices")) {
                let key = (launch.shader.name, launch.shader.constants.clone());
                let text = Text { launch, with_subgroups: true, lanes: abilities.lanes };
                texts.insert(key, text);
            }
        }
        texts.into_values().collect()
    }

    fn launches(
        &self,
        policy: &str,
        precision: Precision,
        abilities: Abilities,
        batch: Batch,
    ) -> impl Iterator<Item = Launch> {
        let plans = self.plans(policy, precision, abilities, batch);
        let commands = plans.into_iter().flat_map(|(_, plan)| plan.commands);
        commands.filter_map(|(_, command)| match command {
            Command::Launch(launch) => Some(launch),
            Command::Clear(_) => None,
        })
    }
}

/// A text that some plan takes.
struct Text {
    launch: Launch,
    with_subgroups: bool,
    lanes: u32,
}

/// All kernels of all models.
pub struct Catalogue {
    pub models: Vec<(&'static Model, Vec<Kernel>)>,
    /// What they are as SPIR-V, each once.
    pub modules: Vec<Compiled>,
}

/// A kernel of a model, with its constants set.
pub struct Kernel {
    pub name: &'static str,
    /// Its constants, as `NAME=value,…`.
    pub constants: String,
    /// Whether a card with subgroup functions takes it.
    pub with_subgroups: bool,
    /// Its number among the modules.
    pub module: usize,
}

/// A kernel as a driver gets it.
pub struct Compiled {
    pub name: String,
    pub code: Vec<u32>,
    /// How many storage buffers it binds.
    pub storage_buffers: u32,
    /// Invocations of the subgroups that it is for, if it has cooperative matrices; else 0.
    pub lanes: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
}

impl Catalogue {
    /// Plans every model and compiles what the plans take.
    pub fn new() -> Self {
        let (mut models, mut modules) = (Vec::new(), Vec::new());
        let mut numbers: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let Ok(texts) = parallel::map(&MODELS, |model| Ok::<_, Infallible>(model.texts()));
        for (model, texts) in MODELS.iter().zip(texts) {
            let mut kernels = Vec::new();
            for Text { launch, with_subgroups, lanes } in texts {
                let shader = launch.shader;
                let module = *numbers.entry(shader.text.clone()).or_insert_with(|| {
                    modules.push(Compiled::new(&shader, launch.buffers.len() as u32, lanes));
                    modules.len() - 1
                });
                let Shader { name, constants, .. } = shader;
                kernels.push(Kernel { name, constants, with_subgroups, module });
            }
            models.push((model, kernels));
        }
        Self { models, modules }
    }
}

impl Compiled {
    /// The SPIR-V that wgpu makes of a text in a release build.
    pub fn new(shader: &Shader, storage_buffers: u32, lanes: u32) -> Self {
        let name = format!("{}({})", shader.name, shader.constants);
        // As `Device::pipeline` does.
        let text = shader.text.replacen("enable subgroups;", "", 1);
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|why| panic!("{}", why.emit_to_string_with_path(&text, &name)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::all())
            .validate(&module)
            .unwrap_or_else(|why| panic!("{}", why.emit_to_string_with_path(&text, &name)));
        let unchecked = BoundsCheckPolicy::Unchecked;
        // As wgpu sets them for a trusted module on a device of Vulkan 1.3.
        let options = spv::Options {
            lang_version: (1, 6),
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            bounds_check_policies: BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ..Default::default()
        };
        let pipeline = spv::PipelineOptions {
            shader_stage: naga::ShaderStage::Compute,
            entry_point: "main".into(),
        };
        let code = spv::write_vec(&module, &info, &options, Some(&pipeline))
            .unwrap_or_else(|why| panic!("{name}: {why}"));
        let uses = info.get_entry_point(0);
        let variables = module.global_variables.iter().filter(|(handle, variable)| {
            variable.space == AddressSpace::WorkGroup && !uses[*handle].is_empty()
        });
        let bytes =
            |variable: &naga::GlobalVariable| module.types[variable.ty].inner.size(module.to_ctx());
        let workgroup_bytes = variables.map(|(_, variable)| bytes(variable)).sum();
        let invocations = module.entry_points[0].workgroup_size.iter().product();
        Self { name, code, storage_buffers, lanes, invocations, workgroup_bytes }
    }
}
