//! Stopping work that has begun, from another thread or a signal handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::EngineError;

/// A switch that many hands can hold; once thrown, the work that watches it ends soon with an error.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A switch not thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all who watch to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Makes the switch fit for the next piece of work.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// The switch itself, for work that watches a bare flag.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Whether both are the same switch.
    pub fn is_same(&self, other: &Cancel) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether stopping was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once stopping was asked for.
    pub fn check(&self) -> Result<(), EngineError> {
        match self.is_cancelled() {
            true => Err(EngineError::Cancelled),
            false => Ok(()),
        }
    }
}
