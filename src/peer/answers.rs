//! Who answers what other members ask at the peer port.

use crate::proto::peer::state_question::Question;
use crate::proto::peer::{LeaseAnswer, LeaseQuestion, StateAnswer};
use std::fmt::Debug;
use tonic::Status;

/// Knows the leases, while this member leads.
#[tonic::async_trait]
pub trait LeaseAnswerer: Debug + Send + Sync {
    /// The answers in the order of the questions. `FailedPrecondition` where this member does not lead.
    async fn answer_leases(&self, questions: Vec<LeaseQuestion>) -> Result<Vec<LeaseAnswer>, Status>;
}

/// Knows the sums of this member's state.
#[tonic::async_trait]
pub trait StateAnswerer: Debug + Send + Sync {
    async fn answer_state(&self, question: Option<Question>) -> StateAnswer;
}
