//! A failure with its `affected` entry: client, server, proxy and client-side error.

use std::net::SocketAddr;

use crate::engine::failures::detect::Detected;
use crate::engine::failures::failed_lookup::FailedLookup;
use crate::engine::failures::httpx::{SocketEvidence, client_error};
use crate::engine::failures::retry_policy;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::ids::FailureId;
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::engine::world::tcp::http_state::request_begun;
use crate::engine::world::tcp::proxy::Route;
use crate::model::event::Task;
use crate::model::ids::ContainerId;
use crate::model::incident::{Affected, ClientError, Confidence, Hop, Party, Phase};
use crate::model::policy::Policy;
use crate::model::time::{Stamp, Utc};

/// `None`: neither endpoint is in a container, or the client entered its container through exec or a health check.
#[must_use]
pub fn connection(world: &World, at: Stamp, found: Detected, policy: &Policy) -> Option<Failure> {
    let endpoint = world.sockets.get(found.client)?;
    let route = world.route(found.client, at)?;
    let client_container = world.containers.of_socket(&endpoint.socket, endpoint.opened);
    if client_container.is_none() && route.container.is_none() {
        return None;
    }
    let owner = endpoint.owner.as_ref();
    let entered = owner.and_then(|task| world.processes.get(task.pid)).is_some_and(|process| process.entered);
    if entered || world.is_outsider(&endpoint.socket, owner, endpoint.opened) {
        return None;
    }
    let label = retry_policy::client_label(world, found.client, client_container.as_ref());
    let server_label = retry_policy::service_label(world, route.container.as_ref());
    let client_error = socket_error(endpoint, found, (&label, &server_label), policy);
    // A process that closes what it never read is known by its close.
    let server = route.server.and_then(|cookie| world.sockets.get(cookie));
    let serving =
        server.and_then(|endpoint| endpoint.owner.as_ref().or(endpoint.close.as_ref().map(|close| &close.task)));
    let server = party(world, route.container.as_ref(), route.address, serving);
    let via = route.proxy.as_ref().map(|proxy| Hop {
        pid: proxy.pid,
        comm: Some("docker-proxy".to_owned()),
        container: None,
        listen: Some(proxy.listen.to_string()),
    });
    // A port that refuses and was not observed to close: an event is missing.
    let still_listed = route.container.as_ref().and_then(|id| world.containers.get(id)).is_some_and(|container| {
        let port = route.address.port();
        let since = container.listening.get(&port).filter(|_| container.loopback_listener(port).is_none());
        found.symptom == Symptom::Refused && since.is_some_and(|since| *since <= at)
    });
    let peer = world.sockets.peer(found.client);
    Some(Failure {
        symptom: found.symptom,
        client_container: client_container.clone(),
        client_pid: owner.map(|task| task.pid),
        begun: request_begun(endpoint).unwrap_or(endpoint.opened),
        name: None,
        opaque: found.opaque,
        maybe_idle: found.maybe_idle,
        uncertain: still_listed || endpoint.http.doubtful || peer.is_some_and(|peer| peer.http.doubtful),
        lossy: endpoint.lossy,
        ..unattributed(
            world,
            Affected {
                at: Utc(at),
                begun_at: request_begun(endpoint).map(Utc),
                client: party(world, client_container.as_ref(), endpoint.socket.local, owner),
                server,
                via,
                client_error,
                confidence: Confidence::Certain,
            },
            route,
        )
    })
}

/// The server of a failed lookup is the container that last had the name, without an address.
#[must_use]
pub fn lookup(world: &World, failed: &FailedLookup, policy: &Policy) -> Option<Failure> {
    let lookup = world.lookups.get(failed.lookup)?;
    let holder = failed.holder.as_ref().and_then(|id| world.containers.get(id));
    let errno = Some(lookup.errno().to_owned());
    let error = client_error(&SocketEvidence {
        symptom: failed.symptom,
        phase: Phase::Resolving,
        headers_complete: false,
        errno,
    });
    let label = retry_policy::service_label(world, Some(&failed.client));
    let server = retry_policy::service_label(world, failed.holder.as_ref());
    let retried = policy.retries(&label, &server, error.httpx);
    let (local, remote) = (lookup.socket.local, lookup.socket.remote);
    let route = Route {
        client: lookup.socket.cookie,
        server: None,
        proxy: None,
        container: failed.holder.clone(),
        address: remote,
    };
    let entry = Affected {
        at: Utc(lookup.decided),
        begun_at: None,
        client: party(world, Some(&failed.client), local, Some(&lookup.task)),
        server: Party {
            container: holder.map(|holder| holder.info.name.clone()),
            service: holder.and_then(|holder| holder.info.service.clone()),
            ip: None,
            port: None,
            pid: None,
            comm: None,
        },
        via: None,
        client_error: ClientError { retried, ..error },
        confidence: Confidence::Certain,
    };
    Some(Failure {
        symptom: failed.symptom,
        client_container: Some(failed.client.clone()),
        client_pid: Some(lookup.task.pid),
        begun: lookup.begun,
        name: Some(failed.name.clone()),
        uncertain: lookup.doubtful,
        lossy: lookup.doubtful,
        ..unattributed(world, entry, route)
    })
}

/// What the client's socket received, and whether the policy of this client for this server retries it, by their labels.
pub fn socket_error(endpoint: &Endpoint, found: Detected, of: (&str, &str), policy: &Policy) -> ClientError {
    let error = client_error(&SocketEvidence {
        symptom: found.symptom,
        phase: found.phase,
        headers_complete: found.headers_complete,
        errno: endpoint.errno.clone(),
    });
    ClientError { retried: policy.retries(of.0, of.1, error.httpx), ..error }
}

/// A failure that has just been detected; the caller fills in the rest.
fn unattributed(world: &World, entry: Affected, route: Route) -> Failure {
    Failure {
        id: FailureId(0),
        symptom: Symptom::Fin,
        route,
        client_container: None,
        client_pid: None,
        begun: world.now,
        entry,
        name: None,
        evidence: Evidence::None,
        case: None,
        counted: None,
        previous_case: None,
        seen: world.now,
        opaque: false,
        maybe_idle: false,
        uncertain: false,
        lossy: false,
        foreign: false,
        log: Vec::new(),
    }
}

pub fn party(world: &World, container: Option<&ContainerId>, address: SocketAddr, task: Option<&Task>) -> Party {
    let container = container.and_then(|id| world.containers.get(id));
    let pid = task.map(|task| task.pid);
    // A process may have renamed itself since it opened the socket.
    let comm = pid.and_then(|pid| world.processes.get(pid)).map(|process| process.comm.clone());
    Party {
        container: container.map(|container| container.info.name.clone()),
        service: container.and_then(|container| container.info.service.clone()),
        ip: Some(address.ip()),
        port: Some(address.port()),
        pid,
        comm: comm.or_else(|| task.map(|task| task.comm.clone())),
    }
}
