//! A warm token is made without GSS-API, and a backend cannot tell; what it costs is `make measure`'s.

use std::collections::HashSet;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kerbgate::kerberos::Delegator;
use kerbgate::kerberos::NegotiateToken;
use kerbgate::kerberos::Wrap;

use crate::alone::alone;
use crate::alone::code;
use crate::alone::http;
use crate::alone::person;

async fn made(delegator: &Delegator, who: &str, wrap: Wrap) -> NegotiateToken {
    let (who, spn) = (person(who), http("intranet"));
    delegator.negotiate(&who, &spn, wrap, None).await.unwrap()
}

/// Whom Apache sees, and its proof.
async fn arrive(backend: SocketAddr, token: &NegotiateToken) -> (String, Vec<u8>) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap();
    let answer = client
        .get(format!("http://{backend}/whoami"))
        .header("authorization", token.authorization())
        .send()
        .await
        .unwrap();
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let proof = header("www-authenticate");
    let proof = STANDARD
        .decode(proof.trim_start_matches("Negotiate "))
        .unwrap();
    (header("x-remote-user"), proof)
}

#[test]
fn a_backend_cannot_tell_the_two_ways_apart() {
    let me = concat!(module_path!(), "::a_backend_cannot_tell_the_two_ways_apart");
    alone(me, async |room| {
        let backend = room.lab.facts.backends.intranet;
        let native = room.delegator();
        let mut settings = room.settings();
        settings.general = true;
        let general = Delegator::start(settings).unwrap();
        for who in ["emma.employee", "erik.employee"] {
            for wrap in [Wrap::Spnego, Wrap::Raw, Wrap::Spnego] {
                let pair = (
                    made(&native, who, wrap).await,
                    made(&general, who, wrap).await,
                );
                assert!(!pair.0.is_general() && pair.1.is_general());
                let (seen, proof) = arrive(backend, &pair.0).await;
                let (other_seen, other_proof) = arrive(backend, &pair.1).await;
                assert_eq!(seen, format!("{who}@CONTOSO.TEST"));
                assert_eq!(seen, other_seen);
                // Each proof is good for its own token and for no other.
                let again = made(&native, who, wrap).await;
                assert_eq!(
                    code(again.verify_mutual(&proof).await).0,
                    "backend-unproved"
                );
                let again = made(&native, who, wrap).await;
                assert_eq!(
                    code(again.verify_mutual(&other_proof).await).0,
                    "backend-unproved"
                );
                pair.0.verify_mutual(&proof).await.unwrap();
                pair.1.verify_mutual(&other_proof).await.unwrap();
            }
        }
    });
}

#[test]
fn tokens_made_at_once_are_all_accepted_and_none_is_a_replay() {
    let me = concat!(
        module_path!(),
        "::tokens_made_at_once_are_all_accepted_and_none_is_a_replay"
    );
    alone(me, async |room| {
        let backend = room.lab.facts.backends.intranet;
        let delegator = room.delegator();
        drop(made(&delegator, "emma.employee", Wrap::Spnego).await);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let delegator = delegator.clone();
            all.spawn(async move {
                let token = made(&delegator, "emma.employee", Wrap::Spnego).await;
                let (seen, proof) = arrive(backend, &token).await;
                assert_eq!(seen, "emma.employee@CONTOSO.TEST");
                let bytes = token.base64();
                token.verify_mutual(&proof).await.unwrap();
                bytes
            });
        }
        let mut unlike = HashSet::new();
        while let Some(done) = all.join_next().await {
            unlike.insert(done.unwrap());
        }
        assert_eq!(unlike.len(), 60);
    });
}
