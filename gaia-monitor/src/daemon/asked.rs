//! Hands what the engine asks for to the source that can look it up. It never waits: what finds no room is counted.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::effect::Wanted;
use crate::model::event::{Fact, Observation};
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;
use crate::sources::logs::{self, Lines, Question};
use crate::sources::postmortem;
use crate::sources::worker::Worker;

/// Questions that wait for Docker's logs.
const QUESTIONS: usize = 256;

/// The ways to the sources that answer.
pub(super) struct Asked {
    clock: Arc<Clock>,
    outlet: Outlet,
    /// May look into other users' processes, which this thread may not.
    reader: Worker,
    logs: mpsc::Sender<Question>,
}

impl Asked {
    pub(super) fn new(reader: Worker, clock: Arc<Clock>, outlet: Outlet) -> (Self, mpsc::Receiver<Question>) {
        let (logs, questions) = mpsc::channel(QUESTIONS);
        (Self { clock, outlet: outlet.of("pipeline.postmortem"), reader, logs }, questions)
    }

    pub(super) fn ask(&self, wanted: Wanted) {
        match wanted {
            Wanted::Logs { subject, clients, since } => {
                let subject = subject.into_iter().map(|container| (container, Lines::All));
                let clients = clients.into_iter().map(|container| (container, Lines::Errors));
                for (container, lines) in subject.chain(clients) {
                    // A closed way means that the run ends.
                    if let Err(mpsc::error::TrySendError::Full(_)) =
                        self.logs.try_send(Question { container, lines, since })
                    {
                        self.outlet.lost(logs::STAGE, 1);
                    }
                }
            }
            Wanted::Memory { container, victim } => {
                self.read(move || postmortem::memory(&container, victim).map(Fact::Memory));
            }
            Wanted::Core { pid } => {
                self.read(move || postmortem::core(pid).map(|dump| Fact::CoreDump(Box::new(dump))));
            }
        }
    }

    /// Has some files of `/proc` read at once, before the process is gone.
    fn read(&self, job: impl FnOnce() -> Option<Fact> + Send + 'static) {
        let (clock, outlet) = (self.clock.clone(), self.outlet.clone());
        let taken = self.reader.begin(move || {
            if let Some(fact) = job() {
                outlet.offer(vec![Observation { at: clock.now(), fact }]);
            }
        });
        if !taken {
            self.outlet.lost("postmortem", 1);
        }
    }
}
