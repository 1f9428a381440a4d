//! How many bytes a device holds, now and at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes held on a device.
#[derive(Debug, Default)]
pub(super) struct Memory {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Memory {
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// A share of them, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Allocation {
    pub bytes: u64,
    memory: Arc<Memory>,
}

impl Allocation {
    pub fn new(memory: &Arc<Memory>, bytes: u64) -> Self {
        let now = memory.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        memory.peak.fetch_max(now, Ordering::Relaxed);
        Self { bytes, memory: memory.clone() }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.memory.now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
