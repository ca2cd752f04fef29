//! Every way in which a token can be bad (security promises 1 to 9), each signed with real keys.

use serde_json::json;

use super::super::settings::Credential;
use super::super::test_issuer::Signer;
use super::*;
use crate::model::secret::Secret;

const NOW: i64 = 1_764_000_000;
const R: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
const H: &str = "bbbbbbbb-0000-4000-8000-00000000000b";
const C: &str = "cccccccc-0000-4000-8000-00000000000c";
const JANE: &str = "11111111-0000-4000-8000-000000000001";

fn settings() -> Settings {
    Settings::entra(
        R.parse().unwrap(),
        C.to_owned(),
        Credential::Secret(Secret::new("s".to_owned())),
    )
    .unwrap()
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "RS256", "kid": "k1"})
}

/// The v2 ID token of a guest, as Entra sends it.
fn id_token() -> Value {
    json!({
        "ver": "2.0", "iss": format!("https://login.microsoftonline.com/{R}/v2.0"), "aud": C,
        "iat": NOW, "nbf": NOW, "exp": NOW + 3900, "tid": R, "oid": JANE, "sub": "pairwise",
        "idp": format!("https://sts.windows.net/{H}/"), "acct": 1, "name": "Jane Doe",
        "preferred_username": "jane@fabrikam.example", "email": "jane@fabrikam.example",
        "upn": "jane_fabrikam.example#EXT#@contoso.onmicrosoft.com", "roles": ["Intranet.User"],
        "nonce": "n-123", "sid": "s-guid", "login_hint": "O.opaque"
    })
}

fn with(mut base: Value, changes: Value) -> Value {
    let (Value::Object(base_map), Value::Object(changes)) = (&mut base, changes) else {
        panic!("objects only");
    };
    for (name, value) in changes {
        if value.is_null() {
            base_map.remove(&name);
        } else {
            base_map.insert(name, value);
        }
    }
    base
}

fn validate_with(
    settings: &Settings,
    signer: &Signer,
    token: &str,
    id: bool,
) -> Result<Claims, TokenError> {
    let parsed = parse(token)?;
    let version = if id {
        Version::V2
    } else {
        parsed.version_hint()
    };
    let issuer = match version {
        Version::V2 => settings.issuer.clone(),
        Version::V1 => settings.issuer_v1.clone().unwrap().issuer,
    };
    let payload = parsed.verify(&signer.key())?;
    let audiences = if id {
        vec![C.to_owned()]
    } else {
        vec!["api://kerbgate".to_owned(), C.to_owned()]
    };
    let expected = Expected {
        version,
        issuer: &issuer,
        audiences: &audiences,
        nonce: if id {
            Nonce::Exactly("n-123")
        } else {
            Nonce::NotExpected
        },
        id_token: id,
    };
    check(&payload, &expected, settings, NOW)
}

fn validate(signer: &Signer, payload: &Value) -> Result<Claims, TokenError> {
    validate_with(&settings(), signer, &signer.sign(&header(), payload), true)
}

#[test]
fn a_guest_is_read_as_entra_sends_them() {
    let claims = validate(&Signer::generate(), &id_token()).unwrap();
    assert_eq!(claims.person.to_string(), format!("{R}/{JANE}"));
    assert_eq!(claims.home, Home::Tenant(H.parse().unwrap()));
    assert!(claims.is_external() && claims.is_guest());
    assert_eq!(claims.roles, ["Intranet.User"]);
    assert_eq!(claims.groups, Groups::Listed(vec![]));
    assert_eq!(claims.session_id.as_deref(), Some("s-guid"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_wrong_claim_is_refused_by_its_name() {
    let signer = Signer::generate();
    let other_tenant = "dddddddd-0000-4000-8000-00000000000d";
    let cases: Vec<(Value, TokenError)> = vec![
        // 7: issuer and tenant
        (
            json!({"iss": format!("https://login.microsoftonline.com/{R}/v2.0/")}),
            TokenError::issuer(&format!("https://login.microsoftonline.com/{R}/v2.0/")),
        ),
        (
            json!({"iss": format!("https://login.microsoftonline.com/{other_tenant}/v2.0"), "tid": other_tenant}),
            TokenError::issuer(&format!(
                "https://login.microsoftonline.com/{other_tenant}/v2.0"
            )),
        ),
        (
            json!({"tid": other_tenant}),
            TokenError::TenantWrong(other_tenant.to_owned()),
        ),
        (json!({"iss": null}), TokenError::ClaimMissing("iss")),
        (json!({"tid": null}), TokenError::ClaimMissing("tid")),
        (json!({"oid": null}), TokenError::ClaimMissing("oid")),
        (json!({"oid": 7}), TokenError::ClaimBad("oid")),
        (
            json!({"oid": "{11111111-0000-4000-8000-000000000001}"}),
            TokenError::ClaimBad("oid"),
        ),
        (
            json!({"oid": "00000000-0000-0000-0000-000000000000"}),
            TokenError::ClaimBad("oid"),
        ),
        // 8: audience
        (
            json!({"aud": "api://other"}),
            TokenError::AudienceWrong("api://other".to_owned()),
        ),
        (json!({"aud": []}), TokenError::AudienceWrong(String::new())),
        (json!({"aud": {"a": C}}), TokenError::ClaimBad("aud")),
        (json!({"aud": null}), TokenError::ClaimMissing("aud")),
        (
            json!({"aud": [C, "x"]}),
            TokenError::AuthorizedPartyWrong(String::new()),
        ),
        (
            json!({"aud": [C, "x"], "azp": "x"}),
            TokenError::AuthorizedPartyWrong("x".to_owned()),
        ),
        (
            json!({"azp": "x"}),
            TokenError::AuthorizedPartyWrong("x".to_owned()),
        ),
        // 9: times, both edges
        (
            json!({"exp": NOW - 300}),
            TokenError::Expired {
                exp: NOW - 300,
                now: NOW,
            },
        ),
        (json!({"exp": null}), TokenError::ClaimMissing("exp")),
        (json!({"exp": "never"}), TokenError::ClaimBad("exp")),
        (
            json!({"nbf": NOW + 301}),
            TokenError::NotYetValid {
                claim: "nbf",
                at: NOW + 301,
                now: NOW,
            },
        ),
        (
            json!({"iat": NOW + 301}),
            TokenError::NotYetValid {
                claim: "iat",
                at: NOW + 301,
                now: NOW,
            },
        ),
        (json!({"iat": null}), TokenError::ClaimMissing("iat")),
        // 10: nonce
        (json!({"nonce": "n-124"}), TokenError::NonceWrong),
        (json!({"nonce": null}), TokenError::ClaimMissing("nonce")),
        (
            json!({"nonce": ["n-123"]}),
            TokenError::ClaimMissing("nonce"),
        ),
        // kind
        (
            json!({"ver": "1.0"}),
            TokenError::VersionWrong("1.0".to_owned()),
        ),
        (json!({"idtyp": "app"}), TokenError::WithoutPerson),
        (
            json!({"onprem_sid": "S-1-nonsense"}),
            TokenError::ClaimBad("onprem_sid"),
        ),
    ];
    for (change, wanted) in cases {
        let shown = change.to_string();
        let found = validate(&signer, &with(id_token(), change)).unwrap_err();
        assert_eq!(found, wanted, "{shown}");
    }
}

#[test]
fn the_edges_of_time_and_audience_are_inside() {
    let signer = Signer::generate();
    for change in [
        json!({"exp": NOW - 299}),
        json!({"exp": 1_764_000_100.75}),
        json!({"nbf": NOW + 300, "iat": NOW + 300}),
        json!({"nbf": null}),
        json!({"aud": [C]}),
        json!({"aud": [C, "x"], "azp": C}),
        json!({"ver": null}),
    ] {
        let shown = change.to_string();
        assert!(
            validate(&signer, &with(id_token(), change)).is_ok(),
            "{shown}"
        );
    }
}

#[test]
fn the_header_cannot_choose_algorithm_key_or_extension() {
    let signer = Signer::generate();
    let attacker = Signer::generate();
    let refused = |header: &Value, by: &Signer| {
        validate_with(&settings(), &signer, &by.sign(header, &id_token()), true).unwrap_err()
    };
    for alg in [
        "none", "None", "HS256", "RS512", "PS256", "ES256", "rs256", "",
    ] {
        let found = refused(&json!({"alg": alg, "kid": "k1"}), &signer);
        assert_eq!(found, TokenError::AlgorithmRefused(alg.to_owned()));
    }
    assert!(matches!(
        refused(&json!({"kid": "k1"}), &signer),
        TokenError::Malformed(_)
    ));
    for extension in [
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"b64": false, "crit": ["b64"]}),
        json!({"zip": "DEF"}),
        json!({"enc": "A256GCM"}),
    ] {
        let found = refused(&with(header(), extension), &signer);
        assert!(matches!(found, TokenError::Malformed(_)), "{found:?}");
    }
    // 4: the attacker's own key, offered in the header, is not used.
    for offer in [
        json!({"jwk": attacker.jwk("k1")}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"x5c": ["AAAA"]}),
    ] {
        assert_eq!(
            refused(&with(header(), offer), &attacker),
            TokenError::SignatureBad
        );
    }
    // and the same header signed with the right key is fine: the offers are simply not read.
    let token = signer.sign(
        &with(header(), json!({"jku": "https://evil.example/keys"})),
        &id_token(),
    );
    assert!(validate_with(&settings(), &signer, &token, true).is_ok());
}

#[test]
fn a_public_key_used_as_a_shared_secret_is_refused() {
    // RFC 8725 2.1: HS256 with the RSA public key as secret.
    let signer = Signer::generate();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"k1"}"#),
        URL_SAFE_NO_PAD.encode(id_token().to_string())
    );
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &signer.public_key());
    let tag = aws_lc_rs::hmac::sign(&secret, message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(
        validate_with(&settings(), &signer, &token, true).unwrap_err(),
        TokenError::AlgorithmRefused("HS256".to_owned())
    );
}

#[test]
fn altered_garbled_padded_and_empty_parts_are_refused() {
    let signer = Signer::generate();
    let good = signer.sign(&header(), &id_token());
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("three parts");
    };
    let evil = URL_SAFE_NO_PAD.encode(with(id_token(), json!({"oid": H})).to_string());
    let mut flipped = signature.to_owned().into_bytes();
    flipped[10] = if flipped[10] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let cases = [
        format!("{head}.{evil}.{signature}"),
        format!("{head}.{body}.{flipped}"),
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{good}."),
        format!("{good}.x"),
        format!("{head}.{body}.{signature}=="),
        format!("{head}=.{body}.{signature}"),
        format!("{head}.{body}.{signature}\n"),
        format!(" {good}"),
        format!("{head}.{}.{signature}", body.replacen('e', "+", 1)),
        format!("{head}.{body}.{}", &signature[..signature.len() - 4]),
        format!("{head}.{body}.AA{signature}"),
        format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode([0_u8; 256])),
        format!("{head}.{body}.{}", URL_SAFE_NO_PAD.encode([0xff_u8; 256])),
        String::new(),
        "..".to_owned(),
        "\u{fffd}.\u{fffd}.\u{fffd}".to_owned(),
        "a".repeat(MAX_TOKEN + 1),
    ];
    for token in cases {
        let found = validate_with(&settings(), &signer, &token, true).unwrap_err();
        assert!(
            matches!(found, TokenError::Malformed(_) | TokenError::SignatureBad),
            "{found:?} for {token:.80}"
        );
    }
    // Payloads and headers that are no JSON object, under a good signature.
    for payload in ["[]", "null", "7", "\"x\"", "{", "", "{}x"] {
        let token = signer.sign_bytes(header().to_string().as_bytes(), payload.as_bytes());
        assert!(
            validate_with(&settings(), &signer, &token, true).is_err(),
            "{payload}"
        );
    }
    for header in [
        "[]",
        "null",
        "{",
        r#"{"alg":"RS256","alg":"none"}"#,
        "\u{feff}{}",
    ] {
        let token = signer.sign_bytes(header.as_bytes(), id_token().to_string().as_bytes());
        assert!(parse(&token).is_err(), "{header}");
    }
}

#[test]
fn a_key_published_for_another_issuer_does_not_sign_for_ours() {
    let signer = Signer::generate();
    let token = signer.sign(&header(), &id_token());
    let settings = settings();
    for (issuer, good) in [
        (format!("https://login.microsoftonline.com/{R}/v2.0"), true),
        (
            "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(),
            true,
        ),
        (format!("https://login.microsoftonline.com/{H}/v2.0"), false),
    ] {
        let key = Key {
            issuer: Some(issuer),
            ..signer.key()
        };
        let payload = parse(&token).unwrap().verify(&key).unwrap();
        let expected = Expected {
            version: Version::V2,
            issuer: &settings.issuer,
            audiences: &[C.to_owned()],
            nonce: Nonce::Exactly("n-123"),
            id_token: true,
        };
        assert_eq!(check(&payload, &expected, &settings, NOW).is_ok(), good);
    }
}

#[test]
fn several_tenants_only_from_the_list() {
    let signer = Signer::generate();
    let mut many = settings();
    many.issuer = "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned();
    assert!(many.check().is_err(), "a template needs a list");
    many.allowed_tenants = vec![R.parse().unwrap(), H.parse().unwrap()];
    assert!(many.check().is_ok());
    let token = |tid: &str, iss: &str| {
        let changed =
            json!({"tid": tid, "iss": format!("https://login.microsoftonline.com/{iss}/v2.0")});
        signer.sign(&header(), &with(id_token(), changed))
    };
    let other = "dddddddd-0000-4000-8000-00000000000d";
    assert!(validate_with(&many, &signer, &token(H, H), true).is_ok());
    assert!(matches!(
        validate_with(&many, &signer, &token(other, other), true).unwrap_err(),
        TokenError::TenantWrong(_)
    ));
    assert!(matches!(
        validate_with(&many, &signer, &token(H, R), true).unwrap_err(),
        TokenError::IssuerWrong(_)
    ));
}

#[test]
fn home_is_compared_by_tenant_guid_of_entra_only() {
    let settings = settings();
    let tid = R.parse().unwrap();
    let tenant = |text: &str| Home::Tenant(text.parse().unwrap());
    let provider = |text: &str| Home::Provider(text.to_owned());
    let msa = "9188040d-6c67-4c5b-b112-36a304b66dad";
    for (idp, wanted) in [
        (None, Home::Own),
        (Some(format!("https://sts.windows.net/{R}/")), Home::Own),
        (
            Some(format!("https://login.microsoftonline.com/{R}/v2.0")),
            Home::Own,
        ),
        (Some(format!("https://sts.windows.net/{H}/")), tenant(H)),
        (
            Some(format!("https://login.microsoftonline.com/{H}/v2.0")),
            tenant(H),
        ),
        (
            Some(format!("https://sts.windows.net/{msa}/")),
            provider("live.com"),
        ),
        (Some("live.com".to_owned()), provider("live.com")),
        (Some("mail".to_owned()), provider("mail")),
        (Some("google.com".to_owned()), provider("google.com")),
        (
            Some(format!("https://evil.example/{R}/")),
            provider(&format!("https://evil.example/{R}/")),
        ),
        (
            Some(format!("http://sts.windows.net/{R}/")),
            provider(&format!("http://sts.windows.net/{R}/")),
        ),
        (
            Some(format!("https://sts.windows.net@evil.example/{R}/")),
            provider(&format!("https://sts.windows.net@evil.example/{R}/")),
        ),
    ] {
        assert_eq!(home(idp.as_deref(), tid, &settings), wanted, "{idp:?}");
    }
}

#[test]
fn too_many_groups_are_never_no_groups() {
    let signer = Signer::generate();
    let group = "99999999-0000-4000-8000-000000000001";
    let sources = json!({"src1": {"endpoint": "https://graph.windows.net/evil"}});
    for (change, wanted) in [
        (
            json!({"groups": [group, "not-a-guid"]}),
            Groups::Listed(vec![group.parse().unwrap()]),
        ),
        (
            json!({"_claim_names": {"groups": "src1"}, "_claim_sources": sources}),
            Groups::Overage,
        ),
        (json!({"hasgroups": true}), Groups::Overage),
        (json!({"hasgroups": "true"}), Groups::Overage),
        (
            json!({"groups": [group], "hasgroups": true}),
            Groups::Overage,
        ),
        (
            json!({"_claim_names": {"other": "src1"}}),
            Groups::Listed(vec![]),
        ),
    ] {
        let claims = validate(&signer, &with(id_token(), change)).unwrap();
        assert_eq!(claims.groups, wanted);
    }
}

#[test]
fn access_tokens_of_both_versions_are_read_and_id_tokens_are_none() {
    let signer = Signer::generate();
    let v1 = json!({
        "aud": "api://kerbgate", "iss": format!("https://sts.windows.net/{R}/"), "iat": NOW, "nbf": NOW,
        "exp": NOW + 3600, "appid": C, "scp": "access", "idp": format!("https://sts.windows.net/{H}/"),
        "oid": JANE, "tid": R, "sub": "s", "unique_name": "jane@fabrikam.example", "ver": "1.0"
    });
    let v2 = with(
        id_token(),
        json!({"scp": "access", "azp": "some-client", "nonce": null, "aud": C}),
    );
    let ask = |payload: &Value| {
        validate_with(
            &settings(),
            &signer,
            &signer.sign(&header(), payload),
            false,
        )
    };
    assert_eq!(
        ask(&v1).unwrap().preferred_username.as_deref(),
        Some("jane@fabrikam.example")
    );
    assert!(ask(&v2).is_ok());
    // v1 contents under the v2 issuer and the reverse
    let cross = with(v1.clone(), json!({"iss": settings().issuer}));
    assert!(matches!(
        ask(&cross).unwrap_err(),
        TokenError::IssuerWrong(_)
    ));
    let cross = with(v2, json!({"iss": format!("https://sts.windows.net/{R}/")}));
    assert!(matches!(
        ask(&cross).unwrap_err(),
        TokenError::IssuerWrong(_)
    ));
    // an ID token is no access token, an app-only token has no person
    assert_eq!(
        ask(&id_token()).unwrap_err(),
        TokenError::ClaimMissing("scp")
    );
    let app_only = with(v1, json!({"scp": null, "sub": JANE, "roles": ["App.All"]}));
    assert_eq!(ask(&app_only).unwrap_err(), TokenError::WithoutPerson);
}
