//! Dispatcher between the sources and the engine: gives all events one order and one clock, and forwards the facts that
//! other sources act on.
//!
//! It waits for nothing, and reads nothing but the command line of a docker-proxy.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::driver::Driver;
use crate::engine::effect::Request;
use crate::model::event::{Event, Fact, Observation};
use crate::model::settings::Scope;
use crate::model::time::Stamp;
use crate::pipeline::channel::{Batch, Losses};
use crate::pipeline::clock::Clock;
use crate::pipeline::merge::Merge;
use crate::selection::Selection;
use crate::sources::procfs;

pub(super) struct Dispatcher<'a, 'o, P, F, E> {
    merge: Merge,
    selection: Selection,
    /// Reused by every observation.
    selected: Vec<Observation>,
    driver: &'a mut Driver<'o>,
    clock: Arc<Clock>,
    losses: Losses,
    /// Publishes a port in the probe's filter before Docker reports it.
    publish: P,
    /// Passes every fact to the sources that depend on facts of others.
    on_fact: F,
    /// Receives the engine's enrichment requests.
    enrich: E,
}

impl<'a, 'o, P: Fn(u16), F: Fn(&Fact), E: Fn(Request)> Dispatcher<'a, 'o, P, F, E> {
    pub(super) fn new(
        scope: Scope,
        driver: &'a mut Driver<'o>,
        clock: Arc<Clock>,
        losses: Losses,
        publish: P,
        on_fact: F,
        enrich: E,
    ) -> Self {
        let (merge, selection, selected) = (Merge::default(), Selection::new(scope), Vec::new());
        Self { merge, selection, selected, driver, clock, losses, publish, on_fact, enrich }
    }

    pub(super) fn all_outputs_closed(&self) -> bool {
        self.driver.all_outputs_closed()
    }

    fn feed(&mut self, event: &Event) {
        self.driver.feed(event);
        for request in self.driver.wanted() {
            (self.enrich)(request);
        }
    }

    pub(super) fn take(&mut self, batch: Batch) {
        for observation in batch {
            let proxy = self.follow_up(&observation);
            self.observed(observation);
            if let Some(proxy) = proxy {
                self.observed(proxy);
            }
        }
    }

    /// Releases what the scope needs.
    fn observed(&mut self, observation: Observation) {
        let mut selected = std::mem::take(&mut self.selected);
        self.selection.select(observation, &mut selected);
        for observation in selected.drain(..) {
            let event = self.merge.release(self.clock.now(), observation);
            self.feed(&event);
        }
        self.selected = selected;
    }

    /// Reacts to a fact, whether the scope needs it or not. A new docker-proxy opens its port long before Docker reports
    /// `start`; returns that it was seen.
    fn follow_up(&self, observation: &Observation) -> Option<Observation> {
        (self.on_fact)(&observation.fact);
        let Fact::ProcessExec(exec) = &observation.fact else { return None };
        let proxy = (exec.process.comm == procfs::PROXY).then(|| procfs::proxy(exec.process.pid))??;
        (self.publish)(proxy.listen.port());
        Some(Observation { at: observation.at, fact: Fact::ProxySeen(proxy) })
    }

    pub(super) fn drain(&mut self, batches: &mut mpsc::Receiver<Batch>) {
        while let Ok(batch) = batches.try_recv() {
            self.take(batch);
        }
    }

    /// Feeds a fact of the monitor itself.
    pub(super) fn own(&mut self, fact: Fact) {
        let event = self.merge.own(self.clock.now(), fact);
        self.feed(&event);
    }

    pub(super) fn tick(&mut self) {
        if let Some(event) = self.merge.tick(self.clock.now(), self.driver.next_deadline()) {
            self.feed(&event);
        }
    }

    pub(super) fn housekeeping(&mut self) {
        self.clock.anchor();
        for event in self.merge.lost(self.clock.now(), self.losses.take()) {
            self.feed(&event);
        }
        self.driver.housekeeping(self.clock.now());
    }

    /// When the engine's next timer is due, if it has one.
    pub(super) fn next_deadline(&self) -> Option<Stamp> {
        self.driver.next_deadline()
    }
}

#[cfg(test)]
mod tests;
