//! The incident line.

pub mod alternatives;
pub mod condition;
pub mod core_file;
pub mod incident;
pub mod log_lines;
pub mod name_history;
pub mod packets;
pub mod summary;
pub mod timeline;
pub mod verdict;
