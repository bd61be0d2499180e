//! A server killed while the client still uploads: unread bytes turn its end into a reset, and a reset into ReadError.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story};

pub static STORY: Story = Story {
    name: "upload",
    about: "killed while the client still uploads: ReadError, which the policy does not retry",
    telling: "gaia-web uploads 32 MiB to gaia-core. Somebody kills gaia-core's process from the host, behind Docker's \
              back, while bytes are still on their way. A healthy candidate stands by. Is it asked?",
    weak: &[],
    steps: &[
        Step::Ask { path: "ingest", bytes: 32 * 1024 * 1024 },
        Step::AwaitLog { service: CORE, needle: "ingested 1 MiB" },
        Step::KillFromHost(CORE),
        Step::AwaitAnswer,
    ],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::ProcessKilled,
        end: End::Signal("SIGKILL"),
        moment: MomentFact::ProcessExit,
        client: WEB,
        error: HttpxClass::ReadError,
        raised: None,
        retried: false,
        caller_told: "ReadError",
    },
    saved: false,
    why: &[
        "A socket that is closed with unread bytes sends a reset instead of an orderly end; so does a dying process.",
        "The reset reached gaia-web while it was still sending, and httpx makes ReadError of it all the same.",
        "ReadError is *not* on the policy's list: no second attempt, no fallback. The candidate was healthy and was \
         never asked.",
    ],
};
