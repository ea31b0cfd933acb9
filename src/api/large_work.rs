//! Work on large requests and replies: decoding, checking, sorting, conversion to and from JSON. Small amounts are done
//! immediately. Larger ones run on separate threads, a few at a time, so that they do not delay the request's thread.

use super::status::EtcdError;
use crate::env;
use crate::limits::{INLINE_WORK_BYTES, LARGE_WORK_MAX};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::Status;

/// The separate threads of one port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LargeWork(Arc<Semaphore>);

impl Default for LargeWork {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_WORK_MAX)))
    }
}

impl LargeWork {
    /// Executes work whose cost depends on this many bytes.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        if bytes <= INLINE_WORK_BYTES {
            return work();
        }
        let _turn = self.0.acquire().await.map_err(|_| EtcdError::Stopped)?;
        env::blocking(work).await.ok_or(EtcdError::Stopped)?
    }
}
