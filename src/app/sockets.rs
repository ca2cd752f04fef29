//! The sockets that are listened on: handed over by the service manager (sd_listen_fds(3)), or bound here.
//!
//! Sockets of a role (`https`, `http`, `ops`: their `FileDescriptorName=`) that were handed over take the
//! place of the configured addresses of that role. They stay open while we are restarted, so connections
//! wait in their queue instead of being refused. `LISTEN_PID` and `LISTEN_FDS` stay in the environment:
//! we start no other program.

use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;

use listenfd::ListenFd;

use crate::app::StartError;
use crate::app::generation::note;
use crate::config::Config;

/// Everything that is listened on.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) https: Vec<TcpListener>,
    pub(super) http: Vec<TcpListener>,
    pub(super) ops: Vec<TcpListener>,
}

impl Sockets {
    /// Takes what was handed over and binds the rest.
    pub(super) async fn open(config: &Config) -> Result<Self, StartError> {
        let mut wrong = Vec::new();
        let mut sockets = Self::default();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        note(&mut wrong, sockets.take(ListenFd::from_env(), &names));
        let listener = &config.listener;
        let ops: Vec<SocketAddr> = listener.ops.into_iter().collect();
        for (key, addresses, role) in [
            ("listener.https", &listener.https, &mut sockets.https),
            ("listener.http", &listener.http, &mut sockets.http),
            ("listener.ops", &ops, &mut sockets.ops),
        ] {
            if !role.is_empty() {
                continue;
            }
            for address in addresses {
                role.extend(note(&mut wrong, bind(key, *address).await));
            }
        }
        if wrong.is_empty() {
            Ok(sockets)
        } else {
            Err(StartError(wrong))
        }
    }

    fn take(&mut self, mut handed: ListenFd, names: &str) -> Result<(), String> {
        let mut names = names.split(':');
        for index in 0..handed.len() {
            let name = names.next().unwrap_or("");
            let role = match name {
                "https" => &mut self.https,
                "http" => &mut self.http,
                "ops" => &mut self.ops,
                _ => {
                    return Err(format!(
                        "LISTEN_FDNAMES: socket {index} is called {name:?}; wanted: FileDescriptorName=https, http or ops"
                    ));
                }
            };
            let taken = handed.take_tcp_listener(index);
            let socket = taken.map_err(|e| format!("LISTEN_FDS: socket {index} ({name}): {e}"))?;
            let Some(socket) = socket else {
                continue;
            };
            socket
                .set_nonblocking(true)
                .map_err(|e| format!("LISTEN_FDS: socket {index} ({name}): {e}"))?;
            if let Ok(address) = socket.local_addr() {
                tracing::info!(%address, name, "a socket was handed over");
            }
            role.push(socket);
        }
        Ok(())
    }

    /// Writes the addresses into `ready_file` as JSON.
    pub(super) fn announce(&self, ready_file: Option<&Path>) -> Result<(), StartError> {
        let Some(path) = ready_file else {
            return Ok(());
        };
        let shown = |role: &[TcpListener]| {
            let address = role.first().and_then(|socket| socket.local_addr().ok());
            address.map(|address| address.to_string())
        };
        let content = serde_json::json!({
            "listen": shown(&self.https),
            "http": shown(&self.http),
            "ops": shown(&self.ops),
            "pid": std::process::id(),
        });
        // Renamed into place: whoever waits for the file never reads half of it.
        let draft = path.with_extension("draft");
        let written =
            fs::write(&draft, content.to_string()).and_then(|()| fs::rename(&draft, path));
        written.map_err(|error| StartError::one(format!("{}: {error}", path.display())))
    }
}

/// tokio's own way of binding: it sets `SO_REUSEADDR`, without which a restart waits for old connections.
async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, String> {
    let bound = tokio::net::TcpListener::bind(address)
        .await
        .and_then(tokio::net::TcpListener::into_std);
    bound.map_err(|error| format!("{key}: {address} cannot be bound: {error}"))
}
