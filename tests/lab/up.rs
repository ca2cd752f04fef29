//! What is typed: `up`, `down`, `status`.

use std::env;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use tokio::process::Command;

use crate::address;
use crate::demo::DemoPorts;
use crate::facts::Facts;
use crate::folder::Folder;
use crate::folder::Keeper;
use crate::folder::Started;
use crate::gateway;
use crate::keeper;
use crate::keeper::Plan;
use crate::processes;
use crate::trouble::Because;
use crate::trouble::Trouble;

/// What the lab shall be.
#[derive(clap::Args, Debug, Clone)]
pub struct Wanted {
    /// The lab's folder.
    #[arg(long, default_value = ".lab")]
    dir: PathBuf,
    /// Start Kerbgate and the Entra emulator as well, and write `demo.json`.
    #[arg(long)]
    demo: bool,
    /// Kerbgate's port (with --demo).
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// The Entra emulator's port (with --demo).
    #[arg(long, default_value_t = 8444)]
    entra_port: u16,
    /// Stop by itself when nobody has held `in-use.lock` for so many seconds.
    #[arg(long)]
    until_unused: Option<u64>,
}

/// Where a gateway of its own shall be.
#[derive(clap::Args, Debug)]
pub struct Configured {
    /// The running lab's folder.
    #[arg(long, default_value = ".lab")]
    dir: PathBuf,
    /// The folder to write into.
    #[arg(long)]
    to: PathBuf,
    /// The gateway's port.
    #[arg(long)]
    port: u16,
    /// The Entra emulator's port.
    #[arg(long)]
    entra_port: u16,
}

impl Wanted {
    fn ports(&self) -> Option<DemoPorts> {
        self.demo.then_some(DemoPorts {
            gateway: self.port,
            entra: self.entra_port,
        })
    }

    // Programs are part of it: after a new build, what runs is not what was asked for.
    fn recipe(&self) -> String {
        let lab = env::current_exe().unwrap_or_default();
        let gateway = lab
            .parent()
            .and_then(Path::parent)
            .map(|at| at.join("kerbgate"));
        let gateway = gateway.filter(|_| self.demo).unwrap_or_default();
        format!(
            "{:?} lab {} gateway {}",
            self.ports(),
            made(&lab),
            made(&gateway)
        )
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--dir={}", self.dir.display()),
            format!("--port={}", self.port),
            format!("--entra-port={}", self.entra_port),
        ];
        if self.demo {
            arguments.push("--demo".into());
        }
        if let Some(seconds) = self.until_unused {
            arguments.push(format!("--until-unused={seconds}"));
        }
        arguments
    }
}

fn made(program: &Path) -> u128 {
    let changed = fs::metadata(program).and_then(|file| file.modified()).ok();
    changed
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |age| age.as_millis())
}

/// Finds the lab running, or starts it and waits until it is ready.
pub async fn up(wanted: &Wanted) -> Result<ExitCode, Trouble> {
    let folder = Folder::open(&wanted.dir)?;
    let _turn = folder.turn()?;
    if folder.keeper_lock()?.is_none() {
        let keeper: Option<Keeper> = folder.read_json("keeper.json");
        let same = keeper.is_some_and(|keeper| keeper.recipe == wanted.recipe());
        if same && folder.path("lab.json").exists() {
            println!("found running: {}", folder.root().display());
            return Ok(ExitCode::SUCCESS);
        }
        println!("running, but not what is wanted now: stopping it first");
    }
    stop(&folder).await?;
    start(&folder, wanted).await?;
    Ok(ExitCode::SUCCESS)
}

async fn start(folder: &Folder, wanted: &Wanted) -> Result<(), Trouble> {
    let log = folder.path("logs/keeper.log");
    let out = File::create(&log).because(log.display())?;
    let errors = out.try_clone().because(log.display())?;
    let mut reader = File::open(&log).because(log.display())?;
    let myself = env::current_exe().because("find this program")?;
    // setsid: it must outlive this terminal.
    let mut keeper = Command::new("setsid")
        .arg(myself)
        .arg("keep")
        .args(wanted.arguments())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .spawn()
        .because("start the keeper")?;
    loop {
        let mut news = String::new();
        reader.read_to_string(&mut news).because(log.display())?;
        print!("{news}");
        if folder.path("lab.json").exists() {
            return Ok(());
        }
        if let Some(status) = keeper.try_wait().because("watch the keeper")? {
            let mut last = String::new();
            reader.read_to_string(&mut last).because(log.display())?;
            print!("{last}");
            return Err(Trouble::new(format!(
                "the lab did not come up ({status}), log: {}",
                log.display()
            )));
        }
        tokio::time::sleep(processes::POLL).await;
    }
}

/// Stops the lab; quiet when there is none.
pub async fn down(dir: &Path) -> Result<ExitCode, Trouble> {
    if !dir.exists() {
        println!("no lab in {}", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::open(dir)?;
    let _turn = folder.turn()?;
    stop(&folder).await?;
    println!("stopped: {}", folder.root().display());
    Ok(ExitCode::SUCCESS)
}

async fn stop(folder: &Folder) -> Result<(), Trouble> {
    if let Some(keeper) = folder.read_json::<Keeper>("keeper.json") {
        keeper.id.end(Duration::from_secs(40)).await;
    }
    // Only what a keeper that was killed could not stop.
    let left: Vec<Started> = folder.read_json("processes.json").unwrap_or_default();
    for process in left {
        process.id.end(Duration::from_secs(10)).await;
    }
    folder.forget(&["lab.json", "demo.json", "keeper.json", "processes.json"]);
    if folder.keeper_lock()?.is_none() {
        return Err(Trouble::new(format!(
            "something still holds {}",
            folder.path("keeper.lock").display()
        )));
    }
    match folder.read_json("address.json") {
        Some(left) => address::clear(left).await,
        None => Ok(()),
    }
}

/// Exit code 0 when it runs.
pub fn status(dir: &Path) -> Result<ExitCode, Trouble> {
    let folder = Folder::open(dir)?;
    let Some(facts) = folder.read_json::<Facts>("lab.json") else {
        println!("not running: {}", folder.root().display());
        return Ok(ExitCode::from(3));
    };
    if folder.keeper_lock()?.is_some() {
        println!("dead: {} (its keeper is gone)", folder.root().display());
        return Ok(ExitCode::from(3));
    }
    println!("running: {}", folder.root().display());
    println!("  domain controller {} at {}", facts.dc, facts.address);
    println!("  KRB5_CONFIG={}", facts.krb5_conf.display());
    let started: Vec<Started> = folder.read_json("processes.json").unwrap_or_default();
    for process in started {
        let state = if process.id.is_alive() {
            "runs"
        } else {
            "ended"
        };
        println!("  {} {state}, process {}", process.name, process.id.pid);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes `kerbgate.toml` and what belongs to it.
pub fn configure(wanted: &Configured) -> Result<ExitCode, Trouble> {
    let folder = Folder::open(&wanted.dir)?;
    let Some(facts) = folder.read_json::<Facts>("lab.json") else {
        return Err(Trouble::new("the lab does not run"));
    };
    let world = gateway::World {
        facts: &facts,
        listen: SocketAddr::from(([127, 0, 0, 1], wanted.port)),
        entra_port: wanted.entra_port,
    };
    gateway::write(&wanted.to, &world).because(wanted.to.display())?;
    Ok(ExitCode::SUCCESS)
}

/// The background side of [`up`].
pub async fn keep(wanted: Wanted) -> Result<ExitCode, Trouble> {
    let plan = Plan {
        folder: Folder::open(&wanted.dir)?,
        demo: wanted.ports(),
        unused: wanted.until_unused.map(Duration::from_secs),
        recipe: wanted.recipe(),
    };
    keeper::keep(&plan).await?;
    Ok(ExitCode::SUCCESS)
}
