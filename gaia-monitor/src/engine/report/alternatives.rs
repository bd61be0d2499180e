//! Causes that were weighed, each with the fact that speaks against it.

use crate::engine::incidents::case::Case;
use crate::model::incident::{Alternative, CauseKind, Confidence};

use crate::engine::report::incident::Sheet;
use crate::engine::report::verdict::Verdict;

pub fn of(sheet: &Sheet, case: &Case, verdict: &Verdict) -> Vec<Alternative> {
    let mut weighed = Vec::new();
    let mut against = |kind: CauseKind, sentence: String| weighed.push(Alternative { kind, against: sentence });
    let signal = verdict.signal.as_deref();
    let pid = verdict.pid.map_or_else(|| "its process".to_owned(), |pid| format!("process {pid}"));
    match verdict.kind {
        CauseKind::OomKilled => {
            against(CauseKind::ProcessKilled, format!("the kernel marked {pid} as an OOM victim before its SIGKILL"));
        }
        CauseKind::ProcessCrashed => {
            let name = signal.unwrap_or("the signal");
            against(
                CauseKind::ProcessKilled,
                format!("{name} was raised by {pid} itself or by the kernel for its fault"),
            );
        }
        CauseKind::ProcessKilled | CauseKind::WorkerDied if signal == Some("SIGKILL") => {
            against(CauseKind::OomKilled, format!("the kernel did not mark {pid} as an OOM victim"));
            against(CauseKind::ContainerKilled, "the signal did not come from Docker's runtime".to_owned());
        }
        CauseKind::ProcessExited => {
            against(CauseKind::ProcessKilled, format!("no signal that ends a process reached {pid}"));
        }
        CauseKind::ContainerKilled if signal == Some("SIGKILL") => {
            against(CauseKind::OomKilled, format!("the kernel did not mark {pid} as an OOM victim"));
            against(CauseKind::ContainerStopped, "no stop signal came from Docker before".to_owned());
        }
        CauseKind::ContainerStopped if verdict.confidence != Confidence::Certain => {
            let sentence = "Docker's stop has not been told yet; docker kill with the stop signal looks the same";
            against(CauseKind::ContainerKilled, sentence.to_owned());
        }
        CauseKind::ContainerStopped => {
            against(
                CauseKind::ProcessKilled,
                "the signals came from Docker's runtime, and Docker told the stop".to_owned(),
            );
        }
        CauseKind::NotListening => {
            against(
                CauseKind::ProcessExited,
                "no process that serves had ended since the container's start".to_owned(),
            );
        }
        CauseKind::AppClosed | CauseKind::AppAborted => {
            against(CauseKind::WorkerDied, format!("{pid} was not exiting when it closed the socket"));
            against(CauseKind::KeepaliveRace, "the request had come before the server closed".to_owned());
        }
        CauseKind::DnsGone => match sheet.roots_of(case).next() {
            Some(root) => {
                let name = root.name.as_deref().unwrap_or("another container");
                against(
                    CauseKind::AppClosed,
                    format!("{pid} had failed to look {name} up after the request had come and before it closed"),
                );
            }
            None => {
                against(
                    CauseKind::ContainerStopped,
                    "no container with the name was going down, or down, when it was asked for".to_owned(),
                );
                against(
                    CauseKind::NetworkDisconnected,
                    "Docker had taken neither end off the network that they share".to_owned(),
                );
            }
        },
        CauseKind::KeepaliveRace => {
            against(CauseKind::AppClosed, "the server had answered everything that it had read".to_owned());
            against(CauseKind::WorkerDied, format!("{pid} was not exiting when it closed the socket"));
        }
        CauseKind::BackendUnreachable => {
            against(CauseKind::AppClosed, "the connection never reached a process of the container".to_owned());
        }
        CauseKind::PacketDropped => {
            against(
                CauseKind::ServerSlow,
                "packets of the connection were dropped, and none got through after".to_owned(),
            );
        }
        CauseKind::PacketRejected => {
            against(CauseKind::NotListening, "the kernel sent no reset for a closed port".to_owned());
            against(CauseKind::AppAborted, "no socket had sent the reset".to_owned());
        }
        CauseKind::BacklogOverflow => {
            against(CauseKind::PacketDropped, "the packets reached the listener".to_owned());
        }
        CauseKind::ServerSlow => {
            against(CauseKind::ContainerPaused, "neither Docker nor a signal had stopped it meanwhile".to_owned());
            against(CauseKind::ClientCancelled, "the client had waited in silence for at least 500 ms".to_owned());
        }
        CauseKind::NetworkDisconnected => {
            against(CauseKind::ServerSlow, "no packet could reach it any more".to_owned());
            against(CauseKind::LinkDown, "Docker told the disconnect".to_owned());
        }
        CauseKind::LinkDown => {
            against(CauseKind::ServerSlow, "no packet could reach it any more".to_owned());
            against(CauseKind::NetworkDisconnected, "Docker told no disconnect".to_owned());
        }
        CauseKind::Unknown => {
            let broken = sheet.breaks_of(case).next();
            if broken.is_some_and(|found| found.route.server.is_none()) {
                against(CauseKind::AppClosed, "the server's end of the connection was not seen to close".to_owned());
            }
        }
        CauseKind::ProcessKilled
        | CauseKind::WorkerDied
        | CauseKind::ContainerKilled
        | CauseKind::ContainerPaused
        | CauseKind::ClientCancelled
        | CauseKind::ProtocolError => {}
    }
    weighed
}
