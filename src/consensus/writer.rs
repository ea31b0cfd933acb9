//! The log's writer: an actor on a thread of its own that writes what consensus decided, syncs once per batch, and only then
//! reports it as durable. A disk error stops the member: nothing is acknowledged after a failed sync.

use super::core::LogWrite;
use super::inbox::Incoming;
use crate::env;
use crate::inbox::{Inbox, Wake};
use crate::mutants::{self, Mutant};
use crate::proto::peer;
use crate::stop::StopSignal;
use crate::storage::log::{Cut, LogDatabase, LogError};
use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use std::sync::Arc;

/// Work for the log's disk, in order.
#[derive(Debug)]
pub enum LogWork {
    Write(LogWrite),
    Cut(Cut),
    Reset {
        number: u64,
        cut: Cut,
        hard_state: peer::HardState,
    },
}

impl LogWork {
    /// The number of a write; 0 for work that no message waits for.
    pub fn number(&self) -> u64 {
        match self {
            Self::Write(write) => write.number,
            Self::Reset { number, .. } => *number,
            Self::Cut(_) => 0,
        }
    }
}

/// The log's writer.
#[derive(Debug)]
pub struct LogWriter {
    pub log: LogDatabase,
    pub inbox: Arc<Inbox<Vec<LogWork>>>,
    pub consensus: Arc<Inbox<Incoming>>,
    pub stop: StopSignal,
    pub failed: bool,
}

impl LogWriter {
    fn fail(&mut self, error: &LogError) {
        self.failed = true;
        self.stop.fail(error);
    }
}

impl Actor for LogWriter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.inbox.set_owner(context.address().recipient());
    }
}

impl Handler<Wake> for LogWriter {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        let work = self.inbox.take();
        if self.failed || work.is_empty() {
            return;
        }
        let mut written = None;
        for item in work {
            let done = match item {
                LogWork::Write(write) => {
                    written = Some(write.number);
                    self.log
                        .append(&write.entries, write.replaces_suffix, write.hard_state.as_ref())
                }
                LogWork::Cut(cut) => self.log.cut(cut),
                LogWork::Reset {
                    number,
                    cut,
                    hard_state,
                } => {
                    written = Some(number);
                    self.log.reset(cut, &hard_state)
                }
            };
            if let Err(error) = done {
                return self.fail(&error);
            }
        }
        let Some(number) = written else { return };
        let (log, consensus, stop) = (self.log.clone(), Arc::clone(&self.consensus), self.stop.clone());
        let sync = async move {
            if mutants::active(Mutant::AcknowledgeBeforeSync) {
                consensus.add(|incoming| incoming.persisted_write = number);
            }
            match env::disk_sync(|| log.sync()).await {
                Ok(()) => consensus.add(|incoming| incoming.persisted_write = number),
                Err(error) => stop.fail(&error),
            }
        };
        // The mailbox waits for the sync, so a later write is never reported before an earlier one.
        context.wait(sync.into_actor(self));
    }
}
