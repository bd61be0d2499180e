//! The command line: what can be typed, and the help that teaches it. clap stops here.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::assets::Asset;
pub use crate::config::Output;
#[cfg(feature = "live")]
use crate::config::{Age, FailOn, Seconds, Size};
use crate::explain::when::When;
use crate::model::incident::HttpxClass;

const AFTER_HELP: &str = "\
Exit codes:
  0 ok · 1 internal error · 2 usage or configuration · 3 missing privilege, kernel feature or Docker
  4 unreadable recording · 5 incident seen (--fail-on) · 6 nothing fits (explain)
  doctor: 0 healthy · 1 warnings · 2 failures · 3 pre-flight failed";

/// Which process died, at what nanosecond, and why, when a client sees ReadError or RemoteProtocolError.
///
/// Watches the containers of a Docker host from the kernel, and pins every connection that breaks for its client to
/// the crash, stop or close that broke it.
#[derive(Debug, Parser)]
#[command(name = "gaia-monitor", version, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(max_term_width = 110, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch this host and tell each incident as it happens (needs root and Docker)
    #[cfg(feature = "live")]
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Print what a recorded run printed: offline, on any machine, without root
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Find the incident that explains an error: by time, client, server and error class
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Check what the monitor needs of this host: one line each, with the fix
    #[cfg(feature = "live")]
    Doctor(Doctor),
    /// Print a file that the program carries
    Assets(Assets),
    /// Print the completions of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
}

#[cfg(feature = "live")]
const RUN_EXAMPLES: &str = "\
Examples:
  gaia-monitor run                                     watch every container of this host
  gaia-monitor run --project gaia --record gaia.rec    one Compose project, and keep everything for replay
  gaia-monitor run --output json | jq .cause.summary   one JSON object a line
  gaia-monitor run --duration 60 --fail-on any         in a test: exit code 5 if anything broke";

#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct Run {
    /// Docker's address; default: the usual socket
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// Configuration (TOML); `gaia-monitor assets config` prints one with every key
    #[arg(long, value_name = "FILE", env = "GAIA_MONITOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the configuration as file, environment and flags make it, and end
    #[arg(long)]
    pub print_config: bool,
    /// What standard output carries [default: pretty]
    #[arg(long, value_enum, env = "GAIA_MONITOR_OUTPUT")]
    pub output: Option<Output>,
    /// Record every event, so that `replay` can judge them again
    #[arg(long, value_name = "FILE", env = "GAIA_MONITOR_RECORD")]
    pub record: Option<PathBuf>,
    /// Serve metrics for Prometheus, health and the latest incidents here, such as 127.0.0.1:9435
    #[arg(long, value_name = "ADDR", env = "GAIA_MONITOR_LISTEN", value_parser = parse_listen)]
    pub listen: Option<std::net::SocketAddr>,
    /// Create this file once every probe is attached and every container known
    #[arg(long, value_name = "FILE", env = "GAIA_MONITOR_READY_FILE")]
    pub ready_file: Option<PathBuf>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", env = "GAIA_MONITOR_DURATION")]
    pub duration: Option<Seconds>,
    /// End with exit code 5 if there was an incident of these kinds, or `any`
    #[arg(long, value_name = "KIND[,KIND]", value_delimiter = ',', env = "GAIA_MONITOR_FAIL_ON")]
    pub fail_on: Vec<FailOn>,
    /// Report clients that leave before the answer, too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "GAIA_MONITOR_INCLUDE_CANCELLED")]
    pub include_cancelled: Option<bool>,
    /// Keep every incident in this directory, too, as JSON lines for `explain`
    #[arg(long, value_name = "DIR", env = "GAIA_MONITOR_JOURNAL", help_heading = "Journal")]
    pub journal: Option<PathBuf>,
    /// Begin another file before one gets larger [default: 64 MiB]
    #[arg(long, value_name = "SIZE", env = "GAIA_MONITOR_JOURNAL_MAX_FILE_SIZE", help_heading = "Journal")]
    pub journal_max_file_size: Option<Size>,
    /// Begin another file when one is older [default: 1 day]
    #[arg(long, value_name = "AGE", env = "GAIA_MONITOR_JOURNAL_MAX_FILE_AGE", help_heading = "Journal")]
    pub journal_max_file_age: Option<Age>,
    /// Remove the oldest files when all are larger together [default: 1 GiB]
    #[arg(long, value_name = "SIZE", env = "GAIA_MONITOR_JOURNAL_MAX_TOTAL_SIZE", help_heading = "Journal")]
    pub journal_max_total_size: Option<Size>,
    /// Remove files whose last line is older [default: 90 days]
    #[arg(long, value_name = "AGE", env = "GAIA_MONITOR_JOURNAL_MAX_AGE", help_heading = "Journal")]
    pub journal_max_age: Option<Age>,
    /// Limit incidents to a Compose project (repeatable)
    #[arg(long = "project", value_name = "NAME", value_delimiter = ',', env = "GAIA_MONITOR_PROJECTS")]
    #[arg(help_heading = "Scope")]
    pub projects: Vec<String>,
    /// Limit incidents to containers by name; * and ? match (repeatable)
    #[arg(long = "container", value_name = "GLOB", value_delimiter = ',', env = "GAIA_MONITOR_CONTAINERS")]
    #[arg(help_heading = "Scope")]
    pub containers: Vec<String>,
    /// Limit incidents to containers with a label (repeatable; the variable holds one)
    #[arg(long = "label", value_name = "K=V", env = "GAIA_MONITOR_LABEL", help_heading = "Scope")]
    #[arg(value_parser = crate::config::parse_label)]
    pub labels: Vec<String>,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  gaia-monitor replay gaia.rec                   what the run printed, byte for byte
  gaia-monitor replay gaia.rec --output json     the same as JSON lines
  gaia-monitor replay gaia.rec --explain         and why each rule acted or held back";

#[derive(Debug, Args)]
pub struct Replay {
    /// A file that `run --record` wrote
    pub file: PathBuf,
    /// What standard output carries
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub output: Output,
    /// Tell why each rule acted or held back (with JSON: on standard error)
    #[arg(long)]
    pub explain: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Times are UTC: 2025-11-25T14:02:11.5Z, another offset than Z, Python's \"2025-11-25 14:02:11,500\", or 14:02:11 for
today. What lies up to a minute before it is looked at, the closest first.

Examples:
  gaia-monitor explain --journal /var/lib/gaia-monitor --at 14:02:11 --error ReadError
  gaia-monitor explain --recording gaia.rec --client gaia-web --server gaia-core
  gaia-monitor explain --journal DIR --output json | jq .moment";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["journal", "recording"]))]
pub struct Explain {
    /// Look in the journal that `run --journal` kept
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Look in a recording, judged anew
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
    /// TOML file with the clients' policy, for stories told from a journal; a recording has its own
    #[arg(long, value_name = "FILE", conflicts_with = "recording")]
    pub config: Option<PathBuf>,
    /// When the error was seen
    #[arg(long, value_name = "TIME")]
    pub at: Option<When>,
    /// The container or service that saw it
    #[arg(long, value_name = "NAME")]
    pub client: Option<String>,
    /// The container or service that was asked, or that failed
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// The error's class, as httpx names it
    #[arg(long, value_name = "CLASS", value_parser = by_name::<HttpxClass>)]
    pub error: Option<HttpxClass>,
    /// What standard output carries
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub output: Output,
}

#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct Doctor {
    /// Docker's address; default: the usual socket
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// One line of text for each check, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Assets {
    #[arg(value_enum)]
    pub name: AssetName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AssetName {
    /// JSON Schema of the incident line
    IncidentSchema,
    /// Configuration file with every key, its meaning and default
    Config,
    /// Hardened systemd unit: /etc/systemd/system/gaia-monitor.service
    SystemdUnit,
    /// Compose file of the monitor beside a stack: docker-compose -f … -f gaia-monitor.yml
    ComposeService,
    /// Dockerfile of the image that the Compose service builds from this program
    ComposeDockerfile,
    /// Alert rules: under rule_files of prometheus.yml
    PrometheusRules,
    /// Scrape job: under scrape_configs of prometheus.yml
    PrometheusScrape,
    /// Grafana dashboard, to import: asks for the Prometheus that it reads
    GrafanaDashboard,
}

impl From<AssetName> for Asset {
    fn from(name: AssetName) -> Self {
        match name {
            AssetName::IncidentSchema => Asset::IncidentSchema,
            AssetName::Config => Asset::Config,
            AssetName::SystemdUnit => Asset::SystemdUnit,
            AssetName::ComposeService => Asset::ComposeService,
            AssetName::ComposeDockerfile => Asset::ComposeDockerfile,
            AssetName::PrometheusRules => Asset::PrometheusRules,
            AssetName::PrometheusScrape => Asset::PrometheusScrape,
            AssetName::GrafanaDashboard => Asset::GrafanaDashboard,
        }
    }
}

const COMPLETIONS_EXAMPLES: &str = "\
Example:
  gaia-monitor completions bash > /etc/bash_completion.d/gaia-monitor";

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(feature = "live")]
fn parse_listen(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:9435 or [::1]:9435".to_owned())
}

/// Reads a word of the contract by the name that it has in the JSON.
fn by_name<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    let name: StrDeserializer<'_, ValueError> = name.into_deserializer();
    T::deserialize(name).map_err(|error| error.to_string())
}
