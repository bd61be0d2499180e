//! Follows the logs of the demo's containers and shows what their services say while a story is played.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use gaia_monitor_tests::container::Container;
use gaia_monitor_tests::wait;

use super::show;

/// One line of a service's log.
#[derive(Clone, Debug)]
pub struct Said {
    pub service: String,
    pub line: String,
}

/// Followers of logs. They end with it.
pub struct Watch {
    followers: Vec<Child>,
    readers: Vec<JoinHandle<()>>,
    sender: Sender<Said>,
    receiver: Receiver<Said>,
    said: Vec<Said>,
}

impl Watch {
    pub fn new(containers: &[Container]) -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut watch = Self { followers: Vec::new(), readers: Vec::new(), sender, receiver, said: Vec::new() };
        for container in containers {
            watch.add(container)?;
        }
        Ok(watch)
    }

    /// Follows one more.
    pub fn add(&mut self, container: &Container) -> Result<()> {
        let mut follower = Command::new("docker")
            .args(["logs", "--follow", container.id()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot follow a log")?;
        if let Some(pipe) = follower.stdout.take() {
            self.readers.push(read(pipe, container.service(), self.sender.clone()));
        }
        if let Some(pipe) = follower.stderr.take() {
            self.readers.push(read(pipe, container.service(), self.sender.clone()));
        }
        self.followers.push(follower);
        Ok(())
    }

    /// Waits for a word in the log of a service.
    pub fn wait(&mut self, service: &str, needle: &str, within: Duration) -> Result<()> {
        wait::until(&format!("{needle:?} in the log of {service}"), within, || {
            self.take();
            Ok(self.said.iter().any(|said| said.service == service && said.line.contains(needle)).then_some(()))
        })
    }

    fn take(&mut self) {
        for said in self.receiver.try_iter() {
            show::said(&said);
            self.said.push(said);
        }
    }

    /// Ends the followers and returns all that was said.
    pub fn stop(mut self) -> Vec<Said> {
        self.end();
        self.take();
        std::mem::take(&mut self.said)
    }

    fn end(&mut self) {
        for follower in &mut self.followers {
            // It may have ended with its container.
            let _ = follower.kill();
            let _ = follower.wait();
        }
        for reader in self.readers.drain(..) {
            // A reader has nothing that panics.
            let _ = reader.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn read(pipe: impl Read + Send + 'static, service: &str, sender: Sender<Said>) -> JoinHandle<()> {
    let service = service.to_owned();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(Said { service: service.clone(), line }).is_err() {
                return;
            }
        }
    })
}
