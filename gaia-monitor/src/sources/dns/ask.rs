//! One question to Docker's embedded name server, asked inside a container's network namespace.
//!
//! hickory's UDP client is used without the resolver above it: that one retries, caches and answers some names by itself,
//! and what is wanted here is what the name server says now, once. The socket comes from the broker, is used for one
//! question, and holds the namespace no longer than that.

use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_net::NetError;
use hickory_net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsRequestSender as _, FirstAnswer as _};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_proto::rr::{Name, RData, RecordType};
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
    // With the final dot: no search domain is tried.
    let fqdn = Name::from_ascii(format!("{name}.")).map_err(|_| AskError::Name { name: name.to_owned() })?;
    let provider = Inside { broker: broker.clone(), place, handle: TokioHandle::default() };
    match question(&provider, fqdn.clone(), RecordType::A).await? {
        NameAnswer::NoData => question(&provider, fqdn, RecordType::AAAA).await,
        other => Ok(other),
    }
}

async fn question(provider: &Inside, name: Name, kind: RecordType) -> Result<NameAnswer, AskError> {
    let stream = UdpClientStream::builder(EMBEDDED, provider.clone());
    // One datagram; the port is the system's choice, as a container's own resolver has it.
    let mut stream = stream.with_timeout(Some(PATIENCE)).with_max_retries(1).with_os_port_selection(true).build();
    let mut options = DnsRequestOptions::default();
    options.use_edns = false;
    let request = DnsRequest::from_query(Query::query(name, kind), options);
    match stream.send_message(request).first_answer().await {
        Ok(response) => Ok(read(&response)),
        Err(NetError::Timeout) => Ok(NameAnswer::Silent),
        Err(error) => Err(AskError::Ask(error)),
    }
}

fn read(response: &DnsResponse) -> NameAnswer {
    let mut addresses: Vec<IpAddr> = response
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            // A CNAME on the way to them.
            _ => None,
        })
        .collect();
    // Their order is shuffled with every answer.
    addresses.sort();
    addresses.dedup();
    answer(response.response_code, addresses)
}

/// Sockets inside one namespace.
#[derive(Clone)]
struct Inside {
    broker: Broker,
    place: Place,
    handle: TokioHandle,
}

impl Inside {
    fn socket(&self) -> io::Result<UdpSocket> {
        let Place { pid, netns } = self.place;
        let socket = self.broker.socket_in(netns, &procfs::netns_path(pid), SocketKind::UDP)?;
        let socket = std::net::UdpSocket::from(socket);
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
