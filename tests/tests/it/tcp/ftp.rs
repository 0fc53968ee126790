//! FTP with the shipped `ftp.yaml`, a vsftpd for each server, and curl: sessions are placed by the client's address, and
//! each transfer goes to the server of its session.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::ftp::{FtpSite, curl};
use unitring_tests::tcp::{client, connect};

const CLIENTS: u16 = 12;
/// By EPSV, which is curl's default; by PASV, to the address that the server sends; and both with TLS for the
/// session and the transfer.
const WAYS: [&[&str]; 4] = [
    &[],
    &["--disable-epsv", "--no-ftp-skip-pasv-ip"],
    &["--ssl-reqd", "--insecure"],
    &[
        "--ssl-reqd",
        "--insecure",
        "--disable-epsv",
        "--no-ftp-skip-pasv-ip",
    ],
];
const BIG: usize = 24 << 20;

async fn has_no_session(site: &FtpSite) -> Result<()> {
    until("all sessions to have ended", async || {
        let sessions = site.sessions().await?;
        ensure!(sessions == 0, "{sessions}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_way_of_passive_transfer_reaches_the_server_of_the_session() -> Result<()> {
    let site = FtpSite::start().await?;
    let mut used = BTreeSet::new();
    for number in 0..CLIENTS {
        let client = client(number);
        let name = site.server_of(client, &[]).await?;
        for way in WAYS {
            let again = site.server_of(client, way).await?;
            ensure!(
                again == name,
                "{client} was at {name}, and {again} by {way:?}"
            );
        }
        // The server stores an upload where it reads downloads.
        let sent = format!("{client}.txt");
        let path = site.servers[0].file("../sent");
        fs::write(&path, &sent)?;
        let path = path.to_str().context("no text")?.to_owned();
        // With TLS for the session alone: by TLS 1.3 a server still sends tickets while curl ends its upload. They make
        // a reset of that end, which can overtake the file; vsftpd then answers 426.
        let upload = ["--ftp-ssl-control", "--insecure", "--upload-file", &path];
        curl(site.port, client, &upload, &sent).await?;
        let server = site
            .servers
            .iter()
            .find(|server| server.name == name)
            .context("none")?;
        ensure!(
            fs::read_to_string(server.file(&sent))? == sent,
            "not at {name}"
        );
        used.insert(name);
    }
    ensure!(used.len() > 1, "{used:?} for {CLIENTS} clients");
    has_no_session(&site).await?;
    super::checks_pass(&site.envoy, "ftp", 3).await
}

/// The number of the server with this name.
fn number_of(site: &FtpSite, name: &str) -> Result<usize> {
    let number = site.servers.iter().position(|server| server.name == name);
    number.with_context(|| format!("no {name}"))
}

#[tokio::test]
async fn a_transfer_goes_on_while_another_server_dies() -> Result<()> {
    let mut site = FtpSite::start().await?;
    // Two clients of different servers.
    let mut owners = BTreeMap::new();
    for client in (0..CLIENTS).map(client) {
        owners.insert(site.server_of(client, &[]).await?, client);
    }
    let mut owners = owners.into_iter();
    let (name, client) = owners.next().context("no server")?;
    let (other, other_client) = owners.next().context("one server for all")?;
    let (stays, dies) = (number_of(&site, &name)?, number_of(&site, &other)?);
    let bytes: Vec<u8> = (0..251_u8).cycle().take(BIG).collect();
    fs::write(site.servers[stays].file("big"), &bytes)?;

    let moved = "cluster.data.upstream_cx_rx_bytes_total";
    let before = site.envoy.stat(moved).await?;
    let port = site.port;
    let slowly = ["--limit-rate", "2M"];
    let download = tokio::spawn(async move { curl(port, client, &slowly, "big").await });
    until("the transfer to be under way", async || {
        let now = site.envoy.stat(moved).await?;
        ensure!(now > before + 1_000_000, "{now}");
        Ok(())
    })
    .await?;
    site.servers[dies].kill()?;
    ensure!(!download.is_finished(), "it was too fast to tell anything");
    // Its clients have another server at once, sessions and transfers.
    for way in WAYS {
        let now = site.server_of(other_client, way).await?;
        ensure!(now != other, "the dead answer by {way:?}");
    }
    // Where it listened for transfers, the end comes at once.
    let mut dead = connect(site.servers[dies].passive, other_client).await?;
    let mut came = Vec::new();
    // An end, or a reset.
    drop(timeout(PATIENCE, dead.read_to_end(&mut came)).await?);
    ensure!(came.is_empty(), "{came:?}");
    let downloaded = download.await??;
    ensure!(downloaded == bytes, "{} bytes came", downloaded.len());

    site.servers[dies].restart().await?;
    until("its clients to be back", async || {
        let now = site.server_of(other_client, &[]).await?;
        ensure!(now == other, "{now}");
        Ok(())
    })
    .await?;
    has_no_session(&site).await
}
