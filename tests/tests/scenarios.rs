//! Every text under `tests/scenarios` is played through the engine; one run reports every failure.

use std::path::Path;

use anyhow::{Result, ensure};
use gaia_monitor_tests::scenario;

#[test]
fn every_scenario_meets_its_expectations() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let all = scenario::texts(&folder)?;
    ensure!(all.len() > 150, "{} texts under {}", all.len(), folder.display());
    let mut failed = Vec::new();
    for path in all.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let name = path.strip_prefix(&folder).unwrap_or(path).display();
        let text = std::fs::read_to_string(path)?;
        if let Err(error) = scenario::read(&text).and_then(|read| scenario::check(&read)) {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} failed\n\n{}", failed.len(), all.len(), failed.join("\n\n"));
    Ok(())
}
