//! Forwards questions about leases to the leader, through its peer port. A question may be repeated without harm.

use crate::ids::MemberId;
use crate::peer::caller::{PeerCall, PeerCaller};
use crate::proto::peer::{LeaseAnswer, LeaseAnswers, LeaseQuestion, LeaseQuestions};
use std::time::Duration;
use tonic::Status;

/// The time limit for the leader's answer; after it another attempt is made.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The answers to `questions`, in their order.
pub(super) async fn ask(
    caller: &mut PeerCaller,
    leader: MemberId,
    questions: Vec<LeaseQuestion>,
) -> Result<Vec<LeaseAnswer>, Status> {
    let count = questions.len();
    let questions = LeaseQuestions { questions };
    let mut answers = caller
        .call::<LeaseAnswers>(&[leader], PeerCall::AskLeases, &questions, ANSWER_TIMEOUT)
        .await;
    let (_, answers) = answers
        .pop()
        .ok_or_else(|| Status::internal("nobody was asked"))?;
    let LeaseAnswers { answers } = answers?;
    if answers.len() != count {
        return Err(Status::internal("as many answers as questions were due"));
    }
    Ok(answers)
}
