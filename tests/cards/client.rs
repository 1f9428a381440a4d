//! What the driver of the first Vulkan device makes of compute shaders: it compiles each and says
//! so through `VK_KHR_pipeline_executable_properties`. Nothing is computed.
//!
//! wgpu has no such question, and cannot open every device that has the answers (RADV's null device
//! has no queue that finishes). So this is Vulkan by hand, with the features that wgpu asks for.

#![expect(unsafe_code, reason = "Vulkan is an unsafe interface")]

use super::drivers::MATRIX_INSTRUCTIONS;
use ash::{Device, Entry, Instance, khr, vk};
use serde_json::{Map, Value};
use std::ffi::{CStr, c_char};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Prints the name of the driver, then one line of JSON for each SPIR-V module in a directory: an
/// object with the driver's statistics by their names, or `error` if it does not compile. The names
/// of the files, `NUMBER-BUFFERS-LANES.spv`, say how many storage buffers a module binds, and for
/// subgroups of how many invocations with cooperative matrices it is; 0 for all. Those that are not
/// for `lanes` are not compiled.
pub fn print_statistics(directory: &Path, lanes: u32) -> Result<(), String> {
    let says = |why: io::Error| format!("{}: {why}", directory.display());
    let entries = fs::read_dir(directory).map_err(says)?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(says)?;
    files.sort();
    let client = Client::open()?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", client.driver).map_err(says)?;
    for file in files {
        let code: Vec<u32> = bytemuck::pod_collect_to_vec(&fs::read(&file).map_err(says)?);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let numbers: Vec<u32> = name.split('-').filter_map(|number| number.parse().ok()).collect();
        let [_, buffers, wanted] = numbers[..] else {
            return Err(format!("{name}: is no NUMBER-BUFFERS-LANES"));
        };
        let statistics = match wanted == 0 || wanted == lanes {
            true => client
                .statistics(&code, buffers, wanted > 0)
                .unwrap_or_else(|why| Map::from_iter([("error".into(), why.into())])),
            false => Map::new(),
        };
        writeln!(out, "{}", Value::from(statistics)).map_err(says)?;
    }
    Ok(())
}

/// An open device.
struct Client {
    /// The driver's name and version.
    driver: String,
    device: Device,
    executables: khr::pipeline_executable_properties::Device,
    instance: Instance,
    /// The library of the loader: everything above ends before it does.
    _entry: Entry,
}

impl Client {
    fn open() -> Result<Self, String> {
        let says = |what: &str| {
            let what = what.to_owned();
            move |why: vk::Result| format!("{what}: {why}")
        };
        // SAFETY: the loader is a library without duties for who loads it; each structure below
        // lives as long as the call that reads it, and each handle is of this instance.
        unsafe {
            let entry = Entry::load().map_err(|why| format!("no Vulkan loader: {why}"))?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let create = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&create, None).map_err(says("no instance"))?;
            let devices = instance.enumerate_physical_devices().map_err(says("no devices"))?;
            let physical = *devices.first().ok_or("no Vulkan device")?;
            let extensions = instance
                .enumerate_device_extension_properties(physical)
                .map_err(says("no extensions"))?;
            let offers = |name: &CStr| {
                extensions.iter().any(|offered| offered.extension_name_as_c_str() == Ok(name))
            };
            let name = khr::pipeline_executable_properties::NAME;
            if !offers(name) {
                return Err("the driver gives no statistics of pipelines".into());
            }
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let part =
                |text: &[c_char]| CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
            let driver = format!("{} {}", part(&driver.driver_name), part(&driver.driver_info));
            // What wgpu switches on where it is offered, and a driver compiles differently for.
            let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut vulkan_11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut vulkan_12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut vulkan_13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut vulkan_11)
                .push_next(&mut vulkan_12)
                .push_next(&mut vulkan_13);
            let mut names = vec![name.as_ptr()];
            if offers(ash::ext::robustness2::NAME) {
                names.push(ash::ext::robustness2::NAME.as_ptr());
                features = features.push_next(&mut robustness);
            }
            if offers(khr::cooperative_matrix::NAME) {
                names.push(khr::cooperative_matrix::NAME.as_ptr());
                features = features.push_next(&mut matrices);
            }
            instance.get_physical_device_features2(physical, &mut features);
            let mut executables =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                    .pipeline_executable_info(true);
            let mut features = features.push_next(&mut executables);
            let queue = vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0]);
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(std::slice::from_ref(&queue))
                .enabled_extension_names(&names)
                .push_next(&mut features);
            let device =
                instance.create_device(physical, &create, None).map_err(says("no device"))?;
            let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self { driver, device, executables, instance, _entry: entry })
        }
    }

    /// The statistics of a module whose entry point is `main`, binding 0 uniform and so many
    /// storage buffers behind it, and the instructions that multiply matrices if they are to be
    /// counted.
    fn statistics(
        &self,
        code: &[u32],
        buffers: u32,
        matrices: bool,
    ) -> Result<Map<String, Value>, String> {
        let bindings: Vec<_> = (0..=buffers)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(match binding {
                        0 => vk::DescriptorType::UNIFORM_BUFFER,
                        _ => vk::DescriptorType::STORAGE_BUFFER,
                    })
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        // SAFETY: as in `open`; the module was validated, and what is destroyed is used no more.
        unsafe {
            let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let set = self.device.create_descriptor_set_layout(&create, None).map_err(text)?;
            let create =
                vk::PipelineLayoutCreateInfo::default().set_layouts(std::slice::from_ref(&set));
            let layout = self.device.create_pipeline_layout(&create, None).map_err(text)?;
            let create = vk::ShaderModuleCreateInfo::default().code(code);
            let module = self.device.create_shader_module(&create, None).map_err(text)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(c"main");
            let code = match matrices {
                true => vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                false => vk::PipelineCreateFlags::empty(),
            };
            let create = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | code)
                .stage(stage)
                .layout(layout);
            let pipelines =
                self.device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None);
            let pipeline = pipelines.map_err(|(_, why)| text(why))?[0];
            let statistics = self.of_pipeline(pipeline, matrices).map_err(text);
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_shader_module(module, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(set, None);
            statistics
        }
    }

    /// All that is said of a pipeline. A driver may split it into several programs; the last is the
    /// shader, and what stands before it prepares.
    unsafe fn of_pipeline(
        &self,
        pipeline: vk::Pipeline,
        matrices: bool,
    ) -> Result<Map<String, Value>, vk::Result> {
        // SAFETY: the pipeline is alive, and captures statistics; each value is read as the format
        // that comes with it says.
        unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let programs = self.executables.get_pipeline_executable_properties(&info)?.len();
            let info = vk::PipelineExecutableInfoKHR::default()
                .pipeline(pipeline)
                .executable_index((programs - 1) as u32);
            let statistics = self.executables.get_pipeline_executable_statistics(&info)?;
            let read = |statistic: &vk::PipelineExecutableStatisticKHR<'_>| {
                let name = CStr::from_ptr(statistic.name.as_ptr()).to_string_lossy().into_owned();
                let value = match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::BOOL32 => {
                        (statistic.value.b32 != 0).into()
                    }
                    vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64.into(),
                    vk::PipelineExecutableStatisticFormatKHR::UINT64 => statistic.value.u64.into(),
                    _ => statistic.value.f64.into(),
                };
                (name, value)
            };
            let mut statistics: Map<String, Value> = statistics.iter().map(read).collect();
            if matrices {
                let count = self.matrix_instructions(&info)?;
                statistics.insert(MATRIX_INSTRUCTIONS.into(), count.into());
            }
            Ok(statistics)
        }
    }

    /// How many instructions multiply matrices in the machine's code, which the driver was asked to
    /// keep.
    unsafe fn matrix_instructions(
        &self,
        program: &vk::PipelineExecutableInfoKHR<'_>,
    ) -> Result<u64, vk::Result> {
        // SAFETY: the program is alive; the driver is told how much room each text has.
        unsafe {
            let mut kept =
                self.executables.get_pipeline_executable_internal_representations(program)?;
            let mut texts: Vec<Vec<u8>> = kept.iter().map(|it| vec![0; it.data_size]).collect();
            for (kept, text) in kept.iter_mut().zip(&mut texts) {
                kept.p_data = text.as_mut_ptr().cast();
            }
            let mut count = kept.len() as u32;
            let fetch = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            let device = self.executables.device();
            fetch(device, program, &mut count, kept.as_mut_ptr()).result()?;
            // Several stages of compilation, of which the last is the machine's code.
            let code = texts.last().map(|code| String::from_utf8_lossy(code).to_lowercase());
            let multiplies = |line: &&str| line.contains("hmma") || line.contains("wmma");
            Ok(code.map_or(0, |code| code.lines().filter(multiplies).count() as u64))
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: nothing made from either is left.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

fn text(why: vk::Result) -> String {
    why.to_string()
}
