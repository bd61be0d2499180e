//! Record and replay: a recording is exactly the engine's input, one `Event` a line.
//!
//! Same recording and same version, same bytes out; nothing here depends on the meaning of an event.

mod compression;
#[cfg(feature = "live")]
pub mod file;
pub mod format;
pub mod play;
pub mod reader;
pub mod writer;
