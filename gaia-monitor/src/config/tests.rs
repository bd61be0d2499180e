//! The configuration file.

use super::{Config, FailOn};
use crate::access::Access;
use crate::model::incident::{CauseKind, HttpxClass};
use crate::model::policy::Profile;
use crate::model::settings::Settings;
use crate::model::time::Nanos;

fn error(text: &str) -> String {
    Config::parse("C", text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(Config::parse("C", "").unwrap().into_settings(), Settings::default());
}

#[test]
fn a_service_policy_leaves_the_default_unchanged() {
    let text = "include_cancelled = true\n[scope]\nprojects = ['gaia']\n[policy.services]\nweb = ['ReadError']\n";
    let settings = Config::parse("C", text).unwrap().into_settings();
    assert!(settings.include_cancelled);
    assert_eq!(settings.scope.projects, ["gaia"]);
    assert_eq!(settings.policy.clients["web"].classes, [HttpxClass::ReadError]);
    assert_eq!(settings.policy.default, Settings::default().policy.default);
}

#[test]
fn a_policy_is_a_profile_a_list_or_a_table() {
    let text = "[policy]\ndefault = 'service_client'\nwaits = ['1s']\n[policy.services]\ncore = ['ReadError']\n\
                'core>mcp' = 'mcp_client'\nweb = { profile = 'post_with_retry', statuses = [429], fallback = false }\n\
                [policy.service_waits]\nprime = []\n";
    let config = Config::parse("C", text).unwrap();
    assert_eq!(Config::parse("C", &toml::to_string(&config).unwrap()).unwrap(), config);
    let policy = config.into_settings().policy;
    let second = Nanos::from_secs(1);
    assert_eq!((&*policy.default.waits, policy.default.fallback_on_status), (&[second][..], true));
    assert_eq!(policy.of("core", "wiki").classes, [HttpxClass::ReadError]);
    assert_eq!(policy.of("core", "wiki").waits, [second]);
    assert_eq!(policy.of("core", "mcp"), &Profile::McpClient.policy());
    let web = policy.of("web", "core");
    assert_eq!((&*web.statuses, web.fallback, web.waits.len()), (&[429][..], false, 2));
    assert!(policy.of("prime", "core").waits.is_empty());
    assert!(error("[policy]\ndefault = 'patient'\n").contains("unknown variant `patient`"));
    assert!(error("[policy.services]\nweb = { wait = 1 }\n").contains("unknown field `wait`"));
}

#[test]
fn reports_mistakes_with_line_and_column() {
    assert!(error("\n  speed = 1\n").starts_with("C:2:3: unknown field `speed`"), "{}", error("\n  speed = 1\n"));
    assert!(error("[scope]\nproject = ['a']\n").starts_with("C:2:1: unknown field `project`"));
    let class = error("[policy]\ndefault = ['ReadErr']\n");
    assert!(class.starts_with("C:2:") && class.contains("ReadErr"), "{class}");
    assert!(error("[policy]\ndefault = ['none']\n").contains("`none` is not an error"));
    assert!(error("[scope]\nlabels = ['=x']\n").contains("is not a label"));
    assert!(error("[scope\n").starts_with("C:1:"));
}

#[test]
fn a_printed_configuration_reads_back() {
    let text = "include_cancelled = true\n[policy.services]\nweb = ['ReadError']\n";
    let config = Config::parse("C", text).unwrap();
    assert_eq!(Config::parse("C", &toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn the_file_can_set_every_option_of_a_run() {
    let text = "docker_host = 'unix:///d'\noutput = 'json'\nrecord = 'r'\nforce = true\nfile_access = 'group'\nready_file = 'f'\nduration = 1.5\n\
                fail_on = ['any', 'oom_killed']\nlisten = '127.0.0.1:9435'\n[journal]\ndirectory = 'j'\nmax_file_size = '1 MiB'\n\
                max_file_age = '2h'\nmax_total_size = 5000\nmax_age = '7 days'\n";
    let config = Config::parse("C", text).unwrap();
    let limits = config.journal.limits();
    assert_eq!((limits.file_bytes, limits.total_bytes), (1 << 20, 5000));
    assert_eq!((limits.file_age, limits.age), (Nanos::from_secs(7_200), Nanos::from_secs(7 * 86_400)));
    assert_eq!(config.duration.unwrap().length(), std::time::Duration::from_millis(1_500));
    assert_eq!((config.force, config.file_access), (true, Access::Group));
    assert_eq!(config.listen.unwrap().port(), 9435);
    assert_eq!(config.fail_on, [FailOn::Any, FailOn::Kind(CauseKind::OomKilled)]);
    assert_eq!(Config::parse("C", &toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn reports_invalid_values_with_their_position() {
    for (text, part) in [
        ("[journal]\nmax_age = 90\n", "C:2:11: 90 has no unit"),
        ("[journal]\nmax_file_size = 'much'\n", "C:2:17: \"much\" is not a size"),
        ("fail_on = ['death']\n", "or `any`"),
        ("duration = -1\n", "C:1:12: -1 is not a duration"),
        ("output = 'xml'\n", "C:1:10: unknown variant `xml`"),
        ("[journal]\nmax_size = 1\n", "C:2:1: unknown field `max_size`"),
    ] {
        assert!(error(text).contains(part), "{}", error(text));
    }
}
