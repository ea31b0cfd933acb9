//! Questions about the state of other members, asked in parallel and with a deadline.

use crate::ids::MemberId;
use crate::peer::caller::{PeerCall, PeerCaller};
use crate::proto::peer::state_question::Question;
use crate::proto::peer::{StateAnswer, StateQuestion};
use std::time::Duration;
use tonic::Status;

/// Returns what each other member answers within the time.
pub(super) async fn ask_others(
    caller: &mut PeerCaller,
    question: Question,
    within: Duration,
) -> Vec<(MemberId, Result<StateAnswer, Status>)> {
    let question = StateQuestion {
        question: Some(question),
    };
    let others = caller.others();
    caller.call(&others, PeerCall::AskState, &question, within).await
}
