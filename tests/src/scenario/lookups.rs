//! Statements about names: DNS queries, DNS responses, and the monitor's own lookups.
//!
//! A lookup has the form that glibc gives it: A and AAAA through one socket, both with ids of their own; after a failure
//! of the resolver, the queries are repeated with the same ids through another socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{DnsContent, DnsMessage, DnsProbe, DnsResponse, DnsSocketClosed, Fact, Socket};
use gaia_monitor::model::ids::Cookie;
use gaia_monitor::model::time::Nanos;

use super::actors::{Actors, HOST_CGROUP, HOST_NETNS};
use super::script::Script;
use super::words::{Words, span};

/// Docker's resolver responds after this time (median).
const ANSWERS_AFTER: Nanos = Nanos(400_000);
const SERVER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TYPES: [&str; 2] = ["A", "AAAA"];

#[derive(Clone, Debug)]
struct Asker {
    socket: Socket,
    /// The process, by its name.
    actor: String,
}

#[derive(Debug, Default)]
pub struct Resolvers {
    askers: BTreeMap<String, Asker>,
    /// The last id of each process's query for a name and type.
    ids: BTreeMap<(String, String, &'static str), u16>,
    next: u16,
    /// Further addresses in the responses of the current statement.
    also: Vec<IpAddr>,
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>> {
    texts.iter().map(|text| text.parse().with_context(|| format!("no address: {text}"))).collect()
}

impl Script {
    /// `lookup CLIENT NAME RESULT[,RESULT] [after=SPAN] [ip=] [search=DOMAIN then=RESULT] [as SOCKET]`: A's result, and
    /// AAAA's where it is another.
    pub(super) fn lookup(&mut self, words: &mut Words) -> Result<()> {
        let socket = words.after("as").unwrap_or_else(|| format!("lookup-{}", self.resolvers.next));
        let after = words.value("after").map_or(Ok(ANSWERS_AFTER), |text| span(&text))?;
        self.resolvers.also = addresses(&words.values("also"))?;
        let search = words.value("search").zip(words.value("then"));
        let ip = words.value("ip").map(|ip| ip.parse()).transpose()?;
        let client = words.next("the client")?;
        let name = words.next("the name")?;
        let result = words.next("the result")?;
        self.whole(&client, &name, &socket, &result, after, ip)?;
        if result.split(',').any(|result| result == "servfail" || result == "refused") {
            // Asked once more, and no better.
            let again = format!("{socket}-again");
            self.ask(&client, &name, &again, &TYPES, true)?;
            self.facts.now = self.facts.now.plus(after);
            self.tell(&name, &again, &result, ip)?;
        }
        if let Some((domain, result)) = search {
            self.whole(&client, &format!("{name}.{domain}"), &format!("{socket}-search"), &result, after, ip)?;
        }
        Ok(())
    }

    fn whole(
        &mut self,
        client: &str,
        name: &str,
        socket: &str,
        result: &str,
        after: Nanos,
        ip: Option<IpAddr>,
    ) -> Result<()> {
        self.ask(client, name, socket, &TYPES, false)?;
        if result == "silent" {
            return Ok(());
        }
        self.facts.now = self.facts.now.plus(after);
        self.tell(name, socket, result, ip)
    }

    /// `dns-query CLIENT NAME SOCKET [A|AAAA] [again]`: queries only.
    pub(super) fn dns_query(&mut self, words: &mut Words) -> Result<()> {
        let again = words.flag("again");
        let client = words.next("the client")?;
        let name = words.next("the name")?;
        let socket = words.next("the socket")?;
        match words.maybe() {
            None => self.ask(&client, &name, &socket, &TYPES, again),
            Some(only) => {
                let only = TYPES.into_iter().find(|known| *known == only).context("A or AAAA")?;
                self.ask(&client, &name, &socket, &[only], again)
            }
        }
    }

    /// `dns-response SOCKET NAME RESULT [A|AAAA] [ip=]`: responses only; of one type if it is named.
    pub(super) fn dns_response(&mut self, words: &mut Words) -> Result<()> {
        self.resolvers.also = addresses(&words.values("also"))?;
        let ip = words.value("ip").map(|ip| ip.parse()).transpose()?;
        let socket = words.next("the socket")?;
        let name = words.next("the name")?;
        let result = words.next("the result")?;
        match words.maybe() {
            None => self.tell(&name, &socket, &result, ip),
            Some(only) => {
                let only = TYPES.into_iter().find(|known| *known == only).context("A or AAAA")?;
                self.answer_for(&name, &socket, only, &result, ip)
            }
        }
    }

    /// `dns-close SOCKET [dying]`: it is closed with a query outstanding.
    pub(super) fn dns_close(&mut self, words: &mut Words) -> Result<()> {
        let dying = words.flag("dying");
        let socket = words.next("the socket")?;
        let asker = self.resolvers.askers.get(&socket).with_context(|| format!("no socket {socket}"))?.clone();
        let task = self.actors.task(&asker.actor, dying)?;
        self.facts.kernel(Fact::DnsSocketClosed(DnsSocketClosed { cookie: asker.socket.cookie, task }));
        Ok(())
    }

    /// `dns-probe OBSERVER NAME RESULT [ip=]`: the monitor's own lookup inside a container's namespace.
    pub(super) fn dns_probe(&mut self, words: &mut Words) -> Result<()> {
        let ip = words.value("ip").map(|ip| ip.parse()).transpose()?;
        let observer = words.next("the observer")?;
        let name = words.next("the name")?;
        let result = words.next("the result")?;
        let answer = self.said(&name, "A", &result, ip)?.unwrap_or(DnsResponse::Silent);
        let observer = self.actors.player(&observer)?.info.id.clone();
        self.facts.own(Fact::DnsProbe(DnsProbe { name, observer, response: answer }));
        Ok(())
    }

    fn ask(&mut self, client: &str, name: &str, socket: &str, types: &[&'static str], again: bool) -> Result<()> {
        let asker = self.asker(client, socket)?;
        for qtype in types {
            let key = (client.to_owned(), name.to_owned(), *qtype);
            let known = self.resolvers.ids.get(&key).copied().filter(|_| again);
            let id = known.unwrap_or_else(|| {
                self.resolvers.next += 1;
                self.resolvers.next
            });
            self.resolvers.ids.insert(key, id);
            let task = Some(self.actors.task(client, false)?);
            let fact = lookup_message(&asker, task, id, name, qtype, DnsContent::Query);
            self.facts.kernel(fact);
        }
        Ok(())
    }

    fn tell(&mut self, name: &str, socket: &str, result: &str, ip: Option<IpAddr>) -> Result<()> {
        let (of_a, of_aaaa) =
            result.split_once(',').unwrap_or((result, if result == "ok" { "nodata" } else { result }));
        let first = self.facts.now;
        self.answer_for(name, socket, "A", of_a, ip)?;
        self.answer_for(name, socket, "AAAA", of_aaaa, ip)?;
        if of_a == "ok" {
            // An address is a result.
            self.facts.marked = Some(first);
        }
        Ok(())
    }

    fn answer_for(
        &mut self,
        name: &str,
        socket: &str,
        qtype: &'static str,
        result: &str,
        ip: Option<IpAddr>,
    ) -> Result<()> {
        let asker = self.resolvers.askers.get(socket).with_context(|| format!("no socket {socket}"))?.clone();
        let Some(answer) = self.said(name, qtype, result, ip)? else { return Ok(()) };
        let key = (asker.actor.clone(), name.to_owned(), qtype);
        let id = *self.resolvers.ids.get(&key).with_context(|| format!("{name} was not asked for"))?;
        // The client has it with the last response.
        self.facts.marked = Some(self.facts.now);
        self.facts.kernel(lookup_message(&asker, None, id, name, qtype, DnsContent::Response(answer)));
        Ok(())
    }

    /// `None`: silence.
    fn said(&self, name: &str, qtype: &str, result: &str, ip: Option<IpAddr>) -> Result<Option<DnsResponse>> {
        Ok(Some(match result {
            "ok" if qtype == "A" || ip.is_some_and(|ip| ip.is_ipv6()) => {
                let address = ip.or_else(|| self.address_of(name)).with_context(|| format!("{name} has no address"))?;
                DnsResponse::Addresses([address].into_iter().chain(self.resolvers.also.iter().copied()).collect())
            }
            "ok" | "nodata" => DnsResponse::NoData,
            "nxdomain" => DnsResponse::NoName,
            "servfail" | "refused" => DnsResponse::Failed { rcode: result.to_uppercase() },
            "silent" => return Ok(None),
            other => bail!("a name server does not say {other}"),
        }))
    }

    fn address_of(&self, name: &str) -> Option<IpAddr> {
        let networks = self.actors.players.values().flat_map(|player| &player.info.networks);
        let mut named = networks.filter(|network| network.aliases.iter().any(|alias| alias == name));
        named.find_map(|network| network.addresses.first().copied())
    }

    fn asker(&mut self, client: &str, name: &str) -> Result<Asker> {
        if let Some(known) = self.resolvers.askers.get(name) {
            return Ok(known.clone());
        }
        let info = self.actors.players.get(Actors::container_of(client)).map(|player| &player.info);
        let number = u16::try_from(self.resolvers.askers.len())?;
        let socket = Socket {
            cookie: Cookie(5_000_000 + u64::from(number)),
            netns: info.and_then(|info| info.netns).unwrap_or(HOST_NETNS),
            cgroup: info.and_then(|info| info.cgroup).unwrap_or(HOST_CGROUP),
            local: SocketAddr::new(LOOPBACK, 50_000 + number),
            remote: SERVER.into(),
        };
        let asker = Asker { socket, actor: client.to_owned() };
        self.resolvers.askers.insert(name.to_owned(), asker.clone());
        Ok(asker)
    }
}

fn lookup_message(
    asker: &Asker,
    task: Option<gaia_monitor::model::event::Task>,
    id: u16,
    name: &str,
    qtype: &str,
    what: DnsContent,
) -> Fact {
    let (name, qtype) = (name.to_owned(), qtype.to_owned());
    Fact::DnsMessage(Box::new(DnsMessage { socket: asker.socket, task, id, name, qtype, what }))
}
