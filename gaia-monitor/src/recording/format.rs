//! Format of a recording: JSON Lines. A header, then events, and a gap line wherever events are missing. It may be
//! compressed (`compression`).

use serde::{Deserialize, Serialize};

use crate::model::scope;
use crate::model::settings::Settings;
use crate::model::time::{Stamp, Utc};

/// Prefix of every format name; the number follows.
pub const FAMILY: &str = "gaia-monitor.recording/";

/// The format that this version writes and reads.
pub const FORMAT: &str = "gaia-monitor.recording/2";

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format: String,
    /// Version of the recording gaia-monitor.
    pub version: String,
    /// Release of the kernel that it ran on.
    pub kernel: String,
    /// When the recording began.
    pub started_at: Utc,
    /// The anchor of the kernel's clock: the UTC instant of boot time 0, as measured at the start.
    pub booted_at: Utc,
    /// The settings of the engine.
    pub settings: Settings,
    /// Facts that concern only containers outside the scope are left out. Recordings older than this field hold all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
}

impl Header {
    #[must_use]
    pub fn new(kernel: String, started_at: Stamp, booted_at: Stamp, settings: Settings) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            started_at: Utc(started_at),
            booted_at: Utc(booted_at),
            limited: scope::is_limited(&settings.scope),
            settings,
        }
    }
}

/// The part of the first line that every format has.
#[derive(Debug, Deserialize)]
pub struct AnyHeader {
    pub format: String,
    #[serde(default)]
    pub version: Option<String>,
}

/// Events that the recording lost: it could not keep up, or the disk was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapLine {
    pub gap: Gap,
}

/// Distinguishes a gap from an event: the line of an event begins with its number.
pub const GAP_PREFIX: &[u8] = b"{\"gap\":";

/// The stage of the `Lost` event that replaces a gap in a replay.
pub const LOST_STAGE: &str = "recording";
