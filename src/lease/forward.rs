//! Questions about leases on their way to the leader, over its peer port. Asking twice does no harm.

use crate::client::Channel;
use crate::cluster::MemberUrl;
use crate::env;
use crate::ids::MemberId;
use crate::mvcc::Views;
use crate::peer::envelope;
use crate::peer::identity;
use crate::peer::link::{self, Remote};
use crate::proto::peer::peer_client::PeerClient;
use crate::proto::peer::{LeaseAnswer, LeaseAnswers, LeaseQuestion, LeaseQuestions};
use crate::storage::directory::Identity;
use crate::tls::Connector;
use std::time::Duration;
use tonic::Status;

/// The leader answers within this time, or another attempt is made.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to whoever leads.
pub(super) struct Forwarder {
    pub own: Identity,
    pub views: Views,
    pub dialler: Option<Connector>,
    pub connection: Option<(MemberId, PeerClient<Channel>)>,
    pub attempts: usize,
}

impl Forwarder {
    /// The answers to `questions`, in their order. After an error the connection is given up.
    pub async fn ask(
        &mut self,
        leader: MemberId,
        questions: Vec<LeaseQuestion>,
    ) -> Result<Vec<LeaseAnswer>, Status> {
        let count = questions.len();
        let hello = identity::hello(self.own, leader);
        let request = envelope::wrap_call(Some(&hello), &LeaseQuestions { questions });
        let asked = async {
            let mut client = self.connect(leader).await?;
            let answers = envelope::unwrap_call(client.ask_leases(request).await?.into_inner());
            let LeaseAnswers { answers } = answers.map_err(|error| Status::data_loss(error.to_string()))?;
            Ok::<_, Status>((client, answers))
        };
        let outcome = env::timeout(ANSWER_TIMEOUT, asked).await;
        let (client, answers) =
            outcome.unwrap_or_else(|env::Elapsed| Err(Status::deadline_exceeded("no answer")))?;
        if answers.len() != count {
            return Err(Status::internal("as many answers as questions were due"));
        }
        self.connection = Some((leader, client));
        Ok(answers)
    }

    async fn connect(&mut self, leader: MemberId) -> Result<PeerClient<Channel>, Status> {
        if let Some((member, client)) = self.connection.take()
            && member == leader
        {
            return Ok(client);
        }
        let view = self.views.load();
        let urls = view.member(leader).map(|member| &member.peer_urls);
        let urls = urls.ok_or_else(|| Status::unavailable("the leader is not in the membership"))?;
        let urls = urls.iter().filter_map(|url| MemberUrl::parse(url).ok());
        let remote = Remote {
            own: self.own,
            member: leader,
            urls: urls.collect(),
            dialler: self.dialler.clone(),
        };
        self.attempts += 1;
        link::connect(&remote, self.attempts).await
    }
}
