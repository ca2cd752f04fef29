//! Checks that ask nobody: keys, certificates, file modes; and the names that must have an address.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;

use crate::assembly;
use crate::config::sections::ClientCredential;
use crate::kerberos::KdcAddress;
use crate::listener::tls::Certificates;

use super::check;
use super::check::Check;
use super::check::mend;
use super::report::Finding;
use super::world::World;
use super::world::timed;

const DAY: i64 = 86_400;
/// Long enough to order a new certificate.
const SOON: i64 = 30 * DAY;

/// What the configuration alone shows.
pub(super) fn configuration(world: &World) -> Vec<Finding> {
    let mut findings = vec![session_key(world), file_modes(world)];
    findings.extend(certificates(world));
    findings
}

fn session_key(world: &World) -> Finding {
    let state = &world.config.gateway.state_dir;
    let file = state.join("seal.key");
    if world.config.session.seal_key.is_none() && !file.exists() {
        let proof = format!("the first start will make {}", file.display());
        return check::SESSION_KEY.ok("", proof);
    }
    match assembly::keyring(&world.config) {
        Ok(_) if world.config.session.seal_key.is_some() => {
            check::SESSION_KEY.ok("", "configured, long enough")
        }
        Ok(_) => check::SESSION_KEY.ok("", format!("{} (made by the gateway)", file.display())),
        Err(error) => check::SESSION_KEY.fault(
            "",
            error.to_string(),
            mend(
                "refresh tokens cannot be sealed, so nobody can sign in",
                format!(
                    "openssl rand -base64 48 > {}\nchmod 0600 {0}",
                    file.display()
                ),
            ),
        ),
    }
}

fn file_modes(world: &World) -> Finding {
    let config = &world.config;
    let state = &config.gateway.state_dir;
    let mut files: Vec<PathBuf> = config
        .listener
        .certificates
        .iter()
        .map(|pair| pair.key.clone())
        .collect();
    if let ClientCredential::Certificate(pair) = &config.issuer.credential {
        files.push(pair.key.clone());
    }
    files.extend(["seal.key", "assertion.key", "kerbgate.db"].map(|name| state.join(name)));
    let open: Vec<_> = files.iter().filter(|file| is_open(file)).collect();
    if open.is_empty() {
        return check::FILE_MODES.ok(
            "",
            format!("{} files, none readable by others", files.len()),
        );
    }
    let list: Vec<_> = open.iter().map(|file| file.display().to_string()).collect();
    let list = list.join(" ");
    check::FILE_MODES.warning(
        "",
        format!("readable by everybody on this machine: {list}"),
        mend(
            "a private key that others can read is not private",
            format!("chmod o= {list}"),
        ),
    )
}

fn is_open(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0)
}

fn certificates(world: &World) -> Vec<Finding> {
    let pairs: Vec<(PathBuf, PathBuf)> = world
        .config
        .listener
        .certificates
        .iter()
        .map(|pair| (pair.chain.clone(), pair.key.clone()))
        .collect();
    let loaded = match Certificates::load(&pairs) {
        Ok(loaded) => loaded,
        Err(_) if pairs.is_empty() && world.config.acme.is_some() => Certificates::default(),
        Err(errors) => {
            let proof: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let fix = "correct [[listener.certificates]]: chain (leaf first) and key, both PEM";
            let mend = mend("the listener cannot start", fix);
            return vec![check::CERTIFICATE.fault("", proof.join("; "), mend)];
        }
    };
    let hosts: BTreeSet<_> = world.config.published_names().collect();
    let mut findings: Vec<Finding> = pairs
        .iter()
        .map(|(chain, _)| expiry(chain, world.clock.unix()))
        .collect();
    let ordered = assembly::acme_settings(&world.config, &loaded).map(|acme| acme.hosts);
    findings.extend(hosts.into_iter().map(|host| {
        if ordered.iter().flatten().any(|one| one.as_str() == host) {
            return check::CERTIFICATE.ok(host, "ordered by ACME");
        }
        if loaded.covers(host) {
            return check::CERTIFICATE.ok(host, "covered");
        }
        check::CERTIFICATE.warning(
            host,
            "no certificate in [[listener.certificates]] is valid for this host",
            mend(
                "browsers that come here directly get a TLS error",
                format!("order a certificate with the DNS name {host} and add it as [[listener.certificates]]"),
            ),
        )
    }));
    findings
}

fn expiry(chain: &Path, now: i64) -> Finding {
    let subject = chain.display().to_string();
    let leaf = CertificateDer::from_pem_file(chain).map_err(|error| error.to_string());
    let end = leaf.and_then(|leaf| {
        let parsed = X509Certificate::from_der(&leaf).map_err(|error| error.to_string())?;
        Ok(parsed.1.validity().not_after.timestamp())
    });
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            return check::CERTIFICATE.fault(subject, error, mend("it cannot be read", ""));
        }
    };
    let left = end.saturating_sub(now);
    let fix = "renew it and put the new files in the old ones' place";
    match left {
        ..=0 => check::CERTIFICATE.fault(
            subject,
            format!("expired {} days ago", left.saturating_neg() / DAY),
            mend("browsers refuse the connection", fix),
        ),
        1..SOON => check::CERTIFICATE.warning(
            subject,
            format!("expires in {} days", left / DAY),
            mend("after that browsers refuse the connection", fix),
        ),
        _ => check::CERTIFICATE.ok(subject, format!("good for another {} days", left / DAY)),
    }
}

/// Every host that the gateway talks to has an address.
pub(super) async fn names(world: &World) -> Vec<Finding> {
    let mut hosts = BTreeSet::new();
    let mut add = |host: Option<&str>| hosts.extend(host.map(str::to_owned));
    let config = &world.config;
    add(config.issuer.metadata.host_str());
    if let Some(graph) = &config.issuer.graph {
        add(graph.host_str());
    }
    if world.needs_accounts()
        && let Some(directory) = &config.directory
    {
        directory
            .servers
            .iter()
            .for_each(|server| add(Some(server.as_str())));
    }
    if world.needs_tickets()
        && let Some(kerberos) = &config.kerberos
    {
        let kdcs = kerberos
            .kdcs
            .iter()
            .filter_map(|kdc| kdc.parse::<KdcAddress>().ok());
        kdcs.for_each(|kdc| add(Some(&kdc.host)));
    }
    for app in &world.applications {
        app.backends
            .iter()
            .for_each(|backend| add(backend.url.host_str()));
    }
    join_all(
        hosts
            .iter()
            .map(|host| timed(check::NAME, host, name(check::NAME, world, host))),
    )
    .await
}

async fn name(check: Check, world: &World, host: &str) -> Finding {
    const PATIENCE: Duration = Duration::from_secs(6);
    if let Some(address) = world.listed(host) {
        return check.ok(host, format!("{address} by [hosts]"));
    }
    if host == "localhost" || host.ends_with(".localhost") {
        return check.ok(host, "this machine (RFC 6761)");
    }
    let missing = |proof: String| {
        let fix = format!(
            "resolvectl query {host}\nor name its address in [hosts]: \"{host}\" = \"10.0.0.1\""
        );
        check.fault(
            host,
            proof,
            mend("the name has no address on this machine", fix),
        )
    };
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, 0))).await {
        Err(_) => missing(format!(
            "DNS did not answer within {} s",
            PATIENCE.as_secs()
        )),
        Ok(Err(error)) => missing(error.to_string()),
        Ok(Ok(addresses)) => {
            let all: BTreeSet<_> = addresses.map(|address| address.ip().to_string()).collect();
            if all.is_empty() {
                return missing(String::from("DNS has no address"));
            }
            check.ok(host, all.into_iter().collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_last_day() {
        let made = rcgen::generate_simple_self_signed(vec![String::from("a.example")]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let chain = folder.path().join("chain.pem");
        fs::write(&chain, made.cert.pem()).unwrap();
        let parsed = X509Certificate::from_der(made.cert.der()).unwrap().1;
        let end = parsed.validity().not_after.timestamp();
        for (now, state) in [
            (end + 1, State::Fault),
            (end, State::Fault),
            (end - DAY, State::Warning),
            (end - 31 * DAY, State::Ok),
        ] {
            assert_eq!(expiry(&chain, now).state, state, "{now}");
        }
        fs::write(&chain, "nonsense").unwrap();
        assert_eq!(expiry(&chain, 0).state, State::Fault);
    }
}
