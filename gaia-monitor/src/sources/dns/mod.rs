//! The monitor's own DNS lookups at Docker's embedded server, from inside containers' network namespaces. They show when a
//! name is removed, restored, or still resolved after its container has died, even if no client looks it up.
//!
//! One thread of its own, because the broker blocks it for each query's socket. `plan` decides which query is sent when,
//! and bounds them. It sends no query for names outside the scope, nor for names that no container has or depends on.

mod lookup;
mod plan;

use std::io;
use std::sync::Arc;
use std::thread;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::model::event::{DnsProbe, DockerAction, Fact, Observation};
use crate::model::settings::Scope;
use crate::model::time::Stamp;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::privileges::ThreadRole;
use crate::sources::netns::Broker;
use lookup::{LookupError, lookup};
use plan::{Plan, PlannedQuery};

/// Facts queued for the thread. One that does not fit is counted, and the names of its container are queried late.
const FACTS: usize = 4_096;
/// Stage of facts that did not fit.
const STAGE: &str = "dns.plan";

/// Handle of the thread, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DnsProber {
    facts: mpsc::Sender<Fact>,
    sender: EventSender,
}

impl DnsProber {
    /// Starts the thread. It sends queries once [`DnsProber::on_fact`] has received a container.
    ///
    /// # Errors
    /// When the system cannot provide a thread or a timer.
    pub fn start(broker: Broker, scope: Scope, clock: Arc<Clock>, sender: EventSender) -> io::Result<Self> {
        let (facts, queued) = mpsc::channel(FACTS);
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let events = sender.clone();
        thread::Builder::new().name(ThreadRole::Dns.thread().to_owned()).spawn(move || {
            runtime.block_on(run(queued, Plan::new(scope), &broker, &clock, &events));
        })?;
        Ok(Self { facts, sender })
    }

    /// Queues a fact that concerns containers, and ignores all others.
    pub fn on_fact(&self, fact: &Fact) {
        let is_relevant = match fact {
            Fact::ContainerSeen(_) => true,
            Fact::Docker(event) => !matches!(event.action, DockerAction::HealthStatus { .. }),
            _ => false,
        };
        if is_relevant && self.facts.try_send(fact.clone()).is_err() {
            self.sender.lost(STAGE, 1);
        }
    }
}

async fn run(mut facts: mpsc::Receiver<Fact>, mut plan: Plan, broker: &Broker, clock: &Clock, sender: &EventSender) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let next = plan.next();
        tokio::select! {
            // Facts decide which query is next, so they come first.
            biased;
            fact = facts.recv() => match fact {
                Some(fact) => {
                    plan.on_fact(&fact, now());
                    // A listing arrives as a burst of facts.
                    while let Ok(fact) = facts.try_recv() {
                        plan.on_fact(&fact, now());
                    }
                    plan.update_queries(now());
                }
                None => return,
            },
            Some((query, response, at)) = in_flight.next() => {
                let (query, response, at): (PlannedQuery, Result<_, LookupError>, Stamp) = (query, response, at);
                // After an error, the observer has ended or its server is unreachable: the next query decides.
                if let Some(answer) = plan.complete(&query, response.ok(), now()) {
                    let fact = Fact::DnsProbe(DnsProbe { name: query.name, observer: query.observer, response: answer });
                    sender.send(vec![Observation { at, fact }]);
                }
            }
            () = until(next) => {
                for (query, location) in plan.take_due(now()) {
                    in_flight.push(async move {
                        let response = lookup(broker, location, &query.name).await;
                        (query, response, clock.now())
                    });
                }
            }
        }
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Never completes if nothing is due.
async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
