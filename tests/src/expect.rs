//! What must come of a story, as data. Every number has two sources that are independent of the monitor: the clients'
//! exceptions and the instrument's records; `compare` holds the incident against both.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::client::{ABANDONED, Client, Outcome};
use crate::container::Container;
use crate::instrument::{ExitStatus, WallNanos};

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
pub const NAME_UNKNOWN: Break = Break { class: "ConnectError", detail: Some("dns"), errno: Some("EAI_NONAME") };
pub const NAME_UNSURE: Break = Break { class: "ConnectError", detail: Some("dns"), errno: Some("EAI_AGAIN") };
pub const NAME_UNANSWERED: Break = Break { class: "ConnectTimeout", detail: Some("dns"), errno: Some("EAI_AGAIN") };
pub const NO_DATA: Break = Break { class: "ReadTimeout", detail: Some("no_data"), errno: None };
/// The client went by itself.
pub const LEFT: Break = Break { class: "none", detail: None, errno: None };

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
    /// Its client is on another host: the instrument knows no socket of it.
    pub elsewhere: bool,
}

/// Entries for all outcomes of a client. Proves first that the client really saw what the case is about.
pub fn broken(
    client: &Client,
    server: &Container,
    outcomes: Vec<Outcome>,
    how: Break,
    phase: &'static str,
) -> Result<Vec<Broken>> {
    let names = (Some(client.container.name().to_owned()), Some(server.name().to_owned()));
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
pub fn broken_elsewhere(server: &Container, outcome: Outcome, how: Break, phase: &'static str) -> Result<Broken> {
    // A reset there is a reset; no system call gives it a number.
    let outcome = Outcome { errno: how.errno.map(str::to_owned), ..outcome };
    let entry = entry((None, Some(server.name().to_owned())), None, outcome, how, phase)?;
    Ok(Broken { how: Break { errno: None, ..how }, elsewhere: true, ..entry })
}

/// An entry of a client that does not tell what it saw: a server with a backend of its own.
#[must_use]
pub fn unseen(client: &Container, server: &Container, how: Break, phase: &'static str) -> Broken {
    let outcome = Outcome { class: ABANDONED.to_owned(), ..Outcome::default() };
    let (client, server) = (Some(client.name().to_owned()), Some(server.name().to_owned()));
    Broken { how, phase, client, server, listen: None, outcome, elsewhere: false }
}

/// The entry of a server's own look-up, as it tells it itself.
#[must_use]
pub fn own_look_up(server: &Container, holder: &Container, outcome: Outcome, how: Break) -> Broken {
    Broken { outcome, ..unseen(server, holder, how, RESOLVING) }
}

/// The phase of a look-up.
pub const RESOLVING: &str = "resolving";

fn entry(
    (client, server): (Option<String>, Option<String>),
    listen: Option<SocketAddr>,
    outcome: Outcome,
    how: Break,
    phase: &'static str,
) -> Result<Broken> {
    let fits = match how.class {
        // httpx raises nothing of its own when the task is cancelled.
        "none" => matches!(outcome.class.as_str(), "TimeoutError" | "CancelledError" | ABANDONED),
        // Whose patience ends first decides between the two: httpx's own timeout has no number.
        "ConnectTimeout" if phase == RESOLVING => ["ConnectTimeout", "ConnectError"].contains(&outcome.class.as_str()),
        class => outcome.class == class && outcome.errno.as_deref() == how.errno,
    };
    ensure!(fits, "the case did not come about: wanted {how:?}, the client saw {outcome:?}");
    Ok(Broken { how, phase, client, server, listen, outcome, elsewhere: false })
}

/// The fact from which the moment is taken.
#[derive(Clone, Debug)]
pub enum Moment {
    /// Exit of this process's last thread.
    Exit(u32),
    /// First FIN or RST of the server's socket whose peer has this port.
    ServerClose(u16),
    /// First refused SYN to this address.
    Refused(SocketAddr),
    /// First FIN of the client's socket with this port.
    ClientClose(u16),
    /// Docker's event, by Docker's own time.
    Docker { fact: &'static str, at: WallNanos },
    /// The generation of this signal for this process.
    Signal { pid: u32, signal: u32 },
    /// Somewhere between the two; no tracepoint tells more.
    Between { fact: &'static str, from: WallNanos, to: WallNanos },
}

/// Whom `sender` must name.
#[derive(Clone, Debug)]
pub enum Killer {
    Nobody,
    /// An order to Docker.
    Docker(&'static str),
    /// A process outside all containers.
    Host(u32),
    /// A process in this container.
    Inside(String, u32),
}

/// What ends a condition.
#[derive(Clone, Debug)]
pub enum Until {
    Lasting,
    /// The server's port listens again, at the instrument's record of it after this instant.
    Listening {
        port: u16,
        after: WallNanos,
    },
    Docker(WallNanos),
}

/// One incident that must be there. Nothing else in scope may be.
#[derive(Clone, Debug)]
pub struct Expected {
    pub kind: &'static str,
    pub how: Option<&'static str>,
    pub confidence: &'static str,
    pub subject: Container,
    /// The subject's process; none where the contract leaves it open.
    pub pid: Option<u32>,
    pub end: Option<ExitStatus>,
    pub killer: Killer,
    pub moment: Moment,
    pub condition: Option<(&'static str, Until)>,
    pub deaths: u32,
    pub broken: Vec<Broken>,
    /// The kind of the incident that `because` must name; not looked at without.
    pub because: Option<&'static str>,
}

impl Expected {
    /// The death of the container's first process `pid`, from which the container does not come back.
    #[must_use]
    pub fn death(kind: &'static str, subject: &Container, pid: u32, end: ExitStatus) -> Self {
        Self {
            kind,
            how: None,
            confidence: "certain",
            subject: subject.clone(),
            pid: Some(pid),
            end: Some(end),
            killer: Killer::Nobody,
            moment: Moment::Exit(pid),
            condition: Some(("container_down", Until::Lasting)),
            deaths: 1,
            broken: Vec::new(),
            because: None,
        }
    }

    /// Something that a living server, or nobody, did.
    #[must_use]
    pub fn living(kind: &'static str, subject: &Container, pid: Option<u32>, moment: Moment) -> Self {
        Self {
            kind,
            how: None,
            confidence: "certain",
            subject: subject.clone(),
            pid,
            end: None,
            killer: Killer::Nobody,
            moment,
            condition: None,
            deaths: 0,
            broken: Vec::new(),
            because: None,
        }
    }

    #[must_use]
    pub fn by(self, killer: Killer) -> Self {
        Self { killer, ..self }
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
    pub fn because(self, kind: &'static str) -> Self {
        Self { because: Some(kind), ..self }
    }

    /// The container ended by itself so often in this incident.
    #[must_use]
    pub fn times(self, deaths: u32) -> Self {
        Self { deaths, ..self }
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
            Some((_, Until::Listening { .. } | Until::Docker(_))) | None => "closed",
        }
    }

    /// Is this incident the expected one, and has it come to rest?
    #[must_use]
    pub fn is_at_rest_in(&self, incident: &gaia_monitor::model::incident::Incident) -> bool {
        let rests = gaia_monitor::model::incident::name_of(&incident.state) == self.rests_as();
        let kind = gaia_monitor::model::incident::name_of(&incident.cause.kind);
        rests && kind == self.kind && incident.subject.container.as_deref() == Some(self.subject.name())
    }
}
