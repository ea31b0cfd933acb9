//! Unary calls to other members' peer ports, beside the links' streams.
//!
//! What the questions and answers mean is the caller's concern.

use super::link::{self, Remote};
use super::{envelope, identity};
use crate::client::Channel;
use crate::cluster::MemberUrl;
use crate::env;
use crate::ids::MemberId;
use crate::proto::peer::Hello;
use crate::proto::peer::peer_client::PeerClient;
use crate::state::Views;
use crate::storage::directory::Identity;
use crate::tls::Connector;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// The calls that other members answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// `LeaseQuestions`, answered with `LeaseAnswers`.
    AskLeases,
    /// `StateQuestion`, answered with `StateAnswer`.
    AskState,
}

/// Calls other members. A clone has connections of its own.
#[derive(Debug)]
pub struct PeerCaller {
    own: Identity,
    views: Views,
    /// This member's peer URLs according to its flags; empty if these do not say.
    advertised: Arc<[String]>,
    /// For https peer URLs.
    dialler: Option<Connector>,
    /// Connections to the members that were called last. Each is kept until a call fails.
    connections: BTreeMap<MemberId, PeerClient<Channel>>,
    attempts: usize,
}

impl Clone for PeerCaller {
    fn clone(&self) -> Self {
        Self::new(
            self.own,
            self.views.clone(),
            Arc::clone(&self.advertised),
            self.dialler.clone(),
        )
    }
}

impl PeerCaller {
    pub fn new(own: Identity, views: Views, advertised: Arc<[String]>, dialler: Option<Connector>) -> Self {
        Self {
            own,
            views,
            advertised,
            dialler,
            connections: BTreeMap::new(),
            attempts: 0,
        }
    }

    /// All members but this one.
    pub fn others(&self) -> Vec<MemberId> {
        let view = self.views.load();
        let ids = view.cluster.members.iter().map(|member| MemberId(member.id));
        ids.filter(|id| *id != self.own.member).collect()
    }

    /// The address of a member; without URLs if it is not in the membership.
    pub fn remote(&self, member: MemberId) -> Remote {
        let view = self.views.load();
        let urls_of = |member| {
            let urls = view.member(member).map(|member| member.peer_urls.as_slice());
            urls.unwrap_or_default()
        };
        let urls = urls_of(member).iter();
        // A member that has moved may not have applied its move when it is needed for the quorum that commits it.
        let mut own_urls = urls_of(self.own.member).to_vec();
        for url in &*self.advertised {
            if !own_urls.contains(url) {
                own_urls.push(url.clone());
            }
        }
        Remote {
            own: self.own,
            member,
            urls: urls.filter_map(|url| MemberUrl::parse(url).ok()).collect(),
            own_urls,
            dialler: self.dialler.clone(),
        }
    }

    /// Calls these members at the same time and returns their answers, each after `within` at most. Connections to other
    /// members are closed.
    pub async fn call<A: Message + Default>(
        &mut self,
        members: &[MemberId],
        call: PeerCall,
        question: &impl Message,
        within: Duration,
    ) -> Vec<(MemberId, Result<A, Status>)> {
        self.attempts += 1;
        let mut known = std::mem::take(&mut self.connections);
        let called = members.iter().map(|member| {
            let known = known.remove(member).ok_or_else(|| self.remote(*member));
            let (hello, attempt) = (identity::hello(self.own, *member), self.attempts);
            async move {
                let answer = env::timeout(within, call_one(known, attempt, call, &hello, question)).await;
                let late = || Status::deadline_exceeded("no answer in time");
                answer.unwrap_or_else(|env::Elapsed| Err(late()))
            }
        });
        let outcomes = futures_util::future::join_all(called).await;
        let answers = members.iter().zip(outcomes).map(|(member, outcome)| {
            let answer = outcome.map(|(connection, answer)| {
                self.connections.insert(*member, connection);
                answer
            });
            (*member, answer)
        });
        answers.collect()
    }
}

/// Calls over the existing connection, or over a new one to the member's address.
async fn call_one<A: Message + Default>(
    known: Result<PeerClient<Channel>, Remote>,
    attempt: usize,
    call: PeerCall,
    hello: &Hello,
    question: &impl Message,
) -> Result<(PeerClient<Channel>, A), Status> {
    let mut client = match known {
        Ok(client) => client,
        Err(remote) => link::connect(&remote, attempt).await?,
    };
    let request = envelope::wrap_call(Some(hello), question);
    let answer = match call {
        PeerCall::AskLeases => client.ask_leases(request).await,
        PeerCall::AskState => client.ask_state(request).await,
    };
    let answer = envelope::unwrap_call(answer?.into_inner());
    Ok((
        client,
        answer.map_err(|error| Status::data_loss(error.to_string()))?,
    ))
}
