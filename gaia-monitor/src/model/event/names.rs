//! Facts about DNS: queries of containers and their responses, and the results of the monitor's own lookups.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::process::Task;
use super::tcp::Socket;
use crate::model::ids::{ContainerId, Cookie};

/// One DNS query of a process, or the response to it, observed at the client's socket (RFC 1035).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsMessage {
    /// The client's socket: a UDP socket, or the TCP socket that repeats the query after a truncated response.
    pub socket: Socket,
    /// The client's task; `None` of a response, which is not observed in its context.
    pub task: Option<Task>,
    /// The id of the message.
    pub id: u16,
    /// Lower case, without the final dot.
    pub name: String,
    /// `A`, `AAAA` …
    pub qtype: String,
    pub what: DnsContent,
}

/// The kind of a DNS message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsContent {
    /// A query.
    Query,
    /// A response.
    Response(DnsResponse),
}

/// A UDP socket was closed while a query on it was outstanding: its process abandoned the lookup, or died.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsSocketClosed {
    pub cookie: Cookie,
    pub task: Task,
}

/// The result of a DNS query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsResponse {
    /// At least one record of the requested type.
    Addresses(Vec<IpAddr>),
    /// The name exists, but has no record of the requested type.
    NoData,
    /// NXDOMAIN.
    NoName,
    /// Another error (SERVFAIL, REFUSED …), by the name of its response code.
    Failed { rcode: String },
    /// No response in time; only results of the monitor's own lookups have this value.
    Silent,
}

/// The result of the monitor's own lookup, made inside the network namespace of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsProbe {
    /// Lower case, without the final dot.
    pub name: String,
    /// The container in whose network namespace the lookup was made.
    pub observer: ContainerId,
    pub response: DnsResponse,
}
