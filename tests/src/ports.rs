//! Free ports.
//!
//! They are below the range from which the kernel takes ports for outgoing connections, so that only another server can
//! take one first. Each process that runs tests has ports of its own, by locks that end with it: the port of a server
//! that starts, or is down for a moment, is none that another test is given. Where any other program is faster, the
//! start is retried on other ports.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// All of them are none that a shipped file names, up to 10,000 and from 30,010: a test that moves those one by one would
/// move one twice.
const FIRST: u16 = 11_000;
const COUNT: u16 = 18_900;
/// How many ports a process takes at a time.
const BLOCK: u16 = 100;
const BLOCKS: u16 = COUNT / BLOCK;
const TRIES_MAX: u32 = 4;

/// The blocks of this process.
#[derive(Debug)]
struct Blocks {
    held: Vec<Block>,
    /// The place in `held` of the block that is given out, and how much of it has been.
    at: usize,
    given: u16,
}

#[derive(Debug)]
struct Block {
    number: u16,
    /// Locked until the process ends.
    _lock: File,
}

impl Blocks {
    const fn none() -> Self {
        Self {
            held: Vec::new(),
            at: 0,
            given: BLOCK,
        }
    }

    fn next(&mut self) -> Result<u16> {
        if self.given == BLOCK {
            match self.claim()? {
                Some(block) => {
                    self.at = self.held.len();
                    self.held.push(block);
                }
                // All are in use: those of the servers that have ended are free again.
                None => self.at = (self.at + 1) % self.held.len().max(1),
            }
            self.given = 0;
        }
        let block = self
            .held
            .get(self.at)
            .context("other processes have all ports")?;
        let port = FIRST + block.number * BLOCK + self.given;
        self.given += 1;
        Ok(port)
    }

    /// A block that no process has.
    fn claim(&self) -> Result<Option<Block>> {
        let folder = std::env::temp_dir().join("unitring-ports");
        fs::create_dir_all(&folder)?;
        // So that most processes find one at once.
        let begin = match self.held.last() {
            Some(last) => last.number + 1,
            None => u16::try_from(std::process::id() % u32::from(BLOCKS))?,
        };
        for number in (begin..begin + BLOCKS).map(|number| number % BLOCKS) {
            if self.held.iter().any(|block| block.number == number) {
                continue;
            }
            let lock = File::create(folder.join(number.to_string()))?;
            if lock.try_lock().is_ok() {
                return Ok(Some(Block {
                    number,
                    _lock: lock,
                }));
            }
        }
        Ok(None)
    }
}

/// A port on 127.0.0.1 without a listener, which no other test gets, here or in another process.
///
/// # Errors
/// All ports are taken.
pub fn free() -> Result<u16> {
    static OURS: Mutex<Blocks> = Mutex::new(Blocks::none());
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..COUNT {
        let port = ours.next()?;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {}", FIRST + COUNT)
}

/// The first of `count` ports in a row, all of them free as in [`free`].
///
/// # Errors
/// There are none.
pub fn free_range(count: u16) -> Result<u16> {
    let mut first = free()?;
    let mut last = first;
    // Another thread may take a port in between, or one is in use.
    while last - first + 1 < count {
        let next = free()?;
        first = if next == last + 1 { first } else { next };
        last = next;
    }
    Ok(first)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Starts a server, and retries on other ports if another process took them first.
///
/// # Errors
/// Any other failure of the start.
pub async fn with_fresh_ports<T>(mut start: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES_MAX {
        match start().await {
            Err(error) if is_port_race(&format!("{error:?}")) => {}
            outcome => return outcome,
        }
    }
    start().await
}

fn is_port_race(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["address already in use", "eaddrinuse", "address in use"]
        .iter()
        .any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_port_is_given_once_and_its_block_is_this_process_own() -> Result<()> {
        let mut blocks = Blocks::none();
        let ports: BTreeSet<u16> = (0..BLOCK + 1)
            .map(|_| blocks.next())
            .collect::<Result<_>>()?;
        assert_eq!(ports.len(), usize::from(BLOCK) + 1);
        let held: BTreeSet<u16> = blocks.held.iter().map(|block| block.number).collect();
        // As another process would.
        let other = Blocks::none().claim()?.context("none is left")?;
        assert!(!held.contains(&other.number), "{held:?}, {other:?}");
        Ok(())
    }
}
