//! Clients that still wait for a response of a subject: while one does, its incident does not settle.

use crate::engine::context::Context;
use crate::engine::types::cause::LookupTarget;
use crate::engine::world::tcp::endpoint::{Endpoint, Side};
use crate::engine::world::tcp::http_state::{Progress, progress};
use crate::model::ids::ContainerId;

/// A SYN, a lookup or a request waits on this container.
pub fn waits_on(ctx: Context, subject: &ContainerId) -> bool {
    resolves(ctx, &LookupTarget::Container(subject.clone()))
        || waiting_clients(ctx).any(|endpoint| {
            let route = ctx.world.route(endpoint.socket.cookie, endpoint.opened);
            route.and_then(|route| route.container).as_ref() == Some(subject)
        })
}

/// A lookup of this target waits for its response.
pub fn resolves(ctx: Context, target: &LookupTarget) -> bool {
    ctx.world.lookups.open().any(|lookup| match target {
        LookupTarget::Container(id) => {
            let client = ctx.world.containers.of_socket(&lookup.socket, lookup.begun);
            client.is_some_and(|client| ctx.world.names.can_mean(&client, lookup.name(), id))
        }
        LookupTarget::Name(name) => lookup.name() == name,
    })
}

/// Clients with an unanswered SYN or an outstanding response.
pub fn waiting_clients<'a>(ctx: Context<'a>) -> impl Iterator<Item = &'a Endpoint> {
    let open = ctx.world.sockets.open().filter(|endpoint| endpoint.side == Side::Client && !endpoint.is_over());
    open.filter(move |endpoint| {
        let connecting = endpoint.established.is_none();
        let state = progress(endpoint, ctx.world.sockets.peer(endpoint.socket.cookie));
        let outstanding = matches!(state, Progress::Outstanding { .. });
        (connecting || outstanding) && ctx.failures.of_client(endpoint.socket.cookie).is_none()
    })
}
