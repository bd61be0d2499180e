//! Retry policies: what a client's own code does when an attempt fails, or gets a certain status.
//!
//! Policies are settings: nothing in a packet shows the code of a client. The profiles are helpers of GAIA as they are
//! written; a configuration assigns them to clients, or to one client's requests to one server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::incident::{ClientError, HttpxClass, Phase};
use crate::model::time::Nanos;

/// What one client does after an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Classes after which it sends the request again, or asks the fallback.
    pub classes: Vec<HttpxClass>,
    /// Statuses of a response after which it sends the request again.
    pub statuses: Vec<u16>,
    /// The delays before each further attempt at the primary: with n delays there are n + 1 attempts.
    pub waits: Vec<Nanos>,
    /// Whether it asks the fallback, once, after the last attempt failed with one of `classes`.
    pub fallback: bool,
    /// Whether it asks the fallback after the last attempt got one of `statuses`, too.
    pub fallback_on_status: bool,
    /// Whether `classes` include a response that was cut after its header section.
    pub truncated: bool,
    /// Whether the caller gets the primary's last error if the fallback fails or responds with 4xx or 5xx.
    pub raises_primary: bool,
}

/// A helper that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// gaia-web's helper: three attempts, then the fallback; a lasting 502, 503 or 504 never reaches the fallback.
    PostWithRetry,
    /// The helper between services: as `post_with_retry`, and a lasting 502, 503 or 504 reaches the fallback.
    ServiceClient,
    /// gaia-core's synchronous MCP client: one attempt, then the fallback on errors of the connection and timeouts, not on
    /// a truncated response.
    McpClient,
}

impl Profile {
    #[must_use]
    pub fn policy(self) -> RetryPolicy {
        use HttpxClass::{
            ConnectError, ConnectTimeout, ReadError, ReadTimeout, RemoteProtocolError, WriteError, WriteTimeout,
        };
        let post_with_retry = RetryPolicy {
            classes: vec![ConnectError, RemoteProtocolError],
            statuses: vec![502, 503, 504],
            waits: vec![Nanos::from_secs(2), Nanos::from_secs(4)],
            fallback: true,
            fallback_on_status: false,
            truncated: true,
            raises_primary: true,
        };
        match self {
            Profile::PostWithRetry => post_with_retry,
            Profile::ServiceClient => RetryPolicy { fallback_on_status: true, ..post_with_retry },
            // requests raises ConnectionError or Timeout for all of these, and ChunkedEncodingError for a truncated body.
            Profile::McpClient => RetryPolicy {
                classes: vec![
                    ConnectError,
                    ConnectTimeout,
                    ReadError,
                    ReadTimeout,
                    RemoteProtocolError,
                    WriteError,
                    WriteTimeout,
                ],
                statuses: Vec::new(),
                waits: Vec::new(),
                truncated: false,
                raises_primary: false,
                ..post_with_retry
            },
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Profile::PostWithRetry.policy()
    }
}

impl RetryPolicy {
    /// Whether another attempt, or the fallback, follows this error.
    #[must_use]
    pub fn follows_up(&self, error: &ClientError) -> bool {
        self.classes.contains(&error.httpx) && (self.truncated || error.phase != Phase::ReceivingBody)
    }

    #[must_use]
    pub fn retries_status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }
}

/// The policies of all clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Recorded")]
pub struct Policy {
    /// For each client without an entry in `clients`.
    pub default: RetryPolicy,
    /// By service of the client (without Compose by container name), or by `CLIENT>SERVER`.
    pub clients: BTreeMap<String, RetryPolicy>,
}

impl Policy {
    /// The policy of a client's requests to a server, by their labels.
    #[must_use]
    pub fn of(&self, client: &str, server: &str) -> &RetryPolicy {
        self.own(client, server).unwrap_or(&self.default)
    }

    /// The policy that the configuration gives this client itself.
    #[must_use]
    pub fn own(&self, client: &str, server: &str) -> Option<&RetryPolicy> {
        self.clients.get(&format!("{client}>{server}")).or_else(|| self.clients.get(client))
    }

    /// Whether the client retries a class; only the class is considered.
    #[must_use]
    pub fn retries(&self, client: &str, server: &str, class: HttpxClass) -> bool {
        self.of(client, server).classes.contains(&class)
    }
}

/// A policy in a recording: as now, or as lists of classes with waits apart.
#[derive(Deserialize)]
#[serde(untagged)]
enum Recorded {
    Current {
        default: RetryPolicy,
        clients: BTreeMap<String, RetryPolicy>,
    },
    Former {
        default: Vec<HttpxClass>,
        services: BTreeMap<String, Vec<HttpxClass>>,
        #[serde(default)]
        waits: Option<FormerWaits>,
    },
}

#[derive(Deserialize)]
struct FormerWaits {
    default: Vec<Nanos>,
    services: BTreeMap<String, Vec<Nanos>>,
}

impl From<Recorded> for Policy {
    fn from(recorded: Recorded) -> Self {
        match recorded {
            Recorded::Current { default, clients } => Self { default, clients },
            Recorded::Former { default, services, waits } => {
                let base = RetryPolicy::default();
                let waits =
                    waits.unwrap_or_else(|| FormerWaits { default: base.waits.clone(), services: BTreeMap::new() });
                let default = RetryPolicy { classes: default, waits: waits.default, ..base };
                let mut clients: BTreeMap<String, RetryPolicy> = BTreeMap::new();
                for (name, classes) in services {
                    clients.insert(name, RetryPolicy { classes, ..default.clone() });
                }
                for (name, waits) in waits.services {
                    clients.entry(name).or_insert_with(|| default.clone()).waits = waits;
                }
                Self { default, clients }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, Profile, RetryPolicy};
    use crate::model::incident::HttpxClass;
    use crate::model::time::Nanos;

    #[test]
    fn reads_the_policies_of_former_recordings() {
        let text = r#"{"default":["ReadError"],"services":{"web":["ConnectError"]},
            "waits":{"default":[1000000000],"services":{"core":[]}}}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!(
            (&*policy.default.classes, &*policy.default.waits),
            (&[HttpxClass::ReadError][..], &[Nanos::from_secs(1)][..])
        );
        assert_eq!(policy.of("web", "x").classes, [HttpxClass::ConnectError]);
        assert!(policy.of("core", "x").waits.is_empty());
        let again: Policy = serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
        let without_waits: Policy =
            serde_json::from_str(r#"{"default":["ConnectError","RemoteProtocolError"],"services":{}}"#).unwrap();
        assert_eq!(without_waits, Policy::default());
    }

    #[test]
    fn prefers_the_policy_for_a_server_to_that_of_the_client() {
        let clients = [
            ("core".to_owned(), Profile::ServiceClient.policy()),
            ("core>mcp".to_owned(), Profile::McpClient.policy()),
        ];
        let policy = Policy { default: RetryPolicy::default(), clients: clients.into() };
        assert_eq!(policy.of("core", "mcp"), &Profile::McpClient.policy());
        assert_eq!(policy.of("core", "prime"), &Profile::ServiceClient.policy());
        assert_eq!(policy.own("web", "core"), None);
        assert!(
            policy.retries("core", "mcp", HttpxClass::ReadError)
                && !policy.retries("web", "core", HttpxClass::ReadError)
        );
    }
}
