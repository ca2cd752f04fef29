//! A demo that runs: what `demo.json` and `lab.json` beside it say, read by those who load and measure it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::facts::Facts;
use crate::meter::Meter;

/// What loading and measuring may fail with: text for a person.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A running demo.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What the demo says of itself.
    pub demo: Demo,
    /// The lab behind it.
    pub lab: Facts,
}

/// `demo.json`, as far as it is needed.
#[derive(Clone, Debug, Deserialize)]
pub struct Demo {
    /// The gateway's program.
    pub binary: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// The authority of every certificate.
    pub ca: PathBuf,
    /// The emulator's v2 issuer.
    pub issuer: Url,
    /// What is published.
    pub apps: Vec<App>,
    /// Processes by name.
    pub pids: BTreeMap<String, u32>,
    /// Log files by name.
    pub logs: BTreeMap<String, PathBuf>,
}

/// A published application.
#[derive(Clone, Debug, Deserialize)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Where it is published.
    pub url: Url,
    /// How people are signed in to it, in words.
    pub sso: String,
}

impl App {
    /// Its host's first label: short and the same in every demo.
    pub fn label(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.split('.').next().unwrap_or_default()
    }

    /// True when people arrive there with a ticket.
    pub fn is_kerberos(&self) -> bool {
        self.sso.contains("kerberos")
    }
}

impl Stage {
    /// Reads `demo.json` and the `lab.json` beside it.
    pub fn read(demo: &Path) -> Result<Self, Failure> {
        let lab = demo.with_file_name("lab.json");
        let stage = Self {
            demo: json(demo)?,
            lab: json(&lab)?,
        };
        for app in &stage.demo.apps {
            // A load generator that can be pointed at somebody else's server is a weapon.
            if !app
                .url
                .host_str()
                .is_some_and(|host| host.ends_with(".localhost"))
            {
                return Err(format!("{} is not on this machine's loopback", app.url).into());
            }
        }
        Ok(stage)
    }

    /// The gateway's process.
    pub fn gateway(&self) -> Result<Meter, Failure> {
        let pid = self
            .demo
            .pids
            .get("kerbgate")
            .ok_or("demo.json names no pid of kerbgate")?;
        Meter::of(*pid).map_err(|error| format!("kerbgate (pid {pid}): {error}").into())
    }

    /// The application whose host begins with `label`.
    pub fn app(&self, label: &str) -> Result<&App, Failure> {
        let found = self.demo.apps.iter().find(|app| app.label() == label);
        found.ok_or_else(|| format!("demo.json has no application on {label}.localhost").into())
    }

    /// Where the value of `header` comes from for `app`, by the application's own file.
    pub fn header_source(&self, app: &App, header: &str) -> Result<String, Failure> {
        let config = table(&self.demo.config)?;
        let folder = config
            .get("gateway")
            .and_then(|gateway| gateway.get("applications"))
            .and_then(toml::Value::as_str)
            .unwrap_or("apps");
        let folder = self.demo.config.with_file_name(folder);
        for entry in
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?
        {
            let file = table(&entry?.path())?;
            if file.get("published_url").and_then(toml::Value::as_str) != Some(app.url.as_str()) {
                continue;
            }
            let set = file
                .get("sso")
                .and_then(|sso| sso.get("headers")?.get("set")?.as_table());
            let source = set
                .into_iter()
                .flatten()
                .find(|(name, _)| name.eq_ignore_ascii_case(header))
                .and_then(|(_, source)| source.as_str());
            return source
                .map(str::to_owned)
                .ok_or_else(|| format!("{} does not set {header}", app.name).into());
        }
        Err(format!("no file in {} publishes {}", folder.display(), app.url).into())
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(path).map_err(|error| told(&error))?;
    serde_json::from_slice(&text).map_err(|error| told(&error).into())
}

fn table(path: &Path) -> Result<toml::Table, Failure> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| told(&error))?;
    text.parse().map_err(|error| told(&error).into())
}
