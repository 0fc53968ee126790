//! An instance of a TCP service: greets, returns each line, and closes at the line `quit` or with
//! the client's input.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;

/// A longer line is returned in pieces of this size, so that a connection needs no more memory.
const PIECE_BYTES: u64 = 4096;
/// A connection that could not be accepted, for lack of files for example, waits for this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, id: String) {
    loop {
        let Ok((connection, client)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let greeting = greeting(&id, client);
        // A client that breaks off is no error here.
        tokio::spawn(async move { converse(connection, &greeting).await.ok() });
    }
}

/// Behind Envoy the connection is Envoy's.
fn greeting(id: &str, client: SocketAddr) -> String {
    format!("instance {id}, connection from {client}\n")
}

async fn converse(connection: impl AsyncRead + AsyncWrite, greeting: &str) -> io::Result<()> {
    let (input, mut output) = tokio::io::split(connection);
    let mut input = BufReader::new(input);
    output.write_all(greeting.as_bytes()).await?;
    let (mut piece, mut begins_line) = (Vec::new(), true);
    loop {
        piece.clear();
        let mut rest = (&mut input).take(PIECE_BYTES);
        let is_end = rest.read_until(b'\n', &mut piece).await? == 0;
        let is_quit = begins_line && piece.trim_ascii_end() == b"quit";
        if is_end || is_quit {
            return output.shutdown().await;
        }
        output.write_all(&piece).await?;
        begins_line = piece.ends_with(b"\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a client that sends this and then closes its half of the connection.
    async fn heard(sent: &[u8]) -> Vec<u8> {
        let (client, server) = tokio::io::duplex(64);
        let server = tokio::spawn(async move { converse(server, "hello\n").await });
        let (mut input, mut output) = tokio::io::split(client);
        let sent = sent.to_vec();
        let send = tokio::spawn(async move {
            // An instance that ends at `quit` does not read the rest.
            drop(output.write_all(&sent).await);
            drop(output.shutdown().await);
        });
        let mut heard = Vec::new();
        input.read_to_end(&mut heard).await.unwrap();
        send.await.unwrap();
        server.await.unwrap().unwrap();
        heard
    }

    #[tokio::test]
    async fn each_line_comes_back_until_the_client_closes_its_half() {
        assert_eq!(heard(b"").await, b"hello\n");
        assert_eq!(heard(b"one\r\n\ntwo").await, b"hello\none\r\n\ntwo");
    }

    #[tokio::test]
    async fn the_line_quit_ends_the_connection_and_no_other_line_does() {
        assert_eq!(heard(b"one\nquit\ntwo\n").await, b"hello\none\n");
        assert_eq!(heard(b"quit\r\n").await, b"hello\n");
        assert_eq!(heard(b"quite\n quit\n").await, b"hello\nquite\n quit\n");
    }

    #[tokio::test]
    async fn a_line_longer_than_a_piece_comes_back_whole_and_its_end_is_no_line() {
        let mut line = vec![b'x'; usize::try_from(PIECE_BYTES).unwrap()];
        line.extend(b"quit\nlast");
        assert_eq!(heard(&line).await, [b"hello\n", line.as_slice()].concat());
    }

    #[test]
    fn the_greeting_names_the_instance_first() {
        let client = SocketAddr::from(([127, 0, 0, 1], 40_312));
        assert_eq!(
            greeting("b", client),
            "instance b, connection from 127.0.0.1:40312\n"
        );
    }
}
