//! The console at `/ui`, in a real Chromium: it shows what the API says, to readers with the role, and runs nothing
//! that a name contains.

mod access;
mod files;
mod hostile;
mod units;
mod values;

use anyhow::{Result, ensure};
use serde_json::Value;
use unitring_tests::browser::{Look, Page};
use unitring_tests::companion::Companion;

fn origin(companion: &Companion) -> String {
    format!("http://127.0.0.1:{}", companion.port)
}

/// A browser that shows the console of this companion.
async fn opened(companion: &Companion) -> Result<Page> {
    let page = Page::start(Look::DESK).await?;
    page.goes_to(&format!("{}/ui", origin(companion))).await?;
    Ok(page)
}

/// Goes to a view of the console.
async fn goes(page: &Page, view: &str, heading: &str) -> Result<()> {
    page.value(&format!("location.hash = '#/{view}'")).await?;
    let heading = serde_json::to_string(heading)?;
    page.until(&format!(
        "document.querySelector('h1')?.textContent === {heading} && [...document.querySelectorAll('.pending .note')].every(note => note.offsetParent === null)"
    ))
    .await
}

/// The rows of a table, cell by cell, as a reader sees them.
async fn rows(page: &Page, table: &str) -> Result<Vec<Vec<String>>> {
    let script = format!(
        "[...document.querySelectorAll('table[aria-label=\"{table}\"] tbody tr')]
           .map(row => [...row.cells].map(cell => cell.innerText.replace(/\\s+/g, ' ').trim()))"
    );
    Ok(serde_json::from_value(page.value(&script).await?)?)
}

/// No view is wider than a phone, and axe finds no serious barrier, in light and dark. `views` are the parts of their
/// addresses, and their headings.
async fn serves_everybody(page: &Page, views: &[(&str, &str)]) -> Result<()> {
    for look in [Look::DESK, Look::PHONE] {
        for look in [look, look.dark()] {
            page.looks(look).await?;
            for (view, heading) in views {
                goes(page, view, heading).await?;
                let wide: Value = page.value("document.documentElement.scrollWidth").await?;
                ensure!(wide == look.width, "{view} is {wide} wide at {look:?}");
                // The width changes nothing that axe judges but what is left out.
                if look.width == Look::DESK.width {
                    let barriers = page.barriers().await?;
                    ensure!(barriers.is_empty(), "{view}, {look:?}: {barriers:#?}");
                }
            }
        }
    }
    page.looks(Look::DESK).await
}
