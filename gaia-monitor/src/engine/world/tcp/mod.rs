//! TCP connections of containers, as sockets, routes and HTTP exchanges.

// State of one endpoint.
pub mod endpoint;

// All endpoints, joined to their peers.
pub mod sockets;

// Meaning of each TCP state transition.
mod transitions;

// TCP events of the whole world.
mod events;

// Endpoints on other hosts.
mod remote;

// Route of a connection: direct, or through docker-proxy.
pub mod proxy;

// Progress of the HTTP exchange.
pub mod http_state;
