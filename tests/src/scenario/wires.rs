//! Connections and the facts that the kernel emits about both endpoints, in the order in which its tracepoints fire
//! (net/ipv4/tcp_input.c `tcp_reset`, tcp.c `__tcp_close`, measured on 6.18).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{
    Fact, HttpFact, HttpWhat, ResetReceived, ResetSent, Socket, SocketError, SocketRead, Task, TcpState, TcpStateChange,
};
use gaia_monitor::model::ids::{CgroupId, Cookie, NetnsId};
use gaia_monitor::model::time::Stamp;

use super::actors::{Actors, BRIDGE, HOST_CGROUP, HOST_NETNS, OUTSIDE};
use super::facts::Facts;

const PROXY: &str = "host.docker-proxy";

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct End {
    pub socket: Socket,
    pub state: TcpState,
    /// The process that holds it, by its name.
    pub actor: String,
    pub sent: Option<Stamp>,
    received: Option<Stamp>,
    /// When its process last read from it.
    read: Option<Stamp>,
    pub unread: u32,
    /// Its sending side is shut, and it still reads.
    pub half: bool,
    /// What it sent was dropped.
    pub unacknowledged: u32,
}

#[derive(Clone, Debug)]
pub struct Wire {
    pub client: End,
    pub server: Option<End>,
    /// docker-proxy's ends: towards the client, towards the container.
    pub hop: Option<(End, End)>,
    /// The server's own address, where the kernel translates the one that the client used.
    behind: Option<SocketAddr>,
}

/// What docker-proxy meets when it connects to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Answered,
    /// Nothing listens behind it.
    Refused,
    /// Its SYN is still on the way.
    Unanswered,
}

/// Which end acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Client,
    Accepted,
    Leg,
    Server,
}

#[derive(Debug, Default)]
pub struct Wires {
    pub all: BTreeMap<String, Wire>,
    next: u16,
}

/// The destination of a connect.
#[derive(Clone, Debug)]
pub struct Target {
    /// The process that accepts, by its name.
    pub server: String,
    pub port: u16,
    /// A published port, through docker-proxy.
    pub via: Option<SocketAddr>,
    /// The published port is the kernel's to translate: no docker-proxy between.
    pub translated: bool,
    /// The address of a container, even if it has ended.
    pub ip: IpAddr,
    pub netns: NetnsId,
    pub cgroup: CgroupId,
}

fn end(socket: Socket, actor: &str, state: TcpState) -> End {
    End {
        socket,
        state,
        actor: actor.to_owned(),
        sent: None,
        received: None,
        read: None,
        unread: 0,
        half: false,
        unacknowledged: 0,
    }
}

impl End {
    /// On another host: no fact of it is seen here.
    fn is_outside(&self) -> bool {
        self.actor == OUTSIDE
    }
}

impl Wire {
    pub fn end(&mut self, which: Which) -> Result<&mut End> {
        match which {
            Which::Client => Ok(&mut self.client),
            Which::Accepted => self.hop.as_mut().map(|hop| &mut hop.0).context("no docker-proxy between"),
            Which::Leg => self.hop.as_mut().map(|hop| &mut hop.1).context("no docker-proxy between"),
            Which::Server => self.server.as_mut().context("the connection was not accepted"),
        }
    }
}

impl Wires {
    pub fn get(&mut self, name: &str) -> Result<&mut Wire> {
        self.all.get_mut(name).with_context(|| format!("no connection {name}"))
    }

    fn socket(&mut self, netns: NetnsId, cgroup: CgroupId, local: IpAddr, remote: SocketAddr) -> Socket {
        self.next += 1;
        let local = SocketAddr::new(local, 40_000 + self.next);
        Socket { cookie: Cookie(u64::from(self.next)), netns, cgroup, local, remote }
    }

    fn peer(&mut self, of: &Socket, netns: NetnsId, cgroup: CgroupId) -> Socket {
        self.next += 1;
        Socket { cookie: Cookie(u64::from(self.next)), netns, cgroup, local: of.remote, remote: of.local }
    }

    /// A client's SYN leaves. `ip`: the client's own address.
    pub fn connecting(
        &mut self,
        name: &str,
        facts: &mut Facts,
        actors: &mut Actors,
        client: (&str, IpAddr),
        target: &Target,
    ) -> Result<()> {
        let (actor, ip) = client;
        let task = actors.actor(actor)?.process;
        let (local, remote) = match target.via {
            Some(listen) if target.translated => (ip, listen),
            Some(listen) => (listen.ip(), listen),
            None => (ip, SocketAddr::new(target.ip, target.port)),
        };
        let socket = self.socket(task.netns, task.cgroup, local, remote);
        let behind = target.translated.then_some(SocketAddr::new(target.ip, target.port));
        let wire = Wire { client: end(socket, actor, TcpState::Close), server: None, hop: None, behind };
        if self.all.insert(name.to_owned(), wire).is_some() {
            bail!("a second connection {name}");
        }
        self.turn(name, facts, actors, Which::Client, TcpState::SynSent, None)
    }

    /// The handshake, and docker-proxy's own if it is between.
    pub fn established(
        &mut self,
        name: &str,
        facts: &mut Facts,
        actors: &mut Actors,
        target: &Target,
        behind: Leg,
    ) -> Result<()> {
        self.turn(name, facts, actors, Which::Client, TcpState::Established, None)?;
        let client = self.get(name)?.client.socket;
        if target.via.is_some() && !target.translated {
            let accepted = self.peer(&client, HOST_NETNS, HOST_CGROUP);
            let remote = SocketAddr::new(target.ip, target.port);
            let leg = self.socket(HOST_NETNS, HOST_CGROUP, BRIDGE, remote);
            let hop = (end(accepted, PROXY, TcpState::SynRecv), end(leg, PROXY, TcpState::Close));
            self.get(name)?.hop = Some(hop);
            self.turn(name, facts, actors, Which::Accepted, TcpState::Established, None)?;
            self.turn(name, facts, actors, Which::Leg, TcpState::SynSent, None)?;
            match behind {
                Leg::Answered => {}
                Leg::Refused => {
                    self.reset_syn(name, facts, actors, Which::Leg, target.netns)?;
                    return self.close(name, facts, actors, Which::Accepted, &Closing::default());
                }
                Leg::Unanswered => return Ok(()),
            }
            self.turn(name, facts, actors, Which::Leg, TcpState::Established, None)?;
        }
        let hop = self.get(name)?.hop.as_ref().map(|hop| hop.1.socket);
        let mut server = self.peer(&hop.unwrap_or(client), target.netns, target.cgroup);
        server.local = self.get(name)?.behind.unwrap_or(server.local);
        self.get(name)?.server = Some(end(server, &target.server, TcpState::SynRecv));
        self.turn(name, facts, actors, Which::Server, TcpState::Established, None)
    }

    /// Both ends of a connection that was there before, each with its process.
    pub fn older(
        &mut self,
        name: &str,
        actors: &mut Actors,
        client: (&str, IpAddr),
        target: &Target,
    ) -> Result<[(Socket, String); 2]> {
        let (actor, ip) = client;
        let process = actors.actor(actor)?.process;
        let remote = SocketAddr::new(target.ip, target.port);
        let asking = self.socket(process.netns, process.cgroup, ip, remote);
        let answering = self.peer(&asking, target.netns, target.cgroup);
        let wire = Wire {
            client: end(asking, actor, TcpState::Established),
            server: Some(end(answering, &target.server, TcpState::Established)),
            hop: None,
            behind: None,
        };
        self.all.insert(name.to_owned(), wire);
        Ok([(asking, actor.to_owned()), (answering, target.server.clone())])
    }

    /// A SYN meets a closed port: `tcp_v4_send_reset` without a socket, then the client's own facts.
    pub fn reset_syn(
        &mut self,
        name: &str,
        facts: &mut Facts,
        actors: &mut Actors,
        which: Which,
        netns: NetnsId,
    ) -> Result<()> {
        let wire = self.get(name)?;
        let asked = wire.end(which)?.socket;
        let local = wire.behind.unwrap_or(asked.remote);
        let unknown = Socket { cookie: Cookie::NONE, netns, cgroup: CgroupId(0), local, remote: asked.local };
        facts.kernel(Fact::ResetSent(ResetSent { socket: unknown, reason: "NO_SOCKET".into(), active: false }));
        self.reset_arrives(name, facts, actors, which)
    }

    /// An RST arrives at an endpoint: the tracepoint, the state with the error, the report to the process.
    pub fn reset_arrives(&mut self, name: &str, facts: &mut Facts, actors: &mut Actors, which: Which) -> Result<()> {
        let at = self.get(name)?.end(which)?.clone();
        let errno = match at.state {
            TcpState::SynSent => "ECONNREFUSED",
            TcpState::CloseWait => "EPIPE",
            _ => "ECONNRESET",
        };
        if at.is_outside() {
            return self.turn(name, facts, actors, which, TcpState::Close, Some(errno));
        }
        facts.kernel(Fact::ResetReceived(ResetReceived { socket: at.socket, state: at.state }));
        if at.state == TcpState::SynSent {
            // A refusal's label is the instant at which the client has it.
            facts.marked = Some(facts.now);
        }
        self.turn(name, facts, actors, which, TcpState::Close, Some(errno))?;
        facts.kernel(Fact::SocketError(SocketError {
            socket: at.socket,
            state: TcpState::Close,
            errno: errno.to_owned(),
        }));
        Ok(())
    }

    /// A state change in its own process's context.
    pub fn turn(
        &mut self,
        name: &str,
        facts: &mut Facts,
        actors: &mut Actors,
        which: Which,
        new: TcpState,
        errno: Option<&str>,
    ) -> Result<()> {
        let actor = self.get(name)?.end(which)?.actor.clone();
        let task = actors.task(&actor, false)?;
        self.turn_as(name, facts, which, new, errno, task)
    }

    pub fn turn_as(
        &mut self,
        name: &str,
        facts: &mut Facts,
        which: Which,
        new: TcpState,
        errno: Option<&str>,
        task: Task,
    ) -> Result<()> {
        let end = self.get(name)?.end(which)?;
        let mut socket = end.socket;
        if new == TcpState::SynSent {
            // The port is chosen after the state is entered (net/ipv4/tcp_ipv4.c, tcp_v4_connect).
            socket.local.set_port(0);
        }
        let change = TcpStateChange {
            socket,
            old: end.state,
            new,
            task,
            errno: errno.map(str::to_owned),
            unread: end.unread,
            half: end.half,
            unacknowledged: end.unacknowledged,
            last_sent: end.sent,
            last_received: end.received,
            last_read: end.read,
        };
        if !end.is_outside() {
            facts.kernel(Fact::TcpState(change));
        }
        end.state = new;
        Ok(())
    }

    /// An endpoint's process closes: FIN, or RST with unread bytes, SO_LINGER 0 or on request; the peer sees it, and
    /// docker-proxy passes it on as a FIN.
    pub fn close(
        &mut self,
        name: &str,
        facts: &mut Facts,
        actors: &mut Actors,
        which: Which,
        how: &Closing,
    ) -> Result<()> {
        let wire = self.get(name)?;
        let proxied = wire.hop.is_some();
        let end = wire.end(which)?;
        let other = match (which, proxied) {
            (Which::Client, false) => Which::Server,
            (Which::Client, true) => Which::Accepted,
            (Which::Accepted, _) | (Which::Server, false) => Which::Client,
            (Which::Leg, _) => Which::Server,
            (Which::Server, true) => Which::Leg,
        };
        end.unread = how.unread.unwrap_or(end.unread);
        let reset = how.reset || end.unread > 0;
        let actor = how.by.clone().unwrap_or_else(|| end.actor.clone());
        let task = actors.task(&actor, how.dying)?;
        end.half = how.half;
        let (socket, outside) = (end.socket, end.is_outside());
        let new = match (reset, end.state) {
            (_, TcpState::Close) => return Ok(()),
            (true, _) => TcpState::Close,
            (false, TcpState::CloseWait) => TcpState::LastAck,
            (false, TcpState::Established) => TcpState::FinWait1,
            (false, state) => bail!("an end in {state:?} cannot close"),
        };
        self.turn_as(name, facts, which, new, None, task.clone())?;
        let met = self.get(name)?.end(other).map(|end| end.state).unwrap_or(TcpState::Close);
        if how.lost || met == TcpState::Close {
            return Ok(());
        }
        if reset {
            self.reset_arrives(name, facts, actors, other)?;
            let reason = if how.reset { "TCP_STATE" } else { "TCP_ABORT_ON_CLOSE" };
            if outside {
                return Ok(());
            }
            facts.kernel(Fact::ResetSent(ResetSent { socket, reason: reason.into(), active: true }));
        } else if met == TcpState::FinWait2 && self.get(name)?.end(other)?.half {
            // TIME_WAIT is another socket's state: this one shows CLOSE.
            self.turn_as(name, facts, other, TcpState::Close, None, task)?;
        } else if met == TcpState::Established {
            // The softirq runs in the closing task.
            self.turn_as(name, facts, other, TcpState::CloseWait, None, task.clone())?;
            if how.half {
                self.turn_as(name, facts, which, TcpState::FinWait2, None, task)?;
            }
        }
        match other {
            Which::Leg if met == TcpState::Established => {
                self.close(name, facts, actors, Which::Accepted, &Closing::default())
            }
            Which::Accepted if met == TcpState::Established => {
                self.close(name, facts, actors, Which::Leg, &Closing::default())
            }
            Which::Client | Which::Accepted | Which::Leg | Which::Server => Ok(()),
        }
    }

    /// Bytes go from one end to the other, with what HTTP's framing shows of them at the sender's egress; docker-proxy
    /// passes them on. A reader is notified once.
    pub fn send(
        &mut self,
        name: &str,
        facts: &mut Facts,
        actors: &mut Actors,
        from: Which,
        what: &[HttpWhat],
        met: Met,
    ) -> Result<()> {
        let legs: &[(Which, Which)] = match (from, self.get(name)?.hop.is_some()) {
            (Which::Client, false) => &[(Which::Client, Which::Server)],
            (Which::Client, true) => &[(Which::Client, Which::Accepted), (Which::Leg, Which::Server)],
            (Which::Server, false) => &[(Which::Server, Which::Client)],
            (Which::Server, true) => &[(Which::Server, Which::Leg), (Which::Accepted, Which::Client)],
            (Which::Accepted | Which::Leg, _) => bail!("docker-proxy says nothing of its own"),
        };
        for (sender, receiver) in legs {
            let now = facts.now;
            let Ok(end) = self.get(name)?.end(*sender) else {
                // The sender is not seen; the bytes arrive nevertheless.
                self.get(name)?.end(*receiver)?.received = Some(now);
                return Ok(());
            };
            if end.state == TcpState::Close {
                return Ok(());
            }
            end.sent = Some(now);
            let (cookie, received) = (end.socket.cookie, end.is_outside());
            let cookie = if received { self.get(name)?.end(*receiver)?.socket.cookie } else { cookie };
            for what in what {
                facts.kernel(Fact::Http(HttpFact { cookie, received, what: what.clone() }));
            }
            // They arrive after the last of them has left.
            let now = facts.now;
            let between = matches!(receiver, Which::Accepted | Which::Leg);
            let Ok(end) = self.get(name)?.end(*receiver) else { return Ok(()) };
            if met == Met::Nothing && !between {
                return Ok(());
            }
            end.received = Some(now);
            if (met == Met::Reader || between) && !end.is_outside() && end.read.replace(now).is_none() {
                let (socket, actor) = (end.socket, end.actor.clone());
                let task = actors.task(&actor, false)?;
                facts.kernel(Fact::SocketRead(SocketRead { socket, task }));
            }
        }
        Ok(())
    }

    /// Connections of a process that are not closed, with its end of each.
    pub fn of_actor(&self, actor: &str) -> Vec<(String, Which)> {
        let open = |end: &End| end.actor == actor && matches!(end.state, TcpState::Established | TcpState::CloseWait);
        let mut found = Vec::new();
        for (name, wire) in &self.all {
            if wire.server.as_ref().is_some_and(open) {
                found.push((name.clone(), Which::Server));
            }
            if open(&wire.client) {
                found.push((name.clone(), Which::Client));
            }
        }
        found
    }
}

/// What becomes of bytes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Reader,
    /// They arrive, and lie unread.
    Socket,
    /// They do not arrive.
    Nothing,
}

/// How an endpoint is closed.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// Another process than the one that reads.
    pub by: Option<String>,
    pub dying: bool,
    /// SO_LINGER 0.
    pub reset: bool,
    /// Unread bytes; they turn the FIN into an RST.
    pub unread: Option<u32>,
    /// The packet does not arrive.
    pub lost: bool,
    /// `shutdown(2)` with SHUT_WR.
    pub half: bool,
}
