//! Responses of a live server that are not HTTP.

use crate::client::Request;
use crate::expect::{Expected, MALFORMED, Moment};
use crate::gaia::{Gaia, by_gaps};
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use anyhow::Result;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("no-http", "bytes that are not HTTP are a protocol error", garbage("/garbage", HEAD)),
        live_case(
            "no-http-then-close",
            "the same when the server closes immediately",
            garbage("/garbage?seconds=0", HEAD),
        ),
        live_case(
            "tls-to-plain-http",
            "a TLS server's response to plain HTTP is a protocol error",
            garbage("/tls-alert", HEAD),
        ),
        live_case("bad-status", "a status line without a number is a protocol error", garbage("/bad-status", HEAD)),
        live_case("bad-header", "a header line without a colon is a protocol error", garbage("/bad-header", HEAD)),
        live_case("big-header", "a header section above 100 KiB is a protocol error", garbage("/big-header", HEAD)),
        live_case("bad-chunk", "a chunk without a size is a protocol error", garbage("/bad-chunk", "receiving_body")),
    ]
}

const HEAD: &str = "awaiting_response";

fn garbage(path: &'static str, phase: &'static str) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let gaia = Gaia::begin(stage, |recipe| recipe, &["raw"])?;
        let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url(path))))?;
        let broken = gaia.ended(&request, MALFORMED, phase)?.by_the_candidate()?;
        by_gaps(broken, |first| {
            let moment = Moment::Between { fact: "malformed", from: first.outcome.started, to: first.outcome.at };
            let core = &gaia.core;
            Ok(Expected::living("protocol_error", &core.container, Some(core.pid), moment).role("primary"))
        })
    }
}
