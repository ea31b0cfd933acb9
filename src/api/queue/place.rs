//! The path of one caller through a queue: from the end to the front.

use super::follower::walk;
use super::leaving::PlacePermit;
use super::order::QueueEnd;
use super::{commit, create, created_at, hex, leave, operation, prefix, put};
use crate::api::backend::{Backend, header};
use crate::api::status::{CallError, EtcdError};
use crate::env;
use crate::limits::sizes;
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::request_op::Request as Operation;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{RangeRequest, ResponseHeader, TxnRequest, TxnResponse};
use crate::proto::mvccpb::KeyValue;
use crate::requests::Caller;
use crate::watch::{Create, FollowError, Following, Wants, WatchedKeys};
use bytes::Bytes;
use tokio::sync::oneshot;

/// A place in a queue. If it is dropped before it has reached the front, its key is deleted.
pub(in crate::api) struct Place {
    /// The common prefix of all keys of the queue.
    prefix: Bytes,
    pub key: Bytes,
    pub create_revision: i64,
    permit: PlacePermit,
}

/// The result of entering a queue.
pub(in crate::api) struct Entered {
    pub place: Place,
    pub header: Option<ResponseHeader>,
    /// The value that the key had, if the lease already had this place.
    pub before: Option<Bytes>,
}

impl Place {
    /// Takes the last place under a name, or the one that the lease already has.
    pub async fn enter(
        backend: &impl Backend,
        caller: &Caller,
        name: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Entered, CallError> {
        let permit = backend.queues().leaving().admit(backend, caller)?;
        let entering = entered(backend.clone(), prefix(name), lease, value, permit);
        // On a separate task: if the caller leaves while its key is put, that task takes care of the key, and the memory for
        // entering is freed before the wait.
        let (sender, receiver) = oneshot::channel();
        env::spawn(async move {
            // If the caller has left, the key that was put is deleted; one that was there before stays.
            let _ = sender.send(entering.await);
        });
        let mut entered = receiver.await.unwrap_or(Err(EtcdError::Stopped.into()))?;
        entered.place.guard();
        Ok(entered)
    }

    /// From here on the key is deleted if the place is dropped.
    fn guard(&mut self) {
        self.permit.guard(self.key.clone(), self.create_revision);
    }

    /// Waits until no key is before its own. Afterwards the lease decides how long the place lasts. The header holds a revision
    /// at which the place was at the front. `lost` is the error if the key was deleted meanwhile, with its lease or otherwise.
    pub async fn reach_front(
        self,
        backend: &impl Backend,
        lost: EtcdError,
    ) -> Result<ResponseHeader, CallError> {
        let reached = self.wait(backend, lost).await;
        // Boxed, here and below: the wait should not hold memory for what comes before and after it.
        if reached.is_err()
            && Box::pin(leave(
                backend,
                self.permit.caller(),
                &self.key,
                self.create_revision,
            ))
            .await
            .is_err()
        {
            // Left to the task that retries.
            return reached;
        }
        self.permit.settle();
        reached
    }

    async fn wait(&self, backend: &impl Backend, lost: EtcdError) -> Result<ResponseHeader, CallError> {
        let mut view = backend.view();
        if !Box::pin(self.is_first(&view)).await? {
            drop(view);
            let queues = backend.queues();
            let waiting = queues.turn(backend, &self.prefix, self.create_revision);
            match waiting.turn().await {
                Ok(()) => {}
                Err(QueueEnd::TooLong) => Box::pin(self.wait_alone(backend)).await?,
                Err(QueueEnd::Stopped) => return Err(EtcdError::Stopped.into()),
                Err(QueueEnd::Failed(reason)) => return Err(CallError::Other(reason)),
            }
            // The lease may have expired meanwhile, and this member may lag behind.
            Box::pin(backend.read_barrier()).await?;
            view = backend.view();
            if mutants::active(Mutant::LockWithoutSession) {
                return Ok(header(backend, view.revision()));
            }
        }
        match view.get(&self.key)? {
            Some(kv) if kv.create_revision == self.create_revision => Ok(header(backend, view.revision())),
            _ => Err(lost.into()),
        }
    }

    /// Whether no key is before its own, as far as a short scan tells: most locks are free when they are requested.
    async fn is_first(&self, view: &crate::state::View) -> Result<bool, CallError> {
        let mut looked_at = 0;
        let whole = walk(view, &self.prefix, |_, created| {
            looked_at += 1;
            created >= self.create_revision && looked_at <= sizes().queue_look_keys
        });
        Ok(whole.await?)
    }

    /// Waits without the member's shared order: finds the key directly before its own and watches that. For queues that are too
    /// long to keep in memory.
    async fn wait_alone(&self, backend: &impl Backend) -> Result<(), CallError> {
        loop {
            let view = backend.view();
            let mut before: Option<(i64, Bytes)> = None;
            walk(&view, &self.prefix, |key, created| {
                let is_nearer = before.as_ref().is_none_or(|(nearest, _)| created > *nearest);
                if created < self.create_revision && is_nearer {
                    before = Some((created, key.clone()));
                }
                true
            })
            .await?;
            let Some((_, key)) = before else {
                return Ok(());
            };
            // Copied, so as not to keep the block that it was read from.
            let key = Bytes::copy_from_slice(&key);
            let revision = view.revision();
            // A view that is kept also keeps its data on disk.
            drop(view);
            wait_until_gone(backend, &key, revision + 1).await?;
        }
    }
}

async fn entered(
    backend: impl Backend,
    prefix: Bytes,
    lease: i64,
    value: Bytes,
    permit: PlacePermit,
) -> Result<Entered, CallError> {
    let key: Bytes = [&prefix[..], hex(lease).as_bytes()].concat().into();
    let answer = commit(
        &backend,
        permit.caller(),
        TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![put(&key, value, lease)],
            failure: vec![operation(Operation::RequestRange(RangeRequest {
                key: key.clone(),
                ..RangeRequest::default()
            }))],
        },
    )
    .await?;
    let (create_revision, before) = match found(&answer) {
        Some(kv) => (kv.create_revision, Some(Bytes::copy_from_slice(&kv.value))),
        None => (answer.header.unwrap_or_default().revision, None),
    };
    let mut place = Place {
        prefix,
        key,
        create_revision,
        permit,
    };
    if before.is_none() {
        place.guard();
    }
    Ok(Entered {
        place,
        header: answer.header,
        before,
    })
}

/// The key that the only read of a transaction has found.
fn found(response: &TxnResponse) -> Option<&KeyValue> {
    match &response.responses.first()?.response {
        Some(Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

/// Waits until this key is deleted at this revision or later.
async fn wait_until_gone(backend: &impl Backend, key: &[u8], start_revision: i64) -> Result<(), CallError> {
    let deletes = Create {
        keys: WatchedKeys::new(key, &[]),
        wants: Wants {
            puts: false,
            deletes: true,
            previous: false,
        },
        ..create(start_revision)
    };
    let told = Following::start(backend.watches(), deletes, false).next().await;
    match told {
        // The newest state shows the result of compacted revisions.
        Ok(_) | Err(FollowError::Compacted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
