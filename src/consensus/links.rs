//! The ways to the other members, as consensus uses them.

use crate::ids::MemberId;
use crate::proto::peer;
use crate::state::View;
use bytes::Bytes;
use std::sync::Arc;

/// A link to each of the other members. What is for a member without one is dropped, like what gets lost on its way.
pub trait MemberLinks {
    /// The members are others now, or elsewhere: ends the links to those that have gone, and begins new ones.
    fn refresh(&mut self);

    fn count(&self) -> usize;

    fn has(&self, member: MemberId) -> bool;

    /// Raft messages, in order. A member that they cannot be sent to is reported as out of reach.
    fn send(&self, member: MemberId, messages: Vec<peer::Message>);

    /// An encoded batch of one change of the members, for the leader to propose.
    fn forward_member_change(&self, leader: MemberId, change: Bytes);

    /// A member that is not known here has dialled from these URLs: it is to be answered.
    fn add_stranger(&mut self, member: MemberId, urls: Vec<String>);

    /// An encoded command batch for the leader to propose.
    fn forward(&self, leader: MemberId, commands: Bytes);

    /// A snapshot: raft's announcement and the state it stands for. What became of it is reported.
    fn send_snapshot(&self, member: MemberId, announcement: peer::Message, view: Arc<View>);
}
