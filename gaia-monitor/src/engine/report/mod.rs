//! The incident line: what a case amounts to, written out. Everything is read again from the world for each revision, so
//! that a revision contains what is known now and nothing of an earlier one remains.

/// The path of a core file.
mod core_file;
/// One revision.
pub mod incident;
/// Log lines, memory and core file of the subject.
pub mod log_lines;
/// How names resolved.
mod name_history;
/// Packets that were dropped, rejected or retransmitted.
pub mod packets;
/// What happened around the moment, by time.
pub mod timeline;
