//! A real Chromium without a window, driven by its DevTools protocol over a pair of pipes: no port, and no library,
//! whose bindings of the whole protocol would take longer to build than all tests.
//!
//! Invariant: every fault of the page is remembered ([`Page::faults`]), even if no test asks for it.

mod pipe;

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::deadline;
use crate::programs;
use pipe::Pipe;

/// How a page is shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width of the window in CSS pixels.
    pub width: u32,
    pub height: u32,
    /// Whether the system prefers dark colours.
    pub is_dark: bool,
}

impl Look {
    /// A desk's screen.
    pub const DESK: Self = Self {
        width: 1440,
        height: 900,
        is_dark: false,
    };
    /// A phone's.
    pub const PHONE: Self = Self {
        width: 390,
        height: 844,
        is_dark: false,
    };

    /// The same in dark colours.
    #[must_use]
    pub fn dark(self) -> Self {
        Self {
            is_dark: true,
            ..self
        }
    }
}

/// A running browser with one page.
#[derive(Debug)]
pub struct Page {
    pipe: Pipe,
    session: String,
    _browser: Child,
    _profile: TempDir,
}

impl Page {
    /// Starts a browser.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(look: Look) -> Result<Self> {
        let profile = TempDir::with_prefix("unitring-browser-")?;
        let mut browser = Command::new("sh")
            // The browser reads commands from descriptor 3 and answers on 4.
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2"])
            .arg(programs::part("chromium")?)
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-sync", "--disable-component-update"])
            .args(["--disable-background-networking", "--hide-scrollbars"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(fs::File::create(profile.path().join("browser.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let to = browser.stdin.take().context("no pipe to the browser")?;
        let from = browser.stdout.take().context("no pipe from the browser")?;
        let pipe = Pipe::new(to, from);
        let made = pipe.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let target = made.await?;
        let asked = json!({"targetId": part(&target, "/targetId"), "flatten": true});
        let attached = pipe.call(None, "Target.attachToTarget", asked).await?;
        let session = part(&attached, "/sessionId")
            .as_str()
            .context("no session")?;
        let page = Self {
            session: session.to_owned(),
            pipe,
            _browser: browser,
            _profile: profile,
        };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({})).await?;
        }
        page.looks(look).await?;
        Ok(page)
    }

    async fn call(&self, method: &str, parameters: Value) -> Result<Value> {
        self.pipe
            .call(Some(&self.session), method, parameters)
            .await
    }

    /// Shows it in another way.
    ///
    /// # Errors
    /// The browser is gone.
    pub async fn looks(&self, look: Look) -> Result<()> {
        let size = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", size)
            .await?;
        let scheme = if look.is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await?;
        Ok(())
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// No server answers at the URL.
    pub async fn goes_to(&self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({"url": url})).await?;
        let error = part(&gone, "/errorText").as_str();
        ensure!(error.is_none(), "{url}: {error:?}");
        Ok(())
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// It throws.
    pub async fn value(&self, expression: &str) -> Result<Value> {
        self.value_in(None, expression).await
    }

    async fn value_in(&self, context: Option<&Value>, expression: &str) -> Result<Value> {
        let mut asked =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        if let (Some(context), Some(fields)) = (context, asked.as_object_mut()) {
            fields.insert("contextId".to_owned(), context.clone());
        }
        let mut found = self.call("Runtime.evaluate", asked).await?;
        if let Some(thrown) = found.get("exceptionDetails") {
            bail!("{expression:.200}: {thrown}");
        }
        let value = found.pointer_mut("/result/value");
        Ok(value.map(Value::take).unwrap_or_default())
    }

    /// Waits until an expression is true; otherwise the error has the text of the page.
    ///
    /// # Errors
    /// It never is.
    pub async fn until(&self, expression: &str) -> Result<()> {
        deadline::until(expression, async || {
            if self.value(expression).await? == json!(true) {
                return Ok(());
            }
            let text = self.value("document.body.innerText").await?;
            bail!("the page says: {}", text.as_str().unwrap_or_default())
        })
        .await
    }

    /// Presses a key, as `Tab`, `Enter` or `/`.
    ///
    /// # Errors
    /// The browser is gone.
    pub async fn presses(&self, key: &str) -> Result<()> {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowDown" => 40,
            _ => 0,
        };
        let text = match key {
            "Enter" => "\r",
            _ if code == 0 => key,
            _ => "",
        };
        let kind = if text.is_empty() {
            "rawKeyDown"
        } else {
            "keyDown"
        };
        let down = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text});
        self.call("Input.dispatchKeyEvent", down).await?;
        let up = json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", up).await?;
        Ok(())
    }

    /// Types a text into the element with the focus.
    ///
    /// # Errors
    /// The browser is gone.
    pub async fn types(&self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({"text": text})).await?;
        Ok(())
    }

    /// A picture of the window as PNG, in base64.
    ///
    /// # Errors
    /// The browser is gone.
    pub async fn picture(&self) -> Result<String> {
        let asked = json!({"format": "png"});
        let shot = self.call("Page.captureScreenshot", asked).await?;
        let data = part(&shot, "/data").as_str().context("no picture")?;
        Ok(data.to_owned())
    }

    /// The serious and critical findings of axe-core, a line each.
    ///
    /// # Errors
    /// It does not run, or judges nothing.
    pub async fn barriers(&self) -> Result<Vec<String>> {
        let tree = self.call("Page.getFrameTree", json!({})).await?;
        let frame = part(&tree, "/frameTree/frame/id");
        // A world of its own, since the page's policy lets nothing in.
        let world = json!({"frameId": frame, "worldName": "axe"});
        let world = self.call("Page.createIsolatedWorld", world).await?;
        let context = Some(part(&world, "/executionContextId"));
        let script = fs::read_to_string(programs::axe()?)?;
        self.value_in(context, &format!("{script}; true")).await?;
        let judged = self.value_in(context, JUDGE).await?;
        let passed = part(&judged, "/passed").as_u64().unwrap_or_default();
        ensure!(passed > 10, "axe judged nothing: {judged}");
        let found = part(&judged, "/found").as_array().context("no list")?;
        let serious =
            |one: &&Value| matches!(part(one, "/impact").as_str(), Some("serious" | "critical"));
        Ok(found.iter().filter(serious).map(Value::to_string).collect())
    }

    /// Exceptions, lines of the console that are errors, violations of the page's policy, and requests to other
    /// origins than `origin`. Failed requests with a status in `expected` are left out.
    pub fn faults(&self, origin: &str, expected: &[u16]) -> Vec<String> {
        let heard = self.pipe.heard();
        heard
            .iter()
            .filter_map(|event| fault(event, origin, expected))
            .collect()
    }

    /// The addresses of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.pipe.heard().iter().filter_map(requested).collect()
    }
}

const JUDGE: &str = "axe.run(document, {resultTypes: ['violations']}).then(judged => ({
  passed: judged.passes.length,
  found: judged.violations.map(one => ({
    id: one.id, impact: one.impact, where: one.nodes.slice(0, 3).map(node => node.html + ' ' + node.failureSummary),
  })),
}))";

/// A part of an answer, or null.
fn part<'a>(of: &'a Value, path: &str) -> &'a Value {
    of.pointer(path).unwrap_or(&Value::Null)
}

fn requested(event: &Value) -> Option<String> {
    let is_request = part(event, "/method") == "Network.requestWillBeSent";
    let url = part(event, "/params/request/url").as_str()?;
    is_request.then(|| url.to_owned())
}

fn fault(event: &Value, origin: &str, expected: &[u16]) -> Option<String> {
    let about = part(event, "/params");
    match part(event, "/method").as_str()? {
        "Runtime.exceptionThrown" => Some(about.to_string()),
        "Runtime.consoleAPICalled"
            if matches!(part(about, "/type").as_str(), Some("error" | "assert")) =>
        {
            Some(about.to_string())
        }
        "Log.entryAdded" => {
            let entry = part(about, "/entry");
            let text = part(entry, "/text").as_str().unwrap_or_default();
            let is_expected = expected
                .iter()
                .any(|status| text.contains(&format!("status of {status}")));
            let is_bad = part(entry, "/level") == "error" || part(entry, "/source") == "security";
            (is_bad && !is_expected).then(|| entry.to_string())
        }
        _ => {
            let url = requested(event)?;
            let is_ours =
                url.starts_with(origin) || url.starts_with("data:") || url == "about:blank";
            (!is_ours).then(|| format!("a request to {url}"))
        }
    }
}
