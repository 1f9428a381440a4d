//! The device and its queue, and the errors that come back from them.

use super::adapter::{self, AdapterDescription};
use super::cut::Pieces;
use super::memory::Memory;
use super::offer::Offer;
use super::pace::Pace;
use crate::error::{Advice, Error, Result};
use crate::files;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// Something that the device has been given to do.
pub struct Submission(pub(super) wgpu::SubmissionIndex);

/// An open device: everything that Crisp computes is computed on one of these.
pub struct Device {
    pub(super) raw: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// The adapter behind it.
    pub adapter: AdapterDescription,
    /// Largest storage binding of this device, in bytes.
    pub max_binding_bytes: u64,
    /// How much it is given to do at a time.
    pub pace: Pace,
    pub(super) pieces: Pieces,
    pub(super) memory: Arc<Memory>,
    /// What the driver has compiled before, and the file it is kept in; where the back end has such
    /// a cache, and the system a place for it.
    pub(super) pipelines: Option<(wgpu::PipelineCache, PathBuf)>,
    failure: Arc<Mutex<Option<Failure>>>,
    /// Submissions until the device is given up, where that is asked for.
    left: Option<AtomicI64>,
}

/// What a device has reported outside of a call.
#[derive(Debug, Clone)]
enum Failure {
    /// The driver gave up, or the card is gone.
    Lost(String),
    OutOfMemory,
    /// A command that it refuses, or a mistake of the driver.
    Refused(String),
}

impl Device {
    /// Opens the most able adapter, or the first whose name, driver, back end or kind contains
    /// `wanted`.
    ///
    /// # Errors
    /// No adapter at all (says which driver to install), none of that name (lists those there are),
    /// or one that refuses a device.
    pub fn open(wanted: Option<&str>) -> Result<Self> {
        let (adapter, description) = adapter::choose(wanted)?;
        let Offer { mut features, limits: offered } = Offer::of(&adapter);
        // The default WebGPU limits are enough for every kernel. Only the sizes of buffers and
        // textures are raised to what the adapter has, for models whose largest tensor would not
        // fit otherwise.
        let mut limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_texture_dimension_2d: offered.max_texture_dimension_2d,
            ..wgpu::Limits::default().or_worse_values_from(&offered)
        };
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if !description.matrices.any() {
            features.remove(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        } else {
            limits.max_compute_workgroup_storage_size = adapter::BYTES_FOR_MATRICES;
            #[expect(unsafe_code, reason = "wgpu calls cooperative matrices an experiment")]
            // SAFETY: of all that it calls so, only cooperative matrices are asked for. They are
            // used by texts of our own, which guard every index and keep to what naga translates
            // rightly, and the doctor and the tuner hold each such kernel against float64.
            unsafe {
                experimental_features = wgpu::ExperimentalFeatures::enabled();
            }
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("crisp"),
            required_features: features,
            experimental_features,
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let (raw, queue) =
            pollster::block_on(adapter.request_device(&descriptor)).map_err(|why| {
                Error::device(format!("{}: the adapter refuses a device: {why}", description.name))
                    .advice(Advice::OtherAdapter)
            })?;
        let left = submissions_left()?;
        let failure = Arc::new(Mutex::new(None));
        let seen = failure.clone();
        raw.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let failure = match error {
                wgpu::Error::OutOfMemory { .. } => Failure::OutOfMemory,
                other => Failure::Refused(other.to_string()),
            };
            record(&seen, failure);
        }));
        let seen = failure.clone();
        raw.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed || left.is_some() {
                record(&seen, Failure::Lost(message));
            }
        });
        let pipelines = open_cache(&raw, &adapter.get_info());
        Ok(Self {
            pipelines,
            raw,
            queue,
            adapter: description,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            pace: Pace::default(),
            pieces: Pieces::default(),
            memory: Arc::default(),
            failure,
            left: left.map(AtomicI64::new),
        })
    }

    /// Keeps what the driver has compiled for the next time. Nothing is lost where that fails: it
    /// is compiled again.
    pub fn keep_pipelines(&self) {
        let Some((cache, path)) = &self.pipelines else { return };
        let Some(data) = cache.get_data() else { return };
        let content = [&Sha256::digest(&data)[..], &data].concat();
        let known = std::fs::read(path).is_ok_and(|known| known == content);
        if !known && path.parent().is_some_and(|parent| files::create_dir(parent).is_ok()) {
            let _ = files::write(path, &content);
        }
    }

    /// Checks that kernels can store float16.
    ///
    /// # Errors
    /// They cannot, on this adapter.
    pub fn expect_float16(&self) -> Result<()> {
        if self.raw.features().contains(wgpu::Features::SHADER_F16) {
            return Ok(());
        }
        Err(Error::device(format!(
            "{} (driver {}) has no float16 in shaders, which mixed precision is made of",
            self.adapter.name, self.adapter.driver
        ))
        .advice(Advice::SinglePrecision))
    }

    /// Bytes held in buffers of this device now.
    pub fn allocated_bytes(&self) -> u64 {
        self.memory.now()
    }

    /// Most bytes that were held in buffers of this device at a time.
    pub fn peak_bytes(&self) -> u64 {
        self.memory.peak()
    }

    /// The first error that the device has reported outside of a call, if any.
    ///
    /// # Errors
    /// That error: device loss, out of memory, or a validation error, after `doing`.
    pub fn check(&self, doing: &str) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            None => Ok(()),
            Some(Failure::Lost(why)) => {
                let AdapterDescription { name, driver, driver_version, .. } = &self.adapter;
                let why = if why.is_empty() { "it does not say why" } else { why };
                Err(Error::device(format!(
                    "{doing}: the device was lost: {name}, driver {driver} {driver_version} ({why})"
                ))
                .advice(Advice::LighterOrOtherDevice))
            }
            Some(Failure::OutOfMemory) => Err(self.out_of_memory(doing)),
            Some(Failure::Refused(why)) => {
                Err(Error::device(format!("{doing}: {why}")).advice(Advice::LighterOrOtherDevice))
            }
        }
    }

    fn out_of_memory(&self, doing: &str) -> Error {
        let (name, held) = (&self.adapter.name, self.allocated_bytes());
        Error::device(format!(
            "{doing}: {name} is out of memory, with {held} bytes in use by this program"
        ))
        .advice(Advice::SmallerBatch)
    }

    /// Hands commands to the device.
    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> Submission {
        let submission = Submission(self.queue.submit([encoder.finish()]));
        let left = self.left.as_ref().map(|left| left.fetch_sub(1, Ordering::Relaxed));
        if left == Some(1) {
            self.raw.destroy();
        }
        submission
    }

    /// Runs `work` and returns the validation, out-of-memory or internal error that it raised.
    pub(super) fn scoped<T>(&self, doing: &str, work: impl FnOnce() -> T) -> Result<T> {
        let memory = self.raw.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.raw.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work();
        let validation = pollster::block_on(validation.pop());
        let internal = pollster::block_on(internal.pop());
        let memory = pollster::block_on(memory.pop());
        if memory.is_some() {
            return Err(self.out_of_memory(doing));
        }
        match validation.or(internal) {
            Some(error) => Err(Error::device(format!("{doing}: {error}"))),
            None => Ok(result),
        }
    }

    /// Waits until a submission, or everything submitted, is done.
    ///
    /// # Errors
    /// Device loss, and whatever else the device has reported.
    pub fn wait(&self, submission: Option<Submission>) -> Result<()> {
        let submission_index = submission.map(|submission| submission.0);
        self.raw.poll(wgpu::PollType::Wait { submission_index, timeout: None }).or_else(|why| {
            self.check("waiting for the device")?;
            Err(Error::device(format!("waiting for the device: {why}")))
        })?;
        self.check("waiting for the device")
    }

    /// Lets finished read-backs arrive, without waiting.
    ///
    /// # Errors
    /// Device loss, and whatever else the device has reported.
    pub fn poll(&self) -> Result<()> {
        self.raw.poll(wgpu::PollType::Poll).or_else(|why| {
            self.check("polling the device")?;
            Err(Error::device(format!("polling the device: {why}")))
        })?;
        self.check("polling the device")
    }
}

/// The driver's cache of compiled kernels, filled with what was kept before.
fn open_cache(
    device: &wgpu::Device,
    adapter: &wgpu::AdapterInfo,
) -> Option<(wgpu::PipelineCache, PathBuf)> {
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    // The key names the adapter; the driver's version is in the data, and looked at by the driver.
    let path = files::cache()?.join(wgpu::util::pipeline_cache_key(adapter)?);
    let content = std::fs::read(&path).unwrap_or_default();
    let whole = content
        .split_at_checked(32)
        .filter(|(hash, data)| *hash == &Sha256::digest(data)[..])
        .map(|(_, data)| data);
    let descriptor =
        wgpu::PipelineCacheDescriptor { label: Some("crisp"), data: whole, fallback: true };
    #[expect(unsafe_code, reason = "wgpu has no other way to give a driver its cache")]
    // SAFETY: the data are what `get_data` gave, as their hash shows; wgpu compares their header
    // with the adapter and its driver, and begins with an empty cache where that does not fit.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    Some((cache, path))
}

/// The number of submissions after which the device is given up, for a look at what is said of a
/// device that is lost: the environment variable `CRISP_LOSE_DEVICE`.
fn submissions_left() -> Result<Option<i64>> {
    let Ok(text) = std::env::var("CRISP_LOSE_DEVICE") else { return Ok(None) };
    let count = text.parse().ok().filter(|count| *count > 0);
    let wrong = || Error::usage(format!("CRISP_LOSE_DEVICE: '{text}' is no number of submissions"));
    count.ok_or_else(wrong).map(Some)
}

fn record(place: &Mutex<Option<Failure>>, message: Failure) {
    place.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(message);
}
