//! A visitor without a screen: cookies by host, redirects one by one, the emulator's sign-in form.
//!
//! Why not reqwest's own cookies and redirects: the tests want to see, change and count each hop.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use http::HeaderMap;
use http::Method;
use http::StatusCode;
use url::Url;

/// The protocol a visitor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1 only.
    Http1,
    /// Whatever ALPN settles on: HTTP/2 with Kerbgate.
    Http2,
}

/// One answer, with the address that gave it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where the walk ended.
    pub url: Url,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// A header's value as text, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }

    /// Who arrived at the backend.
    pub fn remote_user(&self) -> &str {
        self.header("x-remote-user")
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A browser's state: cookies by host, and one connection pool.
#[derive(Clone, Debug)]
pub struct Visitor {
    client: reqwest::Client,
    /// Cookies by host, by name.
    pub cookies: BTreeMap<String, BTreeMap<String, String>>,
    /// Headers sent with each navigation.
    pub headers: HeaderMap,
    /// Most redirects in one walk.
    pub hops: usize,
    /// Whether a waiting page is waited out, as a browser does.
    pub waits: bool,
}

impl Visitor {
    /// A visitor who trusts the authority in `ca` and reaches every `*.localhost` on loopback.
    pub fn new(ca: &Path, speaks: Speaks) -> Self {
        let pem = std::fs::read(ca).expect("the lab's CA file is readable");
        let ca = reqwest::Certificate::from_pem(&pem).expect("the lab's CA file is PEM");
        let mut builder = reqwest::Client::builder()
            .tls_certs_only([ca])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(60));
        let names = [
            "login",
            "intranet",
            "timesheet",
            "wiki",
            "entra",
            "api",
            "other",
            "undelegated",
            "refusing",
            "a.tenants",
            "b-2.tenants",
        ];
        for name in names {
            let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            builder = builder.resolve(&format!("{name}.localhost"), loopback);
        }
        if speaks == Speaks::Http1 {
            builder = builder.http1_only();
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            "accept",
            "text/html,application/xhtml+xml".parse().expect("ASCII"),
        );
        headers.insert("sec-fetch-mode", "navigate".parse().expect("ASCII"));
        headers.insert("sec-fetch-dest", "document".parse().expect("ASCII"));
        headers.insert("accept-language", "en".parse().expect("ASCII"));
        Self {
            client: builder.build().expect("a client can be built"),
            cookies: BTreeMap::new(),
            headers,
            hops: 20,
            waits: true,
        }
    }

    /// The `Cookie` header for `url`'s host.
    pub fn cookie_header(&self, url: &Url) -> Option<String> {
        let jar = self.cookies.get(url.host_str()?)?;
        let pairs: Vec<_> = jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// One request, no redirect followed; cookies are sent and kept.
    pub async fn once(
        &mut self,
        method: Method,
        url: &Url,
        form: Option<&[(&str, &str)]>,
    ) -> reqwest::Result<Answer> {
        let mut request = self
            .client
            .request(method, url.clone())
            .headers(self.headers.clone());
        if let Some(cookies) = self.cookie_header(url) {
            request = request.header("cookie", cookies);
        }
        if let Some(form) = form {
            request = request.form(form);
        }
        let response = request.send().await?;
        self.answer(url, response).await
    }

    async fn answer(&mut self, url: &Url, response: reqwest::Response) -> reqwest::Result<Answer> {
        let status = response.status();
        let headers = response.headers().clone();
        self.keep_cookies(url, &headers);
        let body = response.text().await?;
        Ok(Answer {
            url: url.clone(),
            status,
            headers,
            body,
        })
    }

    /// The answer from `url` to a request made with [`Self::request`]; its cookies are kept.
    pub async fn take(&mut self, url: &Url, response: reqwest::Response) -> Answer {
        self.answer(url, response)
            .await
            .expect("the answer can be read")
    }

    /// A bare request of the visitor's client, with the cookies for `url`: for what `once` cannot do.
    pub fn request(&self, method: Method, url: &Url) -> reqwest::RequestBuilder {
        let request = self.client.request(method, url.clone());
        match self.cookie_header(url) {
            Some(cookies) => request.header("cookie", cookies),
            None => request,
        }
    }

    fn keep_cookies(&mut self, url: &Url, headers: &HeaderMap) {
        let jar = self
            .cookies
            .entry(url.host_str().unwrap_or("").to_owned())
            .or_default();
        for line in headers.get_all("set-cookie") {
            let Ok(cookie) = cookie::Cookie::parse(line.to_str().unwrap_or("")) else {
                continue;
            };
            let gone =
                cookie.max_age().is_some_and(|age| age.is_zero()) || cookie.value().is_empty();
            if gone {
                jar.remove(cookie.name());
            } else {
                jar.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
    }

    /// Opens `url` and follows redirects and waiting pages, as a browser's address bar would.
    pub async fn open(&mut self, url: &str) -> reqwest::Result<Answer> {
        let mut url: Url = url.parse().expect("the test names a URL");
        let began = Instant::now();
        let mut hops = 0;
        loop {
            let answer = self.once(Method::GET, &url, None).await?;
            if let Some(next) = redirect(&answer).filter(|_| hops < self.hops) {
                hops += 1;
                url = next;
                continue;
            }
            // The waiting page asks to come back; a browser does so by itself.
            if self.waits
                && !answer.header("refresh").is_empty()
                && began.elapsed() < Duration::from_secs(30)
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            return Ok(answer);
        }
    }

    /// Opens `url` as `login`: at the emulator's sign-in page that person's button is pressed.
    pub async fn open_as(&mut self, login: &str, url: &str) -> reqwest::Result<Answer> {
        let page = self.open(url).await?;
        if !page.body.contains("name=\"login\"") {
            return Ok(page);
        }
        let answer = self.press(&page, login).await?;
        match redirect(&answer) {
            Some(next) => self.open(next.as_str()).await,
            None => Ok(answer),
        }
    }

    /// Presses `login`'s button on the emulator's sign-in `page`; no redirect followed.
    pub async fn press(&mut self, page: &Answer, login: &str) -> reqwest::Result<Answer> {
        let fields = hidden_fields(&page.body);
        let mut form: Vec<(&str, &str)> = fields
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        form.push(("login", login));
        let action = attribute(&page.body, "<form", "action").map_or_else(
            || page.url.clone(),
            |action| page.url.join(&action).expect("a form's action"),
        );
        self.once(Method::POST, &action, Some(&form)).await
    }
}

/// Where `answer` redirects to; a page that goes on at once counts, as it does for a browser without scripts.
pub fn redirect(answer: &Answer) -> Option<Url> {
    if answer.status.is_redirection() {
        return answer.url.join(answer.header("location")).ok();
    }
    let page = answer.body.split("http-equiv=\"refresh\"").nth(1)?;
    let content = value_of(page.split('>').next()?, "content")?;
    answer.url.join(content.strip_prefix("0; url=")?).ok()
}

/// All hidden fields of a page's forms.
pub fn hidden_fields(html: &str) -> Vec<(String, String)> {
    html.split("<input")
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap_or(""))
        .filter(|tag| tag.contains("type=\"hidden\""))
        .filter_map(|tag| {
            Some((
                value_of(tag, "name")?,
                value_of(tag, "value").unwrap_or_default(),
            ))
        })
        .collect()
}

fn attribute(html: &str, tag: &str, name: &str) -> Option<String> {
    let rest = html.split(tag).nth(1)?;
    value_of(rest.split('>').next()?, name)
}

fn value_of(tag: &str, name: &str) -> Option<String> {
    let rest = tag.split(&format!("{name}=\"")).nth(1)?;
    let value = rest.split('"').next()?;
    Some(
        value
            .replace("&quot;", "\"")
            .replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&#x27;", "'")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&#60;", "<")
            .replace("&#62;", ">")
            .replace("&amp;", "&")
            .replace("&#38;", "&"),
    )
}
