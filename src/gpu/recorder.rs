//! Commands recorded for the device, and what comes back from them.

use super::device::Submission;
use super::{BindGroup, Buffer, Device, Piece, Pipeline, Readback, Reserved, Texture, Timed};
use crate::error::Result;

/// Commands that are being recorded, in the order in which the device will run them.
pub struct Recorder<'a> {
    device: &'a Device,
    pub(super) encoder: wgpu::CommandEncoder,
}

/// Dispatches that follow each other without anything between them.
pub struct Pass<'a>(wgpu::ComputePass<'a>, &'a Device);

/// Values on their way back from a submission.
pub struct Pending {
    submission: Submission,
    readbacks: Vec<(Readback, usize)>,
}

impl Device {
    /// Starts recording commands.
    pub fn recorder(&self) -> Recorder<'_> {
        Recorder { device: self, encoder: self.encoder() }
    }

    /// Says which piece of a grid the next submission computes. It can hold no other.
    pub fn tell(&self, grid: [u32; 3], piece: &Piece) {
        let words = Piece::words(piece.first, grid);
        let told = self.pieces.told(&self.raw);
        self.queue.write_buffer(&told.buffer, 0, bytemuck::cast_slice(&words));
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.raw.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None })
    }
}

impl Recorder<'_> {
    /// Fills a buffer with zeros.
    pub fn clear(&mut self, buffer: &Buffer) {
        self.encoder.clear_buffer(&buffer.raw, buffer.offset, Some(buffer.bytes()));
    }

    /// Copies the first `bytes` of a buffer, rounded up to a texel, into a texture, `width` texels
    /// to a row.
    pub fn copy_to_texture(&mut self, buffer: &Buffer, bytes: u64, texture: &Texture, width: u64) {
        texture.copy_from(&mut self.encoder, buffer, bytes, width);
    }

    /// Begins a pass, timed by the device as is said.
    pub fn pass(&mut self, timed: Option<Timed<'_>>) -> Pass<'_> {
        let pass = self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes: timed.and_then(Timed::writes),
        });
        Pass(pass, self.device)
    }

    /// Hands what has been recorded to the device, and goes on recording.
    pub fn flush(&mut self) -> Submission {
        let encoder = std::mem::replace(&mut self.encoder, self.device.encoder());
        self.device.submit(encoder)
    }

    /// Hands what has been recorded to the device and returns at once.
    pub fn submit(self) -> Submission {
        self.device.submit(self.encoder)
    }

    /// As [`Recorder::submit`]; of each of these buffers so many bytes come back, in their order,
    /// as `elements` values.
    ///
    /// # Errors
    /// Out of memory.
    pub fn submit_and_read<'b>(
        mut self,
        outputs: impl IntoIterator<Item = (&'b Buffer, u64, usize)>,
        reserved: &Reserved,
    ) -> Result<Pending> {
        let mut readbacks = Vec::new();
        for (buffer, bytes, elements) in outputs {
            let readback = self.device.read_later(&mut self.encoder, buffer, bytes, reserved)?;
            readbacks.push((readback, elements));
        }
        Ok(Pending { submission: self.submit(), readbacks })
    }
}

impl Pass<'_> {
    /// Records one dispatch.
    pub fn dispatch(&mut self, pipeline: &Pipeline, buffers: &BindGroup, workgroups: [u32; 3]) {
        let [x, y, z] = workgroups;
        self.0.set_pipeline(&pipeline.raw);
        self.0.set_bind_group(0, &buffers.0, &[]);
        self.0.dispatch_workgroups(x, y, z);
    }

    /// Records some of the workgroups of a dispatch, those that the device has been
    /// [told](Device::tell); says whether the kernel has been prepared for that.
    pub fn dispatch_piece(&mut self, of: &Pipeline, buffers: &BindGroup, piece: &Piece) -> bool {
        let Some(pipeline) = of.in_pieces.get() else { return false };
        let [x, y, z] = piece.count;
        self.0.set_pipeline(pipeline);
        self.0.set_bind_group(0, &buffers.0, &[]);
        self.0.set_bind_group(1, &self.1.pieces.told(&self.1.raw).group, &[]);
        self.0.dispatch_workgroups(x, y, z);
        true
    }
}

impl Pending {
    /// Waits for the device and returns the values, in the order asked for.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait<T: bytemuck::Pod>(self, device: &Device) -> Result<Vec<Vec<T>>> {
        device.wait(Some(self.submission))?;
        self.readbacks.into_iter().map(|(readback, count)| readback.take(count)).collect()
    }
}
