//! The room against an issuer behind real TLS: keys, roll-over, code flow.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use url::Url;

use super::code_flow::AuthorizeRequest;
use super::error::Error;
use super::error::TokenError;
use super::settings::Credential;
use super::test_issuer::NOW;
use super::test_issuer::Signer;
use super::test_issuer::TestIssuer;
use super::*;

const VERIFIER: &str = "0123456789-0123456789-0123456789-0123456789";

fn issuer(test: &TestIssuer) -> Issuer {
    Issuer::new(test.settings(), Clock::Fixed(NOW)).unwrap()
}

async fn code(test: &TestIssuer, issuer: &Issuer) -> (String, Url) {
    let redirect_uri: Url = "https://login.example.com/.kerbgate/callback"
        .parse()
        .unwrap();
    let url = issuer
        .authorize_url(&AuthorizeRequest {
            redirect_uri: &redirect_uri,
            state: "st",
            nonce: "no",
            verifier: VERIFIER,
            login_hint: None,
        })
        .await
        .unwrap();
    let back = test.authorize(&url, &json!({}));
    let query: HashMap<_, _> = back.query_pairs().into_owned().collect();
    (query["code"].clone(), redirect_uri)
}

#[tokio::test]
async fn a_code_becomes_claims_once_and_with_its_verifier_only() {
    let test = TestIssuer::start().await;
    let issuer = issuer(&test);
    let (first, redirect) = code(&test, &issuer).await;
    let tokens = issuer.redeem(&first, VERIFIER, &redirect).await.unwrap();
    let id_token = tokens.id_token.expose();
    assert!(issuer.validate_id_token(id_token, Some("no")).await.is_ok());
    assert!(matches!(
        issuer.validate_id_token(id_token, Some("other")).await,
        Err(Error::Token(TokenError::NonceWrong))
    ));
    let again = issuer
        .redeem(&first, VERIFIER, &redirect)
        .await
        .unwrap_err();
    assert_eq!(
        again.to_string(),
        "the token endpoint refused: invalid_grant AADSTS54005"
    );
    let (second, redirect) = code(&test, &issuer).await;
    let other = "x".repeat(43);
    assert!(issuer.redeem(&second, &other, &redirect).await.is_err());
    assert!(!format!("{tokens:?}").contains("canary"));
    let renewed = issuer.renew(&tokens.refresh_token.unwrap()).await.unwrap();
    let claims = issuer
        .validate_id_token(renewed.id_token.expose(), None)
        .await
        .unwrap();
    assert_eq!(claims.roles, ["Intranet.User"]);
    assert_eq!(
        issuer
            .app_token("x/.default")
            .await
            .unwrap()
            .lasts
            .as_secs(),
        3599
    );
}

#[tokio::test]
async fn a_client_certificate_proves_itself_by_ps256() {
    let test = TestIssuer::start().await;
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["kerbgate".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let mut settings = test.settings();
    let pem = crate::model::secret::Secret::new(key.serialize_pem());
    settings.credential = Credential::from_pem(&pem, &certificate.pem()).unwrap();
    assert!(format!("{settings:?}").len() < 3000 && !format!("{settings:?}").contains("PRIVATE"));
    let issuer = Issuer::new(settings, Clock::Fixed(NOW)).unwrap();
    let (code, redirect) = code(&test, &issuer).await;
    assert!(issuer.redeem(&code, VERIFIER, &redirect).await.is_ok());
    assert!(Credential::from_pem(&pem, "no certificate").is_err());
}

#[tokio::test]
async fn keys_roll_over_and_a_flood_of_unknown_ones_costs_one_fetch() {
    let test = TestIssuer::start().await;
    let issuer = Arc::new(issuer(&test));
    issuer.refresh().await.unwrap();
    let started = test.state().key_fetches;
    let audiences = vec!["api://kerbgate".to_owned()];
    let access = json!({"aud": "api://kerbgate", "scp": "access"});
    test.rotate();
    let token = test.token(&access);
    let found = issuer.validate_access_token(&token, &audiences).await;
    assert!(found.is_ok(), "the new key is fetched");
    assert_eq!(test.state().key_fetches, started + 1);

    let stranger = Arc::new(Signer::generate());
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (issuer, stranger) = (Arc::clone(&issuer), Arc::clone(&stranger));
        let audiences = audiences.clone();
        flood.spawn(async move {
            let kid = format!("random-{n}");
            let token = stranger.sign(&json!({"alg": "RS256", "kid": kid}), &json!({}));
            issuer
                .validate_access_token(&token, &audiences)
                .await
                .unwrap_err()
        });
    }
    for error in flood.join_all().await {
        assert!(
            matches!(error, Error::Token(TokenError::KeyUnknown(_))),
            "{error}"
        );
    }
    assert_eq!(
        test.state().key_fetches,
        started + 1,
        "the fetch was spent already"
    );
    // The next roll-over: API clients wait for the background refresh, people sign in at once.
    test.rotate();
    let token = test.token(&access);
    assert!(
        issuer
            .validate_access_token(&token, &audiences)
            .await
            .is_err()
    );
    let id_token = test.token(&json!({"nonce": "n"}));
    assert!(issuer.validate_id_token(&id_token, Some("n")).await.is_ok());
    assert!(
        issuer
            .validate_access_token(&token, &audiences)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_dead_issuer_keeps_its_last_known_keys_and_a_late_one_is_found() {
    let test = TestIssuer::start().await;
    let issuer = issuer(&test);
    test.state().down = true;
    let token = test.token(&json!({"nonce": "n"}));
    let error = issuer
        .validate_id_token(&token, Some("n"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 503, .. }),
        "{error}"
    );
    assert!(!issuer.is_ready());
    test.state().down = false;
    issuer.refresh().await.unwrap();
    test.state().down = true;
    assert!(issuer.refresh().await.is_err());
    assert!(issuer.validate_id_token(&token, Some("n")).await.is_ok());
}

#[tokio::test]
async fn metadata_of_another_issuer_and_unsafe_settings_are_refused() {
    let test = TestIssuer::start().await;
    let mut settings = test.settings();
    settings.metadata_url = settings
        .issuer_v1
        .as_ref()
        .map(|v1| v1.metadata_url.clone());
    let issuer = Issuer::new(settings, Clock::Fixed(NOW)).unwrap();
    assert!(matches!(
        issuer.refresh().await,
        Err(Error::IssuerMismatch { .. })
    ));
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = test.settings();
        change(&mut settings);
        Issuer::new(settings, Clock::Fixed(NOW))
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&|s| s.issuer = "http://plain.example/v2.0".to_owned()).contains("https"));
    assert!(refused(&|s| s.skew = Duration::from_secs(301)).contains("skew"));
    assert!(refused(&|s| s.client_id.clear()).contains("client_id"));
    assert!(refused(&|s| s.scope = "profile".to_owned()).contains("openid"));
    assert!(refused(&|s| s.trust.ca_file = Some("/no/such.pem".into())).contains("/no/such.pem"));
}

#[tokio::test]
async fn an_untrusted_certificate_is_named_as_the_cause() {
    let test = TestIssuer::start().await;
    let mut settings = test.settings();
    settings.trust.ca_file = None;
    let issuer = Issuer::new(settings, Clock::Fixed(NOW)).unwrap();
    let error = issuer.refresh().await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn response_issuer_and_sign_out_address() {
    let test = TestIssuer::start().await;
    let issuer = issuer(&test);
    let name = issuer.name().to_owned();
    assert!(issuer.check_response_issuer(Some(&name)).await.is_ok());
    assert!(issuer.check_response_issuer(None).await.is_ok());
    assert!(
        issuer
            .check_response_issuer(Some("https://evil.example"))
            .await
            .is_err()
    );
    let back: Url = "https://login.example.com/.kerbgate/signed-out"
        .parse()
        .unwrap();
    let url = issuer
        .end_session_url(&back, Some("O.x"))
        .await
        .unwrap()
        .unwrap();
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["post_logout_redirect_uri"], back.as_str());
    assert_eq!(query["logout_hint"], "O.x");
}
