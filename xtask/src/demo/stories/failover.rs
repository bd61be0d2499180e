//! The failover that GAIA's operator tested: the primary is stopped, the candidate gets the call and dies of it.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CANDIDATE, CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story, Weakness};

pub static STORY: Story = Story {
    name: "failover",
    about: "the primary is stopped, and its candidate dies while it works on the call",
    telling: "gaia-core is stopped. gaia-web retries its call after 2 s and 4 s, then asks gaia-core-candidate, which \
              drops the connection while it works on it. What died, when exactly, and why?",
    weak: &[Weakness::Fault(CANDIDATE, "embedding")],
    steps: &[Step::Stop(CORE), Step::Ask { path: "process_packet", bytes: 64 }, Step::AwaitAnswer],
    claim: Claim {
        subject: CANDIDATE,
        kind: CauseKind::ProcessCrashed,
        end: End::Signal("SIGSEGV"),
        moment: MomentFact::ProcessExit,
        client: WEB,
        error: HttpxClass::RemoteProtocolError,
        raised: None,
        retried: true,
        caller_told: "ConnectError",
    },
    saved: false,
    why: &[
        "gaia-core was stopped, and its name left Docker's DNS with it: three attempts, three ConnectErrors.",
        "ConnectError is on the policy's list, so after 2 s and 4 s gaia-web asked the fallback, once.",
        "The candidate died of native code in the middle of its work. RemoteProtocolError is on the list as well, \
         but nothing is left to fail over to.",
        "gaia-web then raised the *primary's* error: its caller was told ConnectError and never heard of the crash. \
         The candidate's error stands in one line of gaia-web's log, and nowhere says what died.",
    ],
};
