//! The place of a crash, as the probe records it.

use anyhow::{Context, Result};
use gaia_monitor::model::event::{CrashSite, Fact, ModuleOffset};

use super::script::Script;
use super::words::Words;

impl Script {
    /// `crash PROCESS SIG [in=FILE+OFFSET] [raised] [caller=FILE+OFFSET] [address=NUMBER] [thread=COMM]`.
    pub(super) fn crash(&mut self, words: &mut Words) -> Result<()> {
        let process = self.actor(words)?.process;
        let signal = words.next("the signal")?;
        let module = words.value("in").map(|text| place(&text)).transpose()?;
        let caller = words.value("caller").map(|text| place(&text)).transpose()?;
        let address = words.value("address").map(|text| number(&text)).transpose()?;
        let thread = words.value("thread").unwrap_or_else(|| process.comm.clone());
        let raised = words.flag("raised");
        let site = CrashSite { process, signal, thread, raised, module, caller, address };
        self.facts.kernel(Fact::CrashSite(Box::new(site)));
        Ok(())
    }
}

fn place(text: &str) -> Result<ModuleOffset> {
    let (file, offset) = text.split_once('+').context("FILE+OFFSET")?;
    Ok(ModuleOffset { file: file.to_owned(), offset: number(offset)? })
}

fn number(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").with_context(|| format!("{text} does not begin with 0x"))?;
    u64::from_str_radix(digits, 16).with_context(|| format!("{text} is no number"))
}
