//! A fault of the module costs one choice, and never Envoy.

use anyhow::{Result, ensure};
use unitring_tests::envoy::{keys, send};
use unitring_tests::programs;
use unitring_tests::shell::Shell;
use unitring_tests::site::Site;

#[tokio::test]
async fn a_panic_in_a_choice_is_counted_and_the_request_served() -> Result<()> {
    let module = programs::trapping_native()?;
    let site = Site::start_in(Shell::Native, 2, |config| Ok(config.module(&module))).await?;
    let before = site.envoy.owners(&keys(50)).await?;
    for number in 0..20 {
        let request = site.envoy.request("/").header("x-trap", "1");
        let request = request.header("x-user-id", format!("user-{number}"));
        let answer = send(request).await?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    ensure!(site.envoy.ours("faults").await? == 20);
    let log = site.envoy.log();
    ensure!(log.contains("a fault of the module in a choice"), "{log}");
    // The module goes on as if nothing had happened.
    site.envoy.has_owners(&before).await
}
