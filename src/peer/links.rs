//! The links of a member: one for each other member, opened and closed as the membership changes.

use super::caller::PeerCaller;
use super::identity::IdentityCheck;
use super::link::{End, Link, Remote, Send, SendSnapshot};
use crate::cluster::MemberUrl;
use crate::consensus::inbox::Incoming;
use crate::consensus::links::MemberLinks;
use crate::env::{self, TaskThread};
use crate::ids::MemberId;
use crate::inbox::Inbox;
use crate::metrics::PeerFamilies;
use crate::proto::peer::{self, Batch};
use crate::state::View;
use crate::stop::StopSignal;
use actix::Addr;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of unknown members that get answers.
const STRANGERS_MAX: usize = 16;

/// What all links share.
pub struct LinkOptions {
    pub identity_check: IdentityCheck,
    pub consensus: Arc<Inbox<Incoming>>,
    pub stop: StopSignal,
    pub transfers: TaskThread,
    pub metrics: Arc<PeerFamilies>,
}

/// The links by member, each with the URLs that it dials.
pub struct Links {
    /// Knows the other members and their URLs.
    caller: PeerCaller,
    options: LinkOptions,
    by_member: BTreeMap<MemberId, (Vec<MemberUrl>, Addr<Link>)>,
    /// Unknown members that have connected to this one, with their URLs.
    strangers: BTreeMap<MemberId, Vec<MemberUrl>>,
}

impl Links {
    /// To be called on the thread where the links are to run.
    pub fn start(caller: PeerCaller, options: LinkOptions) -> Self {
        let mut this = Self {
            caller,
            options,
            by_member: BTreeMap::new(),
            strangers: BTreeMap::new(),
        };
        this.refresh();
        this
    }

    fn link(&self, remote: Remote) -> Addr<Link> {
        let options = &self.options;
        let metrics = options.metrics.to(remote.own.member, remote.member);
        let link = Link::new(
            remote,
            Arc::clone(&options.consensus),
            options.identity_check.clone(),
            options.stop.clone(),
            options.transfers.clone(),
            metrics,
        );
        env::start(|_| link)
    }

    fn to(&self, member: MemberId) -> Option<&Addr<Link>> {
        self.by_member.get(&member).map(|(_, link)| link)
    }

    fn send_batch(&self, member: MemberId, batch: Batch) {
        if let Some(link) = self.to(member) {
            link.do_send(Send(batch));
        }
    }
}

impl MemberLinks for Links {
    fn refresh(&mut self) {
        let mut others = self.caller.others();
        let check = &self.options.identity_check;
        self.strangers
            .retain(|member, _| !check.knows(*member) && !check.is_removed(*member));
        others.extend(self.strangers.keys());
        let gone = self
            .by_member
            .extract_if(.., |member, _| !others.contains(member));
        for (_, (_, link)) in gone {
            link.do_send(End);
        }
        for member in others {
            let mut remote = self.caller.remote(member);
            if let Some(urls) = self.strangers.get(&member) {
                remote.urls.clone_from(urls);
            }
            let urls = remote.urls.clone();
            if self
                .by_member
                .get(&member)
                .is_some_and(|(known, _)| *known == urls)
            {
                continue;
            }
            let link = self.link(remote);
            if let Some((_, replaced)) = self.by_member.insert(member, (urls, link)) {
                replaced.do_send(End);
            }
        }
    }

    fn count(&self) -> usize {
        self.by_member.len()
    }

    fn has(&self, member: MemberId) -> bool {
        self.by_member.contains_key(&member)
    }

    fn send(&self, member: MemberId, messages: Vec<peer::Message>) {
        let batch = Batch {
            messages,
            ..Batch::default()
        };
        self.send_batch(member, batch);
    }

    fn forward_member_change(&self, leader: MemberId, change: Bytes) {
        let batch = Batch {
            forwarded_member_changes: vec![change],
            ..Batch::default()
        };
        self.send_batch(leader, batch);
    }

    fn add_stranger(&mut self, member: MemberId, urls: Vec<String>) {
        if self.strangers.len() >= STRANGERS_MAX && !self.strangers.contains_key(&member) {
            return;
        }
        let urls = urls.iter().filter_map(|url| MemberUrl::parse(url).ok()).collect();
        self.strangers.insert(member, urls);
        self.refresh();
    }

    fn forward(&self, leader: MemberId, commands: Bytes) {
        let batch = Batch {
            forwarded_commands: vec![commands],
            ..Batch::default()
        };
        self.send_batch(leader, batch);
    }

    fn send_snapshot(&self, member: MemberId, announcement: peer::Message, view: Arc<View>) {
        if let Some(link) = self.to(member) {
            link.do_send(SendSnapshot { announcement, view });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::block_on;
    use crate::ids::{ClusterId, Incarnation};
    use crate::metrics::Metrics;
    use crate::proto::log::Member;
    use crate::proto::log::member_change::Change;
    use crate::state::testing::TestMember;
    use crate::storage::contacts::Contacts;
    use crate::storage::directory::Identity;

    fn member(id: u64, port: u16) -> Member {
        Member {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{port}")],
            ..Member::default()
        }
    }

    #[test]
    fn links_follow_the_members() {
        block_on(async {
            let mut state = TestMember::new();
            let contacts = tempfile::tempdir().expect("a directory");
            let contacts = Contacts::begin(contacts.path()).expect("an empty directory");
            let own = Identity {
                member: MemberId(5),
                cluster: ClusterId(7),
                incarnation: Incarnation(1),
                start: contacts.own(),
            };
            let caller = PeerCaller::new(own, state.views.clone(), None);
            let (transfers, _thread) = TaskThread::start("transfer");
            let options = LinkOptions {
                identity_check: IdentityCheck {
                    own,
                    views: state.views.clone(),
                    contacts,
                },
                consensus: Arc::default(),
                stop: StopSignal::default(),
                transfers,
                metrics: Arc::clone(&Metrics::default().peers),
            };
            let mut links = Links::start(caller, options);
            assert_eq!(links.count(), 0, "none to itself");
            let mut change = |links: &mut Links, changes: Vec<Change>| {
                for change in changes {
                    state.change_members(change).expect("carried out");
                }
                links.refresh();
                links.by_member.clone()
            };
            let first = change(
                &mut links,
                vec![Change::Add(member(6, 2)), Change::Add(member(7, 3))],
            );
            assert_eq!(first.keys().map(|id| id.0).collect::<Vec<_>>(), [6, 7]);
            let second = change(
                &mut links,
                vec![
                    Change::Remove(7),
                    Change::Add(member(8, 5)),
                    Change::Add(member(9, 3)),
                ],
            );
            assert_eq!(second.keys().map(|id| id.0).collect::<Vec<_>>(), [6, 8, 9]);
            let address =
                |links: &BTreeMap<MemberId, (Vec<MemberUrl>, Addr<Link>)>, id| links[&MemberId(id)].1.clone();
            assert_eq!(address(&first, 6), address(&second, 6), "it stays");
            let third = change(&mut links, vec![Change::Remove(6), Change::Remove(9)]);
            assert_eq!(third.keys().map(|id| id.0).collect::<Vec<_>>(), [8]);
            env::sleep(std::time::Duration::from_millis(10)).await;
            for (links, id, is_there) in [(&second, 6, false), (&first, 7, false), (&third, 8, true)] {
                assert_eq!(address(links, id).connected(), is_there, "{id}");
            }
        });
    }
}
