//! ReadIndex requests that have reached the leader. While one is being confirmed, later ones wait and are then confirmed
//! together: confirmed singly, each would cost a heartbeat to every member and its response, and all members ask all the time.
//!
//! A request may wait, since a later answer only gives a later index. It may not join a confirmation that began before the
//! request arrived. It waits until that is done, or for the next tick if that takes longer, as on slow links.

use crate::proto::peer;
use raft::eraftpb::{Entry, Message, MessageType};
use std::collections::BTreeMap;

/// The number of requests that may wait; further ones are confirmed singly. Members ask one at a time, and rarely repeat it.
const WAITING_MAX: usize = 64;

/// The requests that wait.
#[derive(Debug, Default)]
pub struct ReadQuestions(Vec<Message>);

impl ReadQuestions {
    /// A request of this member itself.
    pub fn own(context: Vec<u8>) -> Message {
        let entry = Entry {
            data: context.into(),
            ..Entry::default()
        };
        Message {
            msg_type: MessageType::MsgReadIndex,
            entries: vec![entry].into(),
            ..Message::default()
        }
    }

    /// Makes a request wait if another one is being confirmed, and returns it otherwise.
    pub fn hold(&mut self, question: Message, is_confirming: bool) -> Option<Message> {
        if !is_confirming || self.0.len() >= WAITING_MAX {
            return Some(question);
        }
        self.0.push(question);
        None
    }

    /// Takes all waiting requests: nothing is being confirmed any more, or it takes long.
    pub fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Drops heartbeats that ask to confirm a request if a later one to the same member asks to confirm a later request: raft
/// takes a response for all earlier requests too.
pub fn without_superseded(messages: Vec<peer::Message>) -> Vec<peer::Message> {
    let asks = |message: &peer::Message| {
        message.r#type == MessageType::MsgHeartbeat as i32 && !message.context.is_empty()
    };
    let mut last = BTreeMap::new();
    let mut count = 0;
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| asks(message)) {
        last.insert((message.to, message.term), place);
        count += 1;
    }
    if count == last.len() {
        return messages;
    }
    let messages = messages.into_iter().enumerate();
    let kept = messages
        .filter(|(place, message)| !asks(message) || last.get(&(message.to, message.term)) == Some(place));
    kept.map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_waits_while_another_is_confirmed() {
        let mut questions = ReadQuestions::default();
        let question = |number: u8| ReadQuestions::own(vec![number]);
        assert_eq!(questions.hold(question(1), false), Some(question(1)));
        assert_eq!(questions.hold(question(2), true), None);
        assert_eq!(questions.hold(question(3), true), None);
        assert_eq!(questions.take(), [question(2), question(3)]);
        assert!(questions.is_empty());
        for _ in 0..WAITING_MAX {
            assert_eq!(questions.hold(question(4), true), None);
        }
        assert_eq!(questions.hold(question(5), true), Some(question(5)));
    }

    #[test]
    fn the_last_heartbeat_to_a_member_confirms_all() {
        let message = |to: u64, kind: MessageType, context: &'static [u8]| peer::Message {
            to,
            r#type: kind as i32,
            context: context.into(),
            ..peer::Message::default()
        };
        let heartbeat = MessageType::MsgHeartbeat;
        let append = message(2, MessageType::MsgAppend, b"");
        let messages = vec![
            message(2, heartbeat, b"1"),
            message(3, heartbeat, b"1"),
            append.clone(),
            message(2, heartbeat, b"2"),
            message(2, heartbeat, b""),
        ];
        let kept = without_superseded(messages.clone());
        assert_eq!(kept, [&messages[1..4], &messages[4..]].concat());
        assert_eq!(without_superseded(kept.clone()), kept);
    }
}
