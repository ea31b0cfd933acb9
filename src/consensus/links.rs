//! The links to the other members, as consensus uses them.

use crate::ids::MemberId;
use crate::proto::peer;
use crate::state::View;
use bytes::Bytes;
use std::sync::Arc;

/// A link to each of the other members. A message to a member without a link is dropped, as if the network had lost it.
pub trait MemberLinks {
    /// The members or their URLs have changed: closes links to members that were removed, and opens links to new ones.
    fn refresh(&mut self);

    fn count(&self) -> usize;

    fn has(&self, member: MemberId) -> bool;

    /// Sends raft messages in order. A member that they cannot be sent to is reported as unreachable.
    fn send(&self, member: MemberId, messages: Vec<peer::Message>);

    /// Sends an encoded batch of one membership change to the leader, which proposes it.
    fn forward_member_change(&self, leader: MemberId, change: Bytes);

    /// A member that has connected to this one gives these peer URLs as its own. If the membership does not have them, they are
    /// dialled too, so that it gets answers.
    fn hear_urls(&mut self, member: MemberId, urls: &[String]);

    /// Sends an encoded command batch to the leader, which proposes it.
    fn forward(&self, leader: MemberId, commands: Bytes);

    /// Sends a snapshot: raft's message and the state that belongs to it. The outcome is reported to consensus.
    fn send_snapshot(&self, member: MemberId, announcement: peer::Message, view: Arc<View>);
}
