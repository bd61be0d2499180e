//! Router of the engine's enrichment requests to the sources that can answer them. It never waits: a request that finds
//! no room is counted as lost.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::effect::Request;
use crate::model::event::{Fact, Observation};
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::sources::logs::{self, LineSelection, LogRequest};
use crate::sources::worker::SourceThread;
use crate::sources::{maintenance, postmortem};

/// Queued requests for logs.
const LOG_REQUESTS: usize = 256;

pub(super) struct Enrichment {
    clock: Arc<Clock>,
    sender: EventSender,
    /// May read other users' processes, which this thread may not.
    reader: SourceThread,
    logs: mpsc::Sender<LogRequest>,
}

impl Enrichment {
    pub(super) fn new(
        reader: SourceThread,
        clock: Arc<Clock>,
        sender: EventSender,
    ) -> (Self, mpsc::Receiver<LogRequest>) {
        let (logs, requests) = mpsc::channel(LOG_REQUESTS);
        (Self { clock, sender: sender.with_stage("pipeline.postmortem"), reader, logs }, requests)
    }

    pub(super) fn request(&self, request: Request) {
        match request {
            Request::Logs { subject, clients, since } => {
                let subject = subject.into_iter().map(|container| (container, LineSelection::All));
                let clients = clients.into_iter().map(|container| (container, LineSelection::Errors));
                for (container, lines) in subject.chain(clients) {
                    let request = LogRequest { container, lines, since };
                    // A closed channel means that the run is ending.
                    if let Err(mpsc::error::TrySendError::Full(_)) = self.logs.try_send(request) {
                        self.sender.lost(logs::STAGE, 1);
                    }
                }
            }
            Request::Memory { container, victim } => {
                self.read(move || postmortem::memory(&container, victim).map(Fact::Memory));
            }
            Request::Maintenance { container, client } => {
                self.read(move || maintenance::read(&container, client).map(Fact::Maintenance));
            }
            Request::Core { pid } => {
                self.read(move || postmortem::core(pid).map(|dump| Fact::CoreDump(Box::new(dump))));
            }
        }
    }

    /// Reads files of `/proc` immediately, while the process still exists.
    fn read(&self, job: impl FnOnce() -> Option<Fact> + Send + 'static) {
        let (clock, sender) = (self.clock.clone(), self.sender.clone());
        let accepted = self.reader.try_submit(move || {
            if let Some(fact) = job() {
                sender.send(vec![Observation { at: clock.now(), fact }]);
            }
        });
        if !accepted {
            self.sender.lost("postmortem", 1);
        }
    }
}
