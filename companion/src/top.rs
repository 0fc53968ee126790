//! `unitring top`: a running companion on a terminal, renewed each second; or as text, for scripts.
//!
//! # Layout, in the order of the flow
//!
//! | module | what |
//! |---|---|
//! | `flags` | the command line |
//! | `sampler` | the companion's answers → samples (shell) |
//! | `answers` | what of an answer is shown |
//! | `sample` | the companion's answers at one moment, and the requests for them |
//! | `rate` | counters of several samples → rates (pure) |
//! | `views` | a sample and the rates → a table (pure) |
//! | `table` | the rows in order, those that the filter leaves, widths of columns (pure) |
//! | `keys` | a key → what it means now (pure) |
//! | `state` | the state of the display, and how an action changes it (pure) |
//! | `model` | samples and keys → the screen (pure) |
//! | `draw` | the screen → widgets |
//! | `frames` | the screen → plain text, without a terminal (shell) |
//! | `terminal` | keys, signals and samples → the model; the model → the terminal (shell) |
//!
//! Invariant: a cell is one line of visible characters, for names with any content.

mod answers;
mod draw;
#[cfg(test)]
mod fixtures;
mod flags;
mod frames;
mod keys;
mod model;
mod rate;
mod sample;
mod sampler;
mod state;
mod table;
mod terminal;
mod views;

use std::io::{IsTerminal as _, stdin, stdout};

use crate::client::ask::AskError;
use model::Model;
use state::State;

pub(crate) use flags::TopFlags;
pub(crate) use sample::View;

/// Shows the companion until the operator quits, or for the given number of frames.
///
/// # Errors
/// [`AskError`]: a flag is wrong, or the companion never answered. Otherwise the terminal or the output fails.
pub(crate) fn run(flags: TopFlags) -> anyhow::Result<()> {
    let state = State::new(&flags).map_err(AskError::Usage)?;
    let model = Model::new(state, flags.interval);
    if let Some(count) = flags.frames {
        return frames::print(model, &flags.target, flags.interval, count);
    }
    for (name, is_terminal) in [
        ("standard output", stdout().is_terminal()),
        ("standard input", stdin().is_terminal()),
    ] {
        if !is_terminal {
            let error = format!("{name} is no terminal: --frames N prints N frames as text");
            return Err(AskError::Usage(error).into());
        }
    }
    terminal::show(model, flags.target, flags.interval)
}
