//! The entry of one broken connection or look-up: who, to whom, through what, and what the client's socket got.

use crate::model::event::Task;
use crate::model::ids::ContainerId;
use crate::model::incident::{Affected, ClientError, Hop, Party, Phase};
use crate::model::time::{Stamp, Utc};

use crate::engine::failures::detect::Broken;
use crate::engine::failures::failed_lookup::LostName;
use crate::engine::failures::httpx::{Evidence, client_error};
use crate::engine::failures::retry_policy;
use crate::engine::failures::table::{Break, BreakId, Symptom};
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::engine::world::tcp::proxy::Route;
use crate::model::settings::Policy;

/// `None`: neither end is in a container, or the client entered its container through exec or a health check.
#[must_use]
pub fn of(world: &World, at: Stamp, found: Broken, policy: &Policy) -> Option<Break> {
    let end = world.sockets.get(found.client)?;
    let route = world.route(found.client, at)?;
    let client_container = world.containers.of_socket(&end.socket, end.opened);
    if client_container.is_none() && route.container.is_none() {
        return None;
    }
    let owner = end.owner.as_ref();
    if owner.and_then(|task| world.processes.get(task.pid)).is_some_and(|process| process.entered) {
        return None;
    }
    let error = error_of(end, found, &retry_policy::caller(world, found.client, client_container.as_ref()), policy);
    // Who closes what it never read is known by the closing.
    let server = route.server.and_then(|cookie| world.sockets.get(cookie));
    let answering = server.and_then(|end| end.owner.as_ref().or(end.close.as_ref().map(|close| &close.task)));
    let server = party(world, route.container.as_ref(), route.address, answering);
    let via = route.proxy.as_ref().map(|hop| Hop {
        pid: hop.pid,
        comm: Some("docker-proxy".to_owned()),
        container: None,
        listen: Some(hop.listen.to_string()),
    });
    // A port that refuses and was not seen to close: something is missing.
    let believed = route.container.as_ref().and_then(|id| world.containers.get(id)).is_some_and(|container| {
        let since = container.listening.get(&route.address.port());
        found.symptom == Symptom::Refused && since.is_some_and(|since| *since <= at)
    });
    let peer = world.sockets.peer(found.client);
    Some(Break {
        id: BreakId(0),
        symptom: found.symptom,
        client_container: client_container.clone(),
        client_pid: owner.map(|task| task.pid),
        begun: end.http.begun_at.unwrap_or(end.opened),
        entry: Affected {
            at: Utc(at),
            client: party(world, client_container.as_ref(), end.socket.local, owner),
            server,
            via,
            client_error: error,
        },
        route,
        name: None,
        root: None,
        met: None,
        case: None,
        left: None,
        seen: world.now,
        opaque: found.opaque,
        doubtful: believed || end.http.doubtful || peer.is_some_and(|peer| peer.http.doubtful),
        several_roots: false,
        lossy: end.lossy,
        log: Vec::new(),
    })
}

/// The entry of a look-up. Its server is the container that last had the name, at no address.
#[must_use]
pub fn of_look_up(world: &World, lost: &LostName, policy: &Policy) -> Option<Break> {
    let lookup = world.lookups.get(lost.lookup)?;
    let holder = lost.holder.as_ref().and_then(|id| world.containers.get(id));
    let errno = Some(lookup.errno().to_owned());
    let evidence = Evidence { symptom: lost.symptom, phase: Phase::Resolving, head: false, errno };
    let error = client_error(&evidence);
    let retried = retry_policy::retried(policy, &retry_policy::client_name(world, Some(&lost.client)), error.httpx);
    let (local, asked) = (lookup.socket.local, lookup.socket.remote);
    Some(Break {
        id: BreakId(0),
        symptom: lost.symptom,
        client_container: Some(lost.client.clone()),
        client_pid: Some(lookup.task.pid),
        begun: lookup.begun,
        entry: Affected {
            at: Utc(lookup.decided),
            client: party(world, Some(&lost.client), local, Some(&lookup.task)),
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
        },
        route: Route {
            client: lookup.socket.cookie,
            server: None,
            proxy: None,
            container: lost.holder.clone(),
            address: asked,
        },
        name: Some(lost.name.clone()),
        root: None,
        met: None,
        case: None,
        left: None,
        seen: world.now,
        opaque: false,
        doubtful: lookup.doubtful,
        several_roots: false,
        lossy: lookup.doubtful,
        log: Vec::new(),
    })
}

/// What the client's socket got, and whether the client called `name` retries it.
pub fn error_of(end: &Endpoint, found: Broken, name: &str, policy: &Policy) -> ClientError {
    let evidence = Evidence { symptom: found.symptom, phase: found.phase, head: found.head, errno: end.errno.clone() };
    let error = client_error(&evidence);
    ClientError { retried: retry_policy::retried(policy, name, error.httpx), ..error }
}

fn party(world: &World, container: Option<&ContainerId>, address: std::net::SocketAddr, task: Option<&Task>) -> Party {
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
