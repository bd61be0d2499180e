//! One lookup at Docker's embedded DNS server, made inside a container's network namespace.
//!
//! The lookup must return the server's current response to a single query. hickory-resolver 0.26 is therefore used with a
//! new resolver for each lookup (no cache) and without retries:
//!
//! - `attempts` counts those after the first.
//! - [`SingleAttempt`] replaces hickory's own connection, which repeats a query every third of a second.
//! - [`FinalResponse`] stops further queries when a response is truncated or is an alias.
//!
//! Names that hickory resolves itself (RFC 6761) cannot be turned off; `plan` leaves them out. The socket comes from the
//! broker and serves one query, so it does not keep the namespace alive any longer.

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

use crate::model::event::DnsResponse as NameResponse;
use crate::sources::netns::{Broker, SocketKind};
use crate::sources::procfs;
use crate::wire::dns::answer;

use super::plan::Location;

/// Docker's embedded DNS server, in the namespace of every container on a user-defined network.
const EMBEDDED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
/// Docker forwards a query for a removed name upstream, where a container's own resolver would wait five seconds.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Why a lookup returned no response.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("{name} is not a DNS name")]
    Name { name: String },
    #[error("the DNS query inside the container's network namespace failed")]
    Query(#[source] NetError),
}

/// Queries the IPv4 addresses of a name, and if it has none, the IPv6 addresses.
///
/// # Errors
/// When the query fails: the container has ended, the name is invalid, or the response is empty and truncated. A timeout is
/// a result, not an error.
pub async fn lookup(broker: &Broker, location: Location, name: &str) -> Result<NameResponse, LookupError> {
    let (broker, Location { pid, netns }) = (broker.clone(), location);
    let open = move || broker.socket_in(netns, &procfs::netns_path(pid), SocketKind::UDP);
    resolve(NamespaceSockets { open: Arc::new(open), handle: TokioHandle::default() }, EMBEDDED, name).await
}

async fn resolve(sockets: NamespaceSockets, server: SocketAddr, name: &str) -> Result<NameResponse, LookupError> {
    // The final dot excludes search domains.
    let fqdn = Name::from_ascii(format!("{name}.")).map_err(|_| LookupError::Name { name: name.to_owned() })?;
    let resolver = resolver(sockets, server).map_err(LookupError::Query)?;
    match query(&resolver, fqdn.clone(), RecordType::A).await? {
        NameResponse::NoData => query(&resolver, fqdn, RecordType::AAAA).await,
        other => Ok(other),
    }
}

fn resolver(sockets: NamespaceSockets, server: SocketAddr) -> Result<Resolver<SingleAttempt>, NetError> {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let mut config = NameServerConfig::udp(server.ip());
    config.connections = vec![connection];
    let mut builder =
        Resolver::builder_with_config(ResolverConfig::from_name_servers(vec![config]), SingleAttempt(sockets));
    let options = builder.options_mut();
    options.ndots = 0;
    options.timeout = TIMEOUT;
    options.attempts = 0;
    options.edns0 = false;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;
    builder.build()
}

async fn query(resolver: &Resolver<SingleAttempt>, name: Name, kind: RecordType) -> Result<NameResponse, LookupError> {
    match resolver.lookup(name, kind).await {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = found.answers().iter().filter_map(address).collect();
            // The server shuffles their order.
            addresses.sort();
            addresses.dedup();
            Ok(answer(found.message().response_code, addresses))
        }
        Err(NetError::Timeout) => Ok(NameResponse::Silent),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => Ok(answer(code, Vec::new())),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Ok(answer(none.response_code, Vec::new())),
        Err(error) => Err(LookupError::Query(error)),
    }
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        // A CNAME that leads to them.
        _ => None,
    }
}

/// A connection to the server that sends each query once.
#[derive(Clone)]
struct SingleAttempt(NamespaceSockets);

impl ConnectionProvider for SingleAttempt {
    type Conn = FinalResponse;
    type FutureConn = Ready<Result<FinalResponse, NetError>>;
    type RuntimeProvider = NamespaceSockets;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        cx: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let stream = UdpClientStream::builder(SocketAddr::new(ip, config.port), self.0.clone());
        // "Retries" include the first attempt. The kernel chooses the port, as for a container's own resolver.
        let stream = stream.with_timeout(Some(cx.options.timeout)).with_max_retries(1).with_os_port_selection(true);
        Ok(ready(Ok(FinalResponse(stream.exchange()))))
    }

    fn runtime_provider(&self) -> &NamespaceSockets {
        &self.0
    }
}

/// A connection that makes every response final.
#[derive(Clone)]
struct FinalResponse(DnsExchange<NamespaceSockets>);

type Exchanged = Result<DnsResponse, NetError>;

impl DnsHandle for FinalResponse {
    type Response = Map<<DnsExchange<NamespaceSockets> as DnsHandle>::Response, fn(Exchanged) -> Exchanged>;
    type Runtime = NamespaceSockets;

    fn send(&self, request: DnsRequest) -> Self::Response {
        self.0.send(request).map(|response| response.map(finalize))
    }
}

/// Makes the resolver accept a response as it is. Otherwise it would drop a truncated response and query again by TCP, and
/// query the target of an alias that has no address.
fn finalize(mut response: DnsResponse) -> DnsResponse {
    let wanted = response.queries.first().map(|query| query.query_type);
    if response.answers.iter().any(|record| Some(record.record_type()) == wanted) {
        response.metadata.truncation = false;
    } else {
        response.answers.clear();
    }
    response
}

/// Runtime provider of sockets in one network namespace.
#[derive(Clone)]
struct NamespaceSockets {
    open: Arc<dyn Fn() -> io::Result<OwnedFd> + Send + Sync>,
    handle: TokioHandle,
}

impl NamespaceSockets {
    fn socket(&self) -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::from((self.open)()?);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

impl RuntimeProvider for NamespaceSockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.handle.clone()
    }

    /// Unused: addresses of containers fit into a datagram.
    fn connect_tcp(
        &self,
        _server: SocketAddr,
        _bind: Option<SocketAddr>,
        _timeout: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        Box::pin(ready(Err(io::ErrorKind::Unsupported.into())))
    }

    /// The kernel binds the socket when it sends.
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
