//! The links of a member: one for each of the others.

use super::link::{Forward, Link, Send, SendSnapshot};
use crate::consensus::links::MemberLinks;
use crate::ids::MemberId;
use crate::proto::peer;
use crate::state::View;
use actix::Addr;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The links by member.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<MemberId, Addr<Link>>);

impl Links {
    pub fn add(&mut self, member: MemberId, link: Addr<Link>) {
        self.0.insert(member, link);
    }
}

impl MemberLinks for Links {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn has(&self, member: MemberId) -> bool {
        self.0.contains_key(&member)
    }

    fn send(&self, member: MemberId, messages: Vec<peer::Message>) {
        if let Some(link) = self.0.get(&member) {
            link.do_send(Send(messages));
        }
    }

    fn forward(&self, leader: MemberId, commands: Bytes) {
        if let Some(link) = self.0.get(&leader) {
            link.do_send(Forward(commands));
        }
    }

    fn send_snapshot(&self, member: MemberId, announcement: peer::Message, view: Arc<View>) {
        if let Some(link) = self.0.get(&member) {
            link.do_send(SendSnapshot { announcement, view });
        }
    }
}
