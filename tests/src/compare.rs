//! Comparison of one incident with the expected one, the clients' exceptions and the witness's records.
//!
//! It collects every difference, so that one run reports all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::check::Reference;
use crate::client::ABANDONED;
use crate::diff::Aspect::{Cause, Class, Coverage, Form, Moment as Instant};
use crate::diff::Diffs;
use crate::expect::{Broken, Expected, Killer, MALFORMED, Moment, RESOLVING, Until};
use crate::incident_line::{Affected, Entry, Incident, wall};
use crate::witness::{ExitStatus, Fact, Record, WallNanos, tcp_state};

/// How far an instant may lie from the witness's record of the same fact.
const TOLERANCE: WallNanos = 1_000_000;
/// The witness writes line by line; what it saw is here within milliseconds.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

impl Expected {
    /// Did the case happen at all? By the witness alone: how the process ended, who signalled it, and that the
    /// moment is known.
    pub fn happened(&self, reference: &Reference) -> Result<()> {
        self.moment.instant(reference)?;
        let (Some(pid), Some(end)) = (self.pid, self.end) else { return Ok(()) };
        let (_, status) = reference.witness.exit_of(pid, reference.began, RECORD_LIMIT)?;
        ensure!(status == end, "process {pid} ended by {status:?}, the case wants {end:?}");
        let sent_by = |wanted: &dyn Fn(u32, &str) -> bool| {
            let fatal = |fact: &Fact| match fact {
                Fact::Signal { target, ignored: false, sender, comm, .. } => *target == pid && wanted(*sender, comm),
                Fact::Signal { .. }
                | Fact::Exit { .. }
                | Fact::State { .. }
                | Fact::ResetSent { .. }
                | Fact::ResetReceived { .. }
                | Fact::OomVictim { .. }
                | Fact::Filtered { .. } => false,
            };
            reference.witness.wait(reference.began, RECORD_LIMIT, fatal, "signal by the expected sender").map(drop)
        };
        match &self.killer {
            Killer::NoSender => Ok(()),
            // Docker's runtime sends it, whichever that is: no process of this test.
            Killer::Docker(_) => sent_by(&|sender, _| sender != std::process::id() && sender != pid),
            Killer::Container(_) => sent_by(&|sender, _| sender != std::process::id() && sender != pid),
            Killer::Host(killer) | Killer::Inside(_, killer) => sent_by(&|sender, _| sender == *killer),
        }
    }

    /// Compares the last revision of an incident with this.
    pub fn check(&self, incident: &Incident, reference: &Reference, wrong: &mut Diffs) {
        let cause = &incident.cause;
        wrong.unless(Cause, "cause.kind", &cause.kind.as_str(), &self.kind);
        wrong.unless(Cause, "cause.how", &cause.how.as_deref(), &self.how);
        wrong.unless(Cause, "cause.confidence", &cause.confidence.as_str(), &self.confidence);
        let (signal, code) = match self.end {
            Some(ExitStatus::Signal(number)) => (Some(signal_name(number)), None),
            Some(ExitStatus::Code(code)) => (None, Some(code)),
            None => match self.moment {
                // A pause by a signal names the signal.
                Moment::Signal { signal, .. } => (Some(signal_name(signal)), None),
                _ => (None, None),
            },
        };
        wrong.unless(Cause, "cause.signal", &cause.signal, &signal);
        wrong.unless(Cause, "cause.exit_code", &cause.exit_code, &code);
        wrong.unless(Form, "cause.summary is empty", &cause.summary.is_empty(), &false);
        wrong.unless(Cause, "deaths", &incident.deaths, &self.deaths);
        self.check_sender(incident, wrong);
        self.check_details(incident, wrong);
        self.check_subject(incident, reference, wrong);
        wrong.note(Instant, "moment", self.check_moment(incident, reference));
        self.check_condition(incident, reference, wrong);
        self.check_affected(incident, reference, wrong);
        wrong.note(Form, "timeline", check_timeline(incident));
        for (source, text) in &self.said {
            let said = |entry: &Entry| entry.source == *source && entry.text.contains(text.as_str());
            wrong.unless(Form, &format!("the timeline says {text:?}"), &incident.timeline.iter().any(said), &true);
        }
        wrong.unless(Form, "lost_events", &incident.lost_events, &BTreeMap::new());
    }

    fn check_sender(&self, incident: &Incident, wrong: &mut Diffs) {
        let sender = incident.cause.sender.as_ref();
        match &self.killer {
            Killer::NoSender => wrong.unless(Cause, "cause.sender", &sender.map(|s| s.pid), &None),
            Killer::Docker(via) => {
                wrong.unless(Cause, "cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &Some(*via));
                wrong.unless(Cause, "cause.sender.container", &sender.and_then(|s| s.container.as_deref()), &None);
            }
            Killer::Host(pid) => {
                wrong.unless(Cause, "cause.sender.pid", &sender.and_then(|s| s.pid), &Some(*pid));
                wrong.unless(Cause, "cause.sender.container", &sender.and_then(|s| s.container.as_deref()), &None);
                wrong.unless(Cause, "cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &None);
            }
            Killer::Container(container) => {
                let named = sender.and_then(|s| s.container.as_deref());
                wrong.unless(Cause, "cause.sender.container", &named, &Some(container.as_str()));
                wrong.unless(Cause, "cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &None);
            }
            Killer::Inside(container, pid) => {
                let named = sender.and_then(|s| s.container.as_deref());
                wrong.unless(Cause, "cause.sender.container", &named, &Some(container.as_str()));
                wrong.unless(Cause, "cause.sender.pid", &sender.and_then(|s| s.pid), &Some(*pid));
                wrong.unless(Cause, "cause.sender.via", &sender.and_then(|s| s.via.as_deref()), &None);
            }
        }
    }

    /// Place of a crash, limit, and the process behind a request to Docker.
    fn check_details(&self, incident: &Incident, wrong: &mut Diffs) {
        let cause = &incident.cause;
        let is_oom = self.kind == "oom_killed" || self.how == Some("oom_killed");
        wrong.unless(Cause, "cause.limit", &cause.limit.as_deref(), &self.limit.or(is_oom.then_some("memory")));
        if let Some(place) = &self.crash {
            let hexadecimal = |number: u64| format!("{number:#x}");
            let crash = cause.crash.as_ref();
            let found = crash.map(|crash| (crash.module.clone(), crash.offset.clone(), crash.thread.clone()));
            let wanted = (Some(place.module.clone()), Some(hexadecimal(place.offset)), Some(place.thread.clone()));
            wrong.unless(Cause, "cause.crash", &found, &Some(wanted));
            let address = crash.and_then(|crash| crash.address.clone());
            wrong.unless(Cause, "cause.crash.address", &address, &place.address.map(hexadecimal));
        }
        if let Some(asked) = &self.asked_by {
            let by = cause.sender.as_ref().and_then(|sender| sender.requested_by.as_ref());
            let found = by.map(|by| (by.pid, by.container.clone()));
            wrong.unless(Cause, "cause.sender.requested_by", &found, &Some((asked.pid, asked.container.clone())));
        }
    }

    fn check_subject(&self, incident: &Incident, reference: &Reference, wrong: &mut Diffs) {
        let subject = &incident.subject;
        let wanted = self.subject.as_ref();
        wrong.unless(Cause, "subject.container", &subject.container.as_deref(), &self.name());
        wrong.unless(Cause, "subject.container_id", &subject.container_id.as_deref(), &wanted.map(|c| c.id()));
        wrong.unless(Cause, "subject.service", &subject.service.as_deref(), &wanted.map(|c| c.service()));
        wrong.unless(
            Cause,
            "subject.project",
            &subject.project.as_deref(),
            &wanted.map(|_| reference.project.as_str()),
        );
        wrong.unless(Cause, "subject.image", &subject.image.as_deref(), &wanted.map(|_| reference.image.as_str()));
        wrong.unless(Cause, "subject.role", &subject.role.as_str(), &self.role);
        if self.pid.is_some() {
            wrong.unless(Cause, "subject.pid", &subject.pid, &self.pid);
        }
    }

    /// How far the moment is from the witness's record; from the nearer end where that is a span.
    pub fn moment_error(&self, incident: &Incident, reference: &Reference) -> Result<WallNanos> {
        let (_, from, to) = self.moment.instant(reference)?;
        let at = wall(&incident.moment.at)?;
        Ok(if at < from {
            at - from
        } else if at > to {
            at - to
        } else {
            0
        })
    }

    fn check_moment(&self, incident: &Incident, reference: &Reference) -> Result<()> {
        let (fact, ..) = self.moment.instant(reference)?;
        ensure!(incident.moment.fact == fact, "fact {}, expected {fact}", incident.moment.fact);
        let error = self.moment_error(incident, reference)?;
        let at = &incident.moment.at;
        ensure!(error.abs() <= TOLERANCE, "{at} is {} µs from the witness's record", error / 1000);
        Ok(())
    }

    fn check_condition(&self, incident: &Incident, reference: &Reference, wrong: &mut Diffs) {
        let (condition, kind, until) = match (&incident.condition, &self.condition) {
            (None, None) => return,
            (Some(condition), Some((kind, until))) => (condition, kind, until),
            (found, wanted) => return wrong.add(Cause, &format!("condition: {found:?}, expected {wanted:?}")),
        };
        wrong.unless(Cause, "condition.kind", &condition.kind.as_str(), kind);
        wrong.unless(Instant, "condition.since", &condition.since, &incident.moment.at);
        let wanted = match until {
            Until::Lasting => return wrong.unless(Cause, "condition.until of one that lasts", &condition.until, &None),
            Until::Listening { port, after } => {
                let listens = |fact: &Fact| matches!(fact, Fact::State { new: tcp_state::LISTEN, local, .. } if local.port() == *port);
                reference.witness.wait(*after, RECORD_LIMIT, listens, "listening port").map(|record| record.at)
            }
            Until::Docker(at) | Until::Link(at) => Ok(*at),
            Until::Continued { pid, after } => {
                // The kernel marks it as ignored if no handler is set, and continues the process nevertheless.
                let continues = |fact: &Fact| matches!(fact, Fact::Signal { signal: 18, target, .. } if target == pid);
                reference.witness.wait(*after, RECORD_LIMIT, continues, "SIGCONT").map(|record| record.at)
            }
            Until::Connected { to, after } => {
                let answered = |fact: &Fact| matches!(fact, Fact::State { old: tcp_state::SYN_SENT, new: tcp_state::ESTABLISHED, remote, .. } if remote == to);
                reference.witness.wait(*after, RECORD_LIMIT, answered, "answered connect").map(|record| record.at)
            }
        };
        let Some(until) = condition.until.as_deref() else {
            return wrong.add(Cause, "condition.until is null, but it is over");
        };
        let near = wanted.and_then(|wanted| Ok(wall(until)? - wanted)).and_then(|distance| {
            ensure!(distance.abs() <= TOLERANCE, "{} µs off", distance / 1000);
            Ok(())
        });
        wrong.note(Instant, "condition.until", near);
    }

    fn check_affected(&self, incident: &Incident, reference: &Reference, wrong: &mut Diffs) {
        let mut left: Vec<&Affected> = incident.affected.iter().collect();
        wrong.unless(Form, "affected in order of `at`", &left.is_sorted_by_key(|entry| &entry.at), &true);
        for wanted in &self.broken {
            let port = wanted.outcome.local.map(|(_, port)| port);
            let own = |entry: &Affected| {
                entry.client.container == wanted.client && (port.is_none() || entry.client.port == port)
            };
            let class = |entry: &Affected| entry.client_error.httpx == wanted.how.class;
            let detail = |entry: &Affected| entry.client_error.detail.as_deref() == wanted.how.detail;
            let place = left.iter().position(|entry| own(entry) && class(entry) && detail(entry));
            let place = place.or_else(|| left.iter().position(|entry| own(entry) && class(entry)));
            // An entry of another class for the same socket is there, and wrong.
            let place = place.or_else(|| port.and_then(|_| left.iter().position(|entry| own(entry))));
            let Some(place) = place else {
                let listed: Vec<_> = left.iter().map(|entry| (&entry.client, &entry.client_error)).collect();
                wrong.add(Coverage, &format!("affected: no entry for {wanted:?} among {listed:?}"));
                continue;
            };
            let entry = left.remove(place);
            wrong.within(format!("entry {entry:?}"), |wrong| wanted.check(entry, reference, wrong));
        }
        if !left.is_empty() {
            wrong.add(Coverage, &format!("affected: entries that no client knows: {left:?}"));
        }
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for entry in incident.affected.iter().filter(|entry| entry.is_counted()) {
            *counts.entry(entry.client_error.httpx.clone()).or_default() += 1;
        }
        wrong.unless(Coverage, "affected_by_class", &incident.affected_by_class, &counts);
        wrong.unless(Coverage, "affected_total", &incident.affected_total, &counts.values().sum());
    }
}

impl Broken {
    fn check(&self, entry: &Affected, reference: &Reference, wrong: &mut Diffs) {
        let error = &entry.client_error;
        let possible = error.also_possible.as_deref() == Some(self.how.class);
        if error.httpx != self.how.class && possible {
            // The packets allow both, and the client's own scheduling chose the other.
            wrong.unless(Class, "phase", &error.phase.as_str(), &self.phase);
        } else {
            self.check_class(entry, wrong);
        }
        wrong.unless(Cause, "server.container", &entry.server.container, &self.server);
        let listen = entry.via.as_ref().and_then(|via| via.listen.as_deref());
        wrong.unless(Cause, "via.listen", &listen, &self.listen.map(|address| address.to_string()).as_deref());
        wrong.note(Instant, "at", self.check_instant(entry, reference));
    }

    fn check_class(&self, entry: &Affected, wrong: &mut Diffs) {
        let error = &entry.client_error;
        wrong.unless(Class, "httpx", &error.httpx.as_str(), &self.how.class);
        wrong.unless(Class, "detail", &error.detail.as_deref(), &self.how.detail);
        wrong.unless(Class, "errno", &error.errno.as_deref(), &self.how.errno);
        wrong.unless(Class, "phase", &error.phase.as_str(), &self.phase);
        // GAIA's `post_with_retry`.
        let retried = matches!(self.how.class, "ConnectError" | "RemoteProtocolError");
        wrong.unless(Class, "retried", &error.retried, &retried);
    }

    /// Against the witness's record of the client's own socket, which the incident names.
    fn check_instant(&self, entry: &Affected, reference: &Reference) -> Result<()> {
        let at = wall(&entry.at)?;
        // No socket changes its state when bytes arrive or a name is unknown.
        if self.remote || self.phase == RESOLVING || self.how == MALFORMED {
            ensure!((self.outcome.started..=self.outcome.at).contains(&at), "outside the request that failed");
            return Ok(());
        }
        let (ip, port) = entry.client.ip.zip(entry.client.port).context("the client has no address")?;
        let socket = SocketAddr::new(ip, port);
        let ends = |fact: &Fact| match fact {
            Fact::State { old, new, local, .. } => {
                *local == socket
                    && matches!((*old, *new), (tcp_state::ESTABLISHED, _) | (tcp_state::SYN_SENT, tcp_state::CLOSE))
            }
            Fact::ResetReceived { local, .. } => *local == socket,
            Fact::Exit { .. }
            | Fact::ResetSent { .. }
            | Fact::Signal { .. }
            | Fact::OomVictim { .. }
            | Fact::Filtered { .. } => false,
        };
        let records: Vec<Record> =
            reference.witness.since(reference.began).into_iter().filter(|record| ends(&record.fact)).collect();
        let nearest = records.iter().map(|record| at - record.at).min_by_key(|distance| distance.abs());
        let distance = nearest.with_context(|| format!("the witness knows no socket {socket} that ended"))?;
        ensure!(distance.abs() <= TOLERANCE, "{} µs from the witness's record", distance / 1000);
        ensure!(
            self.outcome.class == ABANDONED || at <= self.outcome.at + TOLERANCE,
            "after the client's own exception"
        );
        Ok(())
    }
}

impl Moment {
    /// Name of the fact, and the earliest and latest instant that the witnesses allow.
    fn instant(&self, reference: &Reference) -> Result<(&'static str, WallNanos, WallNanos)> {
        let find = |what: &str, wanted: &dyn Fn(&Fact) -> bool| {
            Ok::<WallNanos, anyhow::Error>(reference.witness.wait(reference.began, RECORD_LIMIT, wanted, what)?.at)
        };
        let close = |fact: &Fact, ours: &dyn Fn(&SocketAddr, &SocketAddr) -> bool| {
            matches!(
                fact,
                Fact::State { old: tcp_state::ESTABLISHED, new: tcp_state::FIN_WAIT1 | tcp_state::CLOSE, local, remote }
                    if ours(local, remote)
            )
        };
        let at = match self {
            Self::Exit(pid) => reference.witness.exit_of(*pid, reference.began, RECORD_LIMIT)?.0,
            Self::ServerClose(port) => {
                find("close by the server", &|fact| close(fact, &|_, remote| remote.port() == *port))?
            }
            Self::FirstClose(ports) => {
                let closes =
                    |port: &u16| find("close by the server", &|fact| close(fact, &|_, remote| remote.port() == *port));
                let all = ports.iter().map(closes).collect::<Result<Vec<_>>>()?;
                all.into_iter().min().context("a close")?
            }
            Self::ClientClose(port) => {
                find("close by the client", &|fact| close(fact, &|local, _| local.port() == *port))?
            }
            Self::CloseBy { server, since } => {
                let closes = |fact: &Fact| close(fact, &|local, _| local == server);
                reference.witness.wait(*since, RECORD_LIMIT, closes, "close by the server")?.at
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
            Self::Filtered(address) => find(
                "dropped packet",
                &|fact| matches!(fact, Fact::Filtered { from, to } if from == address || to == address),
            )?,
            Self::Syn { to, after } => {
                let syn =
                    |fact: &Fact| matches!(fact, Fact::State { new: tcp_state::SYN_SENT, remote, .. } if remote == to);
                reference.witness.wait(*after, RECORD_LIMIT, syn, "SYN")?.at
            }
            Self::Docker { at, .. } | Self::Link { at, .. } => *at,
            Self::Between { fact, from, to } => return Ok((fact, *from, *to)),
        };
        let fact = match self {
            Self::Exit(_) => "process_exit",
            Self::ServerClose(_) | Self::CloseBy { .. } | Self::FirstClose(_) => "server_close",
            Self::Refused(_) => "refused",
            Self::ClientClose(_) => "client_close",
            Self::Signal { .. } => "signal",
            Self::Filtered(_) => "packet_filtered",
            Self::Syn { .. } => "syn_unanswered",
            Self::Docker { fact, .. } | Self::Link { fact, .. } | Self::Between { fact, .. } => fact,
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

/// As the contract writes signals; a number that is none stays one, and fits no line.
fn signal_name(number: u32) -> String {
    let signal = i32::try_from(number).ok().and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
    signal.map_or_else(|| number.to_string(), |signal| signal.as_str().to_owned())
}
