//! Record and replay: a recording is exactly the engine's input, one `Event` a line.
//!
//! Same recording and same version, same bytes out; nothing in here looks at what an event means.

mod compression;
pub mod format;
pub mod play;
pub mod reader;
pub mod writer;
