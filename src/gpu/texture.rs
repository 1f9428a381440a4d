//! Buffers seen as textures, for kernels that run on a CPU: a software driver loads texels of
//! several invocations at once, and values of a buffer one by one.

use super::memory::Allocation;
use super::{Buffer, Device};
use crate::error::{Advice, Error, Result};

/// What four values of a texel are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Texel {
    /// `rgba32float`
    Single,
    /// `rgba16float`
    Half,
}

impl Texel {
    /// Bytes of a texel.
    const fn bytes(self) -> u64 {
        match self {
            Self::Single => 16,
            Self::Half => 8,
        }
    }

    pub(super) fn format(self) -> wgpu::TextureFormat {
        match self {
            Self::Single => wgpu::TextureFormat::Rgba32Float,
            Self::Half => wgpu::TextureFormat::Rgba16Float,
        }
    }

    /// Texels from one row of such a width to the next: a cache line more. Rows of a matrix are
    /// often a multiple of 4 KiB apart, and then all fall into the same few lines of a CPU's
    /// first-level cache.
    const fn pitch(self, width: u64) -> u64 {
        width + 64 / self.bytes()
    }

    /// Whether every WebGPU device has textures of so many texels a row and so many rows.
    pub fn fits(self, [width, rows]: [u64; 2]) -> bool {
        self.pitch(width).max(rows) <= 8192
    }

    /// Whether rows of such a width can be copied from a buffer many at a time, on every WebGPU
    /// device.
    pub fn is_aligned(self, width: u64) -> bool {
        (width * self.bytes()).is_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT.into())
    }
}

/// A place for matrices as texels of four values: a row of the texture holds one row of a matrix,
/// or several.
pub struct Texture {
    raw: wgpu::Texture,
    pub(super) view: wgpu::TextureView,
    texel: Texel,
    _allocation: Allocation,
}

impl Texture {
    /// Bytes that a texture of so many texels a row and so many rows takes.
    pub fn taken(texel: Texel, [width, rows]: [u64; 2]) -> u64 {
        rows * texel.pitch(width) * texel.bytes()
    }
}

impl Device {
    /// A texture of so many texels a row and so many rows.
    ///
    /// # Errors
    /// Larger than the device allows, or out of memory.
    pub fn texture(&self, name: &str, texel: Texel, [width, rows]: [u64; 2]) -> Result<Texture> {
        let bytes = Texture::taken(texel, [width, rows]);
        let pitch = texel.pitch(width);
        let limit = u64::from(self.raw.limits().max_texture_dimension_2d);
        if pitch.max(rows) > limit {
            return Err(Error::device(format!(
                "{name} needs a texture of {pitch} by {rows} texels, and {} allows {limit}",
                self.adapter.name
            ))
            .advice(Advice::SmallerBatch));
        }
        let raw = self.scoped(&format!("allocating {bytes} bytes for {name}"), || {
            self.raw.create_texture(&wgpu::TextureDescriptor {
                label: Some(name),
                size: extent(pitch as u32, rows as u32),
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: texel.format(),
                usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            })
        })?;
        let view = raw.create_view(&Default::default());
        Ok(Texture { raw, view, texel, _allocation: Allocation::new(&self.memory, bytes) })
    }
}

impl Texture {
    /// Records a copy of the first `bytes` of a buffer, rounded up to a texel, `width` texels to a
    /// row.
    pub(super) fn copy_from(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &Buffer,
        bytes: u64,
        width: u64,
    ) {
        let row_bytes = width * self.texel.bytes();
        let rows = bytes / row_bytes;
        let rest = (bytes % row_bytes).div_ceil(self.texel.bytes()) as u32;
        // The rows that are full, then what is left of the last one.
        let at_once = if self.texel.is_aligned(width) { rows.max(1) } else { 1 };
        let full = (0..rows)
            .step_by(at_once as usize)
            .map(|row| (row, extent(width as u32, at_once as u32)));
        for (row, size) in full.chain([(rows, extent(rest, 1))]) {
            if size.width == 0 || size.height == 0 {
                continue;
            }
            encoder.copy_buffer_to_texture(
                wgpu::TexelCopyBufferInfo {
                    buffer: &buffer.raw,
                    layout: wgpu::TexelCopyBufferLayout {
                        offset: buffer.offset + row * row_bytes,
                        bytes_per_row: (size.height > 1).then_some(row_bytes as u32),
                        rows_per_image: None,
                    },
                },
                wgpu::TexelCopyTextureInfo {
                    origin: wgpu::Origin3d { x: 0, y: row as u32, z: 0 },
                    ..self.raw.as_image_copy()
                },
                size,
            );
        }
    }
}

fn extent(width: u32, height: u32) -> wgpu::Extent3d {
    wgpu::Extent3d { width, height, depth_or_array_layers: 1 }
}
