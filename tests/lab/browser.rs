//! A real browser: headless Chromium, driven over the WebDriver protocol (W3C WebDriver, level 1).
//!
//! It trusts the lab because it is told the hashes of the lab's own keys; every other certificate
//! is judged as always. `*.localhost` is on loopback in Chromium by itself (RFC 6761 6.3).

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

const POLL: Duration = Duration::from_millis(50);
/// A first start of Chromium on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser window; closed, with all its processes, when dropped.
pub struct Browser {
    client: reqwest::Client,
    session: String,
    driver: Child,
    browser: Option<u64>,
    // Profile and home: nothing is left behind, nothing is brought along.
    _home: TempDir,
}

/// Something on the page.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Browser {
    /// Opens a window in which the certificates in `trusted` are believed.
    pub async fn open_window(trusted: &[&Path]) -> Self {
        let home = tempfile::tempdir().expect("a folder for the profile");
        let port = free_port();
        let driver = Command::new("/usr/bin/chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts: apt-get install chromium-driver");
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60));
        let mut browser = Self {
            client: client.build().expect("a client can be built"),
            session: format!("http://127.0.0.1:{port}"),
            driver,
            browser: None,
            _home: home,
        };
        browser.ready().await;
        let wanted = capabilities(browser._home.path(), trusted);
        let answer = browser.post("session", wanted).await;
        let id = answer["sessionId"].as_str().expect("a session");
        browser.browser = answer["capabilities"]["goog:processID"].as_u64();
        browser.session = format!("{}/session/{id}", browser.session);
        browser
    }

    async fn ready(&self) {
        let began = Instant::now();
        let status = format!("{}/status", self.session);
        while self.client.get(&status).send().await.is_err() {
            assert!(began.elapsed() < PATIENCE, "chromedriver does not answer");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Opens `url` and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.post("url", json!({"url": url})).await;
    }

    /// Where the window is.
    pub async fn url(&self) -> String {
        text(&self.get("url").await)
    }

    /// The page's title.
    pub async fn title(&self) -> String {
        text(&self.get("title").await)
    }

    /// All text of the page, as a person sees it.
    pub async fn text(&self) -> String {
        let body = self.find("body").await;
        self.text_of(&body).await
    }

    /// The first element that matches a CSS selector; waits for it.
    pub async fn find(&self, css: &str) -> Element {
        let began = Instant::now();
        loop {
            if let Some(first) = self.find_all(css).await.into_iter().next() {
                return first;
            }
            if began.elapsed() > PATIENCE {
                // What a person sees: Chromium's own error page names its error there, and its
                // source is a thousand lines in which nobody finds it.
                let (url, title) = (self.url().await, self.title().await);
                let seen = self.script("return document.body.innerText").await;
                panic!("no {css} on {url} ({title}):\n{}", text(&seen));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// All elements that match now.
    pub async fn find_all(&self, css: &str) -> Vec<Element> {
        let found = self
            .post("elements", json!({"using": "css selector", "value": css}))
            .await;
        let found = found.as_array().cloned().unwrap_or_default();
        found
            .iter()
            .map(|one| Element(text(&one[ELEMENT])))
            .collect()
    }

    /// An element's text, as a person sees it.
    pub async fn text_of(&self, element: &Element) -> String {
        text(&self.get(&format!("element/{}/text", element.0)).await)
    }

    /// An element's attribute; empty when it has none.
    pub async fn attribute(&self, element: &Element, name: &str) -> String {
        text(
            &self
                .get(&format!("element/{}/attribute/{name}", element.0))
                .await,
        )
    }

    /// Clicks the first element that matches.
    pub async fn click(&self, css: &str) {
        let element = self.find(css).await;
        self.click_on(&element).await;
    }

    /// Clicks an element.
    pub async fn click_on(&self, element: &Element) {
        self.post(&format!("element/{}/click", element.0), json!({}))
            .await;
    }

    /// Presses keys as a person would: for moving about without a mouse.
    pub async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                let key = key.to_string();
                [
                    json!({"type": "keyDown", "value": key}),
                    json!({"type": "keyUp", "value": key}),
                ]
            })
            .collect();
        self.post(
            "actions",
            json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}),
        )
        .await;
    }

    /// What a script returns: `return document.activeElement.id`.
    pub async fn script(&self, script: &str) -> Value {
        self.post("execute/sync", json!({"script": script, "args": []}))
            .await
    }

    /// The page's source.
    pub async fn source(&self) -> String {
        text(&self.get("source").await)
    }

    /// The page's cookies by name, those that scripts cannot read included.
    pub async fn cookies(&self) -> BTreeMap<String, Value> {
        let cookies = self.get("cookie").await;
        let cookies = cookies.as_array().cloned().unwrap_or_default();
        cookies
            .into_iter()
            .map(|cookie| (text(&cookie["name"]), cookie))
            .collect()
    }

    /// Sets the window's size in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        self.post("window/rect", json!({"width": width, "height": height}))
            .await;
    }

    /// Waits until the window is somewhere under `prefix`.
    pub async fn arrive(&self, prefix: &str) {
        let began = Instant::now();
        loop {
            let url = self.url().await;
            if url.starts_with(prefix) {
                return;
            }
            if began.elapsed() > PATIENCE {
                panic!("still at {url}, not at {prefix}:\n{}", self.text().await);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Writes what the window shows to `path`, a PNG file.
    pub async fn screenshot(&self, path: &Path) {
        let picture = STANDARD
            .decode(text(&self.get("screenshot").await))
            .expect("base64");
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, picture).expect("the picture can be written");
    }

    async fn get(&self, command: &str) -> Value {
        let request = self.client.get(format!("{}/{command}", self.session));
        said(command, request).await
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        let request = self
            .client
            .post(format!("{}/{command}", self.session))
            .json(&body);
        said(command, request).await
    }
}

async fn said(command: &str, request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("chromedriver answers");
    let status = answer.status();
    let mut answer: Value = answer.json().await.expect("chromedriver speaks JSON");
    let value = answer["value"].take();
    let (error, message) = (&value["error"], &value["message"]);
    assert!(
        status.is_success(),
        "webdriver {command}: {error}: {message}"
    );
    value
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium first: it leads a group of its own, and would live on without its driver.
        if let Some(pid) = self.browser {
            let kill = format!("kill -s KILL -- -{pid} {pid} 2>&-");
            drop(
                Command::new("sh")
                    .args(["-c", &kill])
                    .stderr(Stdio::null())
                    .status(),
            );
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

/// Where screenshots of the tests go: `target/screenshots/`.
pub fn pictures() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let target = program
        .ancestors()
        .find(|folder| folder.ends_with("target"));
    target.expect("it is built by cargo").join("screenshots")
}

fn capabilities(home: &Path, trusted: &[&Path]) -> Value {
    let keys: Vec<String> = trusted.iter().map(|path| key_hash(path)).collect();
    let arguments = [
        "--headless=new".to_owned(),
        "--no-sandbox".to_owned(), // it runs as root
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--no-first-run".to_owned(),
        "--no-default-browser-check".to_owned(),
        "--no-proxy-server".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--lang=en".to_owned(),
        "--window-size=1200,900".to_owned(),
        format!("--user-data-dir={}", home.join("profile").display()),
        format!("--ignore-certificate-errors-spki-list={}", keys.join(",")),
    ];
    json!({"capabilities": {"alwaysMatch": {
        "browserName": "chrome",
        "acceptInsecureCerts": false,
        "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": arguments},
    }}})
}

// SHA-256 of the SubjectPublicKeyInfo, as in RFC 7469 2.4.
fn key_hash(certificate: &Path) -> String {
    let der = CertificateDer::from_pem_file(certificate).expect("a certificate in PEM");
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("X.509");
    STANDARD.encode(digest::digest(
        &digest::SHA256,
        certificate.public_key().raw,
    ))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
