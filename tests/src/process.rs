//! A child process: started in its own process group, its output in a file, ended with its children.
//!
//! If the program that started it dies without cleaning up, a small shell does so: the shell reads from a
//! pipe that only this program holds open, and kills every group when the pipe closes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit,
    test_kill_process_group,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::deadline::PATIENCE;

const SHOWN_LINES_MAX: usize = 40;
/// How long the end of a group's other processes is awaited; where nobody reaps them it never comes.
const GROUP_ENDS: Duration = Duration::from_secs(5);

/// A running program and its child processes.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program; its output is appended to `<folder>/<name>.log`.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        Self::spawn(name, command, log)
    }

    /// Starts the program as a session of its own on this terminal, which gets its output.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_on(name: &str, command: &Command, terminal: &File) -> Result<Self> {
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal.try_clone()?);
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => session.env(variable, value),
                None => session.env_remove(variable),
            };
        }
        Self::spawn(name, &mut session, PathBuf::new())
    }

    fn spawn(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let process = Self {
            name: name.to_owned(),
            child,
            log,
        };
        tell_keeper("add", process.child.id())?;
        Ok(process)
    }

    /// Waits until `is_ready` succeeds, but not longer than the process lives.
    ///
    /// # Errors
    /// The process ended, or the time is up; the text has the end of its log.
    pub async fn ready(&mut self, is_ready: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        self.ready_within(PATIENCE, is_ready).await
    }

    /// The same with another limit.
    ///
    /// # Errors
    /// The same as there.
    pub async fn ready_within(
        &mut self,
        limit: Duration,
        mut is_ready: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                bail!(
                    "{} ended ({status}) while it started:\n{}",
                    self.name,
                    self.log_end()
                );
            }
            // A server that takes a connection before it serves may leave the question without an answer.
            let asked = timeout(PATIENCE / 4, is_ready()).await;
            match asked.unwrap_or_else(|_| Err(anyhow!("no answer"))) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= end => {
                    return Err(error.context(format!(
                        "{} is not ready:\n{}",
                        self.name,
                        self.log_end()
                    )));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Like [`Self::ready`], until this URL answers with a 2xx.
    ///
    /// # Errors
    /// The same as there.
    pub async fn answers(&mut self, url: &str) -> Result<()> {
        self.ready(async || {
            reqwest::get(url).await?.error_for_status()?;
            Ok(())
        })
        .await
    }

    /// Like [`Self::ready`], until it takes connections at this address.
    ///
    /// # Errors
    /// The same as there.
    pub async fn listens(&mut self, at: impl Into<SocketAddr>) -> Result<()> {
        let at = at.into();
        self.ready(async || {
            TcpStream::connect(at).await?;
            Ok(())
        })
        .await
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The process id, which is also that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The whole output so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the output.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let (_, end) = lines.split_at(lines.len().saturating_sub(SHOWN_LINES_MAX));
        end.join("\n")
    }

    /// Sends SIGKILL to the process group; returns when the process is gone, and those that it started: until then they
    /// have their ports, RabbitMQ's Erlang machine too, which a shell starts.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        let end = Instant::now() + GROUP_ENDS;
        while test_kill_process_group(self.group()?).is_ok() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn group(&self) -> Result<Pid> {
        let group = Pid::from_raw(i32::try_from(self.child.id())?);
        group.context("no process id")
    }

    /// Sends SIGTERM to the group, and after [`PATIENCE`] SIGKILL to what is left of it.
    ///
    /// # Errors
    /// The process cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        while self.exited()?.is_none() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill()
    }

    /// Sends SIGSTOP, and waits until the process has stopped: the signal alone only requests that.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        crate::deadline::until(&format!("{} to stand still", self.name), async || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
            // `<pid> (<name>) <state> …`, and the name may have spaces and brackets.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            ensure!(state.is_some_and(|state| state.starts_with('T')), "{stat}");
            Ok(())
        })
        .await
    }

    /// Sends any signal to the whole group; SIGSTOP makes a server that never answers.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match kill_process_group(self.group()?, signal) {
            // No process is left in the group.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => bail!("signal to {}: {error}", self.name),
        }
    }
}

/// Lets this process, and processes that it starts from now on, open `wanted` files, connections included.
///
/// # Errors
/// The system allows fewer.
pub fn open_files(wanted: u64) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let allowed = maximum.unwrap_or(wanted);
    ensure!(
        allowed >= wanted,
        "{wanted} open files are needed, and {allowed} allowed (ulimit -Hn)"
    );
    let current = Some(wanted.max(allowed));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on the end of a process is not printed, for interactive use.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

impl Drop for Process {
    fn drop(&mut self) {
        let outcome = self
            .kill()
            .and_then(|()| tell_keeper("drop", self.child.id()));
        if QUIET.load(Ordering::Relaxed) {
            return;
        }
        // The test runner shows this only for a failed test.
        println!(
            "--- {} {}",
            self.name,
            outcome.err().map(|e| e.to_string()).unwrap_or_default()
        );
        println!("{}", self.log_end());
    }
}

/// The shell's commands, one on each line that it reads: `add <group>`, `drop <group>`.
const KEEPER: &str = r#"
trap '' INT TERM HUP
groups=' '
while read -r verb group; do
    case $verb in
        add) groups="$groups$group " ;;
        drop) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
"#;

fn tell_keeper(verb: &str, group: u32) -> Result<()> {
    static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| Mutex::new(start_keeper().ok()));
    let mut pipe = pipe
        .lock()
        .map_err(|_| anyhow!("a thread died while it held the keeper"))?;
    let pipe = pipe.as_mut().context("sh cannot be started")?;
    writeln!(pipe, "{verb} {group}").context("the keeper is gone")
}

fn start_keeper() -> Result<ChildStdin> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER, "keeper"]).stdin(Stdio::piped());
    command
        .stdout(nowhere.try_clone()?)
        .stderr(nowhere)
        .process_group(0);
    command.spawn()?.stdin.context("the keeper has no input")
}
