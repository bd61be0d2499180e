//! A failure with the state that decides which row of the decision table applies.

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::world::tcp::endpoint::{Close, Endpoint};
use crate::model::time::Stamp;

/// A row of the decision table: the symptom and, for an established connection, the state of the server's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    NotSent,
    Refused,
    Unanswered,
    Silence,
    ProxyWithoutBackend,
    ServerNotSeen,
    ClosedByDyingTask,
    ClosedByLiveTask,
    NotClosed,
    Malformed,
    Lookup,
    ClientCancelled,
    ClientDied,
}

impl Row {
    /// The first column of the table in `docs/decisions.md`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Row::NotSent => "connect failed before a packet left",
            Row::Refused => "connect refused",
            Row::Unanswered => "unreachable, SYN unanswered",
            Row::Silence => "silence (≥ 500 ms)",
            Row::ProxyWithoutBackend => {
                "FIN, reset or kernel timeout, through docker-proxy without an established backend leg"
            }
            Row::ServerNotSeen => "FIN, reset or kernel timeout, server's endpoint not seen",
            Row::ClosedByDyingTask => "… closed by a dying task",
            Row::ClosedByLiveTask => "… closed by a live task",
            Row::NotClosed => "… not closed at all",
            Row::Malformed => "malformed response",
            Row::Lookup => "lookup refused or unanswered",
            Row::ClientCancelled => "client cancelled",
            Row::ClientDied => "client's process died",
        }
    }
}

/// One failure in its row.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub failure: &'a Failure,
    pub row: Row,
    /// The instant at which the state of the server's container counts.
    pub at: Stamp,
    /// The endpoint of the process that should have responded, if it was observed.
    pub server: Option<&'a Endpoint>,
    /// The close of that endpoint.
    pub close: Option<&'a Close>,
    /// docker-proxy's connection to the container, if it was observed.
    pub backend_leg: Option<&'a Endpoint>,
}

impl<'a> Situation<'a> {
    /// # Errors
    /// The reason why the failure is ignored.
    pub fn of(ctx: Context<'a>, failure: &'a Failure) -> Result<Self, &'static str> {
        let sockets = &ctx.world.sockets;
        let server = failure.route.server.and_then(|cookie| sockets.get(cookie));
        let close = server.and_then(|endpoint| endpoint.close.as_ref());
        let proxy = failure.route.proxy.as_ref();
        let backend_leg = proxy.and_then(|proxy| proxy.backend_leg).and_then(|cookie| sockets.get(cookie));
        let situation = |row, at| Ok(Self { failure, row, at, server, close, backend_leg });
        let at = failure.at();
        match failure.symptom {
            Symptom::Cancelled => return situation(Row::ClientCancelled, at),
            Symptom::ClientDied => return situation(Row::ClientDied, at),
            Symptom::NotSent => return situation(Row::NotSent, at),
            Symptom::Refused => return situation(Row::Refused, at),
            Symptom::Unreachable | Symptom::SynUnanswered => return situation(Row::Unanswered, at),
            Symptom::NameRefused | Symptom::NameUnanswered => return situation(Row::Lookup, at),
            Symptom::Silence => return situation(Row::Silence, at),
            Symptom::Fin | Symptom::Reset | Symptom::ResetAfterFin | Symptom::TimedOut | Symptom::Malformed => {}
        }
        if proxy.is_some() && backend_leg.is_none_or(|leg| leg.established.is_none()) {
            if failure.route.container.is_none() {
                return Err("docker-proxy of an unknown container");
            }
            return situation(Row::ProxyWithoutBackend, backend_leg.map_or(at, |leg| leg.ended.unwrap_or(leg.opened)));
        }
        match (server, close) {
            (None, _) => situation(Row::ServerNotSeen, at),
            (Some(_), _) if failure.symptom == Symptom::Malformed => situation(Row::Malformed, at),
            (Some(_), None) => situation(Row::NotClosed, at),
            (Some(_), Some(close)) if close.task.exiting => {
                if ctx.world.processes.get(close.task.pid).is_some_and(|process| process.entered) {
                    return Err("the server's process had entered its container through exec or a health check");
                }
                situation(Row::ClosedByDyingTask, close.at)
            }
            (Some(_), Some(close)) => situation(Row::ClosedByLiveTask, close.at),
        }
    }
}
