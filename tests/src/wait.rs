//! Waits for conditions: bounded, described in their errors, and ended immediately by Ctrl-C. Never a blind sleep.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cleanup;

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// Looks at `condition` until it yields a value.
///
/// # Errors
/// When `within` has passed (the error says what was awaited), on Ctrl-C, or when `condition` itself fails.
pub fn until<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        cleanup::check_interrupt()?;
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}, without success", within.as_secs_f64());
        }
        std::thread::sleep(POLL);
    }
}

/// The same for what is awaited while cleaning up: neither Ctrl-C nor an error ends it. True when it came about.
pub fn quietly(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_condition_when_it_times_out() {
        let error = until::<()>("the moon", Duration::from_millis(30), || Ok(None)).unwrap_err();
        assert!(error.to_string().contains("the moon"), "{error}");
    }

    #[test]
    fn ends_immediately_when_the_condition_fails() {
        let error = until::<()>("it", Duration::from_secs(60), || bail!("broken")).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
