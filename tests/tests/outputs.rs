//! Outputs whose reader pauses while many requests break: everything arrives, or is counted.
#![expect(clippy::unwrap_used, reason = "a helper fails its test by panicking")]

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};

use gaia_monitor::driver::Driver;
use gaia_monitor::engine::effect::Effect;
use gaia_monitor::model::event::{Event, Fact};
use gaia_monitor::model::incident::{Incident, State};
use gaia_monitor::model::policy::Policy;
use gaia_monitor::model::time::Stamp;
use gaia_monitor::output::json::JsonLines;
use gaia_monitor::output::queue::Overflow;
use gaia_monitor::output::terminal::Terminal;
use gaia_monitor::output::{Fold, Outputs};
use gaia_monitor_tests::scenario::{self, Scenario, play};

const REQUESTS: usize = 2_000;
const SERVERS: usize = 40;

/// A pipe whose reader reads nothing until it is released.
#[derive(Clone, Default)]
struct Paused(Arc<Pipe>);

#[derive(Default)]
struct Pipe {
    state: Mutex<(bool, Vec<u8>)>,
    released: Condvar,
}

impl Paused {
    fn release(&self) {
        self.0.state.lock().unwrap().0 = true;
        self.0.released.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.state.lock().unwrap().1.clone()).unwrap()
    }
}

impl Write for Paused {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.released.wait_while(self.0.state.lock().unwrap(), |(released, _)| !*released).unwrap();
        state.1.extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the engine emits.
#[derive(Clone, Default)]
struct Emitted(Rc<RefCell<(Vec<Incident>, usize)>>);

impl Fold for Emitted {
    fn fold(&mut self, effect: &Effect, _seen: Stamp) {
        let (incidents, explanations) = &mut *self.0.borrow_mut();
        match effect {
            Effect::Incident(incident) => incidents.push(incident.as_ref().clone()),
            Effect::Explained(_) => *explanations += 1,
            Effect::Story(_) | Effect::Count(_) | Effect::Enrich(_) => {}
        }
    }
}

/// Live servers that reset connections during the response, for four seconds.
fn breaking_requests() -> Scenario {
    let mut text = String::from("container web\n");
    for server in 0..SERVERS {
        writeln!(text, "container s{server} listens=80").unwrap();
    }
    for request in 0..REQUESTS {
        writeln!(text, "connect web s{} c{request}\nrequest c{request}", request % SERVERS).unwrap();
        writeln!(text, "+2ms close c{request} server rst").unwrap();
    }
    scenario::read(&(text + "silent\n")).unwrap()
}

#[test]
fn a_reader_that_pauses_while_requests_break_loses_nothing() {
    let scenario = breaking_requests();
    let (json, pretty, emitted) = (Paused::default(), Paused::default(), Emitted::default());
    let mut outputs = Outputs::new(Overflow::Drop);
    outputs.add(JsonLines::new(json.clone())).unwrap();
    outputs.add(Terminal::new(pretty.clone(), false, Policy::default())).unwrap();
    outputs.add_fold(emitted.clone());
    let mut driver = Driver::new(scenario.settings, outputs);
    let mut end = Stamp(0);
    for event in &scenario.events {
        while let Some(due) = driver.next_deadline().filter(|due| *due < event.seen) {
            driver.feed(&play::tick(event.seq, due));
        }
        driver.feed(event);
        end = event.seen;
    }
    driver.feed(&Event { seq: 0, seen: end, at: end, fact: Fact::Shutdown });
    json.release();
    pretty.release();
    let outcome = driver.finish();
    let (revisions, explanations) = emitted.0.borrow().clone();
    assert!(explanations >= REQUESTS, "{explanations} explanations could crowd out {} revisions", revisions.len());
    assert!(revisions.iter().filter(|revision| revision.state == State::Closed).count() >= SERVERS);
    assert_eq!(outcome.losses, [], "nothing was lost");
    let printed: Vec<Incident> = json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed.len(), revisions.len());
    assert!(printed.iter().zip(&revisions).all(|(one, other)| (&one.id, one.revision) == (&other.id, other.revision)));
    assert!(!pretty.text().contains("dropped"), "{}", pretty.text());
}
