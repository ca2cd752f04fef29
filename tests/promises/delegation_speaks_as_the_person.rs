//! A backend sees the person who asked, never the gateway and never somebody else.
//!
//! The backends are Apache with their own keytabs; they trust nothing that the gateway says.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::NegotiateToken;
use kerbgate::kerberos::Wrap;

use crate::alone::alone;
use crate::alone::alone_with;
use crate::alone::code;
use crate::alone::http;
use crate::alone::person;

/// Who the backend says arrived, and the token with which it proves itself.
async fn arrive(backend: SocketAddr, token: &NegotiateToken) -> (u16, String, Vec<u8>) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let answer = client
        .get(format!("http://{backend}/whoami"))
        .header("authorization", format!("Negotiate {}", token.base64()))
        .send()
        .await
        .unwrap();
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let proof = header("www-authenticate");
    let proof = proof.strip_prefix("Negotiate ").unwrap_or_default();
    (
        answer.status().as_u16(),
        header("x-remote-user"),
        STANDARD.decode(proof).unwrap(),
    )
}

async fn token(delegator: &Delegator, who: &str, to: &str, wrap: Wrap) -> NegotiateToken {
    delegator
        .negotiate(&person(who), &http(to), wrap, None)
        .await
        .unwrap()
}

async fn everybody_arrives(delegator: &Delegator, to: &str, backend: SocketAddr) {
    for who in ["emma.employee", "erik.employee"] {
        // First from the KDC, then from the ticket held.
        for wrap in [Wrap::Spnego, Wrap::Raw, Wrap::Spnego] {
            let token = token(delegator, who, to, wrap).await;
            let (status, seen, proof) = arrive(backend, &token).await;
            assert_eq!((status, seen), (200, format!("{who}@CONTOSO.TEST")));
            token.verify_mutual(&proof).await.unwrap();
        }
    }
}

#[test]
fn classic_and_resource_based_spnego_and_raw() {
    let me = concat!(
        module_path!(),
        "::classic_and_resource_based_spnego_and_raw"
    );
    alone(me, async |room| {
        let delegator = room.delegator();
        let backends = &room.lab.facts.backends;
        for (to, backend) in [
            ("intranet", backends.intranet),
            ("timesheet", backends.timesheet),
        ] {
            everybody_arrives(&delegator, to, backend).await;
        }
    });
}

#[test]
fn a_backend_that_cannot_prove_itself_is_not_believed() {
    let me = concat!(
        module_path!(),
        "::a_backend_that_cannot_prove_itself_is_not_believed"
    );
    alone(me, async |room| {
        let delegator = room.delegator();
        let backend = room.lab.facts.backends.intranet;
        let first = token(&delegator, "emma.employee", "intranet", Wrap::Spnego).await;
        let (_, _, proof) = arrive(backend, &first).await;
        // One bit changed; the proof for another token; no proof; nonsense.
        let mut changed = proof.clone();
        let last = changed.len() - 3;
        changed[last] ^= 1;
        for wrong in [changed, proof, Vec::new(), b"nonsense".to_vec()] {
            let other = token(&delegator, "emma.employee", "intranet", Wrap::Spnego).await;
            let (code, text) = code(other.verify_mutual(&wrong).await);
            assert!(
                ["backend-unproved", "gss-failure"].contains(&code),
                "{code}: {text}"
            );
        }
    });
}

async fn one_of_many(delegator: Delegator, who: &'static str, purge: bool, backend: SocketAddr) {
    if purge {
        delegator.purge(&person(who)).await;
    }
    let made = delegator
        .negotiate(&person(who), &http("intranet"), Wrap::Spnego, None)
        .await;
    // A purge in the middle of a flight refuses; it never serves another's ticket.
    let Ok(token) = made else {
        assert_eq!(code(made).0, "tickets-purged");
        return;
    };
    assert_eq!(token.source(), &person(who));
    let (_, seen, _) = arrive(backend, &token).await;
    assert_eq!(seen, format!("{who}@CONTOSO.TEST"));
}

#[test]
fn many_people_at_once_are_not_mixed() {
    let me = concat!(module_path!(), "::many_people_at_once_are_not_mixed");
    alone(me, async |room| {
        let delegator = room.delegator();
        let backend = room.lab.facts.backends.intranet;
        let mut all = tokio::task::JoinSet::new();
        for n in 0..60 {
            let delegator = delegator.clone();
            let who = ["emma.employee", "erik.employee"][n % 2];
            all.spawn(one_of_many(delegator, who, n % 7 == 0, backend));
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
    });
}

/// The worst trap: a context that finds no credential takes the process's default one. With one lying
/// about, the gateway does not start.
#[test]
fn a_process_with_credentials_of_its_own_does_not_start() {
    let me = concat!(
        module_path!(),
        "::a_process_with_credentials_of_its_own_does_not_start"
    );
    for (name, value) in [
        ("KRB5_CLIENT_KTNAME", "FILE:/etc/krb5.keytab"),
        ("KRB5CCNAME", "FILE:/tmp/krb5cc_0"),
        ("KRB5_KTNAME", "FILE:/etc/krb5.keytab"),
        ("KRB5_CONFIG", "/etc/krb5.conf"),
    ] {
        alone_with(me, &[(name, value)], async |room| {
            let refused = Delegator::start(room.settings());
            assert_eq!(code(refused).0, "ambient-credentials");
        });
    }
}

#[test]
fn the_gateway_never_speaks_as_itself_to_an_application() {
    let me = concat!(
        module_path!(),
        "::the_gateway_never_speaks_as_itself_to_an_application"
    );
    alone(me, async |room| {
        let delegator = room.delegator();
        let refused = delegator.sasl_context(&http("intranet"), None).await;
        assert!(code(refused).1.contains("ldap/ services only"));
        let mut directory = delegator
            .sasl_context(&"ldap/dc1.contoso.test".parse().unwrap(), None)
            .await
            .unwrap();
        assert!(directory.step(None).await.unwrap().is_some());
        assert!(!directory.is_complete());
    });
}
