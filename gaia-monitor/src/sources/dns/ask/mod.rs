//! One question to Docker's embedded name server, asked inside a container's network namespace.
//!
//! What is wanted is what the name server says now, once. hickory-resolver 0.26 asks, with a resolver for each look-up,
//! so that nothing is remembered, and with its own zeal off: `attempts` are those after the first; [`Once`] replaces its
//! own way to a name server, which repeats a question every third of a second; [`Verbatim`] keeps it from asking on
//! where an answer was cut or is an alias. What cannot be turned off are the names that it answers by itself (RFC 6761):
//! `plan` leaves them out. The socket comes from the broker, is used for one question, and holds the namespace no longer
//! than that.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::Map;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsExchange, DnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{ConnectionProvider, PoolContext, Resolver};
use tokio::net::{TcpStream, UdpSocket};

use crate::model::event::NameAnswer;
use crate::sources::netns::{Broker, SocketKind};
use crate::sources::procfs;
use crate::wire::dns::answer;

use super::plan::Place;

/// Docker's embedded name server, in the namespace of every container on a network of the user's own.
const EMBEDDED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
/// A name that is gone is forwarded upstream; a container's own resolver waits five seconds there.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a question brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{name} cannot be asked for")]
    Name { name: String },
    #[error("cannot ask inside the container's network namespace")]
    Ask(#[source] NetError),
}

/// Asks for the IPv4 addresses of a name, and where it has none, for its IPv6 ones.
///
/// # Errors
/// When nothing could be asked: the container has gone, or this is no name. Silence is an answer.
pub async fn ask(broker: &Broker, place: Place, name: &str) -> Result<NameAnswer, AskError> {
    let (broker, Place { pid, netns }) = (broker.clone(), place);
    let open = move || broker.socket_in(netns, &procfs::netns_path(pid), SocketKind::UDP);
    look_up(Inside { open: Arc::new(open), handle: TokioHandle::default() }, EMBEDDED, name).await
}

async fn look_up(inside: Inside, server: SocketAddr, name: &str) -> Result<NameAnswer, AskError> {
    // With the final dot: no search domain is tried.
    let fqdn = Name::from_ascii(format!("{name}.")).map_err(|_| AskError::Name { name: name.to_owned() })?;
    let resolver = resolver(inside, server).map_err(AskError::Ask)?;
    match question(&resolver, fqdn.clone(), RecordType::A).await? {
        NameAnswer::NoData => question(&resolver, fqdn, RecordType::AAAA).await,
        other => Ok(other),
    }
}

fn resolver(inside: Inside, server: SocketAddr) -> Result<Resolver<Once>, NetError> {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let mut config = NameServerConfig::udp(server.ip());
    config.connections = vec![connection];
    let mut builder = Resolver::builder_with_config(ResolverConfig::from_name_servers(vec![config]), Once(inside));
    let options = builder.options_mut();
    options.ndots = 0;
    options.timeout = PATIENCE;
    options.attempts = 0;
    options.edns0 = false;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;
    builder.build()
}

async fn question(resolver: &Resolver<Once>, name: Name, kind: RecordType) -> Result<NameAnswer, AskError> {
    match resolver.lookup(name, kind).await {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = found.answers().iter().filter_map(address).collect();
            // Their order is shuffled with every answer.
            addresses.sort();
            addresses.dedup();
            Ok(answer(found.message().response_code, addresses))
        }
        Err(NetError::Timeout) => Ok(NameAnswer::Silent),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Ok(answer(code, Vec::new())),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Ok(answer(none.response_code, Vec::new())),
        Err(error) => Err(AskError::Ask(error)),
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        // A CNAME on the way to them.
        _ => None,
    }
}

/// A way to a name server that sends a question once.
#[derive(Clone)]
struct Once(Inside);

impl ConnectionProvider for Once {
    type Conn = Verbatim;
    type FutureConn = Ready<Result<Verbatim, NetError>>;
    type RuntimeProvider = Inside;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        cx: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let stream = UdpClientStream::builder(SocketAddr::new(ip, config.port), self.0.clone());
        // "Retries" count the first one. The port is the system's choice, as a container's own resolver has it.
        let stream = stream.with_timeout(Some(cx.options.timeout)).with_max_retries(1).with_os_port_selection(true);
        Ok(ready(Ok(Verbatim(stream.exchange()))))
    }

    fn runtime_provider(&self) -> &Inside {
        &self.0
    }
}

/// A name server whose answers are final.
#[derive(Clone)]
struct Verbatim(DnsExchange<Inside>);

type Answer = Result<DnsResponse, NetError>;

impl DnsHandle for Verbatim {
    type Response = Map<<DnsExchange<Inside> as DnsHandle>::Response, fn(Answer) -> Answer>;
    type Runtime = Inside;

    fn send(&self, request: DnsRequest) -> Self::Response {
        self.0.send(request).map(|answer| answer.map(last_word))
    }
}

/// An answer that the resolver does not try to better: it would ask by TCP for one that was cut, and throw away what it
/// says, and ask for the target of an alias that has no address.
fn last_word(mut response: DnsResponse) -> DnsResponse {
    let wanted = response.queries.first().map(|query| query.query_type);
    if response.answers.iter().any(|record| Some(record.record_type()) == wanted) {
        response.metadata.truncation = false;
    } else {
        response.answers.clear();
    }
    response
}

/// Sockets inside one namespace.
#[derive(Clone)]
struct Inside {
    open: Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>,
    handle: TokioHandle,
}

impl Inside {
    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::from((self.open)()?);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

impl RuntimeProvider for Inside {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.handle.clone()
    }

    /// Addresses of containers fit a datagram.
    fn connect_tcp(
        &self,
        _server: SocketAddr,
        _bind: Option<SocketAddr>,
        _timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        Box::pin(ready(Err(io::ErrorKind::Unsupported.into())))
    }

    /// The kernel binds it when it sends.
    fn bind_udp(
        &self,
        _local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        Box::pin(ready(self.socket()))
    }
}

#[cfg(test)]
mod tests;
