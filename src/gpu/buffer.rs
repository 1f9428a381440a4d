//! Memory on the device: created with a name, filled from the host, read back late.

use super::Device;
use super::memory::Allocation;
use crate::error::{Advice, Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

/// A buffer on the device, or a part of one. Its size is a multiple of 16 bytes, so that it can be
/// read as `vec4`.
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    /// Where it begins in `raw`, in bytes.
    pub(super) offset: u64,
    bytes: u64,
    allocation: Arc<Allocation>,
}

impl Buffer {
    /// What the beginning of a part is a multiple of, in bytes: kernels can be given such parts on
    /// every WebGPU device.
    pub const ALIGNMENT: u64 = 256;

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The part that begins `offset` bytes from the start and has so many.
    ///
    /// # Errors
    /// It does not lie within the buffer, or begins at no multiple of [`Buffer::ALIGNMENT`].
    pub fn part(&self, offset: u64, bytes: u64) -> Result<Self> {
        let bytes = rounded(bytes);
        if !offset.is_multiple_of(Self::ALIGNMENT) || offset + bytes > self.bytes {
            return Err(Error::internal(format!(
                "{bytes} bytes from byte {offset} on of a buffer of {}",
                self.bytes
            )));
        }
        let (raw, allocation) = (self.raw.clone(), self.allocation.clone());
        Ok(Self { raw, offset: self.offset + offset, bytes, allocation })
    }

    /// How kernels are given it.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.raw,
            offset: self.offset,
            size: std::num::NonZeroU64::new(self.bytes),
        })
    }
}

fn rounded(bytes: u64) -> u64 {
    bytes.max(4).next_multiple_of(16)
}

/// Bytes of a write after which its copy is handed on at once.
const LARGE_WRITE: usize = 1 << 20;

/// Buffers that the values of a step come back through, reserved once: a step allocates nothing.
/// Each returns here when its values have been taken.
#[derive(Clone, Default)]
pub struct Reserved(Arc<Mutex<Vec<Buffer>>>);

impl Reserved {
    fn buffers(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A copy on its way from the device to the host.
pub(super) struct Readback {
    /// None once it has gone back to those reserved.
    staging: Option<Buffer>,
    from: Option<Reserved>,
    arrived: mpsc::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

impl Device {
    fn create(&self, name: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
        let bytes = rounded(bytes);
        let raw = self.scoped(&format!("allocating {bytes} bytes for {name}"), || {
            self.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        })?;
        let allocation = Arc::new(Allocation::new(&self.memory, bytes));
        Ok(Buffer { raw, offset: 0, bytes, allocation })
    }

    /// A zeroed buffer that kernels read and write.
    ///
    /// # Errors
    /// Larger than the device can bind, or out of memory.
    pub fn storage(&self, name: &str, bytes: u64) -> Result<Buffer> {
        if bytes > self.max_binding_bytes {
            return Err(Error::device(format!(
                "{name} needs {bytes} bytes in one piece, and {} binds {} at most",
                self.adapter.name, self.max_binding_bytes
            ))
            .advice(Advice::SmallerTensor));
        }
        use wgpu::BufferUsages as Usage;
        self.create(name, bytes, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)
    }

    /// A buffer of kernel parameters.
    ///
    /// # Errors
    /// Out of memory.
    pub fn uniform(&self, name: &str, bytes: u64) -> Result<Buffer> {
        self.create(name, bytes, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)
    }

    /// A buffer that query results are resolved into.
    pub(super) fn queries(&self, name: &str, bytes: u64) -> Result<Buffer> {
        use wgpu::BufferUsages as Usage;
        self.create(name, bytes, Usage::QUERY_RESOLVE | Usage::COPY_SRC)
    }

    /// Copies data to the start of a buffer, ahead of everything submitted later.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &Buffer, data: &[T]) {
        if !data.is_empty() {
            self.queue.write_buffer(&buffer.raw, buffer.offset, bytemuck::cast_slice(data));
            // wgpu holds a copy until the next submission: weights are not to be held twice.
            if size_of_val(data) > LARGE_WRITE {
                self.queue.submit([]);
            }
        }
    }

    /// Keeps room for `count` copies of so many bytes that are on their way to the host at a time.
    ///
    /// # Errors
    /// Out of memory.
    pub fn reserve(&self, count: usize, bytes: u64) -> Result<Reserved> {
        let buffers = (0..count).map(|_| self.staging(bytes)).collect::<Result<_>>()?;
        Ok(Reserved(Arc::new(Mutex::new(buffers))))
    }

    fn staging(&self, bytes: u64) -> Result<Buffer> {
        use wgpu::BufferUsages as Usage;
        self.create("read-back", bytes, Usage::COPY_DST | Usage::MAP_READ)
    }

    /// Records a copy of the first `bytes` of a buffer to the host, through a reserved buffer where
    /// one is free. It is complete once the encoder has been submitted and the device got that far.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn read_later(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &Buffer,
        bytes: u64,
        reserved: &Reserved,
    ) -> Result<Readback> {
        let free = {
            let mut buffers = reserved.buffers();
            let fits = buffers.iter().position(|buffer| buffer.bytes() >= bytes);
            fits.map(|position| buffers.swap_remove(position))
        };
        let from = free.is_some().then(|| reserved.clone());
        let staging = match free {
            Some(buffer) => buffer,
            None => self.staging(bytes)?,
        };
        encoder.copy_buffer_to_buffer(&buffer.raw, buffer.offset, &staging.raw, 0, bytes);
        let (sender, arrived) = mpsc::channel();
        encoder.map_buffer_on_submit(&staging.raw, wgpu::MapMode::Read, .., move |result| {
            // The receiver may be gone: nobody wants the values any more.
            let _ = sender.send(result);
        });
        Ok(Readback { staging: Some(staging), from, arrived })
    }

    /// Reads the first `count` values of a buffer, waiting for the device.
    ///
    /// # Errors
    /// Device loss, out of memory, or a mapping that failed.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &Buffer, count: usize) -> Result<Vec<T>> {
        let bytes = (count * size_of::<T>()) as u64;
        let pending =
            self.recorder().submit_and_read([(buffer, bytes, count)], &Reserved::default())?;
        Ok(pending.wait(self)?.swap_remove(0))
    }
}

impl Readback {
    /// The first `count` values, once the device has delivered them.
    ///
    /// # Errors
    /// The device has not delivered: it was lost, or was not waited for.
    pub fn take<T: bytemuck::Pod>(self, count: usize) -> Result<Vec<T>> {
        match self.arrived.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(Error::device(format!("reading back: {why}"))),
            Err(_) => return Err(Error::device("reading back: the device has not delivered")),
        }
        let Some(staging) = &self.staging else {
            return Err(Error::internal("values that were taken already"));
        };
        let view = staging
            .raw
            .slice(..(count * size_of::<T>()) as u64)
            .get_mapped_range()
            .map_err(|why| Error::device(format!("reading back: {why}")))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}

impl Drop for Readback {
    /// Gives the buffer back, whether or not anybody has looked at what came in it.
    fn drop(&mut self) {
        if let (Some(staging), Some(reserved)) = (self.staging.take(), &self.from) {
            staging.raw.unmap();
            reserved.buffers().push(staging);
        }
    }
}
