//! An application's backends prove who they are as its own file says, and are shown who the gateway is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Method;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::lab::Stage;
use crate::lab::eventually;
use crate::one_backend_may_die::State;
use crate::one_backend_may_die::serve;
use crate::visitor::Answer;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::world;

/// Known to nobody but the test's own authority.
const NAME: &str = "inside.test";

/// A backend that takes only clients of its own authority, whose files lie beside the configuration.
async fn backend(stage: &Stage) -> (SocketAddr, Arc<State>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    std::fs::write(stage.path("pin.pem"), ca.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (
            params.signed_by(&key, &issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    };
    let (client, client_key) = issue("gateway.test");
    std::fs::write(stage.path("client.pem"), client).unwrap();
    std::fs::write(stage.path("client.key"), client_key).unwrap();
    let (shown, key) = issue(NAME);
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(shown.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::<State>::default();
    let shared = Arc::clone(&state);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, state).await;
                }
            });
        }
    });
    (address, state)
}

const PIN: &str = "ca_file = \"../pin.pem\"\n";
const CLIENT: &str = "client_certificate = \"../client.pem\"\nclient_key = \"../client.key\"\n";
const OVERRIDE: &str = "server_name = \"inside.test\"\n";

/// Publishes `wiki/<id>/` before the backend, without sign-in.
fn publish(stage: &Stage, id: &str, address: SocketAddr, tls: &str) {
    let text = format!(
        "name = \"{id}\"\npublished_url = \"{}\"\nbackend_urls = [\"https://{address}/\"]\n\
         pass_through = true\n[backend_tls]\n{tls}",
        stage.url("wiki", &format!("/{id}/"))
    );
    std::fs::write(stage.path(&format!("apps/{id}.toml")), text).unwrap();
}

async fn get(visitor: &mut Visitor, stage: &Stage, id: &str) -> Answer {
    let url = stage.url("wiki", &format!("/{id}/page")).parse().unwrap();
    visitor.once(Method::GET, &url, None).await.unwrap()
}

#[tokio::test]
async fn authority_name_and_client_certificate_are_the_applications_own() {
    let (stage, _) = world("").await;
    let (address, state) = backend(&stage).await;
    let count = || state.count.load(Ordering::SeqCst);
    publish(&stage, "all", address, &[PIN, CLIENT, OVERRIDE].concat());
    publish(&stage, "authority", address, &[CLIENT, OVERRIDE].concat());
    publish(&stage, "name", address, &[PIN, CLIENT].concat());
    publish(&stage, "nobody", address, &[PIN, OVERRIDE].concat());
    let _entra = stage.entra(&[]).await;
    let gateway = stage.gateway().await;
    let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
    for id in ["authority", "name", "nobody"] {
        let answer = get(&mut visitor, &stage, id).await;
        assert_eq!(answer.status, 502, "{id}");
        if id != "nobody" {
            assert_eq!(answer.header("kerbgate-reason"), "backend-tls", "{id}");
        }
    }
    assert_eq!(count(), 0, "{}", gateway.log());
    for _ in 0..3 {
        assert_eq!(get(&mut visitor, &stage, "all").await.status, 200);
    }
    assert_eq!(count(), 3);

    // A connection made with the certificate waits; without the certificate it is not used.
    publish(&stage, "all", address, &[PIN, OVERRIDE].concat());
    let before = std::cell::Cell::new(0);
    eventually("the certificate is shown no more", async || {
        before.set(count());
        let mut visitor = Visitor::new(&stage.lab.facts.ca, Speaks::Http2);
        get(&mut visitor, &stage, "all").await.status == 502
    })
    .await;
    assert_eq!(count(), before.get());
}

#[tokio::test]
async fn every_mistake_is_named_with_its_key() {
    let (stage, _) = world("").await;
    let (address, _) = backend(&stage).await;
    let cases = [
        (
            "ca_file = \"../none.pem\"",
            "backend_tls.ca_file",
            "none.pem",
        ),
        (
            "ca_file = \"../client.key\"",
            "backend_tls.ca_file",
            "client.key",
        ),
        (
            "client_certificate = \"../client.pem\"",
            "backend_tls.client_key",
            "missing",
        ),
        (
            "client_key = \"../client.key\"",
            "backend_tls.client_certificate",
            "missing",
        ),
        (
            "client_certificate = \"../pin.pem\"\nclient_key = \"../client.key\"",
            "backend_tls.client_key",
            "is not the key of",
        ),
        ("server_name = \"a b\"", "backend_tls.server_name", "a b"),
        ("verify = false", "backend_tls.verify", "no known key"),
    ];
    for (tls, key, said) in cases {
        publish(&stage, "all", address, tls);
        let mistakes = kerbgate::config::load(&stage.path("kerbgate.toml")).unwrap_err();
        let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes.len(), 1, "{told:?}");
        assert_eq!(mistakes[0].key, key);
        assert!(mistakes[0].problem.contains(said), "{told:?}");
    }
}
