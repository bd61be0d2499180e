//! Statements about connections: connect, request, response, close and reset.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{BodyFraming, Fact, HttpWhat, SocketError, SocketSeen, TcpState};
use gaia_monitor::model::time::Nanos;

use super::actors::{Actors, BRIDGE, HOST_CGROUP, HOST_NETNS, OUTSIDE, Player};
use super::script::Script;
use super::wires::{Closing, Leg, Met, Target, Which};
use super::words::{Words, span};

/// From a request to its response.
const LATENCY: Nanos = Nanos::from_millis(5);
/// Where a client or server on another host is.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

impl Script {
    /// `CLIENT SERVER NAME [port=N] [via=PUBLISHED [translated]]`: client and server.
    pub(super) fn target(&mut self, words: &mut Words) -> Result<((String, IpAddr), Target, String)> {
        let client = words.next("the client")?;
        let server = words.next("the server")?;
        let wire = words.next("the connection's name")?;
        if server == OUTSIDE {
            let port = words.number("port")?.map_or(Ok(80), u16::try_from)?;
            let ip = self.caller_ip(&client);
            let (netns, cgroup) = (HOST_NETNS, HOST_CGROUP);
            let target = Target { ip: ELSEWHERE, netns, cgroup, port, via: None, translated: false, server };
            return Ok(((client, ip), target, wire));
        }
        let container = Actors::container_of(&server).to_owned();
        let player = self.actors.player(&container)?;
        let default = player.listens.first().copied().or(player.info.published.first().map(|p| p.container_port));
        let via = words.number("via")?.map(u16::try_from).transpose()?;
        let published = |port: u16| player.info.published.iter().find(|published| published.host_port == port);
        let six = words.flag("v6");
        let listen = |port: u16| {
            SocketAddr::new(published(port).map_or(Ipv4Addr::LOCALHOST.into(), |published| published.host_ip), port)
        };
        let target = Target {
            ip: if six { player.address_v6() } else { player.address() }.context("the server has no address")?,
            netns: player.info.netns.unwrap_or(HOST_NETNS),
            cgroup: player.info.cgroup.unwrap_or(HOST_CGROUP),
            port: words.number("port")?.map_or(Ok(default.unwrap_or(80)), u16::try_from)?,
            via: via.map(listen),
            translated: words.flag("translated"),
            server,
        };
        let own = if six {
            self.actors.players.get(Actors::container_of(&client)).and_then(Player::address_v6)
        } else {
            None
        };
        let ip = own.unwrap_or_else(|| self.caller_ip(&client));
        Ok(((client, ip), target, wire))
    }

    fn caller_ip(&self, client: &str) -> IpAddr {
        let elsewhere = if client == OUTSIDE { ELSEWHERE } else { BRIDGE };
        self.actors.players.get(Actors::container_of(client)).and_then(Player::address).unwrap_or(elsewhere)
    }

    pub(super) fn connect(&mut self, words: &mut Words) -> Result<()> {
        let (unanswered, refused, half) = (words.flag("unanswered"), words.flag("refused"), words.flag("half"));
        let (leg_waits, portless) = (words.flag("leg-unanswered"), words.flag("no-port"));
        let ((client, ip), target, wire) = self.target(words)?;
        self.wires.connecting(&wire, &mut self.facts, &mut self.actors, (&client, ip), &target)?;
        if unanswered {
            return Ok(());
        }
        if portless {
            // No local port is free: connect() returns the error, and the socket stores none.
            self.wires.get(&wire)?.client.socket.local.set_port(0);
            let (facts, actors) = (&mut self.facts, &mut self.actors);
            return self.wires.turn(&wire, facts, actors, Which::Client, TcpState::Close, None);
        }
        if half {
            // The facts of the server's end are lost.
            return self.wires.turn(
                &wire,
                &mut self.facts,
                &mut self.actors,
                Which::Client,
                TcpState::Established,
                None,
            );
        }
        let leg = match (refused, leg_waits) {
            (true, _) => Leg::Refused,
            (false, true) => Leg::Unanswered,
            (false, false) => Leg::Answered,
        };
        self.wires.established(&wire, &mut self.facts, &mut self.actors, &target, leg)
    }

    /// A connection that was there before the monitor: both ends, found by sock_diag. `waits`: the client sent the last bytes
    /// so long before; `answered`: the server did.
    pub(super) fn older(&mut self, words: &mut Words) -> Result<()> {
        let ago = |words: &mut Words, key| words.value(key).map(|text| span(&text)).transpose();
        let (waits, answered) = (ago(words, "waits")?, ago(words, "answered")?);
        let before = |ago: Option<Nanos>| ago.map(|ago| self.facts.now.minus(ago));
        let requested = before(waits.or(answered.map(|ago| Nanos(ago.0 + LATENCY.0))));
        let times = [(requested, before(answered)), (before(answered), requested)];
        let ((client, ip), target, wire) = self.target(words)?;
        let both = self.wires.older(&wire, &mut self.actors, (&client, ip), &target)?;
        for ((socket, actor), (last_sent, last_received)) in both.into_iter().zip(times) {
            let task = Some(self.actors.task(&actor, false)?);
            let state = TcpState::Established;
            self.facts.own(Fact::SocketSeen(SocketSeen { socket, state, task, last_sent, last_received }));
        }
        Ok(())
    }

    /// A FIN arrives at an endpoint whose peer was not seen.
    pub(super) fn fin(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        self.wires.turn(&wire, &mut self.facts, &mut self.actors, side, TcpState::CloseWait, None)
    }

    pub(super) fn refused(&mut self, words: &mut Words) -> Result<()> {
        let ((client, ip), target, wire) = self.target(words)?;
        self.wires.connecting(&wire, &mut self.facts, &mut self.actors, (&client, ip), &target)?;
        if words.flag("filtered") {
            // A packet filter rejects it before the kernel's TCP, which emits nothing.
            return self.wires.reset_arrives(&wire, &mut self.facts, &mut self.actors, Which::Client);
        }
        let netns = if target.via.is_some() && !target.translated { HOST_NETNS } else { target.netns };
        self.wires.reset_syn(&wire, &mut self.facts, &mut self.actors, Which::Client, netns)
    }

    /// A connect ends unanswered: by the client's timeout, or by the kernel's with an error.
    pub(super) fn abandon(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        if words.flag("dying") {
            let actor = self.wires.get(&wire)?.client.actor.clone();
            let task = self.actors.task(&actor, true)?;
            return self.wires.turn_as(&wire, &mut self.facts, Which::Client, TcpState::Close, None, task);
        }
        let errno = words.maybe();
        let socket = self.wires.get(&wire)?.client.socket;
        let (facts, actors) = (&mut self.facts, &mut self.actors);
        self.wires.turn(&wire, facts, actors, Which::Client, TcpState::Close, errno.as_deref())?;
        if let Some(errno) = errno {
            self.facts.kernel(Fact::SocketError(SocketError { socket, state: TcpState::Close, errno }));
        }
        Ok(())
    }

    pub(super) fn say(&mut self, wire: &str, from: Which, what: &[HttpWhat]) -> Result<()> {
        self.wires.send(wire, &mut self.facts, &mut self.actors, from, what, Met::Reader)
    }

    pub(super) fn send(&mut self, words: &mut Words, from: Which, what: &[HttpWhat]) -> Result<()> {
        let wire = words.next("the connection")?;
        self.say(&wire, from, what)
    }

    /// `partial`: its end is missing; `unread`: the server has not read it.
    pub(super) fn request(&mut self, words: &mut Words) -> Result<()> {
        let (partial, unread, opaque) = (words.flag("partial"), words.flag("unread"), words.flag("opaque"));
        let wire = words.next("the connection")?;
        let what: &[HttpWhat] = match (opaque, partial) {
            (true, _) => &[HttpWhat::Opaque],
            (false, true) => &[HttpWhat::RequestBegun],
            (false, false) => &[HttpWhat::RequestBegun, HttpWhat::RequestComplete],
        };
        let met = if unread { Met::Socket } else { Met::Reader };
        self.wires.send(&wire, &mut self.facts, &mut self.actors, Which::Client, what, met)?;
        if unread && let Ok(end) = self.wires.get(&wire)?.end(Which::Server) {
            end.unread = 65_536;
        }
        Ok(())
    }

    /// `STATUS [length=N|chunked|until-close] [close] [done] [lost]`, without a body by default; `begun`: half a header; `lost`: it
    /// does not arrive.
    pub(super) fn response(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        if words.flag("begun") {
            return self.say(&wire, Which::Server, &[HttpWhat::ResponseBegun]);
        }
        if words.flag("opaque") {
            return self.say(&wire, Which::Server, &[HttpWhat::Opaque]);
        }
        let status = words.next("the status")?.parse()?;
        let length = words.number("length")?;
        let (chunked, until_close) = (words.flag("chunked"), words.flag("until-close"));
        let body = match (length, chunked, until_close) {
            (Some(bytes), false, false) => BodyFraming::Length { bytes },
            (None, true, false) => BodyFraming::Chunked,
            (None, false, true) => BodyFraming::UntilClose,
            (None, false, false) => BodyFraming::Empty,
            _ => bail!("one framing is enough"),
        };
        let (close, lost) = (words.flag("close"), words.flag("lost"));
        let mut what = vec![HttpWhat::ResponseBegun, HttpWhat::ResponseHeaders { status, body, close }];
        if words.flag("done") && body != BodyFraming::Empty {
            what.push(HttpWhat::ResponseComplete);
        }
        let met = if lost { Met::Nothing } else { Met::Reader };
        self.wires.send(&wire, &mut self.facts, &mut self.actors, Which::Server, &what, met)
    }

    pub(super) fn bytes(&mut self, words: &mut Words) -> Result<()> {
        let from = which(words)?;
        let wire = words.next("the connection")?;
        self.say(&wire, from, &[])
    }

    /// `WIRE client|server|leg|accepted [dying] [rst] [unread=N] [by=PROCESS] [lost] [half]`.
    pub(super) fn close(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        let unread = words.number("unread")?.map(u32::try_from).transpose()?;
        let (dying, reset, lost) = (words.flag("dying"), words.flag("rst"), words.flag("lost"));
        let half = words.flag("half");
        let closing = Closing { by: words.value("by"), dying, reset, unread, lost, half };
        self.wires.close(&wire, &mut self.facts, &mut self.actors, side, &closing)
    }

    /// An RST arrives without a close of the peer: a response to a late packet, or a packet filter's.
    pub(super) fn reset(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        if let Some(errno) = words.maybe() {
            // The kernel's retransmission timeout.
            let socket = self.wires.get(&wire)?.end(side)?.socket;
            self.wires.turn(&wire, &mut self.facts, &mut self.actors, side, TcpState::Close, Some(&errno))?;
            self.facts.kernel(Fact::SocketError(SocketError { socket, state: TcpState::Close, errno }));
            return Ok(());
        }
        self.wires.reset_arrives(&wire, &mut self.facts, &mut self.actors, side)
    }
}

pub(super) fn which(words: &mut Words) -> Result<Which> {
    let sides =
        [("client", Which::Client), ("server", Which::Server), ("accepted", Which::Accepted), ("leg", Which::Leg)];
    sides.into_iter().find(|(word, _)| words.flag(word)).map(|(_, side)| side).context("which end?")
}
