//! Which pairs of query and key an attention layer looks at: the policy a user names, and the block
//! mask that the kernels walk. No GPU here.

mod block_mask;
mod policy;

pub use block_mask::BlockMask;
pub use policy::Policy;
