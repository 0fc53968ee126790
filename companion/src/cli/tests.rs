//! docs/cli.md is what the program says of itself. `RENEW=1` writes it.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use clap::CommandFactory as _;

use super::*;
use crate::client::exit::Exit;

const HEAD: &str = "# The command line

What `unitring <command> --help` prints, and how each command ends. A test holds this page to the program.

Commands that ask a running companion take `--url` and `--token`, or `UNITRING_URL` and `UNITRING_TOKEN`; `doctor` asks one
only where `--url` says so. A flag goes over the environment, and the environment over a configuration file. A variable
that begins with `UNITRING_` and is none of these is named in a warning.

## Exit codes

| code | meaning |
|---:|---|
| 0 | the command succeeded; what it was asked about is healthy |
| 1 | the command failed, or its output could not be written (a full disk, a closed pipe); or what was asked about (`status`, `group status`) is degraded; `doctor`: there are findings at or above `--fail-on` |
| 2 | no companion answers at that address: nothing does, or another server; `group status`: no server answers; `doctor`: nothing could be reached |
| 3 | `group create`: refused, and nothing was touched |
| 4 | `data get`, `data delete`: there is no such record |
| 5 | `data put`, `data delete`: the record is not in the version that the command requires |
| 64 | the command line or the configuration is wrong; starting again does not help |
";

/// The help of a command and of all below it.
fn help(command: &clap::Command, path: &str, out: &mut String) {
    let name = format!("{path}{}", command.get_name());
    // The help without any variable set.
    let own = command.clone().bin_name(&name).term_width(100);
    let own = own.mut_args(|flag| flag.hide_env_values(true));
    let text = own.clone().render_help().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    write!(out, "\n## {name}\n\n```text\n{}\n```\n", text.trim_end()).unwrap();
    for below in command.get_subcommands() {
        help(below, &format!("{name} "), out);
    }
}

#[test]
fn the_page_of_the_command_line_is_what_the_program_says() {
    let mut page = HEAD.to_owned();
    help(&Cli::command(), "", &mut page);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    if env::var_os("RENEW").is_some() {
        fs::write(&file, &page).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == page,
        "docs/cli.md is stale: RENEW=1 cargo test -p unitring the_page_of"
    );
}

#[test]
fn the_page_names_each_exit_code() {
    for exit in Exit::ALL {
        let number = exit.number();
        assert!(HEAD.contains(&format!("\n| {number} | ")), "{exit:?}");
    }
    assert_eq!(HEAD.matches("\n| ").count(), Exit::ALL.len() + 1);
}

#[test]
fn no_variable_is_unlike_its_flag() {
    let variables = variables::known(&Cli::command());
    assert!(variables.contains("UNITRING_STORE_PATH") && variables.contains("UNITRING_URL"));
}
