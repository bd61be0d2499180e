//! Statements about packets that do not arrive: dropped, rejected by ICMP, retransmitted, refused by a full accept queue.

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{
    AcceptQueueCounts, AcceptQueueFull, Fact, Handshake, Hook, IcmpSent, PacketDropped, Retransmitted, Socket,
    TcpState, Unreachable,
};
use gaia_monitor::model::ids::NetnsId;
use gaia_monitor::model::time::Nanos;

use super::actors::{Actors, HOST_NETNS};
use super::script::Script;
use super::traffic::which;
use super::wires::Which;
use super::words::Words;

/// How often the kernel's counters are read.
const COUNTED_EVERY: Nanos = Nanos::from_secs(1);

impl Script {
    /// `drop C client|server|leg [in=CONTAINER|host] [hook=…] [reason=…] [syn|bare]`: a packet that this end sent. With
    /// payload it stays unacknowledged, until `passed C client|server`.
    pub(super) fn drop_packet(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        let (syn, bare) = (words.flag("syn"), words.flag("bare"));
        let netns = self.place(&wire, words)?;
        let reason = words.value("reason").unwrap_or_else(|| "NETFILTER_DROP".to_owned());
        let hook = match words.value("hook") {
            Some(name) => serde_json::from_value(name.into())?,
            None => Hook::Input,
        };
        let (source, destination) = self.ends(&wire, side)?;
        let payload = if syn || bare { 0 } else { 100 };
        if payload > 0 {
            self.wires.get(&wire)?.end(side)?.unacknowledged = payload;
        }
        let dropped = PacketDropped { netns, source, destination, reason, hook, seq: 1, syn, payload };
        self.facts.kernel(Fact::PacketDropped(dropped));
        Ok(())
    }

    /// `passed C client|server`: what it sent has arrived; `stuck`: it is never acknowledged.
    pub(super) fn pass(&mut self, words: &mut Words, stuck: bool) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        self.wires.get(&wire)?.end(side)?.unacknowledged = if stuck { 100 } else { 0 };
        Ok(())
    }

    /// `icmp C client|server [in=…] [code=port]`: a packet of this endpoint is rejected with an ICMP error.
    pub(super) fn icmp(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        let netns = self.place(&wire, words)?;
        let code = match words.value("code") {
            Some(name) => serde_json::from_value(name.into())?,
            None => Unreachable::Port,
        };
        let (source, destination) = self.ends(&wire, side)?;
        self.facts.kernel(Fact::IcmpSent(IcmpSent { netns, source, destination, code }));
        Ok(())
    }

    pub(super) fn retransmit(&mut self, words: &mut Words) -> Result<()> {
        let wire = words.next("the connection")?;
        let side = which(words)?;
        let now = self.facts.now;
        let end = self.wires.get(&wire)?.end(side)?;
        if end.state != TcpState::SynSent {
            end.sent = Some(now);
        }
        let fact = Retransmitted { socket: end.socket, state: end.state };
        self.facts.kernel(Fact::Retransmitted(fact));
        Ok(())
    }

    /// `overflow C [leg]`: its handshake met a full queue; `overflow CONTAINER counted N [drops=N]`: the namespace's counters
    /// grew in the second before.
    pub(super) fn overflow(&mut self, words: &mut Words) -> Result<()> {
        if let Some(count) = words.after("counted") {
            let name = words.next("the container")?;
            let netns = self.actors.player(&name)?.info.netns.context("no namespace")?;
            let overflows = count.parse()?;
            let drops = words.value("drops").map_or(Ok(overflows), |drops| drops.parse())?;
            let since = self.facts.now.minus(COUNTED_EVERY);
            self.facts.own(Fact::AcceptQueueCounts(AcceptQueueCounts { netns, since, overflows, drops }));
            return Ok(());
        }
        let side = if words.flag("leg") { Which::Leg } else { Which::Client };
        let wire = words.next("the connection")?;
        let netns = self.place(&wire, words)?;
        let (client, server) = self.ends(&wire, side)?;
        let packet = Handshake { client, server, queued: 2, limit: 1 };
        self.facts.kernel(Fact::AcceptQueueFull(AcceptQueueFull { netns, packet }));
        Ok(())
    }

    /// The namespace that is named, else the server's.
    pub(super) fn place(&mut self, wire: &str, words: &mut Words) -> Result<NetnsId> {
        match words.value("in").as_deref() {
            Some("host") => Ok(HOST_NETNS),
            Some(name) => self.actors.player(name)?.info.netns.context("no namespace"),
            None => {
                let wire = self.wires.get(wire)?;
                let leg = wire.hop.as_ref().map(|hop| hop.1.socket.remote.ip());
                let ip = leg.unwrap_or(wire.client.socket.remote.ip());
                let owns = |actors: &Actors| {
                    actors.players.values().find_map(|player| {
                        let mut own = player.info.networks.iter().flat_map(|network| &network.addresses);
                        own.any(|address| *address == ip).then_some(player.info.netns).flatten()
                    })
                };
                owns(&self.actors).context("in which namespace?")
            }
        }
    }

    /// Source and destination of a packet of this endpoint.
    fn ends(&mut self, wire: &str, side: Which) -> Result<(std::net::SocketAddr, std::net::SocketAddr)> {
        let wire = self.wires.get(wire)?;
        let turned = |socket: Socket| (socket.remote, socket.local);
        match (side, wire.server.as_ref().map(|end| end.socket)) {
            // Before the handshake is over, the server's own end does not exist.
            (Which::Server, None) => Ok(turned(wire.hop.as_ref().map_or(wire.client.socket, |hop| hop.1.socket))),
            (Which::Accepted, _) => bail!("docker-proxy's client is on the host"),
            (side, _) => {
                let socket = wire.end(side)?.socket;
                Ok((socket.local, socket.remote))
            }
        }
    }
}
