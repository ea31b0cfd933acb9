//! A cluster that runs already, as its members describe it to one that starts.

use crate::client::{Channel, ChannelOptions};
use crate::cluster::MemberUrl;
use crate::env;
use crate::ids::ClusterId;
use crate::proto::etcdserverpb;
use crate::proto::etcdserverpb::MemberListRequest;
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::log::Member;
use crate::tls::Connector;
use std::time::Duration;

/// A cluster as one of its members describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    /// Who says so.
    pub url: String,
    pub cluster: ClusterId,
    pub members: Vec<Member>,
}

/// How members are asked.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// For URLs that say https.
    pub dialler: Option<&'a Connector>,
    /// Whether the cluster must agree on the answer.
    pub linearizable: bool,
    /// Who does not answer within that time is not waited for.
    pub within: Duration,
    /// Whether it is worth a warning that nobody answers at a URL.
    pub warns: bool,
}

impl Question<'_> {
    /// Asks who is behind these peer URLs, all at once. Who does not answer is left out.
    pub async fn ask_all(self, urls: &[&MemberUrl]) -> Vec<Running> {
        let asked = urls.iter().map(|url| self.ask(url));
        let answers = futures_util::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    async fn ask(self, url: &MemberUrl) -> Option<Running> {
        match env::timeout(self.within, self.answer(url)).await {
            Ok(Ok(running)) => Some(running),
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => "no answer in time".to_owned(),
                };
                let (address, linearizable) = (url.as_str(), self.linearizable);
                if self.warns {
                    tracing::warn!(address, linearizable, error, "failed to get cluster response");
                }
                None
            }
        }
    }

    async fn answer(self, url: &MemberUrl) -> Result<Running, String> {
        let tls = self.dialler.filter(|_| url.is_secure()).cloned();
        let options = ChannelOptions {
            tls,
            ..ChannelOptions::default()
        };
        let channel = Channel::connect_with(&url.address(), &url.authority(), &options).await;
        let channel = channel.map_err(|error| error.to_string())?;
        let request = MemberListRequest {
            linearizable: self.linearizable,
        };
        let mut client = ClusterClient::new(channel);
        let ask = async || {
            let answer = client.member_list(request).await;
            let response = answer.map_err(|status| status.message().to_owned())?.into_inner();
            Ok(Running {
                url: url.to_string(),
                cluster: ClusterId(response.header.unwrap_or_default().cluster_id),
                members: response.members.into_iter().map(from_wire).collect(),
            })
        };
        twice_alike(ask).await
    }
}

/// Asks until two answers in a row are equal. No checksum covers an answer, and who believed a damaged one would keep a cluster ID
/// that nobody has.
async fn twice_alike<T: PartialEq>(mut ask: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
    let mut last = ask().await?;
    loop {
        let next = ask().await?;
        if next == last {
            return Ok(last);
        }
        last = next;
    }
}

fn from_wire(member: etcdserverpb::Member) -> Member {
    Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_ur_ls,
        client_urls: member.client_ur_ls,
        is_learner: member.is_learner,
        incarnation: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_answer_is_not_believed() {
        let heard = async |answers: &[u64]| {
            let mut answers = answers.iter().copied();
            twice_alike(async || answers.next().ok_or_else(|| "none".to_owned())).await
        };
        env::block_on(async {
            assert_eq!(heard(&[7, 7]).await, Ok(7));
            assert_eq!(heard(&[7, 9, 7, 7]).await, Ok(7));
            assert_eq!(heard(&[9, 7]).await, Err("none".to_owned()));
        });
    }
}
