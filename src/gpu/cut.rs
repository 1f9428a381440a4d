//! Dispatches cut into several. A piece is a dispatch of its own that computes some of the
//! workgroups, by a text that counts them from the piece's first one; nothing else differs. WebGPU
//! has no dispatch that begins elsewhere than at 0, so the text is rewritten: kernels name their
//! workgroup's number `group`, and the number of workgroups `groups`.

use super::Device;
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

/// What all pieces of a device are told by: which one is next. Made when the first is cut.
#[derive(Default)]
pub(super) struct Pieces(OnceLock<Told>);

pub(super) struct Told {
    /// The first workgroup, and how many the whole dispatch has.
    buffer: wgpu::Buffer,
    pub layout: wgpu::BindGroupLayout,
    pub group: wgpu::BindGroup,
}

impl Device {
    pub(super) fn told(&self) -> &Told {
        self.pieces.0.get_or_init(|| {
            let layout = self.raw.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some("piece"),
                entries: &[super::pipeline::layout_entry(
                    0,
                    super::pipeline::buffer_layout(wgpu::BufferBindingType::Uniform),
                )],
            });
            let buffer = self.raw.create_buffer(&wgpu::BufferDescriptor {
                label: Some("piece"),
                size: size_of::<[[u32; 4]; 2]>() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let group = self.raw.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("piece"),
                layout: &layout,
                entries: &[wgpu::BindGroupEntry {
                    binding: 0,
                    resource: buffer.as_entire_binding(),
                }],
            });
            Told { buffer, layout, group }
        })
    }

    /// Says which piece of a grid the next submission computes. It can hold no other.
    pub fn tell(&self, grid: [u32; 3], piece: &Piece) {
        let ([x, y, z], [width, height, depth]) = (piece.first, grid);
        let words = [[x, y, z, 0], [width, height, depth, 0]];
        self.queue.write_buffer(&self.told().buffer, 0, bytemuck::cast_slice(&words));
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
                    for axis in 0..3 {
                        assert!(piece.first[axis] + piece.count[axis] <= grid[axis]);
                        // What lies behind it in a row or layer comes with it, or alone.
                        let is_whole = piece.count[axis] == grid[axis];
                        assert!(is_whole || piece.count[axis + 1..].iter().all(|it| *it == 1));
                    }
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
