//! The keep-alive race: the server's idle timeout and the client's next request cross on the wire.

use gaia_monitor::model::incident::{CauseKind, HttpxClass, MomentFact};

use crate::demo::gaia::{CORE, WEB};
use crate::demo::story::{Claim, End, Step, Story};

pub static STORY: Story = Story {
    name: "keepalive",
    about: "the server's idle timeout and the client's next request cross: nobody's fault, and not retried",
    telling: "A client keeps its connection to gaia-core for the next request, and sends it when gaia-core's idle timeout has just closed the connection. \"Server disconnected\", says the client. A crash?",
    weak: &[],
    steps: &[Step::AskTwice { path: "process_packet" }, Step::AwaitAnswer],
    claim: Claim {
        subject: CORE,
        kind: CauseKind::KeepaliveRace,
        end: End::Lives,
        moment: MomentFact::ServerClose,
        client: WEB,
        error: HttpxClass::ReadError,
        raised: Some("ConnectionError"),
        retried: false,
        caller_told: "ConnectionError",
    },
    saved: false,
    why: &[
        "gaia-core closed an idle connection before the first byte of the request reached it: it never saw the request.",
        "The request drew a reset. An httpx client would have got ReadError, which is not on the policy's list, though asking again would have been safe: nothing was read.",
    ],
};
