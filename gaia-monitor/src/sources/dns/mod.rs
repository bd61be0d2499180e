//! The monitor's own look-ups: what Docker's embedded name server tells containers of each other, from inside their
//! network namespaces, so that the moment at which a name goes, comes back or is still answered after its container has
//! died is known without anybody asking for it.
//!
//! One thread of its own: the broker is asked for each question's socket, and nothing else may wait for that. `plan` says
//! what is asked when, and bounds it. It never asks for a name outside the scope, and never for one that no container
//! has or depends on.

mod ask;
mod plan;

use std::io;
use std::sync::Arc;
use std::thread;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::model::event::{DockerAction, Fact, NameChecked, Observation};
use crate::model::settings::Scope;
use crate::model::time::Stamp;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;
use crate::sources::netns::Broker;
use ask::{AskError, ask};
use plan::{Pair, Plan};

/// Facts that wait for the thread; what does not fit is counted, and its container's names are asked for late.
const FACTS: usize = 4_096;
/// Facts that did not fit.
const UNHEEDED: &str = "dns.plan";

/// The thread's door; it ends when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Names {
    facts: mpsc::Sender<Fact>,
    outlet: Outlet,
}

impl Names {
    /// Asks from the first container on of which [`Names::heed`] is told.
    ///
    /// # Errors
    /// When the system has no thread, or no timer, to give.
    pub fn start(broker: Broker, scope: Scope, clock: Arc<Clock>, outlet: Outlet) -> io::Result<Self> {
        let (sender, facts) = mpsc::channel(FACTS);
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let told = outlet.clone();
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            runtime.block_on(follow(facts, Plan::new(scope), &broker, &clock, &told));
        })?;
        Ok(Self { facts: sender, outlet })
    }

    /// Takes what a fact says of containers and of what happens to them.
    pub fn heed(&self, fact: &Fact) {
        let concerns = match fact {
            Fact::ContainerSeen(_) => true,
            Fact::Docker(event) => !matches!(event.action, DockerAction::HealthStatus { .. }),
            _ => false,
        };
        if concerns && self.facts.try_send(fact.clone()).is_err() {
            self.outlet.lost(UNHEEDED, 1);
        }
    }
}

async fn follow(mut facts: mpsc::Receiver<Fact>, mut plan: Plan, broker: &Broker, clock: &Clock, outlet: &Outlet) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let next = plan.next();
        tokio::select! {
            // What happens to containers decides what is asked next.
            biased;
            fact = facts.recv() => match fact {
                Some(fact) => {
                    plan.heed(&fact, now());
                    // A listing comes in one go.
                    while let Ok(fact) = facts.try_recv() {
                        plan.heed(&fact, now());
                    }
                    plan.pair_up(now());
                }
                None => return,
            },
            Some((pair, answer, at)) = under_way.next() => {
                let (pair, answer, at): (Pair, Result<_, AskError>, Stamp) = (pair, answer, at);
                // The observer has gone meanwhile, or its name server: the next question tells.
                let answer = answer.ok();
                if let Some(answer) = plan.done(&pair, answer, now()) {
                    let fact = Fact::NameChecked(NameChecked { name: pair.name, observer: pair.observer, answer });
                    outlet.offer(vec![Observation { at, fact }]);
                }
            }
            () = until(next) => {
                for (pair, place) in plan.take(now()) {
                    under_way.push(async move {
                        let answer = ask(broker, place, &pair.name).await;
                        (pair, answer, clock.now())
                    });
                }
            }
        }
    }
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Never ready where nothing is due.
async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
