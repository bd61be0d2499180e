//! Kill during an upload: unread bytes turn the end of the connection into a reset, and the reset into ReadError.

use gaia_monitor::model::incident::{CauseKind, HttpxClass};

use crate::demo::gaia::CORE;
use crate::demo::story::{Claim, End, Step, Story};

pub static STORY: Story = Story {
    name: "upload",
    about: "the server is killed during an upload: ReadError, which the policy does not retry",
    intro: "gaia-web uploads 32 MiB to gaia-core. gaia-core's process is killed from the host, without a Docker request, \
            while bytes are in flight. A healthy candidate is available. Is it called?",
    weak: &[],
    steps: &[
        Step::Post { path: "ingest", bytes: 32 * 1024 * 1024 },
        Step::AwaitLog { service: CORE, needle: "ingested 1 MiB" },
        Step::KillFromHost(CORE),
        Step::AwaitResponse,
    ],
    claim: Claim::not_retried(CauseKind::ProcessKilled, End::Signal("SIGKILL"), HttpxClass::ReadError, "ReadError"),
    why: &[
        "A socket that is closed with unread bytes sends a reset instead of a FIN; the same holds when its process dies.",
        "The reset reached gaia-web while it was still sending, and httpx raised ReadError.",
        "ReadError is *not* on the policy's list: no second attempt, no fallback. The candidate was healthy and was not \
         called.",
    ],
};
