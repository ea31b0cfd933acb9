//! The interfaces that answer other members' calls at the peer port.

use crate::proto::peer::state_question::Question;
use crate::proto::peer::{LeaseAnswer, LeaseQuestion, StateAnswer};
use std::fmt::Debug;
use tonic::Status;

/// Answers questions about leases while this member leads.
#[tonic::async_trait]
pub trait LeaseAnswerer: Debug + Send + Sync {
    /// Returns the answers in the order of the questions, or `FailedPrecondition` if this member does not lead.
    async fn answer_leases(&self, questions: Vec<LeaseQuestion>) -> Result<Vec<LeaseAnswer>, Status>;
}

/// Answers questions about the digests of this member's state.
#[tonic::async_trait]
pub trait StateAnswerer: Debug + Send + Sync {
    async fn answer_state(&self, question: Option<Question>) -> StateAnswer;
}
