//! Causes.

pub mod attribution;
pub mod deaths;
pub mod exit;
pub mod packet_filter;
