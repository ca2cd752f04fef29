//! Which domain controllers there are, and in which order they are asked.

use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::NameServerConfig;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::SRV;

use super::error::Error;
use crate::model::names::HostName;

/// How long an answer from DNS is believed.
const FRESH: Duration = Duration::from_secs(300);
/// How soon a failed look-up is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Where domain controllers come from.
#[derive(Clone, Debug)]
pub enum Servers {
    /// These, in order of preference.
    Listed(Vec<HostName>),
    /// DNS SRV records, those of the site first (MS-ADTS 6.3.2.3).
    Dns {
        /// The domain's DNS name.
        domain: String,
        /// The Active Directory site.
        site: Option<String>,
        /// Ask this name server instead of the system's.
        name_server: Option<IpAddr>,
    },
}

/// The list as last seen.
#[derive(Debug, Default)]
pub(super) struct Known {
    servers: Vec<HostName>,
    asked: Option<(Instant, Duration)>,
}

impl Servers {
    /// The controllers in order of preference; `known` holds what DNS said last.
    pub(super) async fn list(
        &self,
        known: &tokio::sync::Mutex<Known>,
    ) -> Result<Vec<HostName>, Error> {
        let (domain, site, name_server) = match self {
            Self::Listed(servers) if servers.is_empty() => {
                return Err(Error::NoServer {
                    reason: String::from("the list is empty"),
                });
            }
            Self::Listed(servers) => return Ok(servers.clone()),
            Self::Dns {
                domain,
                site,
                name_server,
            } => (domain, site.as_deref(), *name_server),
        };
        let mut known = known.lock().await;
        if known.asked.is_some_and(|(at, good)| at.elapsed() < good) && !known.servers.is_empty() {
            return Ok(known.servers.clone());
        }
        match look_up(domain, site, name_server).await {
            Ok(servers) => {
                known.asked = Some((Instant::now(), FRESH));
                known.servers.clone_from(&servers);
                Ok(servers)
            }
            // DNS being down takes nothing from controllers that we know already.
            Err(reason) if !known.servers.is_empty() => {
                tracing::warn!(%reason, domain, "domain controllers cannot be looked up, going on with those known");
                known.asked = Some((Instant::now(), RETRY));
                Ok(known.servers.clone())
            }
            Err(reason) => Err(Error::NoServer { reason }),
        }
    }
}

async fn look_up(
    domain: &str,
    site: Option<&str>,
    name_server: Option<IpAddr>,
) -> Result<Vec<HostName>, String> {
    let builder = match name_server {
        Some(ip) => TokioResolver::builder_with_config(
            ResolverConfig::from_name_servers(vec![NameServerConfig::udp_and_tcp(ip)]),
            TokioRuntimeProvider::default(),
        ),
        None => TokioResolver::builder_tokio().map_err(|e| e.to_string())?,
    };
    let resolver = builder.build().map_err(|e| e.to_string())?;
    let mut servers: Vec<HostName> = Vec::new();
    let mut failures = Vec::new();
    let near = site.map(|site| format!("_ldap._tcp.{site}._sites.dc._msdcs.{domain}."));
    let all = format!("_ldap._tcp.dc._msdcs.{domain}.");
    for name in near.into_iter().chain([all]) {
        match resolver.srv_lookup(name.as_str()).await {
            Ok(answer) => {
                let records = answer.answers().iter().filter_map(srv);
                let found = ordered(records.collect());
                servers.extend(
                    found
                        .into_iter()
                        .filter(|new| !servers.contains(new))
                        .collect::<Vec<_>>(),
                );
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    if servers.is_empty() {
        return Err(failures.join("; "));
    }
    Ok(servers)
}

fn srv(record: &Record) -> Option<SRV> {
    if let RData::SRV(srv) = &record.data {
        return Some(srv.clone());
    }
    None
}

/// RFC 2782: by priority; within one priority at random, heavier ones more often first.
fn ordered(mut records: Vec<SRV>) -> Vec<HostName> {
    records.sort_by_key(|srv| srv.priority);
    let mut servers = Vec::new();
    while let Some(priority) = records.first().map(|srv| srv.priority) {
        let same = records.iter().take_while(|srv| srv.priority == priority);
        let total: u32 = same.map(|srv| u32::from(srv.weight) + 1).sum();
        let mut point = random_below(total);
        let chosen = records
            .iter()
            .position(|srv| {
                let weight = u32::from(srv.weight) + 1;
                let here = point < weight;
                point = point.saturating_sub(weight);
                here
            })
            .unwrap_or(0);
        let srv = records.remove(chosen);
        servers.extend(srv.target.to_utf8().parse::<HostName>());
    }
    servers
}

fn random_below(limit: u32) -> u32 {
    let mut bytes = [0; 4];
    // Balance only, nothing depends on it: without randomness the first is as good as any.
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes) % limit.max(1),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> SRV {
        SRV::new(priority, weight, 389, Name::from_ascii(target).unwrap())
    }

    #[test]
    fn priority_orders_and_weight_shares() {
        let mut heavy_first = 0;
        for _ in 0..200 {
            let names = ordered(vec![
                record(10, 0, "far.test."),
                record(0, 900, "heavy.test."),
                record(0, 100, "light.test."),
            ]);
            assert_eq!(names.len(), 3);
            assert_eq!(names[2].as_str(), "far.test");
            heavy_first += u32::from(names[0].as_str() == "heavy.test");
        }
        assert!((140..200).contains(&heavy_first), "{heavy_first}");
    }

    #[tokio::test]
    async fn an_empty_list_is_an_error() {
        let known = tokio::sync::Mutex::default();
        assert!(Servers::Listed(vec![]).list(&known).await.is_err());
    }
}
