//! TCP connections.

pub mod endpoint;
pub mod http_state;
pub mod proxy;
pub mod remote;
pub mod sockets;
