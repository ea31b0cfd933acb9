//! Good and bad replies.

use super::*;
use callboard::proto::mvccpb::KeyValue;

fn put(key: &'static str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: key.into(),
        lease,
        ..PutRequest::default()
    }
}

/// A store that has executed requests, and the replies to its clients.
#[derive(Default)]
struct Told {
    past: RecordPast,
    asked: Vec<Asked>,
}

impl Told {
    /// Executes a request and records its reply.
    fn answered(&mut self, request: Request) -> &mut Self {
        let states = self.past.states();
        let mut store = Store::at(&states, self.past.revision()).expect("known");
        let answer = carry_out(&request, &mut store).expect("answered");
        let changes = store.changes;
        if !changes.is_empty() {
            self.past.push(changes);
        }
        self.note(request, Some(End::Answered(answer)))
    }

    fn note(&mut self, request: Request, end: Option<End>) -> &mut Self {
        let id = self.asked.len() as u64 + 1;
        self.asked.push(Asked {
            id,
            request,
            called: 2 * id,
            returned: end.map(|end| (2 * id + 1, end)),
        });
        self
    }

    /// Deletes keys without a request.
    fn deleted(&mut self, keys: &[&'static str]) -> &mut Self {
        let gone = keys.iter().map(|key| Change {
            key: (*key).into(),
            record: None,
        });
        self.past.push(gone.collect());
        self
    }

    fn check(&self) -> Result<Judged, Violation> {
        check(&self.asked, &self.past)
    }
}

fn written() -> Told {
    let mut told = Told::default();
    told.answered(Request::Put(put("q0", 7)))
        .answered(Request::Put(put("q1", 7)))
        .answered(Request::Put(put("q2", 8)))
        .answered(Request::Range(RangeRequest {
            key: "q".into(),
            range_end: "r".into(),
            limit: 1,
            revision: 3,
            ..RangeRequest::default()
        }));
    told
}

#[test]
fn right_answers_pass() {
    let told = written();
    let expected = Judged {
        judged: 4,
        not_judged: 0,
    };
    assert_eq!(told.check(), Ok(expected));
}

#[test]
fn a_wrong_field_is_noticed() {
    type Change = fn(&mut RangeResponse);
    let changes: [Change; 5] = [
        |answer| answer.count = 1,
        |answer| answer.more = false,
        |answer| answer.kvs[0].version = 2,
        |answer| answer.kvs[0].lease = 8,
        |answer| drop(answer.kvs.pop()),
    ];
    for change in changes {
        let mut told = written();
        let Some((_, End::Answered(Answer::Range(answer)))) = &mut told.asked[3].returned else {
            panic!("the last one is a range");
        };
        change(answer);
        assert!(told.check().is_err());
    }
}

#[test]
fn a_lease_takes_its_keys_and_no_others() {
    assert!(written().deleted(&["q0", "q1"]).check().is_ok());
    for wrong in [&["q0"][..], &["q0", "q1", "q2"], &["q1", "q0"]] {
        assert!(written().deleted(wrong).check().is_err(), "{wrong:?}");
    }
    let revoked = |revision| {
        Some(End::Answered(Answer::Revoked(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })))
    };
    let mut told = written();
    assert!(told.note(Request::Revoke(8), revoked(4)).check().is_err());
    let mut told = written();
    told.deleted(&["q2"]);
    assert!(told.note(Request::Revoke(8), revoked(5)).check().is_ok());
}

#[test]
fn every_change_was_asked_for_and_made_once() {
    let unknown = || Some(End::Unknown("lost".into()));
    let change = |told: &mut Told| {
        let revision = told.past.revision() + 1;
        let record = KeyValue {
            key: "q5".into(),
            value: "5.1".into(),
            create_revision: revision.min(5),
            mod_revision: revision,
            version: revision - 4,
            lease: 0,
        };
        told.past.push(vec![Change {
            key: "q5".into(),
            record: Some(record),
        }]);
    };
    let mut told = written();
    change(&mut told);
    assert!(told.check().is_err(), "nobody asked for it");
    let fifth = PutRequest {
        value: "5.1".into(),
        ..put("q5", 0)
    };
    told.note(Request::Put(fifth), unknown());
    assert!(told.check().is_ok());
    change(&mut told);
    assert!(told.check().is_err(), "twice");
    let mut refused = written();
    change(&mut refused);
    refused.note(Request::Put(put("q5", 0)), Some(End::Refused("no".into())));
    assert!(refused.check().is_err());
}

#[test]
fn revisions_do_not_run_against_time() {
    let mut told = written();
    let Some((returned, _)) = &mut told.asked[2].returned else {
        panic!("it returned");
    };
    *returned = 1;
    assert!(told.check().is_err(), "the first put was called later");
}

#[test]
fn what_was_compacted_unseen_is_not_judged() {
    let mut told = written();
    let states = told.past.states();
    let records = states.at(4).expect("known").values();
    let records = records.map(|record| (**record).clone()).collect();
    told.past = RecordPast::default();
    told.past.leap(4, records);
    let judged = told.check().expect("right");
    assert_eq!(judged.judged, 0);
    assert!(judged.not_judged >= 4);
}
