//! The Election service: the leader owns the oldest key under the election's name, and its proclamation is the value of that key.
//!
//! Mirrors etcd's server/etcdserver/api/v3election/election.go, with two differences. A candidate whose key was deleted while it
//! waited gets an error (etcd tells it that it leads). A stream of Observe that cannot continue ends with the reason (etcd's ends
//! with success).

use super::backend::{Backend, header};
use super::body::{Body, frame};
use super::queue::{
    Entered, Place, commit, create, created_at, delete, end, front, prefix, put, session, status,
};
use super::status::{CallError, EtcdError};
use crate::mutants::{self, Mutant};
use crate::proto::etcdserverpb::{ResponseHeader, TxnRequest};
use crate::proto::mvccpb::KeyValue;
use crate::proto::mvccpb::event::EventType;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use crate::requests::Caller;
use crate::watch::{Create, Followed, Following, Wants, WatchedKeys};
use ::http::HeaderMap;
use bytes::Bytes;
use std::collections::VecDeque;
use tonic::Status;

/// Returns when the caller leads.
pub async fn campaign(
    backend: &impl Backend,
    caller: &Caller,
    request: CampaignRequest,
) -> Result<Body, Status> {
    let response = elected(backend, caller, request).await.map_err(status)?;
    Ok(Body::message(&response))
}

async fn elected(
    backend: &impl Backend,
    caller: &Caller,
    request: CampaignRequest,
) -> Result<CampaignResponse, CallError> {
    // Boxed, so that their memory is freed before the wait begins.
    let lease = Box::pin(session(backend, caller, request.lease)).await?;
    let Entered {
        place,
        header,
        before,
    } = Box::pin(Place::enter(
        backend,
        caller,
        &request.name,
        lease,
        request.value.clone(),
    ))
    .await?;
    let leader = LeaderKey {
        // Copied out of the network buffer, since the caller may wait for a long time.
        name: Bytes::copy_from_slice(&request.name),
        key: place.key.clone(),
        rev: place.create_revision,
        lease,
    };
    if before.is_some_and(|value| value != request.value) {
        Box::pin(proclaimed(backend, caller, &leader, request.value)).await?;
    } else {
        drop(request);
    }
    place.reach_front(backend, EtcdError::ElectionNotLeader).await?;
    Ok(CampaignResponse {
        header,
        leader: Some(leader),
    })
}

/// Changes the leader's proclamation.
pub async fn proclaim(
    backend: &impl Backend,
    caller: &Caller,
    request: ProclaimRequest,
) -> Result<Body, Status> {
    let Some(mut leader) = request.leader else {
        return Err(EtcdError::MissingLeaderKey.into());
    };
    let proclaimed = async {
        leader.lease = session(backend, caller, leader.lease).await?;
        proclaimed(backend, caller, &leader, request.value).await
    };
    let header = proclaimed.await.map_err(status)?;
    Ok(Body::message(&ProclaimResponse { header }))
}

async fn proclaimed(
    backend: &impl Backend,
    caller: &Caller,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<Option<ResponseHeader>, CallError> {
    let fence = created_at(&leader.key, leader.rev);
    let fenced = !mutants::active(Mutant::ProclaimUnfenced);
    let answer = commit(
        backend,
        caller,
        TxnRequest {
            compare: if fenced { vec![fence] } else { vec![] },
            success: vec![put(&leader.key, value, leader.lease)],
            failure: vec![],
        },
    )
    .await?;
    if answer.succeeded {
        Ok(answer.header)
    } else {
        Err(EtcdError::ElectionNotLeader.into())
    }
}

/// Gives up the leadership or the candidacy. No error if the caller has neither.
pub async fn resign(backend: &impl Backend, caller: &Caller, request: ResignRequest) -> Result<Body, Status> {
    let Some(leader) = request.leader else {
        return Err(EtcdError::MissingLeaderKey.into());
    };
    let resigned = TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![delete(&leader.key)],
        failure: vec![],
    };
    let header = commit(backend, caller, resigned).await.map_err(status)?.header;
    Ok(Body::message(&ResignResponse { header }))
}

/// The current leader.
pub async fn leader(backend: &impl Backend, request: LeaderRequest) -> Result<Body, Status> {
    let found = async {
        let (view, kv) = front(backend, &request.name).await?;
        let kv = kv.ok_or(EtcdError::ElectionNoLeader)?;
        Ok(LeaderResponse {
            header: Some(header(backend, view.revision())),
            kv: Some(kv),
        })
    };
    Ok(Body::message(&found.await.map_err(status)?))
}

/// Streams the leader and its proclamations: first the current one, then every later proclamation of every leader, in order.
/// `headers` are those of the call.
pub fn observe<B: Backend>(backend: &B, headers: &HeaderMap, request: LeaderRequest) -> Body {
    let observer = Observer {
        backend: backend.clone(),
        require_leader: super::grpc::requires_leader(headers),
        name: request.name,
        seen: Seen::Nothing,
        waiting: VecDeque::new(),
    };
    let messages = futures_util::stream::try_unfold(observer, |mut observer| async move {
        let response = observer.next().await.map_err(status)?;
        Ok(Some((frame(&response)?, observer)))
    });
    Body::messages(Box::pin(messages))
}

struct Observer<B> {
    backend: B,
    require_leader: bool,
    name: Bytes,
    seen: Seen,
    /// Responses that arrived together and are not sent yet.
    waiting: VecDeque<LeaderResponse>,
}

/// What an observer follows.
enum Seen {
    Nothing,
    /// There is no leader: the first key that is put leads.
    NoLeader(Following),
    /// There is a leader, which may proclaim more until its key is deleted.
    Leader(Following),
}

impl<B: Backend> Observer<B> {
    async fn next(&mut self) -> Result<LeaderResponse, CallError> {
        loop {
            if let Some(response) = self.waiting.pop_front() {
                return Ok(response);
            }
            match &mut self.seen {
                Seen::Nothing => self.look().await?,
                Seen::NoLeader(following) => {
                    let mut events = following.next().await?.events.into_iter();
                    if let Some(first) = events.find_map(|event| event.kv) {
                        self.led_by(first.mod_revision, first);
                    }
                }
                Seen::Leader(following) => {
                    let followed = following.next().await?;
                    self.proclaimed(followed);
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), CallError> {
        let (view, leader) = front(&self.backend, &self.name).await?;
        if let Some(leader) = leader {
            self.led_by(view.revision(), leader);
        } else {
            let prefix = prefix(&self.name);
            let puts = Wants {
                puts: true,
                deletes: false,
                previous: false,
            };
            self.seen = Seen::NoLeader(self.watch(&prefix, &end(&prefix), view.revision() + 1, puts));
        }
        Ok(())
    }

    /// Follows `leader`, read at `revision`.
    fn led_by(&mut self, revision: i64, leader: KeyValue) {
        let everything = Wants {
            puts: true,
            deletes: true,
            previous: false,
        };
        self.seen = Seen::Leader(self.watch(&leader.key, &[], revision + 1, everything));
        self.tell(revision, leader);
    }

    fn proclaimed(&mut self, followed: Followed) {
        for event in followed.events {
            if event.r#type() == EventType::Delete {
                self.seen = Seen::Nothing;
                return;
            }
            if mutants::active(Mutant::ObserveNewestOnly) {
                self.waiting.clear();
            }
            self.tell(followed.revision, event.kv.unwrap_or_default());
        }
    }

    fn tell(&mut self, revision: i64, leader: KeyValue) {
        self.waiting.push_back(LeaderResponse {
            header: Some(header(&self.backend, revision)),
            kv: Some(leader),
        });
    }

    fn watch(&self, key: &[u8], range_end: &[u8], start_revision: i64, wants: Wants) -> Following {
        let watcher = Create {
            keys: WatchedKeys::new(key, range_end),
            wants,
            ..create(start_revision)
        };
        Following::start(self.backend.watches(), watcher, self.require_leader)
    }
}
