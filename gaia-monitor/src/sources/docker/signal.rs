//! Names of signals: Docker writes numbers in events, and any spelling in configurations.

use nix::sys::signal::Signal;

/// The first real-time signal that libc leaves to programs (it reserves 32 and 33); Docker counts from it as well.
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// `9` → `SIGKILL`, `35` → `SIGRTMIN+1`. A number that is not a signal is kept.
#[must_use]
pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number == SIGRTMIN => "SIGRTMIN".to_owned(),
        Err(_) if (SIGRTMIN..=SIGRTMAX).contains(&number) => format!("SIGRTMIN+{}", number - SIGRTMIN),
        Err(_) => number.to_string(),
    }
}

/// Normalizes spellings that Docker accepts: `TERM`, `sigterm`, `15` and `SIGTERM` are one signal.
#[must_use]
pub fn normal(spelling: &str) -> String {
    let spelling = spelling.trim();
    if let Ok(number) = spelling.parse() {
        return name(number);
    }
    let upper = spelling.to_ascii_uppercase();
    if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn normalizes_every_spelling_of_docker() {
        for (spelling, name) in [
            ("9", "SIGKILL"),
            ("15", "SIGTERM"),
            ("TERM", "SIGTERM"),
            ("sigquit", "SIGQUIT"),
            ("34", "SIGRTMIN"),
            ("37", "SIGRTMIN+3"),
            ("RTMIN+3", "SIGRTMIN+3"),
            ("0", "0"),
            ("99", "99"),
        ] {
            assert_eq!(normal(spelling), name, "{spelling}");
        }
    }
}
