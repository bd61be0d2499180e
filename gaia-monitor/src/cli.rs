//! The command line and its help. Nothing outside this file uses clap's traits.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, Resettable};
use clap::{ArgGroup, Args, Command, CommandFactory as _, Parser, Subcommand, ValueEnum};

#[cfg(feature = "live")]
use crate::access::Access;
use crate::assets::Asset;
use crate::config::Output;
#[cfg(feature = "live")]
use crate::config::{Age, Config, FailOn, Seconds, Size};
use crate::explain::ErrorName;
use crate::explain::when::When;

const AFTER_HELP: &str = "\
Exit codes:
  0 ok · 1 internal error · 2 usage or configuration · 3 missing privilege, kernel feature or Docker
  4 unreadable recording · 5 incident seen (--fail-on) · 6 nothing matches (explain)
  doctor: 0 healthy · 1 warnings · 2 failures · 3 pre-flight failed";

/// Which process died, at what nanosecond, and why, when a client sees ReadError or RemoteProtocolError.
///
/// Watches the containers of a Docker host from the kernel and attributes every broken client connection to the crash,
/// stop or close that broke it.
#[derive(Debug, Parser)]
#[command(name = "gaia-monitor", version, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(max_term_width = 110, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

/// The command line. A variable that is empty counts as not set: Compose passes one that the user has not set like that.
#[must_use]
pub fn command() -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    Cli::command().mut_subcommands(|verb| {
        verb.mut_args(|arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg })
    })
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Watch this host and report each incident as it happens (needs root and Docker)
    #[cfg(feature = "live")]
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Print the output of a recorded run again: offline, on any machine, without root
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Find the incident that explains an error: by time, client, server and error class
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Check the monitor's requirements on this host: one line each, with the fix
    #[cfg(feature = "live")]
    Doctor(Doctor),
    /// Print a bundled file
    Assets(Assets),
    /// Print a shell's completion script
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
}

#[cfg(feature = "live")]
const RUN_EXAMPLES: &str = "\
Examples:
  gaia-monitor run                                     watch every container of this host
  gaia-monitor run --project gaia --record gaia.rec    one Compose project, recorded for replay
  gaia-monitor run --output json | jq .cause.summary   one JSON object a line
  gaia-monitor run --duration 60 --fail-on any         in a test: exit code 5 if anything broke";

#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct Run {
    /// Docker's address [default: the local socket]
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// Configuration (TOML); `gaia-monitor assets config` prints one with every key
    #[arg(long, value_name = "FILE", env = "GAIA_MONITOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the configuration that results from file, environment and flags, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Format of standard output [default: pretty]
    #[arg(long, value_enum, env = "GAIA_MONITOR_OUTPUT")]
    pub output: Option<Output>,
    /// Record every event, so that `replay` can judge them again; compressed if the name ends in .zst
    #[arg(long, value_name = "FILE", env = "GAIA_MONITOR_RECORD")]
    pub record: Option<PathBuf>,
    /// Replace an existing recording
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "GAIA_MONITOR_FORCE")]
    pub force: Option<bool>,
    /// Who may read recording and journal, which hold log lines and addresses of every container [default: owner]
    #[arg(long, value_enum, value_name = "WHO", env = "GAIA_MONITOR_FILE_ACCESS")]
    pub file_access: Option<Access>,
    /// Serve Prometheus metrics, health and the latest incidents at this address, such as 127.0.0.1:9435
    #[arg(long, value_name = "ADDR", env = "GAIA_MONITOR_LISTEN", value_parser = parse_listen)]
    pub listen: Option<std::net::SocketAddr>,
    /// Create this file once every probe is attached and every container is known
    #[arg(long, value_name = "FILE", env = "GAIA_MONITOR_READY_FILE")]
    pub ready_file: Option<PathBuf>,
    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", env = "GAIA_MONITOR_DURATION")]
    pub duration: Option<Seconds>,
    /// Exit with code 5 after an incident of these kinds, or of `any`
    #[arg(long, value_name = "KIND[,KIND]", value_delimiter = ',', env = "GAIA_MONITOR_FAIL_ON")]
    pub fail_on: Vec<FailOn>,
    /// Also report clients that disconnect before the response
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "GAIA_MONITOR_INCLUDE_CANCELLED")]
    pub include_cancelled: Option<bool>,
    /// With JSON, also print the story of each request that met an error, when it is over (pretty output always does)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(env = "GAIA_MONITOR_STORIES")]
    pub stories: Option<bool>,
    /// Also write every incident to this directory, as JSON lines for `explain`
    #[arg(long, value_name = "DIR", env = "GAIA_MONITOR_JOURNAL", help_heading = "Journal")]
    pub journal: Option<PathBuf>,
    /// Begin a new file before the current one exceeds this size [default: 64 MiB]
    #[arg(long, value_name = "SIZE", env = "GAIA_MONITOR_JOURNAL_MAX_FILE_SIZE", help_heading = "Journal")]
    pub journal_max_file_size: Option<Size>,
    /// Begin a new file when the current one is older [default: 1 day]
    #[arg(long, value_name = "AGE", env = "GAIA_MONITOR_JOURNAL_MAX_FILE_AGE", help_heading = "Journal")]
    pub journal_max_file_age: Option<Age>,
    /// Remove the oldest files while the total is larger [default: 1 GiB]
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
    /// Limit incidents to containers with a label (repeatable; the variable takes one)
    #[arg(long = "label", value_name = "K=V", env = "GAIA_MONITOR_LABEL", help_heading = "Scope")]
    #[arg(value_parser = crate::config::parse_label)]
    pub labels: Vec<String>,
}

#[cfg(feature = "live")]
impl Run {
    /// Overrides a configuration file by variables and flags.
    #[must_use]
    pub fn apply_to(&self, mut config: Config) -> Config {
        fn set<T: Clone>(value: &mut T, flag: Option<&T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        fn set_option<T: Clone>(value: &mut Option<T>, flag: Option<&T>) {
            if flag.is_some() {
                *value = flag.cloned();
            }
        }
        fn set_list<T: Clone>(list: &mut Vec<T>, flag: &[T]) {
            if !flag.is_empty() {
                *list = flag.to_vec();
            }
        }
        set_option(&mut config.docker_host, self.docker_host.as_ref());
        set(&mut config.output, self.output.as_ref());
        set_option(&mut config.record, self.record.as_ref());
        set(&mut config.force, self.force.as_ref());
        set(&mut config.file_access, self.file_access.as_ref());
        set_option(&mut config.listen, self.listen.as_ref());
        set_option(&mut config.ready_file, self.ready_file.as_ref());
        set_option(&mut config.duration, self.duration.as_ref());
        set_list(&mut config.fail_on, &self.fail_on);
        set(&mut config.include_cancelled, self.include_cancelled.as_ref());
        set(&mut config.stories, self.stories.as_ref());
        set_list(&mut config.scope.projects, &self.projects);
        set_list(&mut config.scope.containers, &self.containers);
        set_list(&mut config.scope.labels, &self.labels);
        let journal = &mut config.journal;
        set_option(&mut journal.directory, self.journal.as_ref());
        set(&mut journal.max_file_size, self.journal_max_file_size.as_ref());
        set(&mut journal.max_file_age, self.journal_max_file_age.as_ref());
        set(&mut journal.max_total_size, self.journal_max_total_size.as_ref());
        set(&mut journal.max_age, self.journal_max_age.as_ref());
        config
    }
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  gaia-monitor replay gaia.rec                   the output of the run, byte for byte
  gaia-monitor replay gaia.rec --output json     the same as JSON lines
  gaia-monitor replay gaia.rec --explain         with the reason of each decision";

#[derive(Debug, Args)]
pub struct Replay {
    /// Recording written by `run --record`
    pub file: PathBuf,
    /// Format of standard output
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub output: Output,
    /// Print the reason of each decision (with JSON: on standard error)
    #[arg(long)]
    pub explain: bool,
    /// With JSON, also print the story of each request that met an error
    #[arg(long)]
    pub stories: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Times are UTC: 2025-11-25T14:02:11.5Z, another offset than Z, Python's \"2025-11-25 14:02:11,500\", or 14:02:11 for
today. Incidents up to a minute before that time are considered, the closest first.

Examples:
  gaia-monitor explain --journal /var/lib/gaia-monitor --at 14:02:11 --error ReadError
  gaia-monitor explain --recording gaia.rec --client gaia-web --server gaia-core
  gaia-monitor explain --journal DIR --error requests.exceptions.ChunkedEncodingError
  docker logs web 2>&1 | tail -1 | gaia-monitor explain --journal DIR -
  gaia-monitor explain --journal DIR --output json | jq .moment";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["journal", "recording"]))]
pub struct Explain {
    /// Search a journal written by `run --journal`
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Search a recording (re-analyzed)
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
    /// Configuration with the clients' policies, for a journal; a recording contains its own
    #[arg(long, value_name = "FILE", conflicts_with = "recording")]
    pub config: Option<PathBuf>,
    /// Time of the error
    #[arg(long, value_name = "TIME")]
    pub at: Option<When>,
    /// Container or service that got the error
    #[arg(long, value_name = "NAME")]
    pub client: Option<String>,
    /// Container or service that was called, or that failed
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Class of the error, as httpx names it, or the name that another client logs (requests, urllib3, aiohttp, Node, Go, curl)
    #[arg(long, value_name = "CLASS")]
    pub error: Option<ErrorName>,
    /// Read a log line or traceback from standard input: its error and time are searched for
    #[arg(value_name = "-", value_parser = ["-"])]
    pub stdin: Option<String>,
    /// Format of standard output
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub output: Output,
}

#[cfg(feature = "live")]
#[derive(Debug, Args)]
pub struct Doctor {
    /// Docker's address [default: the local socket]
    #[arg(long, value_name = "URL", env = "DOCKER_HOST")]
    pub docker_host: Option<String>,
    /// One line of text for each check, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Assets {
    #[arg(value_enum)]
    pub name: Asset,
}

impl ValueEnum for Asset {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Asset::IncidentSchema => ("incident-schema", "JSON Schema of the incident line"),
            Asset::StorySchema => ("story-schema", "JSON Schema of the story line"),
            Asset::Config => ("config", "Configuration file with every key, its meaning and default"),
            Asset::SystemdUnit => ("systemd-unit", "Hardened systemd unit: /etc/systemd/system/gaia-monitor.service"),
            Asset::ComposeService => (
                "compose-service",
                "Compose file that adds the monitor to a stack: docker-compose -f … -f gaia-monitor.yml",
            ),
            Asset::ComposeDockerfile => {
                ("compose-dockerfile", "Dockerfile of the image that the Compose service builds from this binary")
            }
            Asset::PrometheusRules => ("prometheus-rules", "Alert rules: under rule_files of prometheus.yml"),
            Asset::PrometheusScrape => ("prometheus-scrape", "Scrape job: under scrape_configs of prometheus.yml"),
            Asset::GrafanaDashboard => {
                ("grafana-dashboard", "Grafana dashboard for import; asks for its Prometheus data source")
            }
        };
        Some(PossibleValue::new(name).help(help))
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

impl ValueEnum for Output {
    fn value_variants<'a>() -> &'a [Self] {
        &[Output::Pretty, Output::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Output::Pretty => ("pretty", "Blocks of text, coloured on a terminal"),
            Output::Json => ("json", "JSON lines: one revision of an incident, or one story, a line; nothing else"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

#[cfg(feature = "live")]
impl ValueEnum for Access {
    fn value_variants<'a>() -> &'a [Self] {
        &[Access::Owner, Access::Group, Access::All]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Access::Owner => ("owner", "Files 0600, directories 0700"),
            Access::Group => ("group", "Files 0640, directories 0750"),
            Access::All => ("all", "Files 0644, directories 0755"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}
