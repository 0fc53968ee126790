//! A process of the demo: its output goes to a file, and dropping it kills it with all that it
//! started.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child as Process, Command};

use super::DemoError;
use crate::clock;

/// How long a program may take to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_EVERY: Duration = Duration::from_millis(50);
const ENDED_EVERY: Duration = Duration::from_millis(500);
/// Lines of the log in an error.
const TAIL_LINES: usize = 15;

#[derive(Debug)]
pub(super) struct Child {
    name: String,
    log: PathBuf,
    group: Option<Pid>,
    process: Mutex<Process>,
}

impl Child {
    /// Starts a program; its output goes to `<folder>/<name>.log`.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        folder: &Path,
    ) -> Result<Self, DemoError> {
        let log = folder.join(format!("{name}.log"));
        let file = |source| DemoError::File {
            path: log.clone(),
            source,
        };
        let out = File::create(&log).map_err(file)?;
        let errors = out.try_clone().map_err(file)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .current_dir(folder)
            // In its own process group, so that Ctrl-C ends the demo, and the demo ends the
            // program.
            .process_group(0)
            .spawn();
        let process = process.map_err(|source| DemoError::Start {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self {
            name: name.to_owned(),
            log,
            group: process.id().and_then(group),
            process: Mutex::new(process),
        })
    }

    /// Waits until `is_ready` returns true.
    pub(super) async fn ready(&self, is_ready: impl AsyncFn() -> bool) -> Result<(), DemoError> {
        let begin = clock::now();
        while !is_ready().await {
            if let Some(status) = self.status() {
                return Err(self.failed(&format!("ended ({status}) before it was ready")));
            }
            if clock::since(begin) > READY_TIMEOUT {
                let waited = READY_TIMEOUT.as_secs();
                return Err(self.failed(&format!("is not ready after {waited} s")));
            }
            tokio::time::sleep(READY_EVERY).await;
        }
        Ok(())
    }

    /// Waits for its end, and returns the error.
    pub(super) async fn ended(&self) -> DemoError {
        loop {
            if let Some(status) = self.status() {
                return self.failed(&format!("ended ({status})"));
            }
            tokio::time::sleep(ENDED_EVERY).await;
        }
    }

    fn status(&self) -> Option<std::process::ExitStatus> {
        let mut process = self.process.lock().ok()?;
        process.try_wait().ok().flatten()
    }

    fn failed(&self, what: &str) -> DemoError {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..);
        DemoError::Program {
            name: self.name.clone(),
            what: what.to_owned(),
            log: self.log.clone(),
            tail: tail.unwrap_or_default().join("\n"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The group may be empty already.
        self.group
            .and_then(|group| kill_process_group(group, Signal::KILL).ok());
    }
}

fn group(process: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process).ok()?)
}
