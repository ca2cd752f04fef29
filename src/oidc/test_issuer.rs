//! A small OpenID provider inside the test process, with keys of its own and behind real TLS: for the tests of this room
//! and of `authn`. It refuses what Entra refuses and counts what it is asked.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::Pkcs8V1Der;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serde_json::json;
use url::Url;

use super::keys::Key;
use super::keys::KeySet;
use super::settings::Credential;
use super::settings::IssuerV1;
use super::settings::Settings;
use crate::model::secret::Secret;

/// The instant at which all tests happen.
pub const NOW: i64 = 1_764_000_000;
/// Our tenant.
pub const TENANT: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
/// Our client id.
pub const CLIENT: &str = "cccccccc-0000-4000-8000-00000000000c";

/// An RSA key that signs whatever it is given.
pub struct Signer {
    pair: RsaKeyPair,
}

impl Signer {
    /// A new key.
    pub fn generate() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        Self {
            pair: RsaKeyPair::from_pkcs8(der.as_ref()).unwrap(),
        }
    }

    /// The public key, as DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The public key, as it is published.
    pub fn jwk(&self, kid: &str) -> Value {
        let public = self.pair.public_key();
        json!({
            "kty": "RSA", "use": "sig", "kid": kid,
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
        })
    }

    /// The public key, as it is used.
    pub fn key(&self) -> Key {
        let set = KeySet::parse(&json!({"keys": [self.jwk("k1")]})).unwrap();
        set.find(Some("k1")).unwrap()
    }

    /// A compact JWS over these very bytes.
    pub fn sign_bytes(&self, header: &[u8], payload: &[u8]) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &random,
                message.as_bytes(),
                &mut signature,
            )
            .unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A compact JWS.
    pub fn sign(&self, header: &Value, payload: &Value) -> String {
        self.sign_bytes(
            header.to_string().as_bytes(),
            payload.to_string().as_bytes(),
        )
    }
}

/// What the issuer knows and counts.
pub struct State {
    /// Its keys; the last one signs, all are published.
    pub keys: Vec<(String, Arc<Signer>)>,
    /// Answers 503 to everything.
    pub down: bool,
    /// The token endpoint refuses with this error and number.
    pub refuse: Option<(&'static str, u32)>,
    /// Replaces claims of every token it signs.
    pub override_claims: Value,
    /// How often keys were fetched.
    pub key_fetches: usize,
    /// How often tokens were renewed.
    pub renewals: usize,
    /// How often a browser came to sign in.
    pub visits: usize,
    base: String,
    codes: HashMap<String, Grant>,
    refresh_tokens: HashMap<String, Value>,
    count: usize,
}

struct Grant {
    challenge: String,
    redirect_uri: String,
    nonce: String,
    claims: Value,
}

/// The running issuer.
pub struct TestIssuer {
    state: Arc<Mutex<State>>,
    base: String,
    ca_file: PathBuf,
    _dir: tempfile::TempDir,
}

impl TestIssuer {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, ca_certificate.pem()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![HOST.to_owned()])
            .unwrap()
            .signed_by(&key, &rcgen::Issuer::new(ca, ca_key))
            .unwrap();
        let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let base = format!("https://{HOST}:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(Mutex::new(State {
            keys: vec![("k1".to_owned(), Arc::new(Signer::generate()))],
            down: false,
            refuse: None,
            override_claims: json!({}),
            key_fetches: 0,
            renewals: 0,
            visits: 0,
            base: base.clone(),
            codes: HashMap::new(),
            refresh_tokens: HashMap::new(),
            count: 0,
        }));
        tokio::spawn(serve(listener, Arc::new(tls).into(), Arc::clone(&state)));
        Self {
            state,
            base,
            ca_file,
            _dir: dir,
        }
    }

    /// What it knows and counts.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Settings of a gateway registered with it.
    pub fn settings(&self) -> Settings {
        let secret = Credential::Secret(Secret::new("s3cret".to_owned()));
        let mut settings =
            Settings::entra(TENANT.parse().unwrap(), CLIENT.to_owned(), secret).unwrap();
        settings.issuer = format!("{}/v2.0", self.base);
        settings.issuer_v1 = Some(IssuerV1 {
            issuer: format!("{}/v1/", self.base),
            metadata_url: format!("{}/v1/.well-known/openid-configuration", self.base)
                .parse()
                .unwrap(),
        });
        settings.trust.ca_file = Some(self.ca_file.clone());
        settings.trust.total = Duration::from_secs(5);
        settings
    }

    /// Makes a new signing key; the old ones stay published.
    pub fn rotate(&self) -> String {
        let mut state = self.state();
        let kid = format!("k{}", state.keys.len() + 1);
        state.keys.push((kid.clone(), Arc::new(Signer::generate())));
        kid
    }

    /// A token over the usual claims of the person with `changes`.
    pub fn token(&self, changes: &Value) -> String {
        self.state().sign(changes)
    }

    /// What the browser does at the authorization endpoint: signs in, and is sent to the callback.
    pub fn authorize(&self, url: &Url, claims: &Value) -> Url {
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["code_challenge_method"], "S256");
        assert_eq!(query["client_id"], CLIENT);
        let mut state = self.state();
        state.visits += 1;
        state.count += 1;
        let code = format!("code-{}-canary", state.count);
        let grant = Grant {
            challenge: query["code_challenge"].clone(),
            redirect_uri: query["redirect_uri"].clone(),
            nonce: query["nonce"].clone(),
            claims: claims.clone(),
        };
        state.codes.insert(code.clone(), grant);
        let mut back: Url = query["redirect_uri"].parse().unwrap();
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &query["state"])
            .append_pair("session_state", "x");
        back
    }
}

impl State {
    fn sign(&self, changes: &Value) -> String {
        let (kid, signer) = self.keys.last().unwrap();
        let mut claims = json!({
            "ver": "2.0", "iss": format!("{}/v2.0", self.base), "aud": CLIENT, "tid": TENANT,
            "iat": NOW, "nbf": NOW, "exp": NOW + 1_000_000, "sub": "pairwise",
            "oid": "11111111-0000-4000-8000-000000000001", "name": "Jane Doe", "acct": 1,
            "idp": "https://sts.windows.net/bbbbbbbb-0000-4000-8000-00000000000b/",
            "roles": ["Intranet.User"], "sid": "sid-jane", "login_hint": "O.jane",
        });
        for changes in [changes, &self.override_claims] {
            for (name, value) in changes.as_object().unwrap() {
                claims[name.as_str()] = value.clone();
            }
        }
        signer.sign(&json!({"typ": "JWT", "alg": "RS256", "kid": kid}), &claims)
    }

    fn tokens(&mut self, claims: &Value) -> (u16, Value) {
        self.count += 1;
        let refresh = format!("refresh-{}-canary", self.count);
        let mut lasting = claims.clone();
        lasting.as_object_mut().unwrap().remove("nonce");
        self.refresh_tokens.insert(refresh.clone(), lasting);
        let id_token = self.sign(claims);
        (
            200,
            json!({"token_type": "Bearer", "id_token": id_token, "refresh_token": refresh}),
        )
    }

    fn token_endpoint(&mut self, form: &HashMap<String, String>) -> (u16, Value) {
        let no = |error: &str, code: u32| {
            (
                400,
                json!({"error": error, "error_codes": [code], "error_description": "AADSTS: jane"}),
            )
        };
        let proof = form.get("client_secret").map(String::as_str) == Some("s3cret");
        if !proof && !form.contains_key("client_assertion") {
            return no("invalid_client", 7_000_215);
        }
        if let Some((error, code)) = self.refuse {
            return no(error, code);
        }
        match form["grant_type"].as_str() {
            "authorization_code" => {
                let Some(grant) = self.codes.remove(&form["code"]) else {
                    return no("invalid_grant", 54_005);
                };
                let verifier = form["code_verifier"].as_bytes();
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier);
                if URL_SAFE_NO_PAD.encode(digest) != grant.challenge {
                    return no("invalid_grant", 501_481);
                }
                if form["redirect_uri"] != grant.redirect_uri {
                    return no("invalid_grant", 50_011);
                }
                let mut claims = grant.claims;
                claims["nonce"] = grant.nonce.into();
                self.tokens(&claims)
            }
            "refresh_token" => {
                self.renewals += 1;
                // One use, as strict issuers have it: a second use is a theft.
                let Some(claims) = self.refresh_tokens.remove(&form["refresh_token"]) else {
                    return no("invalid_grant", 70_043);
                };
                self.tokens(&claims)
            }
            "client_credentials" => (
                200,
                json!({"access_token": "app-canary", "token_type": "Bearer", "expires_in": 3599}),
            ),
            other => panic!("grant {other}"),
        }
    }

    fn answer(&mut self, path: &str, form: &HashMap<String, String>) -> (u16, Value) {
        if self.down {
            return (503, json!({}));
        }
        let metadata = |issuer: String| {
            json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{}/authorize", self.base),
                "token_endpoint": format!("{}/token", self.base),
                "end_session_endpoint": format!("{}/logout", self.base),
                "jwks_uri": format!("{}/keys", self.base),
            })
        };
        match path {
            "/v2.0/.well-known/openid-configuration" => {
                (200, metadata(format!("{}/v2.0", self.base)))
            }
            "/v1/.well-known/openid-configuration" => (200, metadata(format!("{}/v1/", self.base))),
            "/keys" => {
                self.key_fetches += 1;
                let keys: Vec<_> = self.keys.iter().map(|(kid, key)| key.jwk(kid)).collect();
                (200, json!({ "keys": keys }))
            }
            "/token" => self.token_endpoint(form),
            _ => (404, json!({})),
        }
    }
}

async fn serve(
    listener: tokio::net::TcpListener,
    tls: tokio_rustls::TlsAcceptor,
    state: Arc<Mutex<State>>,
) {
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let stream = tls.accept(socket).await?;
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                respond(request, Arc::clone(&state))
            });
            let _closed = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            Ok::<_, std::io::Error>(())
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let form = url::form_urlencoded::parse(&body).into_owned().collect();
    let (status, content) = state.lock().unwrap().answer(&path, &form);
    let mut response = Response::new(Full::new(Bytes::from(content.to_string())));
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}

/// RFC 6761: needs no DNS.
const HOST: &str = "issuer.localhost";
