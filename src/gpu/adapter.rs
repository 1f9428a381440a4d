//! Which adapters there are, which one to take, and what to do where there is none.

use super::offer::{self, Offer};
use crate::error::{Error, Result};
use serde::Serialize;

/// Cooperative matrices: square ones, whose products a subgroup computes together, with sums in
/// float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Matrices {
    /// Rows and columns of those of float16.
    pub float16: Option<u32>,
    /// Rows and columns of those of float32.
    pub float32: Option<u32>,
}

impl Matrices {
    /// There are none.
    pub const NONE: Self = Self { float16: None, float32: None };

    /// Whether there are any.
    pub fn any(self) -> bool {
        self != Self::NONE
    }
}

/// What a person, or a run record, wants to know of an adapter.
#[derive(Debug, Clone, Serialize)]
pub struct AdapterDescription {
    /// The name the driver gives, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's version.
    pub driver_version: String,
    /// A software adapter: correct, and slow.
    pub software: bool,
    /// Subgroup functions in shaders.
    pub subgroups: bool,
    /// Smallest and largest subgroup, `[0, 0]` where the driver does not say.
    pub subgroup_sizes: [u32; 2],
    /// Largest storage buffer that a kernel can be given, in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, in bytes.
    pub max_workgroup_bytes: u32,
    /// Storage buffers that one kernel can be given.
    pub max_storage_buffers: u32,
    /// Half-precision arithmetic in shaders.
    pub shader_f16: bool,
    /// Timestamps inside command buffers.
    pub timestamps: bool,
    /// Cooperative matrices.
    pub matrices: Matrices,
}

impl AdapterDescription {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let Offer { features, limits } = Offer::of(adapter);
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        Self {
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete",
                wgpu::DeviceType::IntegratedGpu => "integrated",
                wgpu::DeviceType::VirtualGpu => "virtual",
                wgpu::DeviceType::Cpu => "cpu",
                wgpu::DeviceType::Other => "other",
            },
            software: info.device_type == wgpu::DeviceType::Cpu,
            name: info.name,
            backend: info.backend.to_string(),
            driver: info.driver,
            driver_version: info.driver_info,
            subgroups,
            subgroup_sizes: match subgroups {
                true => [info.subgroup_min_size, info.subgroup_max_size],
                false => [0, 0],
            },
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            matrices: matrices(adapter, features, &limits),
        }
    }
}

/// What kernels need of a device that is to compute with cooperative matrices: one whose matrices
/// are of float16, if not of float32.
pub(super) const FOR_MATRICES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Bytes of workgroup memory that kernels with cooperative matrices take at most.
pub(super) const BYTES_FOR_MATRICES: u32 = 32 << 10;

/// The cooperative matrices that kernels know and an adapter has: square ones with sums in float32.
fn matrices(adapter: &wgpu::Adapter, features: wgpu::Features, limits: &wgpu::Limits) -> Matrices {
    let info = adapter.get_info();
    // Mesa 26's lavapipe names them whatever its vectors are. With those of 128 bits it refuses a
    // device that is to have them, and with those of 512 it falls over.
    let sound = info.device_type != wgpu::DeviceType::Cpu
        || [info.subgroup_min_size, info.subgroup_max_size] == [8, 8];
    let bytes = limits.max_compute_workgroup_storage_size;
    if !sound || !features.contains(FOR_MATRICES) || bytes < BYTES_FOR_MATRICES {
        return Matrices::NONE;
    }
    let offered = adapter.cooperative_matrix_properties();
    let edge = |factor: wgpu::CooperativeScalarType| {
        let fits = |it: &&wgpu::CooperativeMatrixProperties| {
            it.ab_type == factor
                && it.cr_type == wgpu::CooperativeScalarType::F32
                && it.m_size == it.n_size
                && it.n_size == it.k_size
        };
        offered.iter().filter(fits).map(|it| it.m_size).max()
    };
    Matrices {
        float16: edge(wgpu::CooperativeScalarType::F16),
        float32: edge(wgpu::CooperativeScalarType::F32),
    }
}

/// Every adapter of the three back ends, the most able kind first.
pub fn adapters() -> Vec<AdapterDescription> {
    enumerate().iter().map(AdapterDescription::of).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let mut found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    // A stable sort: among equals the driver's own order stands.
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

/// The first adapter whose name, driver, back end or kind contains `wanted` (case-insensitive), or
/// the most able one.
pub(super) fn choose(wanted: Option<&str>) -> Result<(wgpu::Adapter, AdapterDescription)> {
    offer::check()?;
    let found = enumerate();
    if found.is_empty() {
        return Err(Error::device("no GPU adapter was found, and no software one either")
            .remedy(driver_advice()));
    }
    let mut names = Vec::new();
    for adapter in found {
        let description = AdapterDescription::of(&adapter);
        let searched = format!(
            "{} {} {} {}",
            description.name, description.driver, description.backend, description.kind
        )
        .to_lowercase();
        if wanted.is_none_or(|wanted| searched.contains(&wanted.to_lowercase())) {
            return Ok((adapter, description));
        }
        names.push(format!("{} ({}, {})", description.name, description.backend, description.kind));
    }
    Err(Error::device(format!("no adapter matches '{}'", wanted.unwrap_or_default()))
        .remedy(format!("There is: {}.", names.join("; "))))
}

/// What to install on this system so that there is an adapter.
fn driver_advice() -> String {
    if cfg!(target_os = "linux") {
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let has = |word: &str| release.to_lowercase().contains(word);
        let command = if has("debian") || has("ubuntu") {
            "apt-get install mesa-vulkan-drivers libvulkan1"
        } else if has("fedora") || has("rhel") || has("suse") {
            "dnf install mesa-vulkan-drivers vulkan-loader"
        } else if has("arch") {
            "pacman -S vulkan-swrast vulkan-icd-loader"
        } else {
            "install Mesa's Vulkan drivers and the Vulkan loader (libvulkan.so.1)"
        };
        format!(
            "For a software adapter, or an AMD or Intel card: {command}\n  \
             For an NVIDIA card: install NVIDIA's driver with its Vulkan part."
        )
    } else if cfg!(target_os = "windows") {
        "Install the graphics card's driver: Windows 10 or later brings DX12 with it.".into()
    } else if cfg!(target_os = "macos") {
        "Crisp needs a Mac with Metal (macOS 10.15 or later), outside of a sandbox without a GPU."
            .into()
    } else {
        "Install a Vulkan driver for this system.".into()
    }
}
