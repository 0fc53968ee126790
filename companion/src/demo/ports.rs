//! The ports of the demo: those in the shipped files, if they are free.

use std::net::{Ipv4Addr, TcpListener};

use super::DemoError;

/// The port of the first instance in the shipped files.
pub(super) const FIRST_INSTANCE: u16 = 8081;
/// The distance from a unit's ports to those of the next.
const UNIT_STEP: u16 = 10;
/// How many ports are tried from the default on.
const TRIES: u16 = 100;

#[derive(Debug, Clone, Copy)]
pub(super) struct UnitPorts {
    pub(super) listener: u16,
    pub(super) admin: u16,
    pub(super) companion: u16,
    pub(super) xds: u16,
    pub(super) control: u16,
}

impl UnitPorts {
    /// The companion's address for curl.
    pub(super) fn companion_address(self) -> String {
        format!("127.0.0.1:{}", self.companion)
    }
}

/// Gives out ports, each once.
#[derive(Debug)]
pub(super) struct Ports {
    /// The next port of `--port-base`, if it was given.
    asked: Option<u16>,
    given: Vec<u16>,
}

impl Ports {
    pub(super) fn new(base: Option<u16>) -> Self {
        Self {
            asked: base,
            given: Vec::new(),
        }
    }

    /// The ports of a unit, except those of its instances.
    pub(super) fn unit(&mut self, unit: usize) -> Result<UnitPorts, DemoError> {
        Ok(UnitPorts {
            listener: self.of_unit(10_000, unit)?,
            admin: self.of_unit(9901, unit)?,
            companion: self.of_unit(7001, unit)?,
            xds: self.of_unit(7002, unit)?,
            control: self.of_unit(7003, unit)?,
        })
    }

    pub(super) fn instance(&mut self, unit: usize) -> Result<u16, DemoError> {
        self.of_unit(FIRST_INSTANCE, unit)
    }

    /// For Redis and RabbitMQ, whose ports the shipped files do not name.
    pub(super) fn server(&mut self) -> Result<u16, DemoError> {
        self.from(7101)
    }

    fn of_unit(&mut self, default: u16, unit: usize) -> Result<u16, DemoError> {
        let step = u16::try_from(unit).unwrap_or(u16::MAX);
        self.from(default.saturating_add(step.saturating_mul(UNIT_STEP)))
    }

    fn from(&mut self, default: u16) -> Result<u16, DemoError> {
        let port = match &mut self.asked {
            Some(next) => {
                let port = *next;
                *next = next.checked_add(1).ok_or(DemoError::NoPort(port))?;
                if !is_free(port) {
                    return Err(DemoError::Taken(port));
                }
                port
            }
            None => {
                let mut ports = default..default.saturating_add(TRIES);
                let port = ports.find(|port| !self.given.contains(port) && is_free(*port));
                port.ok_or(DemoError::NoPort(default))?
            }
        };
        self.given.push(port);
        Ok(port)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
