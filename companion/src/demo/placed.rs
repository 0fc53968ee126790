//! Waits until the filter places the keys of a unit.

use std::time::{Duration, Instant};

use super::place::FIRST_INSTANCES;
use super::{DemoError, web};

/// How long Envoy may take until it sends keys to all instances.
const PLACED_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until the filter places requests, and Envoy finds all instances healthy.
pub(super) async fn placed(listener: u16, admin: u16) -> Result<(), DemoError> {
    let begin = Instant::now();
    let service = format!("http://127.0.0.1:{listener}/");
    let eligible = format!(
        "http://127.0.0.1:{admin}/stats?filter=%5Ewasmcustom.unitring.orders.instances_eligible%24"
    );
    let awaited = format!(": {}", FIRST_INSTANCES.len());
    loop {
        let seen = match web::request("GET", &service, "").await {
            Ok(answer) if answer.status == 200 && answer.reason.is_some() => {
                let stat = web::request("GET", &eligible, "").await;
                match stat {
                    Ok(stat) if stat.body.trim_end().ends_with(&awaited) => return Ok(()),
                    Ok(stat) => stat.body,
                    Err(error) => error,
                }
            }
            Ok(answer) => format!("{} {}", answer.status, answer.body),
            Err(error) => error,
        };
        if begin.elapsed() > PLACED_TIMEOUT {
            let waited = PLACED_TIMEOUT.as_secs();
            return Err(DemoError::Request(format!(
                "requests are not placed after {waited} s: {seen}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
