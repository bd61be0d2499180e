//! Data of the engine without behaviour.

pub mod cause;
