//! A network link that can be slow, silent or cut: a TCP proxy between two servers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::ports;

/// Maximum number of bytes in a read.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks in transit in one direction; beyond it the sender waits, as on a real link.
const CHUNKS_MAX: usize = 64;

/// The state of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Bytes arrive after this delay.
    Up(Duration),
    /// Connections stay open, and no bytes arrive.
    Silent,
    /// Connections close, bytes in transit are lost, and new connections are refused.
    Cut,
}

/// A link to one server.
#[derive(Debug)]
pub struct Proxy {
    /// The port where it listens, on 127.0.0.1.
    pub port: u16,
    link: watch::Sender<Link>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Makes a link to this port on 127.0.0.1, at first without delay.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", ports::free()?)).await?;
        let (link, state) = watch::channel(Link::Up(Duration::ZERO));
        let at = listener.local_addr()?.port();
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            port: at,
            link,
            task: tokio::spawn(serve(listener, target, state)),
        })
    }

    /// Changes the state of the link, also for open connections.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.link.send_replace(Link::Cut);
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, state: watch::Receiver<Link>) {
    loop {
        let Ok((from, _)) = listener.accept().await else {
            continue;
        };
        if *state.borrow() == Link::Cut {
            continue;
        }
        tokio::spawn(join(from, target, state.clone()));
    }
}

async fn join(from: TcpStream, target: SocketAddr, mut state: watch::Receiver<Link>) {
    let Ok(to) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&from, &to] {
        // Without it a small answer waits for the next one.
        drop(stream.set_nodelay(true));
    }
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    let there = carry(from_read, to_write, state.clone());
    let back = carry(to_read, from_write, state.clone());
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = state.wait_for(|link| *link == Link::Cut) => {}
    }
}

/// Forwards bytes in one direction, each chunk after its delay and in order.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Link>) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let delays = state.clone();
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(count) => chunk.truncate(count),
            }
            let delay = match *delays.borrow() {
                Link::Up(delay) => delay,
                Link::Silent | Link::Cut => Duration::ZERO,
            };
            if sender.send((Instant::now() + delay, chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            let flows = state.wait_for(|link| *link != Link::Silent).await.is_ok();
            if !flows || to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
