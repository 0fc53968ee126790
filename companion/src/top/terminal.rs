//! Keys, signals and samples → the model; the model → the terminal.
//!
//! Invariant: the terminal is restored once this ends, whether the operator quits, a signal comes, the terminal fails
//! or the program panics.

use std::env;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::draw;
use super::keys::Key;
use super::model::Model;
use super::sample::{Sample, Want};
use super::sampler::{Asking, Sampler};
use crate::client::Target;
use crate::client::ask::AskError;
use crate::clock;

/// How often the screen is drawn although nothing came: how long ago the companion answered is on it.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// An event for the terminal's loop.
enum Input {
    Key(Key),
    /// The terminal has another size.
    Resized,
    Answer(Box<(Want, Result<Sample, AskError>)>),
    /// A signal, or the terminal is gone.
    Stop,
    /// A thread ended by itself.
    Lost(&'static str),
}

/// Restores the terminal when it is dropped. A panic does so before it prints.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // It may be gone.
        drop(ratatui::try_restore());
    }
}

/// Says that its thread has ended.
struct Alive {
    name: &'static str,
    inputs: Sender<Input>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // The receiver is gone once the program ends.
        drop(self.inputs.send(Input::Lost(self.name)));
    }
}

/// Shows the companion until the operator quits.
///
/// # Errors
/// The companion never answered, a flag is wrong, or the terminal fails.
pub(super) fn show(mut model: Model, target: Target, interval: Duration) -> anyhow::Result<()> {
    let start = clock::now();
    let (inputs, coming) = channel();
    // Before the terminal changes: a signal needs a handler that restores it.
    signals(&inputs)?;
    let answers = Alive {
        name: "asking the companion",
        inputs: inputs.clone(),
    };
    let sampler = Sampler::start(target, interval, start, move |want, answer| {
        let answered = Box::new((want, answer));
        answers.inputs.send(Input::Answer(answered)).is_ok()
    });
    let sampler = sampler.context("start a thread")?;
    let _restored = Restored;
    let mut terminal = ratatui::try_init().context("the terminal")?;
    keys(&inputs).context("start a thread")?;
    let screen = Screen {
        has_colours: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        start,
    };
    screen.run(&mut model, &mut terminal, &sampler, &coming)
}

struct Screen {
    has_colours: bool,
    start: Instant,
}

impl Screen {
    fn run(
        &self,
        model: &mut Model,
        terminal: &mut DefaultTerminal,
        sampler: &Sampler,
        coming: &Receiver<Input>,
    ) -> anyhow::Result<()> {
        let mut want = model.state.want();
        sampler.ask(Asking::Always(want.clone()));
        let mut unanswered: Option<AskError> = None;
        let mut has_answered = false;
        while !model.state.has_ended {
            self.draw(model, terminal).context("the terminal")?;
            let was_paused = model.state.is_paused;
            match coming.recv_timeout(DRAW_EVERY) {
                Ok(Input::Key(key)) => model.press(key),
                Ok(Input::Answer(answered)) => match *answered {
                    (_, Err(error @ AskError::Usage(_))) => return Err(error.into()),
                    (asked, Err(error)) => {
                        model.take(&asked, Err(error.to_string()));
                        unanswered = Some(error);
                    }
                    (asked, Ok(sample)) => {
                        has_answered = true;
                        model.take(&asked, Ok(sample));
                    }
                },
                Ok(Input::Resized) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Input::Stop) => break,
                Ok(Input::Lost(what)) => bail!("{what} ended"),
                Err(RecvTimeoutError::Disconnected) => bail!("the threads ended"),
            }
            let now = model.state.want();
            let is_paused = model.state.is_paused;
            if now != want || is_paused != was_paused {
                sampler.ask(match (is_paused, now != want) {
                    (false, _) => Asking::Always(now.clone()),
                    // A view that is opened while it is paused has to show something.
                    (true, true) => Asking::Once(now.clone()),
                    (true, false) => Asking::Never,
                });
                want = now;
            }
        }
        match unanswered {
            Some(error) if !has_answered => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn draw(&self, model: &mut Model, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let now = clock::since(self.start);
        let height = terminal.size()?.height;
        model.state.page = draw::page(height, model.screen(now).notes.len());
        let screen = model.screen(now);
        terminal.draw(|frame| draw::draw(frame, &screen, self.has_colours))?;
        Ok(())
    }
}

/// Reads keys for as long as the program runs.
fn keys(inputs: &Sender<Input>) -> io::Result<()> {
    let alive = Alive {
        name: "reading keys",
        inputs: inputs.clone(),
    };
    let reading = move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(key)) => match meant(key) {
                    Some(key) => Input::Key(key),
                    None => continue,
                },
                Ok(Event::Resize(..)) => Input::Resized,
                Ok(_) => continue,
                Err(_) => Input::Stop,
            };
            let is_last = matches!(input, Input::Stop);
            if alive.inputs.send(input).is_err() || is_last {
                return;
            }
        }
    };
    let named = thread::Builder::new().name("keys".to_owned());
    named.spawn(reading).map(drop)
}

fn meant(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    Some(match key.code {
        KeyCode::Char(character) => Key::Char(character),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

/// Passes on the signals that end a program.
fn signals(inputs: &Sender<Input>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }
        .enable_io()
        .build()
        .context("start the runtime")?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    drop(guard);
    let inputs = inputs.clone();
    let waiting = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        // The program may have ended meanwhile.
        drop(inputs.send(Input::Stop));
    };
    let named = thread::Builder::new().name("signals".to_owned());
    named.spawn(waiting).map(drop).context("start a thread")
}
