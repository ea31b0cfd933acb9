//! Raising and disarming of alarms, what is refused meanwhile, and that alarms survive a restart and a snapshot.

use super::ApplyError;
use super::machine::Outcome;
use super::testing::{TestMember, delete, put};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, RequestOp, TxnRequest,
    request_op,
};
use crate::proto::log::command::Request;
use crate::proto::log::member_change::Change;
use crate::proto::log::{AlarmCommand, LeaseCheckpoints, LeaseExpiry, Member};
use crate::storage::state::StateOptions;
use crate::storage::state::alarms::{ALARMS_KEY, Alarms};
use crate::storage::state::snapshot::{StateImport, StateRecords};
use crate::storage::state::{StateKeyspace, meta};
use std::sync::Arc;

fn command(action: AlarmAction, member_id: u64, alarm: AlarmType, by_member: bool) -> Request {
    let request = AlarmRequest {
        action: action as i32,
        member_id,
        alarm: alarm as i32,
    };
    Request::Alarm(AlarmCommand {
        request: Some(request),
        by_member,
    })
}

/// Runs an alarm command and returns the alarms in the answer as numbers.
fn run(member: &mut TestMember, request: Request) -> Vec<(u64, i32)> {
    let outcome = member.run_all(vec![request]).pop().unwrap().unwrap();
    let Outcome::Alarm(response) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(response.header.unwrap().revision, member.view().revision());
    let alarms = response.alarms.iter();
    alarms.map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}

fn raise(member: &mut TestMember, member_id: u64, alarm: AlarmType) {
    let raised = run(member, command(AlarmAction::Activate, member_id, alarm, false));
    assert_eq!(raised, [(member_id, alarm as i32)]);
}

fn txn(puts: bool) -> Request {
    let operation = if puts {
        request_op::Request::RequestPut(put("t", "v"))
    } else {
        request_op::Request::RequestDeleteRange(delete("t", ""))
    };
    Request::Txn(TxnRequest {
        // Never taken: there are no compares.
        failure: vec![RequestOp {
            request: Some(operation),
        }],
        ..Default::default()
    })
}

/// Commands, with whether a NOSPACE and whether a CORRUPT alarm refuses them.
fn commands() -> Vec<(Request, bool, bool)> {
    let grant = |id| Request::LeaseGrant(LeaseGrantRequest { id, ttl: 5 });
    let revoke = |id| Request::LeaseRevoke(LeaseRevokeRequest { id });
    vec![
        (Request::Put(put("a", "2")), true, true),
        (txn(true), true, true),
        (txn(false), false, true),
        (grant(9), true, true),
        (Request::DeleteRange(delete("a", "")), false, true),
        (revoke(7), false, true),
        (
            Request::LeaseExpiry(LeaseExpiry {
                term: 3,
                leases: vec![],
            }),
            false,
            true,
        ),
        (
            Request::LeaseCheckpoints(LeaseCheckpoints {
                term: 3,
                checkpoints: vec![],
            }),
            false,
            false,
        ),
        (
            Request::Compaction(CompactionRequest {
                revision: 2,
                physical: false,
            }),
            false,
            true,
        ),
    ]
}

#[test]
fn alarms_refuse_what_etcd_refuses() {
    for (alarm, other) in [
        (AlarmType::Nospace, AlarmType::None),
        (AlarmType::Corrupt, AlarmType::None),
        (AlarmType::Nospace, AlarmType::Corrupt),
    ] {
        for (request, no_space, corrupt) in commands() {
            let mut member = TestMember::new();
            let lease = Request::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 5 });
            for outcome in member.run_all(vec![lease, Request::Put(put("a", "1"))]) {
                outcome.unwrap();
            }
            raise(&mut member, 3, alarm);
            if other != AlarmType::None {
                raise(&mut member, 4, other);
            }
            let expected = match (alarm, other) {
                (AlarmType::Corrupt, _) | (_, AlarmType::Corrupt) if corrupt => Some(ApplyError::Corrupt),
                (AlarmType::Nospace, _) if no_space => Some(ApplyError::NoSpace),
                _ => None,
            };
            let before = member.view().revision();
            let refused = member.run_all(vec![request.clone()]).pop().unwrap().err();
            assert_eq!(refused, expected, "{request:?} under {alarm:?} and {other:?}");
            assert!(expected.is_none() || member.view().revision() == before);
            run(&mut member, command(AlarmAction::Deactivate, 3, alarm, false));
            run(&mut member, command(AlarmAction::Deactivate, 4, other, false));
            let again = member.run_all(vec![request]).pop().unwrap();
            assert!(
                !matches!(again, Err(ApplyError::NoSpace | ApplyError::Corrupt)),
                "nothing is raised any more"
            );
        }
    }
}

/// Action, member, alarm, whether a member itself asks, and the alarms in the answer.
type Step = (AlarmAction, u64, AlarmType, bool, &'static [(u64, i32)]);

#[test]
fn alarms_are_answered_as_by_etcd() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None, Nospace};
    let mut member = TestMember::new();
    let steps: [Step; 15] = [
        (Get, 0, None, false, &[]),
        (Activate, 5, None, false, &[]),
        (Activate, 5, Nospace, true, &[(5, 1)]),
        (Activate, 5, Nospace, true, &[(5, 1)]),
        (Activate, 0, Nospace, false, &[(0, 1)]),
        (Activate, 5, Corrupt, false, &[(5, 2)]),
        (Get, 99, None, false, &[(0, 1), (5, 1), (5, 2)]),
        (Get, 5, Nospace, false, &[(0, 1), (5, 1)]),
        (Deactivate, 5, None, false, &[]),
        (Deactivate, 6, Nospace, false, &[]),
        // Members cannot disarm an alarm that was raised manually.
        (Deactivate, 0, Nospace, true, &[]),
        (Deactivate, 5, Nospace, true, &[(5, 1)]),
        (Deactivate, 5, Nospace, false, &[]),
        (Deactivate, 0, Nospace, false, &[(0, 1)]),
        (Get, 0, None, true, &[(5, 2)]),
    ];
    for (number, (action, id, alarm, by_member, expected)) in steps.into_iter().enumerate() {
        let answer = run(&mut member, command(action, id, alarm, by_member));
        assert_eq!(answer, expected, "step {number}");
    }
    let unknown = AlarmCommand {
        request: Some(AlarmRequest {
            action: 7,
            ..Default::default()
        }),
        by_member: false,
    };
    assert_eq!(run(&mut member, Request::Alarm(unknown)), []);
    assert_eq!(
        run(&mut member, Request::Alarm(AlarmCommand::default())),
        [(5, 2)]
    );
}

#[test]
fn alarms_that_a_member_has_raised_go_with_it() {
    use AlarmAction::{Activate, Get};
    let mut member = TestMember::new();
    for (id, by_member) in [(3, true), (4, false), (5, true)] {
        run(&mut member, command(Activate, id, AlarmType::Nospace, by_member));
    }
    let added = Member {
        id: 3,
        ..Default::default()
    };
    member.change_members(Change::Add(added)).unwrap();
    member.change_members(Change::Remove(3)).unwrap();
    let left = run(&mut member, command(Get, 0, AlarmType::None, false));
    assert_eq!(left, [(4, 1), (5, 1)]);
}

#[test]
fn alarms_outlive_a_restart_and_go_with_a_snapshot() {
    let mut member = TestMember::new();
    raise(&mut member, 3, AlarmType::Nospace);
    run(
        &mut member,
        command(AlarmAction::Activate, 5, AlarmType::Nospace, true),
    );
    let before = Arc::clone(&member.view().alarms);
    let mut member = member.reopen();
    assert_eq!(member.view().alarms, before);
    let refused = member.run_all(vec![Request::Put(put("a", "1"))]).pop().unwrap();
    assert_eq!(refused, Err(ApplyError::NoSpace));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy");
    let mut import = StateImport::begin(&path, &StateOptions::simulator()).unwrap();
    let records = StateRecords::new(Arc::clone(member.state()), member.state().snapshot(), None).unwrap();
    import.write(records.map(Result::unwrap)).unwrap();
    let copy = import.finish().unwrap();
    let stored = copy.get(StateKeyspace::Meta, ALARMS_KEY).unwrap().unwrap();
    assert_eq!(meta::decode::<Alarms>(ALARMS_KEY, &stored).unwrap(), *before);

    let mut blank = TestMember::new();
    blank.machine.replace(copy).unwrap();
    assert_eq!(blank.view().alarms, before);
}
