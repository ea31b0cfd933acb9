//! Questions about the state of other members, all at once and each with a deadline.

use super::handle::HashHandle;
use crate::client::Channel;
use crate::cluster::MemberUrl;
use crate::env;
use crate::ids::MemberId;
use crate::mvcc::Views;
use crate::peer::link::{self, Remote};
use crate::peer::{envelope, identity};
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::state_question::Question;
use crate::proto::peer::{StateAnswer, StateQuestion};
use crate::storage::directory::Identity;
use crate::tls::Connector;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::Status;

/// Who asks. Connections are kept until one fails.
pub(super) struct Asker {
    own: Identity,
    views: Views,
    dialler: Option<Connector>,
    connections: BTreeMap<MemberId, PeerClient<Channel>>,
    attempts: usize,
}

impl Asker {
    pub fn new(own: Identity, hashes: &HashHandle) -> Self {
        Self {
            own,
            views: hashes.views.clone(),
            dialler: hashes.dialler.clone(),
            connections: BTreeMap::new(),
            attempts: 0,
        }
    }

    /// The members but this one.
    pub fn others(&self) -> Vec<MemberId> {
        let view = self.views.load();
        let ids = view.cluster.members.iter().map(|member| MemberId(member.id));
        ids.filter(|id| *id != self.own.member).collect()
    }

    /// What each of the others answers within the time.
    pub async fn ask_others(
        &mut self,
        question: Question,
        within: Duration,
    ) -> Vec<(MemberId, Result<StateAnswer, Status>)> {
        self.attempts += 1;
        let asked = self.others().into_iter().map(|member| {
            let known = self.connections.remove(&member);
            let remote = self.remote(member);
            let attempt = self.attempts;
            async move {
                let answer = env::timeout(within, ask(remote, known, attempt, question)).await;
                let late = || Status::deadline_exceeded("no answer in time");
                (member, answer.unwrap_or_else(|env::Elapsed| Err(late())))
            }
        });
        let mut answers = Vec::new();
        for (member, outcome) in futures_util::future::join_all(asked).await {
            let answer = outcome.map(|(connection, answer)| {
                self.connections.insert(member, connection);
                answer
            });
            answers.push((member, answer));
        }
        answers
    }

    fn remote(&self, member: MemberId) -> Remote {
        let view = self.views.load();
        let urls = view.member(member).map(|member| member.peer_urls.as_slice());
        let urls = urls.unwrap_or_default().iter();
        Remote {
            own: self.own,
            member,
            urls: urls.filter_map(|url| MemberUrl::parse(url).ok()).collect(),
            dialler: self.dialler.clone(),
        }
    }
}

async fn ask(
    remote: Remote,
    known: Option<PeerClient<Channel>>,
    attempt: usize,
    question: Question,
) -> Result<(PeerClient<Channel>, StateAnswer), Status> {
    let mut client = match known {
        Some(client) => client,
        None => link::connect(&remote, attempt).await?,
    };
    let hello = identity::hello(remote.own, remote.member);
    let question = StateQuestion {
        question: Some(question),
    };
    let request = envelope::wrap_call(Some(&hello), &question);
    let answer = client.ask_state(request).await?.into_inner();
    let answer = envelope::unwrap_call(answer).map_err(|error| Status::data_loss(error.to_string()))?;
    Ok((client, answer))
}
