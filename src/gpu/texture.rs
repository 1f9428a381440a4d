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

    const fn row_bytes(self) -> u64 {
        Texture::WIDTH as u64 * self.bytes()
    }

    /// Texels from one row to the next: a cache line more. Rows of a matrix are often a multiple of
    /// 4 KiB apart, and then all fall into the same few lines of a CPU's first-level cache.
    const fn pitch(self) -> u32 {
        Texture::WIDTH + 64 / self.bytes() as u32
    }

    fn rows(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.row_bytes()).max(1)
    }
}

/// A place for the content of a buffer as texels of four values, [`Texture::WIDTH`] to a row.
pub struct Texture {
    raw: wgpu::Texture,
    pub(super) view: wgpu::TextureView,
    texel: Texel,
    _allocation: Allocation,
}

impl Texture {
    /// Texels in a row.
    pub const WIDTH: u32 = 2048;

    /// Bytes that a texture with room for so many takes: whole rows.
    pub fn taken(texel: Texel, bytes: u64) -> u64 {
        texel.rows(bytes) * u64::from(texel.pitch()) * texel.bytes()
    }
}

impl Device {
    /// A texture with room for `bytes`.
    ///
    /// # Errors
    /// Larger than the device allows, or out of memory.
    pub fn texture(&self, name: &str, texel: Texel, bytes: u64) -> Result<Texture> {
        let height = texel.rows(bytes);
        let bytes = Texture::taken(texel, bytes);
        let limit = u64::from(self.raw.limits().max_texture_dimension_2d);
        if height > limit {
            return Err(Error::device(format!(
                "{name} needs a texture of {height} rows, and {} allows {limit}",
                self.adapter.name
            ))
            .advice(Advice::SmallerBatch));
        }
        let raw = self.scoped(&format!("allocating {bytes} bytes for {name}"), || {
            self.raw.create_texture(&wgpu::TextureDescriptor {
                label: Some(name),
                size: extent(texel.pitch(), height as u32),
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
    /// Records a copy of the first `bytes` of a buffer, rounded up to a texel.
    pub(super) fn copy_from(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &Buffer,
        bytes: u64,
    ) {
        let row_bytes = self.texel.row_bytes();
        let rows = bytes / row_bytes;
        let rest = (bytes % row_bytes).div_ceil(self.texel.bytes()) as u32;
        // The rows that are full, then what is left of the last one.
        for (row, size) in [(0, extent(Texture::WIDTH, rows as u32)), (rows, extent(rest, 1))] {
            if size.width == 0 || size.height == 0 {
                continue;
            }
            encoder.copy_buffer_to_texture(
                wgpu::TexelCopyBufferInfo {
                    buffer: &buffer.raw,
                    layout: wgpu::TexelCopyBufferLayout {
                        offset: buffer.offset + row * row_bytes,
                        bytes_per_row: Some(row_bytes as u32),
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
