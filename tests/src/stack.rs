//! One run's network and containers: created together, removed together.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cleanup::{self, RunId};
use crate::container::Recipe;
use crate::docker;
use crate::host;
use crate::image::Image;
use crate::network::Network;

/// Owns a network, every container started in it, and a folder for files. Dropping it removes all of them; the
/// folder is kept if a test has failed: its recording shows why.
#[derive(Debug)]
pub struct Stack {
    run: RunId,
    network: Network,
    image: Image,
    folder: PathBuf,
    removed: bool,
}

impl Stack {
    /// Sweeps what dead runs left, makes sure of the image, and creates the network.
    ///
    /// # Errors
    /// When Docker does not respond or the image cannot be made.
    pub fn begin(purpose: &str, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        cleanup::watch_signals()?;
        docker::version()?;
        cleanup::sweep_dead()?;
        let image = Image::ensure(progress)?;
        let run = RunId::new(purpose)?;
        let folder = host::target_dir().join("runs").join(run.as_str());
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let network = match Network::create(&run, "net") {
            Ok(network) => network,
            Err(error) => {
                // Interrupted or refused half-way: nothing may remain, and the first error is reported.
                let _ = run.remove_all();
                let _ = fs::remove_dir_all(&folder);
                return Err(error);
            }
        };
        Ok(Self { run, network, image, folder, removed: false })
    }

    /// The Compose project of its containers, for the monitor's `--project`; also the prefix of all names.
    #[must_use]
    pub fn project(&self) -> &str {
        self.run.as_str()
    }

    #[must_use]
    pub fn run(&self) -> &RunId {
        &self.run
    }

    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// For recordings, logs and programs of this run.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Describes a container of Compose service `service`, reachable by that name in the network.
    #[must_use]
    pub fn container(&self, service: &str) -> Recipe {
        Recipe::new(self, service)
    }

    /// Removes containers and network now and returns what could not be removed; `Drop` would only print it.
    ///
    /// # Errors
    /// With what is left.
    pub fn remove(mut self) -> Result<()> {
        self.removed = true;
        let removed = self.run.remove_all();
        let _ = fs::remove_dir_all(&self.folder);
        removed
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        if let Err(error) = self.run.remove_all() {
            eprintln!("cannot remove the containers of {}: {error:#}", self.run.as_str());
        }
        if std::thread::panicking() {
            eprintln!("files of the failed run are kept in {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
