//! The records that the probe sends to user space.
#![no_std]
