//! Bounds the bytes of incomplete request bodies, for each connection and for all connections of a port.
//!
//! A body that arrives in one piece, as nearly all do, is not counted. Any other gets room for its whole length before more of it
//! is read, so that every body with room can be completed. Other bodies wait for a moment and are then refused.

use crate::env;
use crate::limits::{
    BODY_RATE_MIN, BODY_TIMEOUT, UNREAD_BODIES_BYTES, UNREAD_BODIES_CONNECTION_BYTES, UNREAD_BODY_PATIENCE,
};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// The room of a port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct UnreadBodies {
    all: Arc<Semaphore>,
    connection_bytes: usize,
}

impl UnreadBodies {
    /// Bounds that always fit the largest body.
    pub fn new(largest_bytes: usize) -> Self {
        let bytes = |limit: usize| limit.max(largest_bytes).min(Semaphore::MAX_PERMITS);
        Self {
            all: Arc::new(Semaphore::new(bytes(UNREAD_BODIES_BYTES))),
            connection_bytes: bytes(UNREAD_BODIES_CONNECTION_BYTES),
        }
    }

    /// The room of one connection.
    pub fn connection(&self) -> ConnectionBudget {
        ConnectionBudget(Arc::new(Budget {
            own: Arc::new(Semaphore::new(self.connection_bytes)),
            all: Arc::clone(&self.all),
        }))
    }
}

/// The room of one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConnectionBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Room that a body takes until this is dropped.
#[derive(Debug)]
pub struct Room {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Room {
    pub fn bytes(&self) -> usize {
        self.own.num_permits()
    }

    /// Takes more room.
    pub async fn grow(&mut self, budget: &ConnectionBudget, bytes: usize) -> Result<(), Status> {
        let more = budget.take(bytes).await?;
        self.own.merge(more.own);
        self.all.merge(more.all);
        Ok(())
    }
}

impl ConnectionBudget {
    /// Waits for room, for a bounded time.
    pub async fn take(&self, bytes: usize) -> Result<Room, Status> {
        let permits = u32::try_from(bytes).map_err(|_| refused())?;
        let own = take(&self.0.own, permits).await?;
        let all = take(&self.0.all, permits).await?;
        Ok(Room { own, all })
    }
}

async fn take(semaphore: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit, Status> {
    if let Ok(permit) = Arc::clone(semaphore).try_acquire_many_owned(permits) {
        return Ok(permit);
    }
    let waiting = Arc::clone(semaphore).acquire_many_owned(permits);
    let taken = env::timeout(UNREAD_BODY_PATIENCE, waiting).await;
    taken.map_err(|_| refused())?.map_err(|_| refused())
}

fn refused() -> Status {
    Status::resource_exhausted("grpc: too many requests that are not there in full")
}

/// Waits for a body, or a part of it, for as long as this many bytes may take to arrive.
pub async fn arrival<T>(
    bytes: usize,
    arriving: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let limit = BODY_TIMEOUT + Duration::from_secs((bytes / BODY_RATE_MIN) as u64);
    env::timeout(limit, arriving).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(
            "grpc: the request did not arrive in time",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::block_on;
    use tonic::Code;

    #[test]
    fn connections_have_room_of_their_own_and_share_what_there_is() {
        block_on(async {
            let port = UnreadBodies::new(0);
            let connections: Vec<_> = (0..10).map(|_| port.connection()).collect();
            let mut taken = vec![];
            for connection in &connections[..UNREAD_BODIES_BYTES / UNREAD_BODIES_CONNECTION_BYTES] {
                taken.push(
                    connection
                        .take(UNREAD_BODIES_CONNECTION_BYTES)
                        .await
                        .expect("there is room"),
                );
            }
            let refused = connections[0]
                .take(1)
                .await
                .expect_err("this one has taken all of its own");
            assert_eq!(refused.code(), Code::ResourceExhausted);
            let refused = connections[9].take(1).await.expect_err("others have taken all");
            assert_eq!(refused.code(), Code::ResourceExhausted);
            taken.pop();
            let mut room = connections[9].take(1).await.expect("there is room again");
            room.grow(&connections[9], 9).await.expect("there is more");
            assert_eq!(room.bytes(), 10);
        });
    }

    #[test]
    fn the_largest_body_fits() {
        block_on(async {
            let port = UnreadBodies::new(2 * UNREAD_BODIES_BYTES);
            assert!(port.connection().take(2 * UNREAD_BODIES_BYTES).await.is_ok());
        });
    }
}
