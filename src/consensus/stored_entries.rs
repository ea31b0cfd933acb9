//! Entries as the log has them on disk, for a log that no raft runs on.

use super::convert;
pub use super::convert::UnknownType;
use crate::ids::{LogIndex, Term};
use crate::proto::log::member_change::Change;
use crate::proto::log::{Command, MemberChange, command::Request};
use crate::proto::peer;
use crate::state::entry::ReadableCommands;
use crate::state::membership::Step;
use crate::state::{CommittedEntry, Payload};
use protobuf::Message;

/// What is applied of an entry that is committed.
///
/// # Errors
///
/// If the entry is of a type that this version does not know.
pub fn committed(entry: peer::Entry) -> Result<CommittedEntry, UnknownType> {
    let (index, term) = (LogIndex(entry.index), Term(entry.term));
    let payload = convert::payload(convert::entry_from_wire(entry)?);
    Ok(CommittedEntry { index, term, payload })
}

/// An entry that changes the members, as a leader would append it. No process waits for it.
pub fn member_change(index: LogIndex, term: Term, change: Change) -> peer::Entry {
    let data = convert::conf_change(Step::of(&change)).write_to_bytes();
    let command = Command {
        request: Some(Request::MemberChange(MemberChange {
            change: Some(change),
            ..MemberChange::default()
        })),
        ..Command::default()
    };
    let commands = ReadableCommands::of(&command).expect("a member change does not nest");
    peer::Entry {
        r#type: raft::eraftpb::EntryType::EntryConfChange as i32,
        term: term.0,
        index: index.0,
        data: data.expect("numbers encode").into(),
        context: Payload::configuration_context(&commands).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::entry::{EntryCommand, commands};

    #[test]
    fn a_change_of_the_members_is_read_as_one() {
        let entry = member_change(LogIndex(7), Term(3), Change::Remove(9));
        let read = committed(entry).expect("a known type");
        assert_eq!((read.index, read.term), (LogIndex(7), Term(3)));
        let Payload::Configuration(data) = read.payload else {
            panic!("not a configuration: {:?}", read.payload);
        };
        let commands = commands(data).expect("readable");
        let [EntryCommand::Read(command)] = &commands[..] else {
            panic!("not one command: {commands:?}");
        };
        assert!(matches!(
            &command.request,
            Some(Request::MemberChange(change)) if change.change == Some(Change::Remove(9))
        ));
    }
}
