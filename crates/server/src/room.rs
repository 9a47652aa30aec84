//! The memory that requests in flight may take together: bodies and decoded pictures, taken before they exist.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// The unit in which memory is counted; semaphores count to 2^32 at least.
const UNIT_BYTES: usize = 1 << 10;

/// All the memory.
#[derive(Clone)]
pub struct Rooms(Arc<Semaphore>);

/// What one request has taken; given back when dropped.
pub struct Room {
    all: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    /// So much, rounded up.
    pub fn new(bytes: usize) -> Self {
        Rooms(Arc::new(Semaphore::new(bytes.div_ceil(UNIT_BYTES))))
    }

    /// Nothing taken yet.
    pub fn open(&self) -> Room {
        Room {
            all: self.0.clone(),
            taken: None,
        }
    }
}

impl Room {
    /// Takes so much more, or refuses at once: waiting would let requests wait for one another for ever.
    pub fn take(&mut self, bytes: usize) -> Result<(), ApiError> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).map_err(|_| ApiError::memory())?;
        let permit = self.all.clone().try_acquire_many_owned(units);
        let permit = permit.map_err(|_| ApiError::memory())?;
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        Ok(())
    }

    /// What was taken, to be kept with the request.
    pub fn keep(self) -> Option<OwnedSemaphorePermit> {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_refused_when_it_is_taken_and_comes_back() {
        let rooms = Rooms::new(10 << 10);
        let (mut a, mut b) = (rooms.open(), rooms.open());
        a.take(4 << 10).unwrap();
        a.take(4 << 10).unwrap();
        assert_eq!(b.take(3 << 10).unwrap_err().code, Some("out_of_memory"));
        b.take(2 << 10).unwrap();
        drop(a.keep());
        b.take(8 << 10).unwrap();
        assert!(b.take(usize::MAX).is_err());
    }
}
