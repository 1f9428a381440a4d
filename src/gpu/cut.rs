//! Dispatches cut into several. A piece is a dispatch of its own that computes some of the
//! workgroups, by a text that counts them from the piece's first one; nothing else differs. WebGPU
//! has no dispatch that begins elsewhere than at 0, so the text is rewritten: kernels name their
//! workgroup's number `group`, and the number of workgroups `groups`.

use std::sync::OnceLock;

/// Some of the workgroups of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The first of them.
    pub first: [u32; 3],
    /// How many along each dimension.
    pub count: [u32; 3],
}

impl Piece {
    /// The next piece of a grid of which `done` workgroups are done, of `most` workgroups at most:
    /// layers, rows of a layer, or a part of a row.
    pub fn next(grid: [u32; 3], done: u64, most: u64) -> Self {
        let [width, height, depth] = grid.map(u64::from);
        let [x, y, z] = [done % width, done / width % height, done / (width * height)];
        let rows = most / width;
        let layers = rows / height;
        let count = if x > 0 || rows == 0 {
            [most.clamp(1, width - x), 1, 1]
        } else if y > 0 || layers == 0 {
            [width, rows.min(height - y), 1]
        } else {
            [width, height, layers.min(depth - z)]
        };
        // Within a grid of 32-bit numbers.
        Self { first: [x, y, z].map(|it| it as u32), count: count.map(|it| it as u32) }
    }

    /// The words of `Piece` in a text: the first workgroup, and the grid of the whole dispatch.
    pub(super) fn words(first: [u32; 3], grid: [u32; 3]) -> [[u32; 4]; 2] {
        [first, grid].map(|[x, y, z]| [x, y, z, 0])
    }

    /// How many workgroups it has.
    pub fn workgroups(&self) -> u64 {
        self.count.iter().map(|count| u64::from(*count)).product()
    }
}

/// The text of a kernel that computes a piece of a dispatch; nothing for a kernel that does not ask
/// for its workgroup's number, because it has but one. Lines keep their numbers.
pub fn in_pieces(text: &str) -> Option<String> {
    let (before, main) = text.split_once("fn main(")?;
    let (parameters, body) = main.split_once('{')?;
    let own = parameters.replacen("workgroup_id) group:", "workgroup_id) group_in_piece:", 1);
    if own == parameters {
        return None;
    }
    let all = own.replacen("@builtin(num_workgroups) groups: vec3u,", "", 1);
    let groups = if all == own { "" } else { " let groups = piece.groups;" };
    Some(format!(
        "{before}fn main({all}{{ let group = group_in_piece + piece.first;{groups}{body}\n\
         struct Piece {{ first: vec3u, groups: vec3u }}\n\
         @group(1) @binding(0) var<uniform> piece: Piece;\n"
    ))
}

/// What the pieces of a device are told by, one after another: which of them is next. Made when the
/// first dispatch is cut.
#[derive(Default)]
pub(super) struct Pieces(OnceLock<Told>);

pub(super) struct Told {
    /// The first workgroup, and how many the whole dispatch has.
    pub buffer: wgpu::Buffer,
    pub layout: wgpu::BindGroupLayout,
    pub group: wgpu::BindGroup,
}

impl Pieces {
    pub fn told(&self, device: &wgpu::Device) -> &Told {
        let label = Some("piece");
        self.0.get_or_init(|| {
            let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label,
                entries: &[wgpu::BindGroupLayoutEntry {
                    binding: 0,
                    visibility: wgpu::ShaderStages::COMPUTE,
                    ty: wgpu::BindingType::Buffer {
                        ty: wgpu::BufferBindingType::Uniform,
                        has_dynamic_offset: false,
                        min_binding_size: None,
                    },
                    count: None,
                }],
            });
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label,
                size: size_of_val(&Piece::words([0; 3], [0; 3])) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label,
                layout: &layout,
                entries: &[wgpu::BindGroupEntry {
                    binding: 0,
                    resource: buffer.as_entire_binding(),
                }],
            });
            Told { buffer, layout, group }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_workgroups_once() {
        for grid in [[1, 1, 1], [7, 1, 1], [5, 3, 1], [4, 3, 5], [1, 6, 2], [65_535, 2, 1]] {
            let all: u64 = grid.iter().map(|count| u64::from(*count)).product();
            for most in [1, 2, 4, 6, 13, 29, 1000, 70_000, all, u64::MAX] {
                let most = most.max(all / 500);
                let (mut done, mut pieces) = (0, 0);
                while done < all {
                    let piece = Piece::next(grid, done, most);
                    let [x, y, z] = piece.first.map(u64::from);
                    let [width, height, _] = grid.map(u64::from);
                    assert_eq!((z * height + y) * width + x, done, "{grid:?} by {most}: {piece:?}");
                    assert!((1..=most).contains(&piece.workgroups()), "{grid:?} by {most}");
                    let whole = |axis: usize| piece.count[axis] == grid[axis];
                    assert!((0..3).all(|axis| piece.first[axis] + piece.count[axis] <= grid[axis]));
                    // Where a row or a layer is not whole, there is but one of it.
                    assert!(whole(0) || piece.count[1..] == [1, 1], "{grid:?} by {most}");
                    assert!(whole(1) || piece.count[2] == 1, "{grid:?} by {most}");
                    done += piece.workgroups();
                    pieces += 1;
                }
                assert_eq!(done, all);
                assert!(most < all || pieces == 1, "{grid:?} by {most}: {pieces} pieces");
            }
        }
    }

    #[test]
    fn a_text_in_pieces_counts_from_the_first_workgroup() {
        let text = "fn main(\n    @builtin(workgroup_id) group: vec3u,\n    \
                    @builtin(num_workgroups) groups: vec3u,\n) {\n    use(group, groups); }\n";
        let cut = in_pieces(text).unwrap();
        assert!(cut.starts_with(
            "fn main(\n    @builtin(workgroup_id) group_in_piece: vec3u,\n    \n) { let group = \
             group_in_piece + piece.first; let groups = piece.groups;\n    use(group, groups); }\n"
        ));
        assert_eq!(in_pieces("fn main(@builtin(local_invocation_index) lane: u32) { }"), None);
    }
}
