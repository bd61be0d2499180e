//! A primary that outgrows its memory limit: the kernel kills it in the middle of a request, the candidate answers.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "oom",
    about: "the primary outgrows its memory limit in the middle of a request, the candidate answers",
    telling: "gaia-core has a memory limit of 256 MiB and indexes in memory. The kernel's OOM killer ends it while gaia-web waits. Docker's own flag for that comes late, if at all; what does the kernel say?",
    weak: &[Weakness::Memory(CORE, 256), Weakness::Fault(CORE, "memory")],
    steps: &[Step::Ask { path: "process_packet", bytes: 64 }, Step::AwaitAnswer],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::OomKilled,
        end: End::Signal("SIGKILL"),
        moment: MomentFact::ProcessExit,
        client: WEB,
        error: HttpxClass::RemoteProtocolError,
        raised: None,
        retried: true,
        caller_told: "done",
    },
    saved: true,
    why: &[
        "The kernel's OOM killer chose gaia-core's process: its connection ended in an orderly FIN before any answer, which httpx calls RemoteProtocolError.",
        "That is on the policy's list, so gaia-web tried again: the container was gone by then, and its name with it, ConnectError.",
        "ConnectError is on the policy's list as well. After 2 s and 4 s gaia-web asked the fallback, and the candidate answered.",
    ],
};
