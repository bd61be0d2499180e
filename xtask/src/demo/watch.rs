//! Follower of the container logs: prints the lines of the services while a story is played, and keeps them.

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
pub struct LogLine {
    pub service: String,
    pub text: String,
}

/// One `docker logs --follow` for each container. Dropping it ends them.
pub struct Watch {
    followers: Vec<Child>,
    readers: Vec<JoinHandle<()>>,
    sender: Sender<LogLine>,
    receiver: Receiver<LogLine>,
    lines: Vec<LogLine>,
}

impl Watch {
    pub fn new(containers: &[Container]) -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let mut watch = Self { followers: Vec::new(), readers: Vec::new(), sender, receiver, lines: Vec::new() };
        for container in containers {
            watch.add(container)?;
        }
        Ok(watch)
    }

    /// Follows one more container.
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

    /// Waits for a text in the log of a service.
    pub fn wait(&mut self, service: &str, needle: &str, within: Duration) -> Result<()> {
        wait::until(&format!("{needle:?} in the log of {service}"), within, || {
            self.take();
            Ok(self.lines.iter().any(|line| line.service == service && line.text.contains(needle)).then_some(()))
        })
    }

    fn take(&mut self) {
        for line in self.receiver.try_iter() {
            show::log_line(&line);
            self.lines.push(line);
        }
    }

    /// Ends the followers and returns all lines.
    pub fn stop(mut self) -> Vec<LogLine> {
        self.end();
        self.take();
        std::mem::take(&mut self.lines)
    }

    fn end(&mut self) {
        for follower in &mut self.followers {
            // The follower may have ended with its container.
            let _ = follower.kill();
            let _ = follower.wait();
        }
        for reader in self.readers.drain(..) {
            // Readers do not panic.
            let _ = reader.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn read(pipe: impl Read + Send + 'static, service: &str, sender: Sender<LogLine>) -> JoinHandle<()> {
    let service = service.to_owned();
    std::thread::spawn(move || {
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(LogLine { service: service.clone(), text }).is_err() {
                return;
            }
        }
    })
}
