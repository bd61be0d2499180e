//! Location of a core file, from the host's core pattern (core(5), `format_corename` in fs/coredump.c). Pure text.
//!
//! Unknown values are shown as `*`. Nothing searches for the file, because the monitor does not access the file systems
//! of containers.

use crate::model::event::CoreDump;
use crate::model::time::Stamp;

/// Values of the placeholders that [`CoreDump`] does not contain.
#[derive(Clone, Copy, Debug)]
pub struct Dead<'a> {
    pub pid: u32,
    /// The pid in the process's own pid namespace.
    pub ns_pid: u32,
    pub comm: &'a str,
    pub signal: &'a str,
    pub at: Stamp,
    /// The name of its container.
    pub container: Option<&'a str>,
}

/// The predicate of a sentence for the timeline.
#[must_use]
pub fn place(dump: &CoreDump, dead: Dead<'_>) -> String {
    let pattern = dump.pattern.trim();
    if let Some(handler) = pattern.strip_prefix('|') {
        let program = handler.split_whitespace().next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        return match name {
            "systemd-coredump" => format!("passed to systemd-coredump on the host: coredumpctl info {}", dead.pid),
            "apport" => format!("passed to apport on the host ({program}): look in /var/crash"),
            "" => "passed to a program on the host".to_owned(),
            _ => format!("passed to {program} on the host"),
        };
    }
    if pattern.starts_with('@') {
        // A socket of the host (6.16 and newer).
        return format!("passed to the host's socket {}", pattern.trim_start_matches('@'));
    }
    let mut path = expand(pattern, dump, dead);
    // The kernel appends the pid if core_uses_pid is set and the pattern does not contain it.
    if dump.uses_pid && !contains_pid(pattern) {
        path.push_str(&format!(".{}", dead.ns_pid));
    }
    let place = match dead.container {
        Some(container) => format!(" in the file system of {container}"),
        None => String::new(),
    };
    if path.starts_with('/') {
        return match dead.container {
            Some(container) if !path.contains('*') => {
                format!("{path}{place} (docker cp {container}:{path} .)")
            }
            Some(_) | None => format!("{path}{place}"),
        };
    }
    match &dump.cwd {
        Some(cwd) => {
            let path = format!("{}/{path}", cwd.trim_end_matches('/'));
            match dead.container {
                Some(container) if !path.contains('*') => {
                    format!("{path}{place} (docker cp {container}:{path} .)")
                }
                Some(_) | None => format!("{path}{place}"),
            }
        }
        None => match dead.container {
            Some(container) => format!("{path} in the working directory of the process, in {container}"),
            None => format!("{path} in the working directory of the process"),
        },
    }
}

/// Only `%p` counts, as in the kernel (`pid_in_pattern`).
fn contains_pid(pattern: &str) -> bool {
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        if character == '%' && rest.next() == Some('p') {
            return true;
        }
    }
    false
}

fn expand(pattern: &str, dump: &CoreDump, dead: Dead<'_>) -> String {
    let mut path = String::new();
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            path.push(character);
            continue;
        }
        // The kernel drops a single % at the end, and unknown placeholders.
        let Some(placeholder) = rest.next() else { break };
        let executable = || dump.executable.clone().unwrap_or_else(|| "*".to_owned());
        match placeholder {
            '%' => path.push('%'),
            'p' => path.push_str(&dead.ns_pid.to_string()),
            'P' => path.push_str(&dead.pid.to_string()),
            'u' => path.push_str(&or_star(dump.uid)),
            'g' => path.push_str(&or_star(dump.gid)),
            's' => path.push_str(&or_star(number(dead.signal))),
            't' => path.push_str(&dead.at.0.div_euclid(1_000_000_000).to_string()),
            'h' => path.push_str(&dump.hostname.clone().unwrap_or_else(|| "*".to_owned())),
            // The name of the thread, which may differ from that of its process.
            'e' => path.push_str(&dead.comm.replace('/', "!")),
            'f' => path.push_str(executable().rsplit('/').next().unwrap_or("*")),
            'E' => path.push_str(&executable().replace('/', "!")),
            // Unknown here: thread ids, the dump mode, the limit, the processor, a pidfd.
            'i' | 'I' | 'd' | 'c' | 'C' | 'F' => path.push('*'),
            _ => {}
        }
    }
    path
}

fn or_star<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "*".to_owned(), |value| value.to_string())
}

/// The number of a signal whose default action dumps core (signal(7), x86 and arm).
fn number(signal: &str) -> Option<u8> {
    Some(match signal {
        "SIGQUIT" => 3,
        "SIGILL" => 4,
        "SIGTRAP" => 5,
        "SIGABRT" => 6,
        "SIGBUS" => 7,
        "SIGFPE" => 8,
        "SIGSEGV" => 11,
        "SIGXCPU" => 24,
        "SIGXFSZ" => 25,
        "SIGSYS" => 31,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Dead, place};
    use crate::model::event::CoreDump;
    use crate::model::ids::Pid;
    use crate::model::time::Stamp;

    fn dump(pattern: &str) -> CoreDump {
        CoreDump {
            pid: Pid(4_242),
            pattern: pattern.to_owned(),
            uses_pid: false,
            cwd: None,
            executable: Some("/usr/bin/python3.11".to_owned()),
            hostname: Some("ab12".to_owned()),
            uid: Some(1_000),
            gid: None,
        }
    }

    const DEAD: Dead<'_> = Dead {
        pid: 4_242,
        ns_pid: 1,
        comm: "python3",
        signal: "SIGSEGV",
        at: Stamp(1_700_000_000_999_999_999),
        container: Some("core"),
    };

    fn text(pattern: &str) -> String {
        place(&dump(pattern), DEAD)
    }

    #[test]
    fn places_an_absolute_path_in_the_file_system_of_the_container() {
        let path = "/cores/core.python3.1.4242.11.1700000000.ab12.1000";
        let wanted = format!("{path} in the file system of core (docker cp core:{path} .)");
        assert_eq!(text("/cores/core.%e.%p.%P.%s.%t.%h.%u"), wanted);
        assert!(text("/c/%f-%E-%%").starts_with("/c/python3.11-!usr!bin!python3.11-% in"));
        assert_eq!(place(&dump("/c/%p\n"), Dead { container: None, ..DEAD }), "/c/1");
    }

    #[test]
    fn shows_a_star_and_no_copy_command_when_a_value_is_unknown() {
        assert_eq!(text("/c/%i.%g.%x"), "/c/*.*. in the file system of core");
        assert_eq!(place(&dump("/c/%s"), Dead { signal: "SIGRTMIN", ..DEAD }), "/c/* in the file system of core");
    }

    #[test]
    fn resolves_a_relative_path_against_the_working_directory() {
        assert_eq!(text("core"), "core in the working directory of the process, in core");
        let known = CoreDump { cwd: Some("/".to_owned()), ..dump("core") };
        assert_eq!(place(&known, DEAD), "/core in the file system of core (docker cp core:/core .)");
        let known = CoreDump { cwd: Some("/app".to_owned()), uses_pid: true, ..dump("core") };
        assert!(place(&known, DEAD).starts_with("/app/core.1 in"));
        let named = CoreDump { uses_pid: true, ..dump("/c/%p") };
        assert!(place(&named, DEAD).starts_with("/c/1 in"), "the pattern already contains the pid");
    }

    #[test]
    fn names_the_program_or_socket_that_receives_the_core() {
        let systemd = text("|/usr/lib/systemd/systemd-coredump %P %u %g %s %t %c %h");
        assert_eq!(systemd, "passed to systemd-coredump on the host: coredumpctl info 4242");
        assert!(text("|/usr/share/apport/apport -p%p").contains("/usr/share/apport/apport"));
        assert_eq!(text("|/opt/mine %p"), "passed to /opt/mine on the host");
        assert_eq!(text("@/run/core.sock"), "passed to the host's socket /run/core.sock");
    }
}
