//! The statements of a scenario, each turned into the facts that sources would emit.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{
    BodyFraming, CoreDump, DockerAction, EngineUsed, Event, ExitStatus, Fact, HttpWhat, LogLine, LogStream, LogsUnread,
    MaintenanceSeen, MemoryUse, ProcessExec, ProcessExited, ProcessSeen, ProcessStarted, Signal, SignalSender, Socket,
    SocketSeen, TcpState, TcpStateChange,
};
use gaia_monitor::model::ids::{Cookie, Pid};
use gaia_monitor::model::policy::{Profile, RetryPolicy};
use gaia_monitor::model::settings::Settings;
use gaia_monitor::model::time::{Nanos, Stamp};

use super::actors::Actors;
use super::ended::Ended;
use super::facts::Facts;
use super::interfaces::Interfaces;
use super::lookups::Resolvers;
use super::wires::{Closing, Which, Wires};
use super::words::{Words, span};

/// From the exit to the first socket that closes (median of 125 deaths).
const EXIT_TO_FIN: Nanos = Nanos(3_900_000);
/// From Docker's event to what an inspection then shows.
const INSPECTION: Nanos = Nanos::from_millis(3);

/// What expectations name: instants and pids.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub instants: BTreeMap<String, Stamp>,
    pub pids: BTreeMap<String, Pid>,
}

#[derive(Debug)]
pub struct Script {
    pub(super) settings: Settings,
    pub(super) facts: Facts,
    pub(super) actors: Actors,
    pub(super) wires: Wires,
    pub(super) resolvers: Resolvers,
    /// Listening sockets, by container and port.
    pub(super) listeners: BTreeMap<(String, u16), Socket>,
    pub(super) pids: BTreeMap<String, Pid>,
    /// `None` until `links`: interfaces are not watched.
    pub(super) interfaces: Option<Interfaces>,
}

impl Script {
    pub fn new() -> Self {
        Self {
            settings: Settings::default(),
            facts: Facts::new(),
            actors: Actors::default(),
            wires: Wires::default(),
            resolvers: Resolvers::default(),
            listeners: BTreeMap::new(),
            pids: BTreeMap::new(),
            interfaces: None,
        }
    }

    pub fn finish(mut self) -> (Settings, Vec<Event>, Names) {
        self.note_pids();
        let names = Names { instants: self.facts.labels.clone(), pids: self.pids };
        (self.settings, self.facts.events(), names)
    }

    /// `[+SPAN] [late SPAN] STATEMENT [@LABEL]`.
    pub fn line(&mut self, mut words: Words) -> Result<()> {
        if let Some(text) = words.first().and_then(|word| word.strip_prefix('+')) {
            self.facts.now = self.facts.now.plus(span(text)?);
            words.next("the span")?;
        }
        self.facts.late = words.after("late").map_or(Ok(Nanos(0)), |text| span(&text))?;
        self.facts.marked = None;
        let label = words.label.take();
        self.statement(&mut words)?;
        words.end()?;
        if let Some(label) = label {
            let at = self.facts.marked.unwrap_or(self.facts.now);
            self.facts.labels.insert(label, at);
        }
        self.note_pids();
        Ok(())
    }

    /// A name keeps the pid that it had first: a restart gives `core` another one, called `core#2`.
    fn note_pids(&mut self) {
        for (name, actor) in &self.actors.by_name {
            let pid = actor.process.pid;
            let known = self.pids.values().any(|known| *known == pid);
            if !known {
                let again = (2..).map(|run| format!("{name}#{run}"));
                let mut names = std::iter::once(name.clone()).chain(again);
                if let Some(free) = names.find(|name| !self.pids.contains_key(name)) {
                    self.pids.insert(free, pid);
                }
            }
        }
    }

    fn statement(&mut self, words: &mut Words) -> Result<()> {
        let verb = words.next("the statement")?;
        match verb.as_str() {
            "include-cancelled" => self.settings.include_cancelled = true,
            "scope" => {
                self.settings.scope.projects.extend(words.values("project"));
                self.settings.scope.containers.extend(words.values("container"));
                self.settings.scope.labels.extend(words.values("label").iter().map(|label| label.replace(':', "=")));
            }
            "retries" => {
                let service = words.next("the client's service")?;
                let classes = words.next("the classes")?;
                let classes = classes.split(',').map(|class| serde_json::from_value(class.into()));
                let classes = classes.collect::<Result<_, _>>()?;
                let policy = RetryPolicy { classes, ..RetryPolicy::default() };
                self.settings.policy.clients.insert(service, policy);
            }
            "policy" => {
                let client = words.next("the client's service, or CLIENT>SERVER")?;
                let profile: Profile = serde_json::from_value(words.next("the profile")?.into())?;
                self.settings.policy.clients.insert(client, profile.policy());
            }
            "maintenance" => {
                let container = self.actors.player(&words.next("the container")?)?.info.id.clone();
                let active = words.next("on or off")? == "on";
                self.facts.own(Fact::Maintenance(MaintenanceSeen { container, active }));
            }
            "wait" => self.facts.now = self.facts.now.plus(span(&words.next("the span")?)?),
            "container" => self.container(words)?,
            "start" => self.start(words)?,
            "fork" => {
                let name = words.next("the process")?;
                let actor = self.actors.fork(&name, words)?;
                self.facts.kernel(Fact::ProcessStarted(ProcessStarted {
                    process: actor.process,
                    parent: actor.parent,
                    parent_outside: actor.parent_outside,
                }));
            }
            "listen" | "unlisten" => self.listen(words, verb == "listen")?,
            "connect" => self.connect(words)?,
            "older" => self.older(words)?,
            "fin" => self.fin(words)?,
            "refused" => self.refused(words)?,
            "abandon" => self.abandon(words)?,
            "request" => self.request(words)?,
            "response" => self.response(words)?,
            "done" => self.send(words, Which::Server, &[HttpWhat::ResponseComplete])?,
            "inform" => {
                let wire = words.next("the connection")?;
                let status = words.next("the status")?.parse()?;
                self.say(&wire, Which::Server, &[HttpWhat::ResponseBegun, HttpWhat::Informational { status }])?;
            }
            "malformed" => self.send(words, Which::Server, &[HttpWhat::ResponseBegun, HttpWhat::Malformed])?,
            "garbage" => self.send(words, Which::Server, &[HttpWhat::Malformed])?,
            "tunnel" => {
                let what = HttpWhat::ResponseHeaders { status: 200, body: BodyFraming::Empty, close: false };
                self.send(words, Which::Server, &[HttpWhat::ResponseBegun, what, HttpWhat::Upgraded])?;
            }
            "upgrade" => self.send(words, Which::Server, &[HttpWhat::ResponseBegun, HttpWhat::Upgraded])?,
            "bytes" => self.bytes(words)?,
            "lookup" => self.lookup(words)?,
            "dns-query" => self.dns_query(words)?,
            "dns-response" => self.dns_response(words)?,
            "dns-close" => self.dns_close(words)?,
            "dns-probe" => self.dns_probe(words)?,
            "close" => self.close(words)?,
            "reset" => self.reset(words)?,
            "drop" => self.drop_packet(words)?,
            "passed" | "stuck" => self.pass(words, verb == "stuck")?,
            "closed" => {
                let wire = words.next("the connection")?;
                let netns = self.place(&wire, words)?;
                self.wires.reset_syn(&wire, &mut self.facts, &mut self.actors, Which::Client, netns)?;
            }
            "icmp" => self.icmp(words)?,
            "retransmit" => self.retransmit(words)?,
            "overflow" => self.overflow(words)?,
            "signal" => self.signal(words)?,
            "crash" => self.crash(words)?,
            "uses-docker" => {
                let process = self.actor(words)?.process;
                self.facts.kernel(Fact::EngineUsed(EngineUsed { process }));
            }
            "oom" => {
                let pid = self.actor(words)?.process.pid;
                self.facts.kernel(Fact::OomVictim { pid });
            }
            "log" => self.log(words)?,
            "unread" => {
                let name = words.next("the container")?;
                let container = self.actors.player(&name)?.info.id.clone();
                let why = "configured logging driver does not support reading".to_owned();
                self.facts.docker(Fact::LogsUnread(LogsUnread { container, why }));
            }
            "memory" => self.memory(words)?,
            "dumps" => self.dumps(words)?,
            "exit" => self.exit(words)?,
            "die" => self.die(words)?,
            "docker" => self.docker(words)?,
            "seen" => {
                let name = words.next("the container")?;
                let info = self.actors.player(&name)?.info.clone();
                self.facts.docker(Fact::ContainerSeen(Box::new(info)));
            }
            "links" => self.links(words)?,
            "link" => self.link(words)?,
            "neighbour" => self.neighbour(words)?,
            "lost" => {
                let stage = words.next("the stage")?;
                let count = words.next("the count")?.parse()?;
                // Released after the records that the ring still held.
                self.facts.kernel(Fact::Lost { stage, count });
            }
            "shutdown" => self.facts.own(Fact::Shutdown),
            other => bail!("no statement {other}"),
        }
        Ok(())
    }

    pub(super) fn actor(&mut self, words: &mut Words) -> Result<super::actors::Actor> {
        let name = words.next("the process")?;
        self.actors.actor(&name)
    }

    /// A container that runs already: found by the inventory, with its processes and listeners.
    fn container(&mut self, words: &mut Words) -> Result<()> {
        let name = words.next("the container's name")?;
        let (quiet, ended) = (words.flag("quiet"), Ended::read(words)?);
        self.actors.add_player(&name, words, self.facts.now)?;
        if quiet {
            return Ok(());
        }
        if let Some(ended) = ended {
            return self.ended(&name, &ended);
        }
        // It ran long before the monitor.
        let player = self.actors.player_mut(&name)?;
        player.info.started_at = Some(self.facts.now.minus(Nanos::from_secs(3_600)));
        let player = player.clone();
        self.facts.own(Fact::ContainerSeen(Box::new(player.info.clone())));
        let names = [format!("{name}.init"), name.clone()];
        for actor in names.iter().filter_map(|name| self.actors.by_name.get(name)) {
            let serves = !player.listens.is_empty() && actor.process.comm == player.comm;
            self.facts.own(Fact::ProcessSeen(ProcessSeen {
                process: actor.process.clone(),
                parent: actor.parent,
                parent_outside: actor.parent_outside,
                serves,
            }));
        }
        for port in player.listens {
            let socket = self.listener(&name, port, Ipv4Addr::UNSPECIFIED.into())?;
            let task = Some(self.actors.task(&name, false)?);
            self.facts.own(Fact::SocketSeen(SocketSeen {
                socket,
                state: TcpState::Listen,
                task,
                last_sent: None,
                last_received: None,
            }));
            self.actors.player_mut(&name)?.listening.push((port, name.clone()));
        }
        Ok(())
    }

    fn listener(&mut self, name: &str, port: u16, any: IpAddr) -> Result<Socket> {
        let player = self.actors.player(name)?;
        let (cgroup, netns) = (player.info.cgroup.context("no cgroup")?, player.info.netns.context("no namespace")?);
        let cookie = Cookie(1_000_000 + self.listeners.len() as u64);
        let socket = Socket { cookie, netns, cgroup, local: (any, port).into(), remote: (any, 0).into() };
        self.listeners.insert((name.to_owned(), port), socket);
        Ok(socket)
    }

    /// Docker starts a container: the kernel's facts first, then Docker's event, then the result of an inspection.
    fn start(&mut self, words: &mut Words) -> Result<()> {
        let name = words.next("the container")?;
        if self.actors.player(&name)?.info.exit_code.is_some() || words.flag("again") {
            self.actors.next_run(&name, words, self.facts.now)?;
        } else {
            self.actors.player_mut(&name)?.info.started_at = Some(self.facts.now);
        }
        let first = [format!("{name}.init"), name.clone()];
        for actor in first.iter().filter_map(|name| self.actors.by_name.get(name)) {
            let started = ProcessStarted {
                process: actor.process.clone(),
                parent: actor.parent,
                parent_outside: actor.parent_outside,
            };
            self.facts.kernel(Fact::ProcessStarted(started));
            self.facts.kernel(Fact::ProcessExec(ProcessExec { process: actor.process.clone() }));
        }
        self.docker_event(&name, DockerAction::Start)?;
        self.inspected(&name)
    }

    /// The inspection that follows, without moving the story's own time.
    fn inspected(&mut self, name: &str) -> Result<()> {
        let info = self.actors.player(name)?.info.clone();
        let now = self.facts.now;
        self.facts.now = now.plus(INSPECTION);
        self.facts.docker(Fact::ContainerSeen(Box::new(info)));
        self.facts.now = now;
        Ok(())
    }

    fn listen(&mut self, words: &mut Words, begin: bool) -> Result<()> {
        let by = words.value("by");
        let name = words.next("the container")?;
        let port: u16 = words.next("the port")?.parse()?;
        let dying = words.flag("dying");
        let ip = if words.flag("loopback") { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        if begin {
            self.listener(&name, port, ip.into())?;
        }
        let actor = by.unwrap_or_else(|| name.clone());
        self.turn_listener(&name, port, &actor, begin, dying)
    }

    fn turn_listener(&mut self, name: &str, port: u16, actor: &str, begin: bool, dying: bool) -> Result<()> {
        let socket = *self.listeners.get(&(name.to_owned(), port)).context("it does not listen there")?;
        let (old, new) = if begin { (TcpState::Close, TcpState::Listen) } else { (TcpState::Listen, TcpState::Close) };
        let task = self.actors.task(actor, dying)?;
        self.facts.kernel(Fact::TcpState(TcpStateChange {
            socket,
            old,
            new,
            task,
            errno: None,
            unread: 0,
            half: false,
            unacknowledged: 0,
            last_sent: None,
            last_read: None,
            last_received: None,
        }));
        let player = self.actors.player_mut(name)?;
        player.listening.retain(|(other, _)| *other != port);
        if begin {
            player.listening.push((port, actor.to_owned()));
        }
        Ok(())
    }

    fn signal(&mut self, words: &mut Words) -> Result<()> {
        let by = words.after("by").context("no sender")?;
        let delivered = !words.flag("ignored");
        let limit = words.value("limit").map(|limit| serde_json::from_value(limit.into())).transpose()?;
        let target = self.actor(words)?.process;
        let signal = words.next("the signal")?;
        let sender = match by.as_str() {
            "kernel" => SignalSender::Kernel,
            "self" => SignalSender::Process(target.clone()),
            other => SignalSender::Process(self.actors.actor(other)?.process),
        };
        self.facts.kernel(Fact::Signal(Signal { signal, target, sender, delivered, limit }));
        Ok(())
    }

    fn exit(&mut self, words: &mut Words) -> Result<()> {
        let actor = self.actor(words)?;
        let status = status(&words.next("the status")?)?;
        // The last thread to exit gives the record its name; its namespaces are released by then.
        let comm = words.value("thread").unwrap_or(actor.process.comm.clone());
        let process = gaia_monitor::model::event::Process { comm, ..actor.process };
        let listens = words.flag("listens");
        let (parent, parent_outside) = (actor.parent, actor.parent_outside);
        let fact = ProcessExited { process, parent, parent_outside, status, listens };
        self.facts.kernel(Fact::ProcessExited(fact));
        Ok(())
    }

    /// `log CONTAINER [stdout] "TEXT"`: a requested line; Docker's stamp is the statement's own time.
    fn log(&mut self, words: &mut Words) -> Result<()> {
        let stream = if words.flag("stdout") { LogStream::Stdout } else { LogStream::Stderr };
        let name = words.next("the container")?;
        let text = words.next("the line")?;
        let container = self.actors.player(&name)?.info.id.clone();
        self.facts.docker(Fact::Log(Box::new(LogLine { container, stream, text })));
        Ok(())
    }

    fn memory(&mut self, words: &mut Words) -> Result<()> {
        let (limit, in_use, peak) = (words.number("limit")?, words.number("now")?, words.number("peak")?);
        let victim = words.next("the victim")?;
        let container = self.actors.player(Actors::container_of(&victim))?.info.id.clone();
        let victim = self.actors.actor(&victim)?.process.pid;
        self.facts.own(Fact::Memory(MemoryUse { container, victim, limit, in_use, peak }));
        Ok(())
    }

    /// How the core of a process is written, by the host's pattern.
    fn dumps(&mut self, words: &mut Words) -> Result<()> {
        let uses_pid = words.flag("uses-pid");
        let (cwd, executable) = (words.value("cwd"), words.value("exe"));
        let pid = self.actor(words)?.process.pid;
        let pattern = words.next("the pattern")?;
        let dump = CoreDump { pid, pattern, uses_pid, cwd, executable, hostname: None, uid: None, gid: None };
        self.facts.own(Fact::CoreDump(Box::new(dump)));
        Ok(())
    }

    /// A process ends: its exit, then its connections and listeners close. `exit-last`: in the order of kernels before 6.16.
    fn die(&mut self, words: &mut Words) -> Result<()> {
        let name = words.first().context("who dies?")?.to_owned();
        let last = words.flag("exit-last");
        let began = self.facts.now;
        if last {
            words.next("the process")?;
            let rest = words.next("the status")?;
            self.facts.now = began.plus(EXIT_TO_FIN);
            self.let_go(&name)?;
            self.facts.marked = Some(self.facts.now);
            return self.exit(&mut Words::of(&format!("{name} {rest}")));
        }
        self.exit(words)?;
        self.facts.now = began.plus(EXIT_TO_FIN);
        self.let_go(&name)
    }

    fn let_go(&mut self, name: &str) -> Result<()> {
        for (wire, side) in self.wires.of_actor(name) {
            let closing = Closing { dying: true, ..Closing::default() };
            self.wires.close(&wire, &mut self.facts, &mut self.actors, side, &closing)?;
        }
        let container = Actors::container_of(name).to_owned();
        let listening = self.actors.players.get(&container).map(|player| player.listening.clone()).unwrap_or_default();
        for (port, _) in listening.iter().filter(|(_, owner)| owner == name) {
            self.turn_listener(&container, *port, name, false, true)?;
        }
        Ok(())
    }

    fn docker(&mut self, words: &mut Words) -> Result<()> {
        let name = words.next("the container")?;
        let verb = words.next("what Docker says")?;
        let mut arg = || words.next("what of it");
        let action = match verb.as_str() {
            "create" => DockerAction::Create,
            "die" => {
                let exit_code = Some(arg()?.parse()?);
                let info = &mut self.actors.player_mut(&name)?.info;
                (info.running, info.exit_code) = (false, exit_code);
                self.docker_event(&name, DockerAction::Die { exit_code })?;
                // A dead container has neither processes nor addresses.
                let kept = self.actors.player(&name)?.info.clone();
                let info = &mut self.actors.player_mut(&name)?.info;
                (info.pid, info.cgroup, info.netns) = (None, None, None);
                info.networks.iter_mut().for_each(|network| network.addresses.clear());
                self.inspected(&name)?;
                self.actors.player_mut(&name)?.info = kept;
                return Ok(());
            }
            "oom" => DockerAction::Oom,
            "kill" => DockerAction::Kill { signal: arg()? },
            "stop" => DockerAction::Stop,
            "pause" => DockerAction::Pause,
            "unpause" => DockerAction::Unpause,
            "health" => DockerAction::HealthStatus { status: arg()? },
            "restart" => DockerAction::Restart,
            "rename" => {
                let new = arg()?;
                let old_name = std::mem::replace(&mut self.actors.player_mut(&name)?.info.name, new);
                DockerAction::Rename { old_name }
            }
            "destroy" => DockerAction::Destroy,
            "attach" => {
                self.put_on(&name)?;
                DockerAction::NetworkConnect { network: "gaia-network".to_owned() }
            }
            "detach" => {
                self.take_off(&name)?;
                DockerAction::NetworkDisconnect { network: "gaia-network".to_owned() }
            }
            // After a death: the interface was removed with the container.
            "let-go" => DockerAction::NetworkDisconnect { network: "gaia-network".to_owned() },
            other => bail!("Docker does not say {other}"),
        };
        self.docker_event(&name, action)
    }
}

fn status(text: &str) -> Result<ExitStatus> {
    if text.starts_with("SIG") {
        let (signal, core) = text.strip_suffix("+core").map_or((text, false), |signal| (signal, true));
        return Ok(ExitStatus::Signal { signal: signal.to_owned(), core });
    }
    Ok(ExitStatus::Code { code: text.parse().with_context(|| format!("{text} is no exit status"))? })
}
