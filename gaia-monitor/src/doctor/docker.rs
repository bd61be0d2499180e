//! Does Docker answer, and what is it?

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::exit::chain;
use crate::sources::docker::connect;
use crate::sources::ebpf::{Check, Outcome};

/// A daemon that takes longer is in no state to be watched.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn reachable(host: Option<&str>) -> Check {
    const NAME: &str = "docker";
    let fail = |detail: String| Check {
        name: NAME,
        outcome: Outcome::Fail,
        detail,
        fix: "start Docker (systemctl start docker), or name its address with --docker-host or DOCKER_HOST".to_owned(),
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("cannot be asked: {error}")),
    };
    let answer = runtime.block_on(async {
        timeout(PATIENCE, async {
            let docker = connect(host).await.map_err(|error| chain(&error))?;
            docker.version().await.map_err(|error| format!("it does not tell its version: {error}"))
        })
        .await
    });
    match answer {
        Ok(Ok(version)) => {
            let part = |part: Option<String>| part.unwrap_or_else(|| "?".to_owned());
            let detail = format!("Engine {}, API {}", part(version.version), part(version.api_version));
            Check { name: NAME, outcome: Outcome::Ok, detail, fix: String::new() }
        }
        Ok(Err(error)) => fail(error),
        Err(_) => fail(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
