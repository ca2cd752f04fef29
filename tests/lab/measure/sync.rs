//! What a synchronization of guests costs: `kerbgate-lab sync`, of a running lab that is thrown away afterwards.
//!
//! First sync and a later delta beside `ldapadd` of entries with the same attributes over one connection, in turn; and how much memory a
//! plan takes over tenants of several sizes. Each round has a unit of its own, so that none is slowed by another's entries; the
//! controller's database grows all the same, and the machine has other work: so each round stands between two of `ldapadd`, and only
//! its ratio to their mean says anything.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use crate::address::free_port;
use crate::facts::Facts;
use crate::gateway;
use crate::meter::Meter;
use crate::stage::Failure;

const ADMIN: &str = "Administrator@contoso.test";
const PASSWORD: &str = "Admin.Pass.2026";
const PATIENCE: Duration = Duration::from_secs(180);

/// What is typed.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// A running lab's folder; a thousand accounts and more stay in it.
    #[arg(long, default_value = "target/measure-lab")]
    pub dir: PathBuf,
    /// The gateway's program.
    #[arg(long, default_value = "target/debug/kerbgate")]
    pub binary: PathBuf,
    /// Guests of the first sync.
    #[arg(long, default_value_t = 1_000)]
    pub guests: usize,
    /// Guests who come later.
    #[arg(long, default_value_t = 100)]
    pub delta: usize,
    /// Connections to the directory, one round with each number.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8")]
    pub connections: Vec<usize>,
    /// Tenants over which a plan is made, for its memory.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    pub tenants: Vec<usize>,
}

/// Measures and prints.
pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let facts: Facts = serde_json::from_slice(&fs::read(args.dir.join("lab.json"))?)?;
    let bench = Bench { args, facts };
    if !bench.args.connections.is_empty() {
        let mut before = bench.ldapadd()?;
        let mut rounds: Vec<(usize, f64)> = Vec::new();
        for connections in &bench.args.connections {
            let first = bench.first_and_delta(*connections).await?;
            let after = bench.ldapadd()?;
            let ratio = first / f64::midpoint(before, after);
            println!("  first sync to ldapadd before and after it: {ratio:.2}");
            rounds.push((*connections, ratio));
            before = after;
        }
        told(&mut rounds);
    }
    for people in &bench.args.tenants {
        bench.plan(*people).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The middle one of the ratios with each number of connections.
fn told(rounds: &mut [(usize, f64)]) {
    rounds.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for same in rounds.chunk_by(|a, b| a.0 == b.0) {
        let (connections, middle) = same[same.len() / 2];
        let (least, most) = (same[0].1, same[same.len() - 1].1);
        println!(
            "{connections} connections, {} rounds: {middle:.2} times ldapadd ({least:.2} to {most:.2})",
            same.len()
        );
    }
}

struct Bench {
    args: Args,
    facts: Facts,
}

/// A company of its own: a unit, a configuration, a tenant.
struct Company {
    root: TempDir,
    port: u16,
    entra: Option<Child>,
}

impl Drop for Company {
    fn drop(&mut self) {
        if let Some(mut entra) = self.entra.take() {
            drop(entra.kill());
            drop(entra.wait());
        }
    }
}

impl Bench {
    /// Milliseconds an add.
    fn ldapadd(&self) -> Result<f64, Failure> {
        let unit = self.unit()?;
        let count = self.args.guests.min(200);
        let mut entries = String::new();
        for number in 0..count {
            entry(&mut entries, &unit, number)?;
        }
        let took = self.load(&entries)?;
        println!(
            "ldapadd over one connection: {count} adds in {:.1} s, {:.1} ms each",
            took.as_secs_f64(),
            each(took, count)
        );
        Ok(each(took, count))
    }

    /// Milliseconds a step of the first sync.
    async fn first_and_delta(&self, connections: usize) -> Result<f64, Failure> {
        let (first, delta) = (self.args.guests, self.args.delta);
        let mut company = self.company(connections)?;
        let mut whole = None;
        for (what, people, new) in [
            ("first sync", first, first),
            ("delta", first + delta, delta),
        ] {
            self.start_entra(&mut company, people).await?;
            let begun = Instant::now();
            let plan = self.kerbgate(&company, &["plan", "--json"])?;
            let planned = begun.elapsed();
            let plan: Value = serde_json::from_slice(&plan)?;
            let steps = plan["steps"].as_array().map_or(0, Vec::len);
            let begun = Instant::now();
            drop(self.kerbgate(&company, &["apply", "--yes"])?);
            let took = begun.elapsed();
            whole = whole.or_else(|| Some(each(took.saturating_sub(planned), steps)));
            println!(
                "{what} of {new} guests (of {people}), {connections} connections: {steps} steps in {:.1} s with the plan, {:.1} ms each; the plan alone {:.1} s",
                took.as_secs_f64(),
                each(took.saturating_sub(planned), steps),
                planned.as_secs_f64()
            );
        }
        whole.ok_or_else(|| "nothing was measured".into())
    }

    async fn plan(&self, people: usize) -> Result<(), Failure> {
        let mut company = self.company(1)?;
        self.start_entra(&mut company, people).await?;
        let out = fs::File::create(company.root.path().join("plan.txt"))?;
        let begun = Instant::now();
        let mut plan = self
            .command(&company, &["plan", "--json"])
            .stdout(out)
            .spawn()?;
        let meter = Meter::of(plan.id())?;
        let (mut peak, mut code) = (0, None);
        while code.is_none() {
            // The most it ever was: only what comes after the last look is missed.
            peak = meter.read().map_or(peak, |reading| peak.max(reading.peak));
            tokio::time::sleep(Duration::from_millis(5)).await;
            code = plan.try_wait()?;
        }
        if !code.is_some_and(|code| code.success()) {
            return Err("the plan failed".into());
        }
        println!(
            "plan over {people} guests: {:.1} MiB at most, {:.1} s",
            peak as f64 / f64::from(1 << 20),
            begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn company(&self, connections: usize) -> Result<Company, Failure> {
        let unit = self.unit()?;
        let root = tempfile::tempdir()?;
        let address = [127, 0, 0, 1].into();
        let port = free_port(address, 21_000)?;
        let world = gateway::World {
            facts: &self.facts,
            listen: SocketAddr::from(([127, 0, 0, 1], free_port(address, 22_000)?)),
            entra_port: port,
        };
        gateway::write(root.path(), &world)?;
        let boot = root.path().join("kerbgate.toml");
        let text = fs::read_to_string(&boot)?;
        // The same people again, with names that no other round has taken.
        let names = format!("{}-", unit.get(3..8).unwrap_or_default());
        let mut text = text.replace("\"OU=Guests,", &format!("\"{unit},")).replace(
            "[mapping]\n",
            &format!("[mapping]\nsam_prefix = \"{names}\"\nupn_suffix = \"{names}x.example\"\n"),
        );
        write!(text, "\n[sync.guests]\nconnections = {connections}\n")?;
        fs::write(&boot, text)?;
        Ok(Company {
            root,
            port,
            entra: None,
        })
    }

    /// A new unit's name, below the base.
    fn unit(&self) -> Result<String, Failure> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let unit = format!("OU=m{},OU=Guests", id.get(..10).unwrap_or_default());
        let base = &self.facts.base_dn;
        self.load(&format!(
            "dn: {unit},{base}\nobjectClass: organizationalUnit\n\n"
        ))?;
        Ok(unit)
    }

    fn load(&self, entries: &str) -> Result<Duration, Failure> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), entries.replace("@BASE@", &self.facts.base_dn))?;
        let begun = Instant::now();
        let done = Command::new("ldapadd")
            .args(["-x", "-H", &format!("ldaps://{}", self.facts.ldaps)])
            .args(["-D", ADMIN, "-w", PASSWORD, "-f"])
            .arg(file.path())
            .env("LDAPTLS_REQCERT", "never")
            .output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
        }
        Ok(begun.elapsed())
    }

    async fn start_entra(&self, company: &mut Company, people: usize) -> Result<(), Failure> {
        if let Some(mut entra) = company.entra.take() {
            entra.kill()?;
            entra.wait()?;
        }
        let ready = company.root.path().join("entra.ready");
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let entra = Command::new(std::env::current_exe()?)
            .args(["entra", "--listen", &format!("127.0.0.1:{}", company.port)])
            .arg("--public-url")
            .arg(format!("https://entra.localhost:{}", company.port))
            .arg("--cert")
            .arg(&self.facts.entra_certificate)
            .arg("--key")
            .arg(&self.facts.entra_key)
            .args(["--client-secret", gateway::CLIENT_SECRET])
            .args(["--crowd", &people.to_string()])
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        company.entra = Some(entra);
        wait_for(&ready).await
    }

    fn command(&self, company: &Company, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.args.binary);
        command
            .args(["sync", "guests"])
            .args(arguments)
            .arg("--config")
            .arg(company.root.path().join("kerbgate.toml"))
            .stdin(Stdio::null());
        command
    }

    fn kerbgate(&self, company: &Company, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let done = self.command(company, arguments).output()?;
        if !done.status.success() {
            let said = [done.stdout, done.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let first = said.lines().next().unwrap_or_default().to_owned();
            return Err(first.into());
        }
        Ok(done.stdout)
    }
}

async fn wait_for(file: &Path) -> Result<(), Failure> {
    let begun = Instant::now();
    while !file.exists() {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{} does not come", file.display()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn each(took: Duration, count: usize) -> f64 {
    took.as_secs_f64() * 1_000.0 / count.max(1) as f64
}

/// An account like the gateway's own.
fn entry(text: &mut String, unit: &str, number: usize) -> Result<(), Failure> {
    let oid = uuid::Uuid::new_v4();
    let sam = format!(
        "m-{}",
        oid.simple().to_string().get(..16).unwrap_or_default()
    );
    let password = format!("\"{}{}aA1!\"", oid, "x".repeat(70));
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    write!(
        text,
        "dn: CN={sam},{unit},@BASE@\nobjectClass: user\nsAMAccountName: {sam}\nuserAccountControl: 328192\n\
         description: Shadow account of an Entra guest, kept by Kerbgate\nadminDescription: User_{oid}\n\
         msDS-ExternalDirectoryObjectId: User_{oid}\n\
         userPrincipalName: {sam}_fabrikam.example#EXT#@contoso.onmicrosoft.com\ndisplayName: Guest {number}\n\
         givenName: Guest\nsn: {number}\nmail: {sam}@fabrikam.example\nunicodePwd:: {}\n\n",
        STANDARD.encode(password)
    )?;
    Ok(())
}
