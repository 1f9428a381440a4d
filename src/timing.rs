//! What a launch of a kernel took, as plain data: measured by `graph`, read by `report`.

/// What a launch took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The op that it belongs to.
    pub op: &'static str,
    /// The shader.
    pub kernel: &'static str,
    /// Seconds from the step's first launch to this one.
    pub begin: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Seconds from the end of the launch before: copies to textures, clears, and waiting.
    pub before: f64,
    /// Floating-point operations, where they are what the time goes into.
    pub operations: u64,
    /// Bytes that it cannot but move.
    pub bytes: u64,
}
