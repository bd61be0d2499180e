//! Comparison of one incident with the expected one, the clients' exceptions and the instrument's records.
//!
//! It collects every difference before it fails, so that one run tells all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::check::Witness;
use crate::client::ABANDONED;
use crate::expect::{Broken, Expected, Killer, MALFORMED, Moment, RESOLVING, Until};
use crate::instrument::{ExitStatus, Fact, Record, WallNanos, tcp_state};
use crate::line::{Affected, Incident, wall};

/// How far an instant may lie from the instrument's record of the same fact.
const TOLERANCE: WallNanos = 1_000_000;
/// From a request's beginning to its first question to a name server, in a Python client on a loaded machine.
const ASKED_AFTER: WallNanos = 100_000_000;
/// The instrument writes line by line; what it saw is here within milliseconds.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

impl Expected {
    /// Did the case come about at all? By the instrument alone: how the process ended, who signalled it, and that the
    /// moment can be told.
    pub fn happened(&self, case: &Witness) -> Result<()> {
        self.moment.instant(case)?;
        let (Some(pid), Some(end)) = (self.pid, self.end) else { return Ok(()) };
        let (_, status) = case.instrument.exit_of(pid, case.began, RECORD_LIMIT)?;
        ensure!(status == end, "process {pid} ended by {status:?}, the case wants {end:?}");
        let sent_by = |wanted: &dyn Fn(u32, &str) -> bool| {
            let fatal = |fact: &Fact| match fact {
                Fact::Signal { target, ignored: false, sender, comm, .. } => *target == pid && wanted(*sender, comm),
                Fact::Signal { .. }
                | Fact::Exit { .. }
                | Fact::State { .. }
                | Fact::ResetSent { .. }
                | Fact::ResetReceived { .. }
                | Fact::OomVictim { .. } => false,
            };
            case.instrument.wait(case.began, RECORD_LIMIT, fatal, "signal by the expected sender").map(drop)
        };
        match &self.killer {
            Killer::Nobody => Ok(()),
            // Docker's runtime sends it, whichever that is: no process of this test.
            Killer::Docker(_) => sent_by(&|sender, _| sender != std::process::id() && sender != pid),
            Killer::Host(killer) | Killer::Inside(_, killer) => sent_by(&|sender, _| sender == *killer),
        }
    }

    /// Compares the last revision of an incident with this.
    pub fn check(&self, incident: &Incident, case: &Witness) -> Result<()> {
        let mut wrong = Wrong::default();
        let cause = &incident.cause;
        wrong.unless("cause.kind", &cause.kind.as_str(), &self.kind);
        wrong.unless("cause.how", &cause.how.as_deref(), &self.how);
        wrong.unless("cause.confidence", &cause.confidence.as_str(), &self.confidence);
        let (signal, code) = match self.end {
            Some(ExitStatus::Signal(number)) => (Some(signal_name(number)?), None),
            Some(ExitStatus::Code(code)) => (None, Some(code)),
            None => (None, None),
        };
        wrong.unless("cause.signal", &cause.signal, &signal);
        wrong.unless("cause.exit_code", &cause.exit_code, &code);
        wrong.unless("cause.summary is empty", &cause.summary.is_empty(), &false);
        wrong.unless("deaths", &incident.deaths, &self.deaths);
        self.check_sender(incident, &mut wrong);
        self.check_subject(incident, case, &mut wrong);
        wrong.note("moment", self.check_moment(incident, case));
        wrong.note("condition", self.check_condition(incident, case));
        wrong.note("affected", self.check_affected(incident, case));
        wrong.note("timeline", check_timeline(incident));
        wrong.unless("lost_events", &incident.lost_events, &BTreeMap::new());
        wrong.verdict()
    }

    fn check_sender(&self, incident: &Incident, wrong: &mut Wrong) {
        let sender = incident.cause.sender.as_ref();
        match &self.killer {
            Killer::Nobody => wrong.unless("cause.sender", &sender.map(|s| s.pid), &None),
            Killer::Docker(via) => {
                wrong.unless("cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &Some(*via));
                wrong.unless("cause.sender.container", &sender.and_then(|s| s.container.as_deref()), &None);
            }
            Killer::Host(pid) => {
                wrong.unless("cause.sender.pid", &sender.and_then(|s| s.pid), &Some(*pid));
                wrong.unless("cause.sender.container", &sender.and_then(|s| s.container.as_deref()), &None);
                wrong.unless("cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &None);
            }
            Killer::Inside(container, pid) => {
                let named = sender.and_then(|s| s.container.as_deref());
                wrong.unless("cause.sender.container", &named, &Some(container.as_str()));
                wrong.unless("cause.sender.pid", &sender.and_then(|s| s.pid), &Some(*pid));
                wrong.unless("cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &None);
            }
        }
    }

    fn check_subject(&self, incident: &Incident, case: &Witness, wrong: &mut Wrong) {
        let subject = &incident.subject;
        wrong.unless("subject.container", &subject.container.as_deref(), &Some(self.subject.name()));
        wrong.unless("subject.container_id", &subject.container_id.as_deref(), &Some(self.subject.id()));
        wrong.unless("subject.service", &subject.service.as_deref(), &Some(self.subject.service()));
        wrong.unless("subject.project", &subject.project.as_deref(), &Some(case.project.as_str()));
        wrong.unless("subject.image", &subject.image.as_deref(), &Some(case.image.as_str()));
        wrong.unless("subject.role", &subject.role.as_str(), &"none");
        if self.pid.is_some() {
            wrong.unless("subject.pid", &subject.pid, &self.pid);
        }
    }

    fn check_moment(&self, incident: &Incident, case: &Witness) -> Result<()> {
        let (fact, from, to) = self.moment.instant(case)?;
        ensure!(incident.moment.fact == fact, "fact {}, expected {fact}", incident.moment.fact);
        let at = wall(&incident.moment.at)?;
        ensure!(
            (from - TOLERANCE..=to + TOLERANCE).contains(&at),
            "{} is {} µs from the instrument's record",
            incident.moment.at,
            if at < from { at - from } else { at - to } / 1000
        );
        Ok(())
    }

    fn check_condition(&self, incident: &Incident, case: &Witness) -> Result<()> {
        let (condition, kind, until) = match (&incident.condition, &self.condition) {
            (None, None) => return Ok(()),
            (Some(condition), Some((kind, until))) => (condition, kind, until),
            (found, wanted) => bail!("{found:?}, expected {wanted:?}"),
        };
        ensure!(condition.kind == *kind, "kind {}, expected {kind}", condition.kind);
        ensure!(condition.since == incident.moment.at, "since {}, moment {}", condition.since, incident.moment.at);
        let wanted = match until {
            Until::Lasting => {
                ensure!(condition.until.is_none(), "until {:?}, but it lasts", condition.until);
                return Ok(());
            }
            Until::Listening { port, after } => {
                let listens = |fact: &Fact| matches!(fact, Fact::State { new: tcp_state::LISTEN, local, .. } if local.port() == *port);
                case.instrument.wait(*after, RECORD_LIMIT, listens, "listening port")?.at
            }
            Until::Docker(at) => *at,
        };
        let until = wall(condition.until.as_deref().context("it is over, but `until` is null")?)?;
        ensure!((until - wanted).abs() <= TOLERANCE, "until is {} µs off", (until - wanted) / 1000);
        Ok(())
    }

    fn check_affected(&self, incident: &Incident, case: &Witness) -> Result<()> {
        let mut left: Vec<&Affected> = incident.affected.iter().collect();
        ensure!(left.is_sorted_by_key(|entry| &entry.at), "not in order of `at`");
        for wanted in &self.broken {
            let fits = |entry: &&Affected| {
                let port = wanted.outcome.local.map(|(_, port)| port);
                entry.client_error.httpx == wanted.how.class
                    && entry.client.container == wanted.client
                    && (port.is_none() || entry.client.port == port)
            };
            let Some(place) = left.iter().position(fits) else {
                let listed: Vec<_> = left.iter().map(|entry| (&entry.client, &entry.client_error)).collect();
                bail!("no entry for {wanted:?} among {listed:?}");
            };
            let entry = left.remove(place);
            wanted.check(entry, case).with_context(|| format!("entry {entry:?}"))?;
        }
        ensure!(left.is_empty(), "entries that no client knows: {left:?}");
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for wanted in self.broken.iter().filter(|broken| broken.how.class != "none") {
            *counts.entry(wanted.how.class.to_owned()).or_default() += 1;
        }
        ensure!(incident.affected_by_class == counts, "by class {:?}, expected {counts:?}", incident.affected_by_class);
        let total: u64 = counts.values().sum();
        ensure!(incident.affected_total == total, "total {}, expected {total}", incident.affected_total);
        Ok(())
    }
}

impl Broken {
    fn check(&self, entry: &Affected, case: &Witness) -> Result<()> {
        let mut wrong = Wrong::default();
        let error = &entry.client_error;
        wrong.unless("detail", &error.detail.as_deref(), &self.how.detail);
        wrong.unless("errno", &error.errno.as_deref(), &self.how.errno);
        wrong.unless("phase", &error.phase.as_str(), &self.phase);
        // GAIA's `post_with_retry`.
        let retried = matches!(self.how.class, "ConnectError" | "RemoteProtocolError");
        wrong.unless("retried", &error.retried, &retried);
        wrong.unless("server.container", &entry.server.container, &self.server);
        let listen = entry.via.as_ref().and_then(|via| via.listen.as_deref());
        wrong.unless("via.listen", &listen, &self.listen.map(|address| address.to_string()).as_deref());
        wrong.note("at", self.check_instant(entry, case));
        wrong.verdict()
    }

    /// Against the instrument's record of the client's own socket, which the incident names.
    fn check_instant(&self, entry: &Affected, case: &Witness) -> Result<()> {
        let at = wall(&entry.at)?;
        // No socket changes its state when bytes arrive or a name is unknown.
        if self.elsewhere || self.phase == RESOLVING || self.how == MALFORMED {
            // A look-up is unanswered five seconds after its question, which follows the request's beginning.
            let until = self.outcome.at + if self.how.class == "ConnectTimeout" { ASKED_AFTER } else { 0 };
            ensure!((self.outcome.started..=until).contains(&at), "outside the request that failed");
            return Ok(());
        }
        let (ip, port) = entry.client.ip.zip(entry.client.port).context("the client has no address")?;
        let socket = SocketAddr::new(ip, port);
        let told = |fact: &Fact| match fact {
            Fact::State { old, new, local, .. } => {
                *local == socket
                    && matches!((*old, *new), (tcp_state::ESTABLISHED, _) | (tcp_state::SYN_SENT, tcp_state::CLOSE))
            }
            Fact::ResetReceived { local, .. } => *local == socket,
            Fact::Exit { .. } | Fact::ResetSent { .. } | Fact::Signal { .. } | Fact::OomVictim { .. } => false,
        };
        let records: Vec<Record> =
            case.instrument.since(case.began).into_iter().filter(|record| told(&record.fact)).collect();
        let nearest = records.iter().map(|record| at - record.at).min_by_key(|distance| distance.abs());
        let distance = nearest.with_context(|| format!("the instrument knows no socket {socket} that ended"))?;
        ensure!(distance.abs() <= TOLERANCE, "{} µs from the instrument's record", distance / 1000);
        ensure!(
            self.outcome.class == ABANDONED || at <= self.outcome.at + TOLERANCE,
            "after the client's own exception"
        );
        Ok(())
    }
}

impl Moment {
    /// Name of the fact, and the earliest and latest instant that the witnesses allow.
    fn instant(&self, case: &Witness) -> Result<(&'static str, WallNanos, WallNanos)> {
        let find = |what: &str, wanted: &dyn Fn(&Fact) -> bool| {
            Ok::<WallNanos, anyhow::Error>(case.instrument.wait(case.began, RECORD_LIMIT, wanted, what)?.at)
        };
        let close = |fact: &Fact, ours: &dyn Fn(&SocketAddr, &SocketAddr) -> bool| {
            matches!(
                fact,
                Fact::State { old: tcp_state::ESTABLISHED, new: tcp_state::FIN_WAIT1 | tcp_state::CLOSE, local, remote }
                    if ours(local, remote)
            )
        };
        let at = match self {
            Self::Exit(pid) => case.instrument.exit_of(*pid, case.began, RECORD_LIMIT)?.0,
            Self::ServerClose(port) => {
                find("close by the server", &|fact| close(fact, &|_, remote| remote.port() == *port))?
            }
            Self::ClientClose(port) => {
                find("close by the client", &|fact| close(fact, &|local, _| local.port() == *port))?
            }
            Self::Refused(address) => find("refused connect", &|fact| {
                matches!(
                    fact,
                    Fact::State { old: tcp_state::SYN_SENT, new: tcp_state::CLOSE, remote, .. } if remote == address
                )
            })?,
            Self::Signal { pid, signal } => find(
                "signal",
                &|fact| matches!(fact, Fact::Signal { signal: s, target, ignored: false, .. } if (s, target) == (signal, pid)),
            )?,
            Self::Docker { at, .. } => *at,
            Self::Between { fact, from, to } => return Ok((fact, *from, *to)),
        };
        let fact = match self {
            Self::Exit(_) => "process_exit",
            Self::ServerClose(_) => "server_close",
            Self::Refused(_) => "refused",
            Self::ClientClose(_) => "client_close",
            Self::Signal { .. } => "signal",
            Self::Docker { fact, .. } | Self::Between { fact, .. } => fact,
        };
        Ok((fact, at, at))
    }
}

fn check_timeline(incident: &Incident) -> Result<()> {
    ensure!(!incident.timeline.is_empty(), "empty");
    ensure!(incident.timeline.is_sorted_by_key(|entry| &entry.at), "not sorted");
    let moment = wall(&incident.moment.at)?;
    for entry in &incident.timeline {
        ensure!(wall(&entry.at)? - moment == entry.offset_ns, "the offset of {entry:?} is not from the moment");
    }
    Ok(())
}

fn signal_name(number: u32) -> Result<String> {
    Ok(nix::sys::signal::Signal::try_from(i32::try_from(number)?)?.as_str().to_owned())
}

/// Collects every difference, so that one failing run tells all of them.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, wanted: &T) {
        if found != wanted {
            self.0.push(format!("{what}: {found:?}, expected {wanted:?}"));
        }
    }

    fn note(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.0.push(format!("{what}: {error:#}"));
        }
    }

    fn verdict(self) -> Result<()> {
        ensure!(self.0.is_empty(), "{}", self.0.join("\n  "));
        Ok(())
    }
}
