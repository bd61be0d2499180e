//! Between the sources and the belt: one order, one clock, and what an event makes worth looking up.
//!
//! It waits for nothing but time, and reads nothing but the command line of a docker-proxy.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::effect::Wanted;
use crate::model::event::{Event, Fact, Observation};
use crate::model::time::Stamp;
use crate::pipeline::clock::Clock;
use crate::pipeline::merge::Merge;
use crate::pipeline::outlet::{Batch, Losses};
use crate::sources::procfs;

/// Where events go. It must not wait for anybody.
pub trait Belt {
    fn feed(&mut self, event: &Event);

    /// What the last event made it ask for.
    fn wanted(&mut self) -> Vec<Wanted>;

    /// When it wants a `Tick`, if nothing else comes before.
    fn next_deadline(&self) -> Option<Stamp>;

    /// Nobody is left who would be told anything: the run ends.
    fn is_unheard(&self) -> bool;

    /// About once a second: time for what need not happen with each event.
    fn keep_house(&mut self, now: Stamp);
}

pub(super) struct Hub<'a, B, P, H, A> {
    merge: Merge,
    belt: &'a mut B,
    clock: Arc<Clock>,
    losses: Losses,
    /// Tells the probe of a port before Docker does.
    publish: P,
    /// Tells other sources of what they may have to look at.
    heed: H,
    /// Takes what the belt asks for.
    ask: A,
}

impl<'a, B: Belt, P: Fn(u16), H: Fn(&Fact), A: Fn(Wanted)> Hub<'a, B, P, H, A> {
    pub(super) fn new(belt: &'a mut B, clock: Arc<Clock>, losses: Losses, publish: P, heed: H, ask: A) -> Self {
        Self { merge: Merge::default(), belt, clock, losses, publish, heed, ask }
    }

    pub(super) fn is_unheard(&self) -> bool {
        self.belt.is_unheard()
    }

    fn feed(&mut self, event: &Event) {
        self.belt.feed(event);
        for wanted in self.belt.wanted() {
            (self.ask)(wanted);
        }
    }

    pub(super) fn take(&mut self, batch: Batch) {
        for observation in batch {
            let event = self.merge.release(self.clock.now(), observation);
            self.feed(&event);
            self.follow(&event);
        }
    }

    /// What an event makes worth looking up. A new docker-proxy opens its port long before Docker says `start`.
    fn follow(&mut self, event: &Event) {
        (self.heed)(&event.fact);
        if let Fact::ProcessExec(exec) = &event.fact
            && exec.process.comm == procfs::PROXY
            && let Some(proxy) = procfs::proxy(exec.process.pid)
        {
            (self.publish)(proxy.listen.port());
            let seen = Observation { at: event.at, fact: Fact::ProxySeen(proxy) };
            let event = self.merge.release(self.clock.now(), seen);
            self.feed(&event);
        }
    }

    pub(super) fn drain(&mut self, batches: &mut mpsc::Receiver<Batch>) {
        while let Ok(batch) = batches.try_recv() {
            self.take(batch);
        }
    }

    pub(super) fn own(&mut self, fact: Fact) {
        let event = self.merge.own(self.clock.now(), fact);
        self.feed(&event);
    }

    pub(super) fn tick(&mut self) {
        if let Some(event) = self.merge.tick(self.clock.now(), self.belt.next_deadline()) {
            self.feed(&event);
        }
    }

    pub(super) fn keep_house(&mut self) {
        self.clock.anchor();
        for event in self.merge.lost(self.clock.now(), self.losses.take()) {
            self.feed(&event);
        }
        self.belt.keep_house(self.clock.now());
    }

    /// When the belt's next timer is due, if it has one.
    pub(super) fn due(&self) -> Option<Stamp> {
        self.belt.next_deadline()
    }
}

#[cfg(test)]
mod tests;
