use std::collections::HashSet;

use http_body_util::BodyExt;

use super::*;

const HOSTILE: &str = "<script>alert(\"'1'\")</script>\"'#,+<>;\\=&{{7*7}}";

fn pages() -> Pages {
    Pages::new(Brand {
        organization: String::from("Contoso"),
        support: Some(Contact::from_text("servicedesk@contoso.example")),
        ..Brand::default()
    })
}

fn refusal(code: Code) -> Refusal<'static> {
    Refusal {
        code,
        request_id: "0193f2aa-7d1c-7a43-9c1e-3f6f0f6a2f10",
        application: Some("Intranet"),
        time: 1_795_385_465,
        sign_in_again: Some("/.kerbgate/signin"),
        sign_out: Some("/.kerbgate/signout"),
        message: None,
        retry_after: None,
    }
}

fn text_of(response: Response<Body>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let content = runtime.block_on(response.into_body().collect()).unwrap();
    String::from_utf8(content.to_bytes().to_vec()).unwrap()
}

#[test]
fn every_code_has_its_words_in_every_language() {
    for code in Code::ALL {
        let topic = Topic::of(*code);
        let english = text::sentence(Language::English, topic);
        for language in Language::ALL {
            let said = text::sentence(*language, topic);
            for (part, original) in [
                (said.title, english.title),
                (said.happened, english.happened),
                (said.next, english.next),
            ] {
                assert!(part.len() > 8, "{code} {language:?}: {part:?}");
                assert_eq!(part, part.trim(), "{code} {language:?}");
                assert!(
                    *language == Language::English || part != original,
                    "{code}: {part:?}"
                );
            }
            assert!(said.happened.ends_with('.'), "{code} {language:?}");
            assert!(said.next.ends_with('.'), "{code} {language:?}");
            let page = text_of(pages().refusal(&refusal(*code), *language));
            assert!(page.contains(code.as_str()), "{code} {language:?}");
        }
    }
}

#[test]
fn the_words_avoid_the_trade_s_own_language() {
    let banned = [
        "kerberos",
        "ldap",
        "kdc",
        "spn",
        "token",
        "ticket",
        "backend",
        "proxy",
        "oidc",
        "oauth",
        "error code",
        "invalid",
        "illegal",
        "you failed",
        "keytab",
        "gateway",
        "server",
    ];
    for code in Code::ALL {
        for language in Language::ALL {
            let said = text::sentence(*language, Topic::of(*code));
            let all = format!("{} {} {}", said.title, said.happened, said.next).to_lowercase();
            for word in banned {
                assert!(!all.contains(word), "{code} {language:?}: {word}");
            }
        }
    }
}

#[test]
fn the_pages_without_a_code_are_translated_too() {
    let parts = |words: &'static Words| {
        let mut parts = vec![
            words.what_next,
            words.who_helps,
            words.ask_owner,
            words.ask_support,
            words.owner_unnamed,
            words.support_unnamed,
            words.details,
            words.quote,
            words.code,
            words.request,
            words.time,
            words.application,
            words.sign_in,
            words.retry,
            words.waiting_status,
            words.go_on,
            words.sign_out,
            words.another_account,
            words.cancel,
        ];
        for said in [
            words.waiting,
            words.signed_out,
            words.confirm,
            words.way,
            words.form_not_sent,
        ] {
            parts.extend([said.title, said.happened, said.next]);
        }
        parts
    };
    let english = parts(text::words(Language::English));
    for language in Language::ALL {
        for (part, original) in parts(text::words(*language)).iter().zip(&english) {
            assert!(!part.is_empty(), "{language:?}: {original:?}");
            assert!(
                *language == Language::English || part != original,
                "{language:?}: {part:?}"
            );
        }
    }
}

#[test]
fn hostile_names_stay_text() {
    let long = format!("{HOSTILE}{}", "Ж".repeat(300));
    let mut brand = pages().brand;
    brand.organization = long.clone();
    brand.support = Some(Contact::from_text(&long));
    brand.owners.insert(long.clone(), Contact::from_text(&long));
    let pages = Pages::new(brand);
    let hostile = Refusal {
        request_id: &long,
        application: Some(&long),
        sign_in_again: Some("javascript:alert(1)//\"><script>"),
        sign_out: Some("javascript:alert(1)//\"><script>"),
        ..refusal(Code::NotAllowed)
    };
    let language = Language::German;
    for response in [
        pages.refusal(&hostile, language),
        pages.form_not_sent(&hostile, language),
        pages.signed_out(Some("//evil.example/"), language),
        pages.sign_out_confirm("/x\"><script>", Some("/\\evil.example"), language),
    ] {
        let page = text_of(response);
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("javascript:"), "{page}");
        assert!(!page.contains("evil.example"), "{page}");
        assert!(page.contains("&#60;script&#62;"), "{page}");
        assert_eq!(page.matches("<h1>").count(), 1);
    }
    let json: serde_json::Value =
        serde_json::from_str(&text_of(pages.refusal_json(&hostile, language))).unwrap();
    assert_eq!(json["request_id"], long);
    assert_eq!(json["sign_in_url"], serde_json::Value::Null);
}

#[test]
fn a_way_is_a_value_and_never_a_script() {
    let (pages, language) = (pages(), Language::English);
    let soon = Duration::from_secs(9);
    for to in [
        "/x\"onclick=alert(1)//'><script>alert(1)</script>",
        "https://login.example.com/?id=\"'><script>alert(1)</script>",
    ] {
        for response in [
            pages.waiting(Some(to), soon, language),
            pages.leave(to, "\"><script>", soon, language),
            pages.arrive(to, "\"><script>", language),
        ] {
            let page = text_of(response);
            assert_eq!(page.matches("<script").count(), 1, "{page}");
            assert!(page.contains("<script>\"use strict\";"), "{page}");
            assert!(
                !page.contains("\"onclick") && !page.contains("'>"),
                "{page}"
            );
        }
    }
    for to in ["//evil.example/", "/\\evil.example/", "javascript:alert(1)"] {
        let page = text_of(pages.arrive(to, "x", language));
        assert!(page.contains("href=\"/\""), "{to}: {page}");
        assert!(
            !page.contains("evil") && !page.contains("javascript:"),
            "{page}"
        );
    }
}

#[test]
fn whoever_came_with_the_wrong_account_is_shown_the_way_out() {
    let way_out = "<a class=\"button\" href=\"/.kerbgate/signout\">";
    for (code, offered) in [
        (Code::NotAllowed, true),
        (Code::TenantDenied, true),
        (Code::AccountPrivileged, true),
        (Code::AccountDisabled, true),
        // Nobody is signed in, or another account would change nothing.
        (Code::SignInRequired, false),
        (Code::PathUnknown, false),
        (Code::BackendUnreachable, false),
    ] {
        let page = text_of(pages().refusal(&refusal(code), Language::English));
        assert_eq!(page.contains(way_out), offered, "{code}: {page}");
    }
}

#[test]
fn what_is_closed_on_purpose_is_opened_by_no_invitation() {
    let mut brand = pages().brand;
    brand.owners.clear();
    let unnamed = text::words(Language::English).owner_unnamed;
    let text = |brand: &Brand, code| {
        let pages = Pages::new(brand.clone());
        text_of(pages.refusal(&refusal(code), Language::English))
    };
    assert!(text(&brand, Code::NotAllowed).contains(unnamed));
    assert!(!text(&brand, Code::Maintenance).contains(unnamed));
    let name = refusal(Code::Maintenance).application.unwrap();
    let owner = Contact::from_text("owner@example.com");
    brand.owners.insert(String::from(name), owner);
    assert!(text(&brand, Code::Maintenance).contains("owner@example.com"));
}

#[test]
fn a_page_carries_its_protection() {
    let response = pages().refusal(&refusal(Code::NotAllowed), Language::French);
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let headers = response.headers().clone();
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("content-language", "fr"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let page = text_of(response);
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"fr\">"));
    let style = page
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}'")),
        "{policy}"
    );
    assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"));
    assert!(!page.contains(" style=") && !page.contains("<script") && !page.contains("src=\"http"));
    assert_eq!(headers["content-length"], page.len().to_string());
}

#[test]
fn an_answer_to_a_program_is_json_with_a_way_to_sign_in() {
    let response = pages().refusal_json(&refusal(Code::SignInRequired), Language::English);
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bearer realm=\"kerbgate\""
    );
    let json: serde_json::Value = serde_json::from_str(&text_of(response)).unwrap();
    assert_eq!(json["error"], "sign-in-required");
    assert_eq!(json["sign_in_url"], "/.kerbgate/signin");
    assert_eq!(json["request_id"], refusal(Code::SignInRequired).request_id);
    let expired = pages().refusal_json(&refusal(Code::TokenExpired), Language::English);
    let challenge = expired.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.ends_with("error=\"invalid_token\""));
}

#[test]
fn statuses_carry_what_http_asks_of_them() {
    let headers = |code| {
        pages()
            .refusal(&refusal(code), Language::English)
            .headers()
            .clone()
    };
    assert!(headers(Code::MethodRefused).contains_key("allow"));
    assert!(headers(Code::KdcUnreachable).contains_key("retry-after"));
    assert!(headers(Code::SessionExpired).contains_key("www-authenticate"));
    assert!(!headers(Code::NotAllowed).contains_key("www-authenticate"));
}

#[test]
fn the_waiting_page_comes_back_by_itself() {
    let response = pages().waiting(
        Some("Intranet"),
        Duration::from_millis(300),
        Language::Dutch,
    );
    assert_eq!(response.headers()["refresh"], "1");
    let page = text_of(response);
    assert!(page.contains("aria-live=\"polite\"") && page.contains("Intranet"));
    // For a browser at an address with `#`, to which Refresh means a place on the page.
    assert!(page.contains("data-seconds=\"1\""), "{page}");
}

#[test]
fn help_names_the_owner_where_the_owner_decides() {
    let mut brand = pages().brand;
    let owner = Contact::from_text("ines@contoso.example");
    brand.owners.insert(String::from("Intranet"), owner);
    let pages = Pages::new(brand);
    let denied = text_of(pages.refusal(&refusal(Code::NotAllowed), Language::English));
    assert!(denied.contains("mailto:ines@contoso.example?subject=not-allowed%20%280193f2aa"));
    assert!(denied.contains("servicedesk@contoso.example"));
    let broken = text_of(pages.refusal(&refusal(Code::KdcRefused), Language::English));
    assert!(!broken.contains("ines@contoso.example"));
}

#[test]
fn a_time_reads_the_same_everywhere() {
    assert_eq!(readable(1_795_385_465), "2026-11-22 22:11:05 UTC");
    assert_eq!(readable(i64::MAX), i64::MAX.to_string());
}

#[test]
fn titles_of_different_topics_differ() {
    for language in Language::ALL {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let topic = Topic::of(*code);
            let title = text::sentence(*language, topic).title;
            // Signed out by oneself and signed out by somebody are one heading on purpose.
            if seen.insert((topic as u8, title)) {
                let same = seen.iter().filter(|(_, other)| *other == title).count();
                assert_eq!(same, 1, "{language:?}: {title}");
            }
        }
    }
}
