//! Where messages become JSON and JSON becomes messages: at once, or on a thread of its own if there is much of it.

use crate::api::status::ApiError;
use crate::env;
use crate::limits::JSON_INLINE_BYTES;
use std::sync::Arc;
use tokio::sync::{Mutex, oneshot};
use tonic::Status;

/// Large conversions go one after the other: each holds its message twice.
#[derive(Clone, Debug, Default)]
pub struct Converter(Arc<Mutex<()>>);

impl Converter {
    /// Carries out the conversion of so many bytes.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        convert: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        if bytes <= JSON_INLINE_BYTES {
            return convert();
        }
        let _turn = self.0.lock().await;
        let (done, converted) = oneshot::channel();
        // The thread reports by the channel; if the caller has left, nobody listens.
        let _detached = env::thread("json", 1, move || async move {
            let _ = done.send(convert());
        });
        converted.await.map_err(|_| ApiError::Stopped)?
    }
}
