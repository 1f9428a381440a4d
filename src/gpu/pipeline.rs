//! Compiled kernels and the buffers bound to them.

use super::{Buffer, Device, KernelPace, Texel, Texture, cut};
use crate::error::{Advice, Error, Result};
use crate::parallel;
use std::sync::OnceLock;

/// How a kernel uses a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`, written.
    Write,
    /// `var<storage, read_write>`, read and written in place.
    Update,
    /// `texture_storage_2d<rgba32float, read>`: reads a copy of the buffer, made before the launch.
    Texels,
    /// Likewise, of `rgba16float`.
    HalfTexels,
}

impl Access {
    /// The texels of a copy that is read.
    pub fn texel(self) -> Option<Texel> {
        match self {
            Self::Read | Self::Write | Self::Update => None,
            Self::Texels => Some(Texel::Single),
            Self::HalfTexels => Some(Texel::Half),
        }
    }
}

/// What is bound for an [`Access`].
pub enum Resource<'a> {
    /// For `Read`, `Write` and `Update`.
    Buffer(&'a Buffer),
    /// For `Texels` and `HalfTexels`.
    Texture(&'a Texture),
}

/// A compiled kernel. Binding 0 is its parameters (uniform), the others are what it reads and
/// writes, in the order of `accesses`.
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    name: String,
    /// The text that computes some of the workgroups, if a dispatch can be cut.
    text_in_pieces: Option<String>,
    /// That text, compiled when a dispatch was first cut.
    pub(super) in_pieces: OnceLock<wgpu::ComputePipeline>,
    /// How fast it is.
    pub pace: KernelPace,
}

/// What a line of a text asks a device for.
const NEEDED: [(&str, wgpu::Features, &str); 2] = [
    ("enable subgroups;", wgpu::Features::SUBGROUP, "subgroup functions"),
    ("enable f16;", wgpu::Features::SHADER_F16, "float16"),
];

/// The buffers of one dispatch.
pub struct BindGroup(pub(super) wgpu::BindGroup);

impl Device {
    /// Compiles a kernel whose entry point is `main`.
    ///
    /// # Errors
    /// What the compiler or the driver says, with the kernel's name.
    pub fn pipeline(&self, name: &str, source: &str, accesses: &[Access]) -> Result<Pipeline> {
        let mut entries = vec![layout_entry(0, buffer_layout(wgpu::BufferBindingType::Uniform))];
        for (index, access) in accesses.iter().enumerate() {
            let storage = |read_only| buffer_layout(wgpu::BufferBindingType::Storage { read_only });
            let ty = match access.texel() {
                Some(texel) => wgpu::BindingType::StorageTexture {
                    access: wgpu::StorageTextureAccess::ReadOnly,
                    format: texel.format(),
                    view_dimension: wgpu::TextureViewDimension::D2,
                },
                None => storage(*access == Access::Read),
            };
            entries.push(layout_entry(index as u32 + 1, ty));
        }
        let doing = format!("describing the buffers of the kernel {name}");
        let layout = self.scoped(&doing, || {
            self.raw.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(name),
                entries: &entries,
            })
        })?;
        Ok(Pipeline {
            raw: self.compile(name, source, &[Some(&layout)])?,
            layout,
            name: name.into(),
            text_in_pieces: cut::in_pieces(source),
            in_pieces: OnceLock::new(),
            pace: KernelPace::default(),
        })
    }

    /// Compiles what computes pieces of a kernel's dispatches, where there is such a text and it
    /// was not compiled before; says whether there is.
    ///
    /// # Errors
    /// As [`Device::pipeline`].
    pub fn prepare_pieces(&self, pipeline: &Pipeline) -> Result<bool> {
        if let (Some(text), None) = (&pipeline.text_in_pieces, pipeline.in_pieces.get()) {
            let name = format!("{} in pieces", pipeline.name);
            let layouts = [Some(&pipeline.layout), Some(&self.pieces.told(&self.raw).layout)];
            let compiled = self.compile(&name, text, &layouts)?;
            // Another thread may have been faster, with the same.
            let _ = pipeline.in_pieces.set(compiled);
            // The driver compiles the rest of it when it first runs.
            pipeline.pace.runs_anew();
        }
        Ok(pipeline.text_in_pieces.is_some())
    }

    fn compile(
        &self,
        name: &str,
        source: &str,
        layouts: &[Option<&wgpu::BindGroupLayout>],
    ) -> Result<wgpu::ComputePipeline> {
        for (line, feature, what) in NEEDED {
            if source.contains(line) && !self.raw.features().contains(feature) {
                let adapter = &self.adapter.name;
                return Err(Error::device(format!(
                    "the kernel {name} needs {what}, which {adapter} has not"
                ))
                .advice(Advice::OtherAdapter));
            }
        }
        self.scoped(&format!("compiling the kernel {name}"), || {
            // WGSL wants the line, and naga does not know it yet.
            let source = source.replacen("enable subgroups;", "", 1);
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(name),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            };
            let module = if cfg!(debug_assertions) {
                self.raw.create_shader_module(descriptor)
            } else {
                #[expect(unsafe_code, reason = "checks cost half of the speed on lavapipe")]
                // SAFETY: the kernels are our own, guard every index themselves, and run with the
                // driver's checks in debug builds and in the tests of every awkward size.
                unsafe {
                    self.raw.create_shader_module_trusted(
                        descriptor,
                        wgpu::ShaderRuntimeChecks::unchecked(),
                    )
                }
            };
            let pipeline_layout =
                self.raw.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: Some(name),
                    bind_group_layouts: layouts,
                    immediate_size: 0,
                });
            self.raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: self.pipelines.as_ref().map(|(cache, _)| cache),
            })
        })
    }

    /// Compiles kernels side by side, on as many threads as there are cores.
    ///
    /// # Errors
    /// As [`Device::pipeline`], for the first that does not compile.
    pub fn pipelines(&self, kernels: &[(&str, &str, Vec<Access>)]) -> Result<Vec<Pipeline>> {
        parallel::map(kernels, |(name, text, accesses)| self.pipeline(name, text, accesses))
    }

    /// Binds the parameters at `offset` of `parameters` and what the kernel reads and writes.
    ///
    /// # Errors
    /// A resource that does not fit the kernel's declaration.
    pub fn bind(
        &self,
        name: &str,
        pipeline: &Pipeline,
        parameters: (&Buffer, u64),
        resources: &[Resource<'_>],
    ) -> Result<BindGroup> {
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &parameters.0.raw,
                offset: parameters.1,
                size: std::num::NonZeroU64::new(Self::PARAMETER_STRIDE),
            }),
        }];
        for (index, resource) in resources.iter().enumerate() {
            entries.push(wgpu::BindGroupEntry {
                binding: index as u32 + 1,
                resource: match resource {
                    Resource::Buffer(buffer) => buffer.binding(),
                    Resource::Texture(texture) => wgpu::BindingResource::TextureView(&texture.view),
                },
            });
        }
        self.scoped(&format!("binding the buffers of {name}"), || {
            BindGroup(self.raw.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(name),
                layout: &pipeline.layout,
                entries: &entries,
            }))
        })
    }

    /// Bytes between the parameters of one dispatch and those of the next: the alignment that
    /// every WebGPU device grants.
    pub const PARAMETER_STRIDE: u64 = 256;
}

fn buffer_layout(ty: wgpu::BufferBindingType) -> wgpu::BindingType {
    wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None }
}

fn layout_entry(binding: u32, ty: wgpu::BindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry { binding, visibility: wgpu::ShaderStages::COMPUTE, ty, count: None }
}
