//! Which pairs of query and key an attention layer looks at: the policy a user names, the rule of a
//! layer, and the block mask that the kernels walk. No GPU here.

mod block_mask;
mod layer_rules;
mod policy;
mod rule;

pub use block_mask::{Block, BlockMask};
pub use layer_rules::LayerRules;
pub use policy::Policy;
pub use rule::{Rule, Share};
