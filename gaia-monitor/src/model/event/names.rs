//! Facts of names: what a container asked its resolver and was told, and what the monitor's own look-ups found.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::process::Task;
use super::tcp::Socket;
use crate::model::ids::{ContainerId, Cookie};

/// One question of a process, or the answer to it, at the socket that asked (RFC 1035).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookUp {
    /// The asking socket. Its cookie and ports are those of a UDP socket, or of the TCP one after a truncated answer.
    pub socket: Socket,
    /// Who asked, where the fact ran in its context.
    pub task: Option<Task>,
    /// The message's id.
    pub id: u16,
    /// Lower case, without the final dot.
    pub name: String,
    /// `A`, `AAAA` …
    pub qtype: String,
    pub what: LookUpWhat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookUpWhat {
    Asked,
    Answered(NameAnswer),
}

/// A UDP socket closed with a question unanswered: its process has given the look-up up, or has died.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskerClosed {
    pub cookie: Cookie,
    pub task: Task,
}

/// What a resolver said of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameAnswer {
    /// At least one record of the wanted type.
    Addresses(Vec<IpAddr>),
    /// The name exists, without a record of the wanted type.
    NoData,
    /// NXDOMAIN.
    NoName,
    /// SERVFAIL, REFUSED …, by the name of the code.
    Failed { rcode: String },
    /// No answer in time; only the monitor's own look-ups say so.
    Silent,
}

/// What the monitor's own resolver was told inside a container's network namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NameChecked {
    /// Lower case, without the final dot.
    pub name: String,
    pub observer: ContainerId,
    pub answer: NameAnswer,
}
