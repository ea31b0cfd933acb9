//! Conversion between raft-rs's messages (rust-protobuf) and ours (prost). Payloads are moved as `Bytes`, without a copy.
//! Bytes from the network are decoded by prost only.

use crate::proto::peer;
use crate::state::Payload;
use crate::state::membership::Step;
use raft::eraftpb;

/// A message type or entry type that raft does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown raft {0} type {1}")]
pub struct UnknownType(&'static str, i32);

pub fn entry_to_wire(entry: eraftpb::Entry) -> peer::Entry {
    peer::Entry {
        r#type: entry.entry_type as i32,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
    }
}

/// A membership change in raft's form.
pub fn conf_change(step: Step) -> eraftpb::ConfChange {
    let (change_type, id) = match step {
        Step::Voter(id) => (eraftpb::ConfChangeType::AddNode, id),
        Step::Learner(id) => (eraftpb::ConfChangeType::AddLearnerNode, id),
        Step::Remove(id) => (eraftpb::ConfChangeType::RemoveNode, id),
    };
    eraftpb::ConfChange {
        change_type,
        node_id: id.0,
        ..eraftpb::ConfChange::default()
    }
}

/// The payload of a committed entry.
pub fn payload(entry: eraftpb::Entry) -> Payload {
    match entry.entry_type {
        eraftpb::EntryType::EntryNormal => Payload::of_normal(entry.context, entry.data),
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
            Payload::of_configuration(entry.context, entry.data)
        }
    }
}

pub fn entry_from_wire(entry: peer::Entry) -> Result<eraftpb::Entry, UnknownType> {
    let entry_type = match entry.r#type {
        0 => eraftpb::EntryType::EntryNormal,
        1 => eraftpb::EntryType::EntryConfChange,
        2 => eraftpb::EntryType::EntryConfChangeV2,
        other => return Err(UnknownType("entry", other)),
    };
    Ok(eraftpb::Entry {
        entry_type,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
        ..eraftpb::Entry::default()
    })
}

pub fn conf_state_to_wire(state: &eraftpb::ConfState) -> peer::ConfState {
    peer::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    }
}

pub fn conf_state_from_wire(state: &peer::ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
        ..eraftpb::ConfState::default()
    }
}

pub fn snapshot_from_wire(metadata: &peer::SnapshotMetadata) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let target = snapshot.mut_metadata();
    target.index = metadata.index;
    target.term = metadata.term;
    target.set_conf_state(conf_state_from_wire(
        &metadata.conf_state.clone().unwrap_or_default(),
    ));
    snapshot
}

pub fn message_to_wire(mut message: eraftpb::Message) -> peer::Message {
    let snapshot = message.snapshot.as_ref().map(|snapshot| {
        let metadata = snapshot.get_metadata();
        peer::SnapshotMetadata {
            conf_state: Some(conf_state_to_wire(metadata.get_conf_state())),
            index: metadata.index,
            term: metadata.term,
            ..peer::SnapshotMetadata::default()
        }
    });
    peer::Message {
        r#type: message.msg_type as i32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.take_entries().into_iter().map(entry_to_wire).collect(),
        commit: message.commit,
        snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        request_snapshot: message.request_snapshot,
        commit_term: message.commit_term,
        priority: message.priority,
        persisted_index: 0,
        persisted_term: 0,
    }
}

pub fn message_from_wire(message: peer::Message) -> Result<eraftpb::Message, UnknownType> {
    use protobuf::ProtobufEnum;
    let msg_type =
        eraftpb::MessageType::from_i32(message.r#type).ok_or(UnknownType("message", message.r#type))?;
    let mut converted = eraftpb::Message {
        msg_type,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        request_snapshot: message.request_snapshot,
        commit_term: message.commit_term,
        priority: message.priority,
        ..eraftpb::Message::default()
    };
    let entries = message
        .entries
        .into_iter()
        .map(entry_from_wire)
        .collect::<Result<Vec<_>, _>>()?;
    converted.set_entries(entries.into());
    if let Some(metadata) = &message.snapshot {
        converted.set_snapshot(snapshot_from_wire(metadata));
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let conf_state = peer::ConfState {
            voters: vec![1, 2],
            learners: vec![3],
            ..peer::ConfState::default()
        };
        let message = peer::Message {
            r#type: eraftpb::MessageType::MsgAppend as i32,
            to: 1,
            from: 2,
            term: 3,
            log_term: 4,
            index: 5,
            entries: vec![peer::Entry {
                r#type: 2,
                term: 3,
                index: 6,
                data: "x".into(),
                context: "y".into(),
            }],
            commit: 7,
            snapshot: Some(peer::SnapshotMetadata {
                conf_state: Some(conf_state),
                index: 8,
                term: 9,
                ..peer::SnapshotMetadata::default()
            }),
            reject: true,
            reject_hint: 10,
            context: "z".into(),
            request_snapshot: 11,
            commit_term: 12,
            priority: -13,
            persisted_index: 0,
            persisted_term: 0,
        };
        let there = message_from_wire(message.clone()).expect("known types");
        assert_eq!(message_to_wire(there), message);
    }

    #[test]
    fn unknown_types_are_refused() {
        let message = peer::Message {
            r#type: 99,
            ..peer::Message::default()
        };
        assert_eq!(message_from_wire(message), Err(UnknownType("message", 99)));
        let entry = peer::Entry {
            r#type: 3,
            ..peer::Entry::default()
        };
        assert_eq!(entry_from_wire(entry), Err(UnknownType("entry", 3)));
    }
}
