//! `unitring demo`: starts, describes and stops Envoy with the filter or the native module, the companion and four
//! instances, of HTTP or of TCP; with two units also a Redis for each, and RabbitMQ between them.
//!
//! | module | what |
//! |---|---|
//! | `programs` | where Envoy, the filter or module, and the servers are |
//! | `ports` | which ports are used |
//! | `child` | a process with its log |
//! | `instance` | an instance, built in, for HTTP and for TCP |
//! | `servers` | Redis and RabbitMQ |
//! | `configuration` | Envoy's, from a shipped file |
//! | `placed` | waits until requests go to all instances |
//! | `place` | one unit of all these |
//! | `suggestions` | the commands that are printed |
//! | `control` | instances that are added and killed while it runs |
//! | `web` | requests to the programs of the demo |

mod child;
mod configuration;
mod control;
mod instance;
mod place;
mod placed;
mod ports;
mod programs;
mod servers;
mod suggestions;
mod web;

use std::fs::DirBuilder;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::demo::DemoFlags;
use crate::output::{self, OutputError};
use instance::Instance;
use place::{Ground, Place};
use ports::Ports;
use programs::Programs;
use servers::Broker;

const UNITS: [&str; 2] = ["east", "west"];

/// The protocol of the demo's service.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http,
    Tcp,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A required program or file is missing; the text says how to get it.
    #[error("{0}")]
    Missing(String),
    /// This Envoy cannot run the filter.
    #[error("{0}")]
    Envoy(String),
    /// A file that a flag names can't be used.
    #[error("{flag} {path}: {why}")]
    Flag {
        flag: String,
        path: PathBuf,
        /// The reason, and the way out.
        why: String,
    },
    /// A requested port is taken.
    #[error("port {0} is in use: choose another --port-base")]
    Taken(u16),
    /// No port is free in the range that was tried.
    #[error("no port from {0} on is free")]
    NoPort(u16),
    /// A file or folder of the demo failed.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("start {name}: {source}")]
    Start {
        name: String,
        source: std::io::Error,
    },
    /// A program ended, or did not become ready.
    #[error("{name} {what}; the end of {log}:\n{tail}", log = log.display())]
    Program {
        name: String,
        what: String,
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A shipped configuration lacks a piece that the demo changes.
    #[error("the files of envoy/ in this build do not fit: not exactly one `{0}`")]
    Configuration(&'static str),
    /// The output of the demo cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A request of the demo itself failed.
    #[error("{0}")]
    Request(String),
}

/// Starts everything, prints what to try, and runs until `stop` completes or a program ends.
///
/// # Errors [`DemoError`]; every started program is stopped.
pub(crate) async fn run(flags: DemoFlags, stop: impl Future<Output = ()>) -> Result<(), DemoError> {
    let protocol = if flags.tcp {
        Protocol::Tcp
    } else {
        Protocol::Http
    };
    let play = async {
        if flags.only_instances {
            only_instances(protocol, flags.port_base).await
        } else {
            play(protocol, &flags).await
        }
    };
    tokio::select! {
        outcome = play => outcome?,
        () = stop => {}
    }
    // A terminal that is closed ends the demo, and reads no more.
    drop(say("\nstopped"));
    Ok(())
}

/// Starts only the instances; they run until this is dropped. Another process names their ports, so other free ones
/// would not do.
async fn only_instances(protocol: Protocol, port_base: Option<u16>) -> Result<(), DemoError> {
    let mut ports = Ports::new(port_base.or(Some(ports::FIRST_INSTANCE)));
    let mut instances = Vec::new();
    for id in place::FIRST_INSTANCES {
        instances.push(Instance::start(protocol, id, ports.instance(0)?).await?);
    }
    let each = instances
        .iter()
        .map(|instance| format!("{} {}", instance.id, instance.address()));
    say(&format!(
        "instances  {}\nCtrl-C stops them.",
        each.collect::<Vec<_>>().join("   ")
    ))?;
    std::future::pending().await
}

async fn play(protocol: Protocol, flags: &DemoFlags) -> Result<(), DemoError> {
    let programs = Programs::find(flags)?;
    let folder = folder(flags)?;
    say(&format!("logs and data in {}", folder.display()))?;
    let names = UNITS.get(..usize::from(flags.units)).unwrap_or_default();
    let mut ports = Ports::new(flags.port_base);
    let broker = if names.len() > 1 {
        say("starting RabbitMQ, which takes some seconds")?;
        Some(Broker::start(&programs, &folder, &mut ports).await?)
    } else {
        None
    };
    let (mut places, mut controls) = (Vec::new(), Vec::new());
    for (index, name) in names.iter().enumerate() {
        say(&match names.len() {
            1 => "starting Envoy, the companion, four instances".to_owned(),
            _ => format!("starting {name}"),
        })?;
        let ground = Ground {
            protocol,
            programs: &programs,
            folder: &folder,
            index,
            name,
            others: names
                .iter()
                .copied()
                .filter(|other| other != name)
                .collect(),
            broker: broker.as_ref(),
        };
        let place = Arc::new(Place::start(&ground, &mut ports).await?);
        let listener = control::bind(place.ports.control).await?;
        controls.push(control::serve(Arc::clone(&place), listener));
        places.push(place);
    }
    for place in &places {
        say(&format!("\n{}", place.describe(names.len() > 1)))?;
    }
    match places.as_slice() {
        [here, there] => say(&format!(
            "\n{}",
            suggestions::in_two_units(protocol, &here.name, here.ports, there.ports)
        ))?,
        [place] => say(&format!(
            "\nTry:\n{}",
            suggestions::in_one_unit(protocol, programs.shell.explains(), place.ports)
        ))?,
        _ => {}
    }
    say("\nCtrl-C stops all of it.")?;
    let processes = places.iter().map(|place| place.ended());
    tokio::select! {
        outcome = futures::future::try_join_all(controls) => outcome.map(|_| ()),
        (error, ..) = futures::future::select_all(processes.map(Box::pin)) => Err(error),
        error = broker_ended(broker.as_ref()) => Err(error),
    }
}

async fn broker_ended(broker: Option<&Broker>) -> DemoError {
    match broker {
        Some(broker) => broker.ended().await,
        None => std::future::pending().await,
    }
}

/// The folder of `--folder`, which may have data of an earlier demo, or a new one.
fn folder(flags: &DemoFlags) -> Result<PathBuf, DemoError> {
    let folder = match &flags.folder {
        Some(folder) => {
            create(folder)?;
            folder.clone()
        }
        None => new_folder()?,
    };
    // Absolute, since each program runs in a folder of its own.
    folder.canonicalize().map_err(|source| DemoError::File {
        path: folder,
        source,
    })
}

/// A new folder that other users cannot have made or open.
fn new_folder() -> Result<PathBuf, DemoError> {
    let mut number = 0;
    loop {
        let name = format!("unitring-demo-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(DemoError::File { path, source }),
        }
    }
}

fn create(folder: &Path) -> Result<(), DemoError> {
    std::fs::create_dir_all(folder).map_err(|source| DemoError::File {
        path: folder.to_owned(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    std::fs::write(path, text).map_err(|source| DemoError::File {
        path: path.to_owned(),
        source,
    })
}

fn say(line: &str) -> Result<(), DemoError> {
    Ok(output::line(line)?)
}
