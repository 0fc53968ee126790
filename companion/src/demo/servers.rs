//! Redis and RabbitMQ, for two units.

use std::path::Path;

use tokio::process::Command;

use super::child::Child;
use super::ports::Ports;
use super::programs::{Programs, Servers};
use super::{DemoError, create, web, write};

#[derive(Debug)]
pub(super) struct Redis {
    pub(super) port: u16,
    process: Child,
}

impl Redis {
    pub(super) async fn start(
        servers: &Servers,
        folder: &Path,
        ports: &mut Ports,
    ) -> Result<Self, DemoError> {
        let port = ports.server()?;
        let mut command = Command::new(&servers.redis);
        // As docs/group.md recommends: every write is on disk before its answer.
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args([
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]);
        let process = Child::start("redis", command, folder)?;
        process.ready(async || web::listens(port).await).await?;
        Ok(Self { port, process })
    }

    pub(super) async fn ended(&self) -> DemoError {
        self.process.ended().await
    }
}

/// The RabbitMQ between the units, with a port mapper of its own.
#[derive(Debug)]
pub(super) struct Broker {
    port: u16,
    node: Child,
    _mapper: Child,
}

impl Broker {
    pub(super) async fn start(
        programs: &Programs,
        folder: &Path,
        ports: &mut Ports,
    ) -> Result<Self, DemoError> {
        let Some(servers) = &programs.servers else {
            return Err(DemoError::Missing("one unit needs no broker".to_owned()));
        };
        let folder = folder.join("rabbitmq");
        create(&folder)?;
        let (port, mapper_port, distribution) = (ports.server()?, ports.server()?, ports.server()?);
        // Otherwise Erlang starts one as a daemon, which outlives the demo.
        let mut command = Command::new(&servers.epmd);
        command.args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"]);
        let mapper = Child::start("epmd", command, &folder)?;
        mapper
            .ready(async || web::listens(mapper_port).await)
            .await?;
        // Instead of this machine's /etc/rabbitmq.
        write(&folder.join("rabbitmq.conf"), "")?;
        let mut command = Command::new(&servers.rabbitmq);
        command
            .env("HOME", &folder)
            .env("ERL_EPMD_PORT", mapper_port.to_string())
            .env("RABBITMQ_NODENAME", format!("unitring{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("environment"));
        let node = Child::start("rabbitmq", command, &folder)?;
        node.ready(async || web::listens(port).await).await?;
        Ok(Self {
            port,
            node,
            _mapper: mapper,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub(super) async fn ended(&self) -> DemoError {
        self.node.ended().await
    }
}
