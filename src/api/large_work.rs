//! Work on large requests and replies: decoding, checking, sorting, turning them into JSON and back. A few bytes' worth is done at
//! once; more goes to threads of their own, a few at a time, so that whatever else the thread of the request has to do need not
//! wait.

use super::status::EtcdError;
use crate::env;
use crate::limits::{INLINE_WORK_BYTES, LARGE_WORK_MAX};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::Status;

/// The threads' work of one port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LargeWork(Arc<Semaphore>);

impl Default for LargeWork {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_WORK_MAX)))
    }
}

impl LargeWork {
    /// Carries out the work on so many bytes.
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
