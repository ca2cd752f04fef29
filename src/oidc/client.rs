//! The HTTP client towards the issuer: https only, no redirects, bounded answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use reqwest::redirect;
use serde::de::DeserializeOwned;

use super::error::Error;
use super::settings::Trust;

/// A client that trusts what the settings say.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
}

impl Client {
    /// Builds the client.
    ///
    /// # Errors
    /// The file of root certificates is unreadable or holds none.
    pub fn new(trust: &Trust) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            // SECURITY: a token request over plain HTTP, or redirected, would hand secret and code to somebody else.
            .https_only(true)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Resolver {
                hosts: trust.hosts.clone(),
            })
            .connect_timeout(trust.connect)
            .timeout(trust.total)
            .user_agent(concat!("kerbgate/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &trust.ca_file {
            let wrong = |why: String| Error::Setting {
                setting: "ca_file",
                value: path.display().to_string(),
                why,
            };
            let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            let roots =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| wrong(innermost(&e)))?;
            if roots.is_empty() {
                return Err(wrong("holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_merge(roots);
        }
        if let Some(proxy) = &trust.proxy {
            let proxy = reqwest::Proxy::https(proxy.as_str()).map_err(|e| Error::Setting {
                setting: "proxy",
                value: proxy.to_string(),
                why: innermost(&e),
            })?;
            builder = builder.proxy(proxy);
        }
        let http = builder.build().map_err(|e| Error::Setting {
            setting: "trust",
            value: String::new(),
            why: innermost(&e),
        })?;
        Ok(Self { http })
    }

    /// The client itself.
    #[must_use]
    pub fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// Fetches a JSON document of at most `limit` bytes.
    ///
    /// # Errors
    /// No answer, no success, too large, no JSON of that shape.
    pub async fn json<T: DeserializeOwned>(&self, url: &str, limit: usize) -> Result<T, Error> {
        let (status, body) = self.send(self.http.get(url), url, limit).await?;
        if status != 200 {
            return Err(Error::Status {
                url: url.to_owned(),
                status,
            });
        }
        parse(url, &body)
    }

    /// Posts a form and returns status and body, whatever the status.
    ///
    /// # Errors
    /// No answer, or too large.
    pub async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        limit: usize,
    ) -> Result<(u16, Vec<u8>), Error> {
        self.send(self.http.post(url).form(form), url, limit).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &str,
        limit: usize,
    ) -> Result<(u16, Vec<u8>), Error> {
        let unreachable = |e: reqwest::Error| Error::Unreachable {
            url: url.to_owned(),
            cause: innermost(&e),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > limit {
                return Err(Error::Answer {
                    url: url.to_owned(),
                    why: format!("more than {limit} bytes"),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

/// Reads `body`, which came from `url`, as JSON.
///
/// # Errors
/// It is none of that shape.
pub fn parse<T: DeserializeOwned>(url: &str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| Error::Answer {
        url: url.to_owned(),
        // Position only: the text of a serde error quotes the input, and this one may be a token.
        why: format!(
            "no JSON as expected (line {}, column {})",
            e.line(),
            e.column()
        ),
    })
}

/// The cause an operator can act on: the last of the chain, not "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Configured names first. RFC 6761 6.3: names under `localhost` are the loopback address, whatever DNS says; all others go to the system.
struct Resolver {
    hosts: BTreeMap<String, IpAddr>,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        let known = self.hosts.get(&host).copied();
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = if let Some(ip) = known {
                vec![SocketAddr::new(ip, 0)]
            } else if host == "localhost" || host.ends_with(".localhost") {
                vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)]
            } else {
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect()
            };
            let addresses: reqwest::dns::Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
