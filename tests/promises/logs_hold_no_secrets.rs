//! For whoever sends logs to a central place: nothing in them opens anything.
//!
//! The gateway runs with the most talkative filter. A guest and a program walk through everything, failures included;
//! then everything the gateway wrote is searched for every secret that was in play.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use url::Url;

use crate::lab::Stage;
use crate::lab::gateway::CLIENT_SECRET;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::visitor::redirect;
use crate::walk::Backend;
use crate::walk::order;
use crate::walk::with;

/// Everything secret that was seen on the way, with what it is.
#[derive(Default)]
struct Secrets(BTreeSet<(String, String)>);

impl Secrets {
    fn add(&mut self, what: &str, value: &str) {
        assert!(
            value.len() >= 12,
            "{what}: {value:?} would be found by chance"
        );
        self.0.insert((value.to_owned(), what.to_owned()));
    }

    fn of_url(&mut self, url: &Url) {
        for (name, value) in url.query_pairs() {
            if matches!(
                &*name,
                "code" | "state" | "nonce" | "id" | "code_challenge" | "logout_hint"
            ) {
                self.add(&name, &value);
            }
        }
    }

    /// Walks from `url` to where it ends as `login`, noting what passes by.
    async fn walk(
        &mut self,
        visitor: &mut Visitor,
        login: &str,
        url: &str,
    ) -> crate::visitor::Answer {
        let mut next: Url = url.parse().unwrap();
        loop {
            self.of_url(&next);
            let mut answer = visitor.once(Method::GET, &next, None).await.unwrap();
            if answer.body.contains("name=\"login\"") {
                answer = visitor.press(&answer, login).await.unwrap();
            }
            self.of_jar(visitor);
            next = match redirect(&answer) {
                Some(next) => next,
                // The account is being made.
                None if !answer.header("refresh").is_empty() => answer.url,
                None => return answer,
            };
        }
    }

    fn of_jar(&mut self, visitor: &Visitor) {
        for (host, jar) in &visitor.cookies {
            for (name, value) in jar.iter().filter(|(_, value)| value.len() >= 12) {
                self.add(&format!("cookie {name} of {host}"), value);
            }
        }
    }

    fn assert_none_in(&self, place: &str, text: &str) {
        for (value, what) in &self.0 {
            assert!(
                !text.contains(value.as_str()),
                "{place} holds {what}: {}",
                around(text, value)
            );
        }
    }
}

fn around(text: &str, value: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.contains(value))
        .unwrap_or_default();
    line.chars().take(600).collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one walk, step by step")]
async fn nothing_in_a_log_opens_anything() {
    let stage = Stage::new().await;
    let backend = Backend::start().await;
    backend.publish(
        &stage,
        "other",
        "[bearer]\naudiences = [\"api://kerbgate\"]\n",
    );
    let seal_key = "canary-seal-key-0123456789abcdef0123456789";
    fs::write(stage.path("seal-key"), seal_key).unwrap();
    std::process::Command::new("chmod")
        .arg("600")
        .arg(stage.path("seal-key"))
        .status()
        .unwrap();
    stage.append(
        "kerbgate.toml",
        "[session]\nrecheck = \"1s\"\nseal_key_file = \"seal-key\"\n[log]\nfilter = \"trace\"\n",
    );
    let password = stage.lab.facts.accounts.passwords["svc-gateway"].clone();
    fs::write(stage.path("bind-password"), &password).unwrap();
    std::process::Command::new("chmod")
        .arg("600")
        .arg(stage.path("bind-password"))
        .status()
        .unwrap();
    stage.replace(
        "kerbgate.toml",
        "bind = \"kerberos\"",
        "bind = \"simple\"\nbind_name = \"svc-gateway@contoso.test\"\nbind_password_file = \"bind-password\"",
    );
    let entra = stage.entra(&[]).await;
    let mut gateway = stage.gateway().await;
    let roles = ["Intranet.User", "Timesheet.User", "Wiki.User"];
    let (login, _) = entra.new_guest("canary", &roles).await;

    let mut secrets = Secrets::default();
    secrets.add("the client secret", CLIENT_SECRET);
    secrets.add("the seal key", seal_key);
    secrets.add("the LDAP password", &password);

    // A whole visit, over both protocols: Kerberos twice, headers, a renewal, a form, sign-out.
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let mut visitor = Visitor::new(&stage.lab.facts.ca, speaks);
        for app in ["intranet", "timesheet", "wiki", "other"] {
            let page = secrets
                .walk(
                    &mut visitor,
                    &login,
                    &gateway.url(app, "/echo?q=canary-in-the-query-0001"),
                )
                .await;
            assert_eq!(
                page.status,
                200,
                "{app}: {}",
                page.header("kerbgate-reason")
            );
        }
        let before = crate::walk::counted(&entra, "token").await;
        let shared = tokio::sync::Mutex::new(&mut visitor);
        crate::lab::eventually("a renewal", async || {
            shared
                .lock()
                .await
                .open(&gateway.url("other", "/echo"))
                .await
                .unwrap();
            crate::walk::counted(&entra, "token").await > before
        })
        .await;
        visitor.headers.insert(
            "authorization",
            "Basic Y2FuYXJ5OmNhbmFyeS1wYXNzd29yZA==".parse().unwrap(),
        );
        let form = [("password", "canary-in-the-form-0002")];
        let url = gateway.url("wiki", "/echo").parse().unwrap();
        visitor.once(Method::POST, &url, Some(&form)).await.unwrap();
        visitor.headers.remove("authorization");
        let out = gateway.url("wiki", "/.kerbgate/signout").parse().unwrap();
        visitor
            .headers
            .insert("sec-fetch-site", "same-origin".parse().unwrap());
        let out = visitor.once(Method::POST, &out, Some(&[])).await.unwrap();
        secrets.of_url(&redirect(&out).unwrap());
    }
    secrets.add("the query", "canary-in-the-query-0001");
    secrets.add("the form", "canary-in-the-form-0002");
    secrets.add(
        "the browser's Authorization",
        "Y2FuYXJ5OmNhbmFyeS1wYXNzd29yZA",
    );

    // Access tokens, good and bad.
    for difference in [
        json!({}),
        json!({"sign": "foreign"}),
        json!({"claims": {"aud": "api://else"}}),
    ] {
        let mut wanted = difference.clone();
        wanted["base"] = json!({"login": login, "kind": "access-v2"});
        let token = order(&entra, "/mint", wanted).await["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut client = Visitor::new(&stage.lab.facts.ca, Speaks::Http1);
        client
            .headers
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
        client
            .once(
                Method::GET,
                &gateway.url("other", "/").parse().unwrap(),
                None,
            )
            .await
            .unwrap();
        secrets.add("an access token", &token);
        secrets.add(
            "an access token's signature",
            token.rsplit('.').next().unwrap(),
        );
    }

    // Sign-ins that fail in every way.
    for difference in [
        json!({"sign": "tampered"}),
        json!({"claims": {"nonce": "canary-nonce-00000003"}}),
    ] {
        order(&entra, "/next-id-token", difference).await;
        let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        let page = secrets
            .walk(&mut visitor, &login, &gateway.url("other", "/"))
            .await;
        assert_eq!(page.status, 401);
    }
    secrets.add("a nonce", "canary-nonce-00000003");
    for kind in ["status", "garbage", "html", "close", "truncate", "oversize"] {
        order(
            &entra,
            "/faults",
            json!({"endpoint": "token", "kind": kind}),
        )
        .await;
        let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        let page = secrets
            .walk(&mut visitor, &login, &gateway.url("other", "/"))
            .await;
        assert!(page.status.is_server_error(), "{kind}: {}", page.status);
    }
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let callback = crate::walk::to_callback(&mut visitor, &login, &gateway.url("other", "/")).await;
    let wrong = with(&callback, "code", "1.canary-code-00000004");
    crate::walk::get(&mut visitor, &wrong).await;
    crate::walk::get(
        &mut visitor,
        &with(&callback, "state", "canary-state-0000005"),
    )
    .await;
    secrets.of_url(&callback);
    secrets.add("a code", "canary-code-00000004");
    secrets.add("a state", "canary-state-0000005");
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    let planted = "canary-cookie-000006-AAAAAAAAAAAAAAAAAAAAAAA";
    crate::walk::plant(
        &mut visitor,
        "other.localhost",
        crate::walk::SESSION,
        planted,
    );
    crate::walk::get(&mut visitor, &gateway.url("other", "/").parse().unwrap()).await;
    secrets.add("a planted cookie", "canary-cookie-000006");
    gateway.process.stop().await;

    let log = gateway.log();
    for told in [
        "\"event\":\"sign-in\"",
        "\"target\":\"access\"",
        "token-signature-bad",
        "TRACE",
    ] {
        assert!(
            log.contains(told),
            "the log says {told}, or there is nothing to search"
        );
    }
    secrets.assert_none_in("the log", &log);
    // Whatever is not known here by its value: a JWT, a Negotiate token, a refresh token's form parameter.
    for (form, what) in [
        ("eyJ", "a JWT"),
        ("Negotiate YII", "a Negotiate token"),
        ("refresh_token=", "a refresh token"),
    ] {
        assert!(!log.contains(form), "{what}: {}", around(&log, form));
    }
    let bare = log.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)));
    for word in bare.filter(|word| word.starts_with("YII") && word.len() > 40) {
        // SPNEGO and Kerberos tokens begin with the ASN.1 tag 0x60.
        assert!(
            STANDARD.decode(word).is_err(),
            "a Negotiate token: {word:.60}"
        );
    }
    for headers in backend.seen() {
        let all = format!("{headers:?}");
        assert!(
            !all.contains("__Host-kerbgate") && !all.contains("Bearer "),
            "{all}"
        );
    }
    // The store keeps hashes and sealed texts: whoever copies it has no session.
    let mut stored = String::new();
    for file in fs::read_dir(stage.path("state")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            stored.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
        }
    }
    let mut not_nonces = secrets;
    // A nonce alone opens nothing and is compared as it is; the hint is the issuer's.
    not_nonces
        .0
        .retain(|(_, what)| !matches!(what.as_str(), "nonce" | "logout_hint" | "the query"));
    not_nonces.assert_none_in("the store", &stored);
}
