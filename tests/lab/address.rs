//! A loopback address of the lab's own, so that every lab can use Active Directory's fixed ports.

use std::fs;
use std::fs::File;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;

use tokio::process::Command;

use crate::trouble::Because;
use crate::trouble::Trouble;

/// Where labs of this machine mark their addresses as taken.
pub const RUN: &str = "/run/kerbgate-lab";

/// Ports that Samba will want; a foreign server on all addresses could hold one.
const PORTS: [u16; 4] = [88, 389, 464, 636];

/// An address that is ours while this value lives, and while its holder does.
pub struct Claim {
    pub address: Ipv4Addr,
    // The kernel lets go of the lock when the process ends, however it ends.
    _lock: File,
}

impl Claim {
    /// The address used before if it is free, else the next free one.
    ///
    /// The search begins at a place that depends on the folder, so that two labs that come and go
    /// do not take each other's address and find their domains made for another one.
    pub async fn take(folder: &Path, before: Option<Ipv4Addr>) -> Result<Self, Trouble> {
        fs::create_dir_all(RUN).because(RUN)?;
        let bytes = folder.as_os_str().as_encoded_bytes();
        let first = bytes
            .iter()
            .fold(0_u32, |sum, byte| (sum * 31 + u32::from(*byte)) % 250);
        let others = (first..first + 250)
            .filter_map(|n| u8::try_from(n % 250 + 1).ok())
            .map(|n| Ipv4Addr::new(127, 53, n, 1));
        for address in before.into_iter().chain(others) {
            let Some(lock) = locked(address)? else {
                continue;
            };
            if add(address).await? {
                return Ok(Self {
                    address,
                    _lock: lock,
                });
            }
        }
        Err(Trouble::new(
            "no free address among 127.53.1.1 to 127.53.250.1: stop a lab with `make down`",
        ))
    }

    /// Takes the address off the loopback interface.
    pub async fn give_back(self) {
        let _gone = ip("del", self.address).await;
    }
}

/// Takes an address away that a keeper which was killed has left, unless it is another's now.
pub async fn clear(address: Ipv4Addr) -> Result<(), Trouble> {
    fs::create_dir_all(RUN).because(RUN)?;
    if let Some(_lock) = locked(address)? {
        let _may_be_gone = ip("del", address).await?;
    }
    Ok(())
}

fn locked(address: Ipv4Addr) -> Result<Option<File>, Trouble> {
    let path = Path::new(RUN).join(format!("{address}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .because(path.display())?;
    Ok(file.try_lock().is_ok().then_some(file))
}

// False when somebody listens on every address at a port that Samba needs.
async fn add(address: Ipv4Addr) -> Result<bool, Trouble> {
    let _maybe_there_already = ip("del", address).await;
    let free = PORTS.iter().all(|port| port_is_free(address, *port));
    if free && !ip("add", address).await? {
        return Err(Trouble::new(format!(
            "cannot add {address} to the loopback interface: the lab needs root and iproute2"
        )));
    }
    Ok(free)
}

async fn ip(verb: &str, address: Ipv4Addr) -> Result<bool, Trouble> {
    let done = Command::new("ip")
        .args(["addr", verb, &format!("{address}/32"), "dev", "lo"])
        .output()
        .await
        .because("run ip (package iproute2)")?;
    Ok(done.status.success())
}

fn port_is_free(address: Ipv4Addr, port: u16) -> bool {
    // All of 127/8 is local, so this works before the address is added.
    TcpListener::bind(SocketAddr::from((address, port))).is_ok()
}

/// The first free port from this one on.
pub fn free_port(address: Ipv4Addr, from: u16) -> Result<u16, Trouble> {
    (from..from.saturating_add(200))
        .find(|port| port_is_free(address, *port))
        .ok_or_else(|| Trouble::new(format!("no free port on {address} from {from} on")))
}
