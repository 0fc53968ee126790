//! A program on a terminal: keys go in, and the screen is what it drew.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use vt100::Parser;

use crate::deadline::until;
use crate::process::Process;

/// A terminal, and the program that runs on it.
#[derive(Debug)]
pub struct Terminal {
    process: Process,
    /// Our end: what is written to it are keys.
    ours: File,
    /// The program's end, which stays open so that its state outlives the program.
    theirs: File,
    screen: Arc<Mutex<Drawn>>,
}

/// The screen that a program drew.
struct Drawn(Parser);

impl std::fmt::Debug for Drawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Terminal {
    /// Starts a program on a terminal with this many lines and columns.
    ///
    /// # Errors
    /// There is no terminal, or the program cannot be started.
    pub fn start(name: &str, command: &Command, (lines, columns): (u16, u16)) -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let path = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = File::from(open(path.as_c_str(), flags, Mode::empty())?);
        let ours = File::from(ours);
        tcsetwinsize(&ours, size(lines, columns))?;
        let screen = Arc::new(Mutex::new(Drawn(Parser::new(lines, columns, 0))));
        let process = Process::start_on(name, command, &theirs)?;
        let (mut output, drawn) = (ours.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // It ends with the terminal.
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                let bytes = bytes.get(..length).unwrap_or_default();
                lock(&drawn).0.process(bytes);
            }
        });
        Ok(Self {
            process,
            ours,
            theirs,
            screen,
        })
    }

    /// Presses these keys. Before the size changes, wait for their effect: where both are read at the same time, the
    /// key is taken with the next one alone.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.ours.write_all(keys.as_bytes())?)
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// The system refuses.
    pub fn resize(&self, lines: u16, columns: u16) -> Result<()> {
        lock(&self.screen).0.screen_mut().set_size(lines, columns);
        Ok(tcsetwinsize(&self.ours, size(lines, columns))?)
    }

    pub fn screen(&self) -> String {
        lock(&self.screen).0.screen().contents()
    }

    /// The words of each line on the screen.
    pub fn words(&self) -> Vec<Vec<String>> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        self.screen().lines().map(words).collect()
    }

    /// The colours of letters that are on the screen, besides that of plain text.
    pub fn colours(&self) -> Vec<vt100::Color> {
        let drawn = lock(&self.screen);
        let screen = drawn.0.screen();
        let (lines, columns) = screen.size();
        let places = (0..lines).flat_map(|line| (0..columns).map(move |column| (line, column)));
        let cells = places.filter_map(|(line, column)| screen.cell(line, column));
        let colours = cells
            .filter(|cell| cell.has_contents())
            .map(vt100::Cell::fgcolor);
        colours
            .filter(|colour| *colour != vt100::Color::Default)
            .collect()
    }

    /// Waits until some letters have a colour.
    ///
    /// # Errors
    /// None ever has.
    pub async fn has_colours(&self) -> Result<()> {
        until("colours on the screen", async || {
            ensure!(!self.colours().is_empty(), "\n{}", self.screen());
            Ok(())
        })
        .await
    }

    /// Waits until the screen no longer has this text.
    ///
    /// # Errors
    /// It always has.
    pub async fn shows_no_more(&self, text: &str) -> Result<()> {
        until(&format!("no {text:?} on the screen"), async || {
            let screen = self.screen();
            ensure!(!screen.contains(text), "\n{screen}");
            Ok(())
        })
        .await
    }

    /// Waits until the screen has this text.
    ///
    /// # Errors
    /// It never has, or the program ended.
    pub async fn shows(&mut self, text: &str) -> Result<()> {
        until(&format!("{text:?} on the screen"), async || {
            let screen = self.screen();
            ensure!(screen.contains(text), "\n{screen}");
            Ok(())
        })
        .await
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// It does not end.
    pub async fn ends(&mut self) -> Result<ExitStatus> {
        until("the program to end", async || {
            let status = self.process.exited()?;
            status
                .with_context(|| format!("it shows\n{}", lock(&self.screen).0.screen().contents()))
        })
        .await
    }

    /// Waits until the terminal is as it was before the program: it echoes, reads lines, shows its cursor and its
    /// first screen.
    ///
    /// # Errors
    /// It never is.
    pub async fn is_restored(&self) -> Result<()> {
        until("the terminal to be restored", async || {
            let modes = tcgetattr(&self.theirs)?.local_modes;
            let wanted = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            ensure!(modes.contains(wanted), "{modes:?}");
            let drawn = lock(&self.screen);
            let screen = drawn.0.screen();
            ensure!(!screen.alternate_screen(), "the other screen is shown");
            ensure!(!screen.hide_cursor(), "the cursor is hidden");
            Ok(())
        })
        .await
    }
}

fn lock(screen: &Mutex<Drawn>) -> MutexGuard<'_, Drawn> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size(lines: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: lines,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
