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
/// How many attempts to connect to a member's peer URLs according to the membership are made before one to those that it gave
/// itself.
const KNOWN_FIRST: usize = 3;

/// What all links share.
pub struct LinkOptions {
    pub identity_check: IdentityCheck,
    pub consensus: Arc<Inbox<Incoming>>,
    pub stop: StopSignal,
    pub transfers: TaskThread,
    pub metrics: Arc<PeerFamilies>,
}

/// What a link is built from: the URLs that it dials, and those that it gives as this member's own.
type Dialled = (Vec<MemberUrl>, Vec<String>);

/// The links by member.
pub struct Links {
    /// Knows the other members and their URLs.
    caller: PeerCaller,
    options: LinkOptions,
    by_member: BTreeMap<MemberId, (Dialled, Addr<Link>)>,
    /// The peer URLs that members gave when they last connected. A member that lags behind does not know of members that were
    /// added since, nor where the others have moved, and can catch up only if they get its answers. One whose move is in the
    /// membership may still be at its old place.
    heard_urls: BTreeMap<MemberId, Vec<MemberUrl>>,
}

impl Links {
    /// To be called on the thread where the links are to run.
    pub fn start(caller: PeerCaller, options: LinkOptions) -> Self {
        let mut this = Self {
            caller,
            options,
            by_member: BTreeMap::new(),
            heard_urls: BTreeMap::new(),
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
        self.heard_urls.retain(|member, _| !check.is_removed(*member));
        others.extend(self.heard_urls.keys());
        others.sort_unstable();
        others.dedup();
        let gone = self
            .by_member
            .extract_if(.., |member, _| !others.contains(member));
        for (_, (_, link)) in gone {
            link.do_send(End);
        }
        for member in others {
            let mut remote = self.caller.remote(member);
            let heard = self.heard_urls.get(&member).into_iter().flatten();
            // Nobody talks a member out of TLS.
            let needs_tls = !remote.urls.is_empty() && remote.urls.iter().all(MemberUrl::is_secure);
            let is_new = |url: &&MemberUrl| !remote.urls.contains(url) && (url.is_secure() || !needs_tls);
            let heard: Vec<_> = heard.filter(is_new).cloned().collect();
            if !heard.is_empty() {
                let known = std::iter::repeat_n(std::mem::take(&mut remote.urls), KNOWN_FIRST);
                remote.urls = known.flatten().chain(heard).collect();
            }
            let dialled = (remote.urls.clone(), remote.own_urls.clone());
            if self
                .by_member
                .get(&member)
                .is_some_and(|(before, _)| *before == dialled)
            {
                continue;
            }
            let link = self.link(remote);
            if let Some((_, replaced)) = self.by_member.insert(member, (dialled, link)) {
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

    fn hear_urls(&mut self, member: MemberId, urls: &[String]) {
        let check = &self.options.identity_check;
        let strangers = self.heard_urls.keys().filter(|known| !check.knows(**known));
        if strangers.count() >= STRANGERS_MAX && !check.knows(member) {
            return;
        }
        let urls = urls.iter().filter_map(|url| MemberUrl::parse(url).ok());
        self.heard_urls.insert(member, urls.collect());
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
    use crate::proto::log::command::Request;
    use crate::proto::log::member_change::Change;
    use crate::proto::log::{Member, PeerUrls};
    use crate::state::testing::TestMember;
    use crate::storage::contacts::Contacts;
    use crate::storage::directory::Identity;
    use tempfile::TempDir;

    const ADVERTISED: &str = "http://127.0.0.1:1";

    /// The links of member 5, over its state.
    struct Fixture {
        state: TestMember,
        links: Links,
        _contacts: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let state = TestMember::new();
            let directory = tempfile::tempdir().expect("a directory");
            let contacts = Contacts::begin(directory.path()).expect("an empty directory");
            let own = Identity {
                member: MemberId(5),
                cluster: ClusterId(7),
                incarnation: Incarnation(1),
                start: contacts.own(),
            };
            let advertised = [ADVERTISED.to_owned()].into();
            let caller = PeerCaller::new(own, state.views.clone(), advertised, None);
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
            Self {
                links: Links::start(caller, options),
                state,
                _contacts: directory,
            }
        }

        fn change(&mut self, changes: Vec<Change>) -> BTreeMap<MemberId, (Dialled, Addr<Link>)> {
            for change in changes {
                self.state.change_members(change).expect("carried out");
            }
            self.links.refresh();
            self.links.by_member.clone()
        }

        fn move_member(&mut self, member_id: u64, port: u16) {
            let moved = PeerUrls {
                member_id,
                peer_urls: vec![url(port)],
            };
            self.state.run(Request::PeerUrls(moved)).expect("carried out");
            self.links.refresh();
        }

        /// The ports that the link to a member dials, in their order, and those that it gives as its own.
        fn dialled(&self, id: u64) -> (Vec<u16>, Vec<u16>) {
            let port = |url: &str| url.rsplit_once(':').unwrap().1.parse().unwrap();
            let ((urls, own_urls), _) = &self.links.by_member[&MemberId(id)];
            let urls = urls.iter().map(|url| port(url.as_str()));
            (urls.collect(), own_urls.iter().map(|url| port(url)).collect())
        }
    }

    fn url(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn member(id: u64, port: u16) -> Member {
        Member {
            id,
            peer_urls: vec![url(port)],
            ..Member::default()
        }
    }

    #[test]
    fn links_follow_the_members() {
        block_on(async {
            let mut fixture = Fixture::new();
            assert_eq!(fixture.links.count(), 0, "none to itself");
            let first = fixture.change(vec![Change::Add(member(6, 2)), Change::Add(member(7, 3))]);
            assert_eq!(first.keys().map(|id| id.0).collect::<Vec<_>>(), [6, 7]);
            let second = fixture.change(vec![
                Change::Remove(7),
                Change::Add(member(8, 5)),
                Change::Add(member(9, 3)),
            ]);
            assert_eq!(second.keys().map(|id| id.0).collect::<Vec<_>>(), [6, 8, 9]);
            let address =
                |links: &BTreeMap<MemberId, (Dialled, Addr<Link>)>, id| links[&MemberId(id)].1.clone();
            assert_eq!(address(&first, 6), address(&second, 6), "it stays");
            let third = fixture.change(vec![Change::Remove(6), Change::Remove(9)]);
            assert_eq!(third.keys().map(|id| id.0).collect::<Vec<_>>(), [8]);
            env::sleep(std::time::Duration::from_millis(10)).await;
            for (links, id, is_there) in [(&second, 6, false), (&first, 7, false), (&third, 8, true)] {
                assert_eq!(address(links, id).connected(), is_there, "{id}");
            }
        });
    }

    #[test]
    fn a_member_that_has_moved_is_dialled_where_it_says_too() {
        block_on(async {
            let mut fixture = Fixture::new();
            fixture.change(vec![Change::Add(member(6, 2))]);
            let own = fixture.dialled(6).1;
            assert_eq!(own.last(), Some(&1), "as its flags say");
            assert_eq!(fixture.dialled(6), (vec![2], own.clone()));
            fixture.links.hear_urls(MemberId(6), &[url(2)]);
            assert_eq!(fixture.dialled(6).0, [2], "nothing new");
            fixture.links.hear_urls(MemberId(6), &[url(2), url(3)]);
            assert_eq!(fixture.dialled(6).0, [2, 2, 2, 3]);
            fixture
                .links
                .hear_urls(MemberId(6), &[url(4), "nowhere".to_owned()]);
            assert_eq!(fixture.dialled(6).0, [2, 2, 2, 4]);
            fixture.move_member(6, 4);
            assert_eq!(fixture.dialled(6).0, [4], "the membership has caught up");
            fixture.move_member(6, 5);
            assert_eq!(fixture.dialled(6).0, [5, 5, 5, 4], "it may still be there");
            fixture.links.hear_urls(MemberId(6), &[url(5)]);
            fixture.move_member(5, 9);
            assert_eq!(fixture.dialled(6), (vec![5], vec![9, 1]), "its own move is told");
            fixture.move_member(5, 1);
            assert_eq!(fixture.dialled(6), (vec![5], vec![1]));
        });
    }

    #[test]
    fn a_member_with_tls_is_not_dialled_without_it() {
        block_on(async {
            let mut fixture = Fixture::new();
            let secure = |port: u16| url(port).replace("http", "https");
            let with_tls = Member {
                peer_urls: vec![secure(2)],
                ..member(6, 2)
            };
            fixture.change(vec![Change::Add(with_tls)]);
            fixture.links.hear_urls(MemberId(6), &[url(3), secure(4)]);
            assert_eq!(fixture.dialled(6).0, [2, 2, 2, 4]);
        });
    }

    #[test]
    fn few_members_that_nobody_knows_are_answered() {
        block_on(async {
            let mut fixture = Fixture::new();
            fixture.change(vec![Change::Add(member(6, 2))]);
            for id in 100..120 {
                fixture.links.hear_urls(MemberId(id), &[url(3)]);
            }
            assert_eq!(fixture.links.count(), 1 + STRANGERS_MAX);
            fixture.links.hear_urls(MemberId(6), &[url(4)]);
            assert_eq!(fixture.dialled(6).0, [2, 2, 2, 4], "a known one always");
            fixture.change(vec![Change::Add(member(100, 3)), Change::Remove(100)]);
            assert!(!fixture.links.has(MemberId(100)), "it was removed");
        });
    }
}
