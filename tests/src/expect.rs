//! The expected incidents of a story, as data. Every number has two sources that are independent of the monitor: the
//! clients' exceptions and the witness's records; `compare` compares the incident with both.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};

use crate::client::{ABANDONED, Client, Outcome};
use crate::container::Container;
use crate::witness::{ExitStatus, WallNanos};

/// One way in which a connection breaks for its client: httpx's class and the contract's detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    pub class: &'static str,
    pub detail: Option<&'static str>,
    pub errno: Option<&'static str>,
}

pub const NO_RESPONSE: Break = Break { class: "RemoteProtocolError", detail: Some("no_response"), errno: None };
pub const INCOMPLETE_BODY: Break = Break { class: "RemoteProtocolError", detail: Some("incomplete_body"), errno: None };
pub const MALFORMED: Break = Break { class: "RemoteProtocolError", detail: Some("malformed"), errno: None };
pub const RESET: Break = Break { class: "ReadError", detail: Some("reset"), errno: Some("ECONNRESET") };
pub const RESET_AFTER_FIN: Break = Break { class: "ReadError", detail: Some("reset_after_fin"), errno: Some("EPIPE") };
pub const REFUSED: Break = Break { class: "ConnectError", detail: Some("refused"), errno: Some("ECONNREFUSED") };
pub const UNREACHABLE: Break =
    Break { class: "ConnectError", detail: Some("unreachable"), errno: Some("EHOSTUNREACH") };
pub const NAME_UNKNOWN: Break = Break { class: "ConnectError", detail: Some("dns"), errno: Some("EAI_NONAME") };
pub const NAME_UNSURE: Break = Break { class: "ConnectError", detail: Some("dns"), errno: Some("EAI_AGAIN") };
pub const SYN_TIMEOUT: Break = Break { class: "ConnectTimeout", detail: Some("syn_timeout"), errno: None };
pub const NO_DATA: Break = Break { class: "ReadTimeout", detail: Some("no_data"), errno: None };
/// The client cancelled.
pub const LEFT: Break = Break { class: "none", detail: None, errno: None };

/// The failure and its phase by httpx's own account of an exchange; `None` for a response.
/// `uploading`: the request's body was not complete.
pub fn seen(outcome: &Outcome, uploading: bool) -> Result<Option<(Break, &'static str)>> {
    let stage = outcome.stage.as_deref().unwrap_or_default();
    let how = match (outcome.class.as_str(), outcome.errno.as_deref()) {
        ("none" | "HTTPStatusError", _) => return Ok(None),
        ("ConnectError", Some("ECONNREFUSED")) => REFUSED,
        ("ConnectError", Some("EHOSTUNREACH")) => UNREACHABLE,
        ("ConnectError", Some("EAI_NONAME")) => NAME_UNKNOWN,
        ("ConnectError", Some("EAI_AGAIN")) => NAME_UNSURE,
        ("ReadError", Some("ECONNRESET")) => RESET,
        ("ReadError", Some("EPIPE")) => RESET_AFTER_FIN,
        ("ReadTimeout", None) => NO_DATA,
        ("RemoteProtocolError", None) if outcome.message.starts_with("peer closed") => INCOMPLETE_BODY,
        ("RemoteProtocolError", None) if outcome.message.starts_with("Server disconnected") => NO_RESPONSE,
        ("RemoteProtocolError", None) => MALFORMED,
        _ => bail!("what the client saw says nothing certain of the connection: {outcome:?}"),
    };
    let phase = match how.detail {
        Some("dns") => RESOLVING,
        _ if how.class == "ConnectError" => "connecting",
        _ if uploading => "sending",
        _ if stage == "http11.receive_response_body" => "receiving_body",
        _ => "awaiting_response",
    };
    Ok(Some((how, phase)))
}

/// One entry of `affected` that must be there.
#[derive(Clone, Debug)]
pub struct Broken {
    pub how: Break,
    pub phase: &'static str,
    /// Its container; none for a process of the host.
    pub client: Option<String>,
    pub server: Option<String>,
    /// The address it was made to, where one hop lies between.
    pub listen: Option<SocketAddr>,
    pub outcome: Outcome,
    /// Its client is on another host: the witness knows no socket of it.
    pub remote: bool,
}

/// Entries for all outcomes of a client. Proves first that the client really saw what the case is about.
pub fn broken(
    client: &Client,
    server: &Container,
    outcomes: Vec<Outcome>,
    how: Break,
    phase: &'static str,
) -> Result<Vec<Broken>> {
    let names = (client.name().map(str::to_owned), Some(server.name().to_owned()));
    outcomes.into_iter().map(|outcome| entry(names.clone(), None, outcome, how, phase)).collect()
}

/// The entry for one request of this test process, through docker-proxy at `listen`.
pub fn broken_on_host(
    server: &Container,
    listen: SocketAddr,
    outcome: Outcome,
    how: Break,
    phase: &'static str,
) -> Result<Broken> {
    entry((None, Some(server.name().to_owned())), Some(listen), outcome, how, phase)
}

/// The entry of a client on another host.
pub fn broken_at_remote_client(
    server: &Container,
    outcome: Outcome,
    how: Break,
    phase: &'static str,
) -> Result<Broken> {
    // A reset there is a reset; no system call gives it a number.
    let outcome = Outcome { errno: how.errno.map(str::to_owned), ..outcome };
    let entry = entry((None, Some(server.name().to_owned())), None, outcome, how, phase)?;
    Ok(Broken { how: Break { errno: None, ..how }, remote: true, ..entry })
}

/// An entry of a client that does not report its outcome: a server with a backend of its own.
#[must_use]
pub fn unseen(client: &Container, server: &Container, how: Break, phase: &'static str) -> Broken {
    let outcome = Outcome { class: ABANDONED.to_owned(), ..Outcome::default() };
    let (client, server) = (Some(client.name().to_owned()), Some(server.name().to_owned()));
    Broken { how, phase, client, server, listen: None, outcome, remote: false }
}

/// The entry of a server's own lookup, as the server reports it.
#[must_use]
pub fn own_look_up(server: &Container, holder: &Container, outcome: Outcome, how: Break) -> Broken {
    Broken { outcome, ..unseen(server, holder, how, RESOLVING) }
}

/// The phase of a lookup.
pub const RESOLVING: &str = "resolving";

pub(crate) fn entry(
    (client, server): (Option<String>, Option<String>),
    listen: Option<SocketAddr>,
    outcome: Outcome,
    how: Break,
    phase: &'static str,
) -> Result<Broken> {
    let fits = match how.class {
        // httpx raises nothing of its own when the task is cancelled.
        "none" => matches!(outcome.class.as_str(), "TimeoutError" | "CancelledError" | ABANDONED),
        // The shorter timeout decides between the two: httpx's own timeout has no errno.
        "ConnectTimeout" if phase == RESOLVING => ["ConnectTimeout", "ConnectError"].contains(&outcome.class.as_str()),
        class => outcome.class == class && outcome.errno.as_deref() == how.errno,
    };
    ensure!(fits, "the case did not come about: wanted {how:?}, the client saw {outcome:?}");
    Ok(Broken { how, phase, client, server, listen, outcome, remote: false })
}

/// The fact from which the moment is taken.
#[derive(Clone, Debug)]
pub enum Moment {
    /// Exit of this process's last thread.
    Exit(u32),
    /// First FIN or RST of the server's socket whose peer has this port.
    ServerClose(u16),
    /// First FIN or RST of a connection that was made to this address, after this instant.
    CloseBy { server: SocketAddr, since: WallNanos },
    /// First FIN or RST of the server's sockets whose peers have these ports.
    FirstClose(Vec<u16>),
    /// First refused SYN to this address.
    Refused(SocketAddr),
    /// First FIN of the client's socket with this port.
    ClientClose(u16),
    /// First packet from or to this address that a packet filter threw away.
    Filtered(SocketAddr),
    /// First SYN to this address since then.
    Syn { to: SocketAddr, after: WallNanos },
    /// Docker's event, by Docker's own time.
    Docker { fact: &'static str, at: WallNanos },
    /// A line of `ip monitor` about an interface.
    Link { fact: &'static str, at: WallNanos },
    /// The generation of this signal for this process.
    Signal { pid: u32, signal: u32 },
    /// Somewhere between the two; no tracepoint is more precise.
    Between { fact: &'static str, from: WallNanos, to: WallNanos },
}

/// The sender that the incident must name.
#[derive(Clone, Debug)]
pub enum Killer {
    NoSender,
    /// An order to Docker.
    Docker(&'static str),
    /// A process outside all containers.
    Host(u32),
    /// A process in this container.
    Inside(String, u32),
    /// A process that came and went in this container.
    Container(String),
}

/// The place that a crash must name, from the kernel's own log.
#[derive(Clone, Debug)]
pub struct CrashPlace {
    pub module: String,
    pub offset: u64,
    pub address: Option<u64>,
    pub thread: String,
}

/// The process that a request to Docker must name.
#[derive(Clone, Debug)]
pub struct AskedBy {
    pub pid: u32,
    /// None: on the host.
    pub container: Option<String>,
}

/// What ends a condition.
#[derive(Clone, Debug)]
pub enum Until {
    Lasting,
    /// The server's port listens again, at the witness's record of it after this instant.
    Listening {
        port: u16,
        after: WallNanos,
    },
    /// The first connect to this address that succeeds after that instant.
    Connected {
        to: SocketAddr,
        after: WallNanos,
    },
    Docker(WallNanos),
    /// By a line of `ip monitor` about an interface.
    Link(WallNanos),
    /// SIGCONT for this process, after this instant.
    Continued {
        pid: u32,
        after: WallNanos,
    },
}

/// One incident that must be there. Nothing else in scope may be.
#[derive(Clone, Debug)]
pub struct Expected {
    pub kind: &'static str,
    pub how: Option<&'static str>,
    pub confidence: &'static str,
    /// None: no container's doing (a bridge's).
    pub subject: Option<Container>,
    /// Primary or candidate of a pair, the value of `subject.role`.
    pub role: &'static str,
    /// The subject's process; none where the contract leaves it open.
    pub pid: Option<u32>,
    pub end: Option<ExitStatus>,
    pub killer: Killer,
    /// `None`: not compared.
    pub crash: Option<CrashPlace>,
    /// The limit behind the signal; that of an OOM victim is its container's memory.
    pub limit: Option<&'static str>,
    /// `None`: not compared, because other cases use Docker at the same time.
    pub asked_by: Option<AskedBy>,
    pub moment: Moment,
    pub condition: Option<(&'static str, Until)>,
    pub deaths: u32,
    pub broken: Vec<Broken>,
    /// What a line of the timeline from this source must contain.
    pub said: Vec<(&'static str, String)>,
    /// The kind of the incident that `caused_by` must name; `None`: not compared.
    pub caused_by: Option<&'static str>,
}

impl Expected {
    /// The death of the container's first process `pid`, from which the container does not come back.
    #[must_use]
    pub fn death(kind: &'static str, subject: &Container, pid: u32, end: ExitStatus) -> Self {
        Self {
            kind,
            how: None,
            confidence: "certain",
            subject: Some(subject.clone()),
            role: "none",
            pid: Some(pid),
            end: Some(end),
            killer: Killer::NoSender,
            crash: None,
            limit: None,
            asked_by: None,
            moment: Moment::Exit(pid),
            condition: Some(("container_down", Until::Lasting)),
            deaths: 1,
            broken: Vec::new(),
            said: Vec::new(),
            caused_by: None,
        }
    }

    /// A cause that is the act of a live server, or of no process.
    #[must_use]
    pub fn living(kind: &'static str, subject: &Container, pid: Option<u32>, moment: Moment) -> Self {
        Self {
            kind,
            how: None,
            confidence: "certain",
            subject: Some(subject.clone()),
            role: "none",
            pid,
            end: None,
            killer: Killer::NoSender,
            crash: None,
            limit: None,
            asked_by: None,
            moment,
            condition: None,
            deaths: 0,
            broken: Vec::new(),
            said: Vec::new(),
            caused_by: None,
        }
    }

    /// The timeline contains an entry of this source with this text.
    #[must_use]
    pub fn saying(mut self, source: &'static str, text: impl Into<String>) -> Self {
        self.said.push((source, text.into()));
        self
    }

    /// What cut off everybody behind a bridge.
    #[must_use]
    pub fn bridge(subject: &Container, moment: Moment) -> Self {
        Self { subject: None, ..Self::living("link_down", subject, None, moment) }
    }

    #[must_use]
    pub fn by(self, killer: Killer) -> Self {
        Self { killer, ..self }
    }

    /// Crashed at this place.
    #[must_use]
    pub fn at(self, place: CrashPlace) -> Self {
        Self { crash: Some(place), ..self }
    }

    /// The kernel enforced this limit.
    #[must_use]
    pub fn limited_by(self, limit: &'static str) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// This process asked Docker.
    #[must_use]
    pub fn asked_by(self, pid: u32, container: Option<&str>) -> Self {
        Self { asked_by: Some(AskedBy { pid, container: container.map(str::to_owned) }), ..self }
    }

    #[must_use]
    pub fn breaking(mut self, broken: Vec<Broken>) -> Self {
        self.broken.extend(broken);
        self
    }

    #[must_use]
    pub fn under(self, kind: &'static str, until: Until) -> Self {
        Self { condition: Some((kind, until)), ..self }
    }

    #[must_use]
    pub fn caused_by(self, kind: &'static str) -> Self {
        Self { caused_by: Some(kind), ..self }
    }

    /// The number of deaths in this incident.
    #[must_use]
    pub fn times(self, deaths: u32) -> Self {
        Self { deaths, ..self }
    }

    /// The subject is one of a pair.
    #[must_use]
    pub fn role(self, role: &'static str) -> Self {
        Self { role, ..self }
    }

    #[must_use]
    pub fn likely(self) -> Self {
        Self { confidence: "likely", ..self }
    }

    /// The state in which it waits for what may still come. A condition that lasts keeps it settled; workers that die
    /// within ten seconds of each other are one incident, so one death alone is settled and not yet closed.
    #[must_use]
    pub fn rests_as(&self) -> &'static str {
        match &self.condition {
            Some((_, Until::Lasting)) => "settled",
            None if self.kind == "worker_died" => "settled",
            Some((
                _,
                Until::Listening { .. }
                | Until::Connected { .. }
                | Until::Docker(_)
                | Until::Link(_)
                | Until::Continued { .. },
            ))
            | None => "closed",
        }
    }

    /// The subject's container, or `none`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.subject.as_ref().map(Container::name)
    }

    /// Does this line's incident hold one of the sockets that must be in the expected one? Two incidents may have one
    /// kind and one subject.
    #[must_use]
    pub fn shares_a_socket_with(&self, incident: &crate::incident_line::Incident) -> bool {
        let ports = || incident.affected.iter().filter_map(|entry| entry.client.port);
        self.broken.iter().filter_map(|broken| broken.outcome.local).any(|(_, own)| ports().any(|port| port == own))
    }

    /// Is this line's incident the expected one?
    #[must_use]
    pub fn is_told_by(&self, incident: &crate::incident_line::Incident) -> bool {
        incident.cause.kind == self.kind && incident.subject.container.as_deref() == self.name()
    }

    /// Is this incident the expected one, and has it come to rest?
    #[must_use]
    pub fn is_at_rest_in(&self, incident: &gaia_monitor::model::incident::Incident) -> bool {
        let rests = gaia_monitor::model::incident::name_of(&incident.state) == self.rests_as();
        let kind = gaia_monitor::model::incident::name_of(&incident.cause.kind);
        rests && kind == self.kind && incident.subject.container.as_deref() == self.name()
    }
}
