//! What one warm Negotiate token costs, both ways in turn, in one process: `kerbgate-lab token`.
//!
//! Processor time of all threads of the process (the general way computes on threads of its own), from
//! `/proc/self/task/*/schedstat`, in nanoseconds.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::Settings;
use kerbgate::kerberos::Wrap;
use kerbgate::kerberos::environment;

use crate::facts::Facts;
use crate::measure::median::median;
use crate::stage::Failure;

const FOLDER: &str = "KERBGATE_LAB_TOKEN_FOLDER";

/// What is typed.
#[derive(clap::Args, Debug, Clone)]
pub struct Args {
    /// A running lab's folder.
    #[arg(long, default_value = ".lab")]
    pub dir: PathBuf,
    /// Rounds, both ways in each.
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Tokens of each kind in a round.
    #[arg(long, default_value_t = 5_000)]
    pub tokens: u32,
}

/// Measures and prints.
pub async fn run(args: Args) -> Result<ExitCode, Failure> {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        // libkrb5's environment is the process's, and must be there before the first thread.
        let folder = std::env::temp_dir().join(format!("kerbgate-token-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut again = Command::new(std::env::current_exe()?);
        again.args(std::env::args_os().skip(1));
        again.envs(environment(&folder)).env(FOLDER, &folder);
        return Err(again.exec().into());
    };
    let facts: Facts = serde_json::from_slice(&fs::read(args.dir.join("lab.json"))?)?;
    let mut settings = Settings::new(
        format!("svc-gateway@{}", facts.realm).parse()?,
        facts.realm.parse()?,
        facts.keytabs.gateway.clone(),
        vec![facts.kdc.to_string().parse()?],
        folder.clone(),
    );
    let native = Delegator::start(settings.clone())?;
    settings.general = true;
    let general = Delegator::start(settings)?;
    let mut micros = [Vec::new(), Vec::new()];
    for round in 0..=args.rounds {
        for (way, delegator) in [&native, &general].into_iter().enumerate() {
            let spent = spent(delegator, &facts.realm, args.tokens, way == 1).await?;
            // The first round fetches the tickets.
            if round > 0 {
                micros[way].push(spent);
            }
        }
    }
    fs::remove_dir_all(&folder)?;
    println!(
        "one warm token, µs of processor time, median of {} rounds of {}: {:.1} here, {:.1} by GSS-API",
        args.rounds,
        args.tokens,
        median(&micros[0]),
        median(&micros[1])
    );
    Ok(ExitCode::SUCCESS)
}

async fn spent(
    delegator: &Delegator,
    realm: &str,
    tokens: u32,
    general: bool,
) -> Result<f64, Failure> {
    let who = format!("emma.employee@{realm}").parse()?;
    let spn = "HTTP/intranet.contoso.test".parse()?;
    let before = processor()?;
    for _ in 0..tokens {
        let token = delegator.negotiate(&who, &spn, Wrap::Spnego, None).await?;
        if token.is_general() != general || token.authorization().len() < 500 {
            return Err("the token was made the other way".into());
        }
    }
    Ok((processor()? - before) as f64 / 1000.0 / f64::from(tokens))
}

/// Nanoseconds on a processor, of all threads that live.
fn processor() -> Result<u64, Failure> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split(' ').next().ok_or("an odd schedstat")?;
        sum += first.parse::<u64>()?;
    }
    Ok(sum)
}
