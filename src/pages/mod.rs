//! Our own pages: what a visitor reads when a walk ends early, waits, or ends for good.
//!
//! In: a [`Code`] with request id and time, and the visitor's [`Language`]. Out: a complete response, a page
//! for a browser's navigation or JSON for everything else. Pure functions; no I/O, no clock.
//!
//! # Why like this
//!
//! The visitor gets a sentence, the code and the request id; all the rest is in the log. The pages need no
//! script and load nothing: one page is one response, so it also works when everything behind us is broken,
//! and its content security policy can forbid all but its own style sheet, named by its hash.
//! Values are escaped by the templates (askama); `|safe` stands only at our own style sheet and scripts.
//! Three pages have a script: [`Pages::leave`], [`Pages::arrive`] and [`Pages::waiting`]. The first two are left in time without
//! it, too; the third where the address has no part behind `#`, and with its button always.

use std::time::Duration;

use askama::Template;
use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::body;
use crate::model::body::Body;
use crate::model::stop::Code;

mod brand;
mod language;
mod text;
mod topic;
mod way;

pub use brand::Accent;
pub use brand::Brand;
pub use brand::BrandError;
pub use brand::Contact;
pub use brand::Logo;
pub use language::Language;
use text::Words;
use topic::Action;
use topic::Helper;
use topic::Topic;

/// The pages of one organization.
#[derive(Clone, Debug)]
pub struct Pages {
    brand: Brand,
    style: String,
    policy: HeaderValue,
    sign_out_policy: HeaderValue,
    leave_policy: HeaderValue,
    arrive_policy: HeaderValue,
    waiting_policy: HeaderValue,
}

/// Asks again where the answer's Refresh cannot: HTML, "navigate", takes an address that has `#` in it and is otherwise
/// the page's own for a place on the page.
const WAIT: &str = include_str!("templates/wait.js");

/// A walk that ended early, as the visitor may know it.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Why.
    pub code: Code,
    /// Under which the log has everything else.
    pub request_id: &'a str,
    /// The application's name, where one was found.
    pub application: Option<&'a str>,
    /// When, in seconds since the Unix epoch.
    pub time: i64,
    /// Where a new sign-in begins: a path on this host, or an `https:` address.
    pub sign_in_again: Option<&'a str>,
    /// Where this sign-in ends: a path on this host.
    pub sign_out: Option<&'a str>,
    /// The operator's own words for what happened.
    pub message: Option<&'a str>,
    /// When to come back, in seconds, where it is known better than usual.
    pub retry_after: Option<i64>,
}

/// What surrounds every page.
struct Frame<'a> {
    language: &'static str,
    organization: &'a str,
    logo: Option<&'a str>,
    style: &'a str,
}

struct Button<'a> {
    label: &'static str,
    address: &'a str,
}

struct Help<'a> {
    label: Option<&'static str>,
    text: &'a str,
    link: Option<String>,
}

#[derive(Template)]
#[template(path = "refusal.html", config = "src/pages/askama.toml")]
struct RefusalPage<'a> {
    frame: Frame<'a>,
    words: &'static Words,
    denied: bool,
    title: &'static str,
    happened: &'a str,
    next: &'static str,
    application: Option<&'a str>,
    button: Option<Button<'a>>,
    helpers: Vec<Help<'a>>,
    code: &'static str,
    request_id: &'a str,
    instant: String,
    time: String,
}

#[derive(Template)]
#[template(path = "waiting.html", config = "src/pages/askama.toml")]
struct WaitingPage<'a> {
    frame: Frame<'a>,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
    status: &'static str,
    go_on: &'static str,
    application: Option<&'a str>,
    seconds: u64,
    script: &'static str,
}

#[derive(Template)]
#[template(path = "notice.html", config = "src/pages/askama.toml")]
struct NoticePage<'a> {
    frame: Frame<'a>,
    good: bool,
    /// The button opens a tab of its own: this one holds what was typed.
    new_tab: bool,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
    application: Option<&'a str>,
    button: Option<Button<'a>>,
}

#[derive(Template)]
#[template(path = "confirm.html", config = "src/pages/askama.toml")]
struct ConfirmPage<'a> {
    frame: Frame<'a>,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
    action: &'a str,
    sign_out: &'static str,
    back: Option<Button<'a>>,
}

const STYLE: &str = include_str!("templates/page.css");
const PLAIN_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'";
/// When somebody may come back after a passing fault.
const RETRY_SECONDS: &str = "10";

impl Pages {
    /// The pages in the look of `brand`.
    #[must_use]
    pub fn new(brand: Brand) -> Self {
        let style = format!("{}{STYLE}", brand.accent.style());
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        Self {
            policy: policy(&hash, "'self'"),
            // Browsers hold `form-action` against redirects as well, and a sign-out leads to the issuer.
            sign_out_policy: policy(&hash, "'self' https:"),
            leave_policy: way::policy(&hash, way::LEAVE),
            arrive_policy: way::policy(&hash, way::ARRIVE),
            waiting_policy: way::policy(&hash, WAIT),
            style,
            brand,
        }
    }

    /// The page of a walk that ended early.
    #[must_use]
    pub fn refusal(&self, refusal: &Refusal<'_>, language: Language) -> Response<Body> {
        let topic = Topic::of(refusal.code);
        let sentence = text::sentence(language, topic);
        let words = text::words(language);
        let page = RefusalPage {
            frame: self.frame(language),
            words,
            denied: refusal.code.status().is_client_error(),
            title: sentence.title,
            happened: refusal.message.unwrap_or(sentence.happened),
            next: sentence.next,
            application: refusal.application,
            button: button(topic, refusal, words),
            helpers: self.helpers(topic.helper(), refusal, words),
            code: refusal.code.as_str(),
            request_id: refusal.request_id,
            instant: instant(refusal.time),
            time: readable(refusal.time),
        };
        let mut response = self.page(refusal.code.status(), &page, language);
        explain_status(&mut response, refusal);
        response
    }

    /// The same for a program or a background request.
    #[must_use]
    pub fn refusal_json(&self, refusal: &Refusal<'_>, language: Language) -> Response<Body> {
        let sentence = text::sentence(language, Topic::of(refusal.code));
        let content = serde_json::json!({
            "error": refusal.code.as_str(),
            "message": refusal.message.unwrap_or(sentence.happened),
            "request_id": refusal.request_id,
            "sign_in_url": refusal.sign_in_again.filter(|address| is_safe(address)),
        });
        let mut response = json(refusal.code.status(), &content, language);
        explain_status(&mut response, refusal);
        response
    }

    /// "We are preparing your access": asks for the same address again after `again_in`.
    ///
    /// The browser comes back with GET; a request with a body must not be answered with it.
    #[must_use]
    pub fn waiting(
        &self,
        application: Option<&str>,
        again_in: Duration,
        language: Language,
    ) -> Response<Body> {
        let words = text::words(language);
        let seconds = again_in.as_secs().max(1);
        let page = WaitingPage {
            frame: self.frame(language),
            title: words.waiting.title,
            happened: words.waiting.happened,
            next: words.waiting.next,
            status: words.waiting_status,
            go_on: words.go_on,
            application,
            seconds,
            script: WAIT,
        };
        let mut response = self.page(StatusCode::ACCEPTED, &page, language);
        let headers = response.headers_mut();
        headers.insert(header::REFRESH, HeaderValue::from(seconds));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.waiting_policy.clone());
        response
    }

    /// The same for a program or a background request: not now, but soon.
    #[must_use]
    pub fn waiting_json(
        &self,
        request_id: &str,
        again_in: Duration,
        language: Language,
    ) -> Response<Body> {
        let content = serde_json::json!({
            "error": "account-in-preparation",
            "message": text::words(language).waiting.happened,
            "request_id": request_id,
        });
        let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &content, language);
        let seconds = HeaderValue::from(again_in.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        response
    }

    /// "You are signed out", with a way back in where there is one.
    #[must_use]
    pub fn signed_out(&self, sign_in: Option<&str>, language: Language) -> Response<Body> {
        let words = text::words(language);
        let page = NoticePage {
            frame: self.frame(language),
            good: true,
            new_tab: false,
            title: words.signed_out.title,
            happened: words.signed_out.happened,
            next: words.signed_out.next,
            application: None,
            button: safe_button(sign_in, words.sign_in),
        };
        self.page(StatusCode::OK, &page, language)
    }

    /// "Do you want to sign out?": a form that posts to `action`, and a way back to the application.
    #[must_use]
    pub fn sign_out_confirm(
        &self,
        action: &str,
        back: Option<&str>,
        language: Language,
    ) -> Response<Body> {
        let words = text::words(language);
        let page = ConfirmPage {
            frame: self.frame(language),
            title: words.confirm.title,
            happened: words.confirm.happened,
            next: words.confirm.next,
            action,
            sign_out: words.sign_out,
            back: safe_button(back, words.cancel),
        };
        let mut response = self.page(StatusCode::OK, &page, language);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            self.sign_out_policy.clone(),
        );
        response
    }

    /// "Your form was not sent": the session had ended and the form could not be kept. The browser still has it:
    /// a reload of this very answer sends it again.
    #[must_use]
    pub fn form_not_sent(&self, refusal: &Refusal<'_>, language: Language) -> Response<Body> {
        let words = text::words(language);
        let page = NoticePage {
            frame: self.frame(language),
            good: false,
            new_tab: true,
            title: words.form_not_sent.title,
            happened: words.form_not_sent.happened,
            next: words.form_not_sent.next,
            application: refusal.application,
            button: safe_button(refusal.sign_in_again, words.sign_in),
        };
        let mut response = self.page(refusal.code.status(), &page, language);
        explain_status(&mut response, refusal);
        response
    }

    fn frame(&self, language: Language) -> Frame<'_> {
        Frame {
            language: language.tag(),
            organization: &self.brand.organization,
            logo: self.brand.logo.as_ref().map(Logo::address),
            style: &self.style,
        }
    }

    fn helpers<'a>(
        &'a self,
        helper: Helper,
        refusal: &Refusal<'_>,
        words: &'static Words,
    ) -> Vec<Help<'a>> {
        let subject = format!("{} ({})", refusal.code, refusal.request_id);
        let named = |label, contact: &'a Contact| Help {
            label: Some(label),
            text: contact.text(),
            link: contact.link(&subject),
        };
        let unnamed = |text| Help {
            label: None,
            text,
            link: None,
        };
        let owner = refusal
            .application
            .and_then(|application| self.brand.owners.get(application))
            .map(|contact| named(words.ask_owner, contact));
        let support = self
            .brand
            .support
            .as_ref()
            .map(|contact| named(words.ask_support, contact));
        match helper {
            Helper::Owner => std::iter::once(owner.unwrap_or_else(|| unnamed(words.owner_unnamed)))
                .chain(support)
                .collect(),
            // What is meant to be closed opens for nobody who asks.
            Helper::OwnerIfNamed if owner.is_some() => owner.into_iter().chain(support).collect(),
            Helper::OwnerIfNamed | Helper::Support => {
                vec![support.unwrap_or_else(|| unnamed(words.support_unnamed))]
            }
        }
    }

    fn page(&self, status: StatusCode, page: &impl Template, language: Language) -> Response<Body> {
        let (content, media_type) = match page.render() {
            Ok(content) => (content, "text/html; charset=utf-8"),
            // Only memory can run out here; the status still says what matters.
            Err(_) => (status.to_string(), "text/plain; charset=utf-8"),
        };
        let mut response = answer(status, content, media_type, language);
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}

/// SECURITY: no script, no frame, nothing from elsewhere, and only the one style sheet with this hash.
fn policy(style_hash: &str, form_action: &str) -> HeaderValue {
    HeaderValue::try_from(format!(
        "default-src 'none'; style-src 'sha256-{style_hash}'; img-src data:; \
         form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    ))
    .unwrap_or_else(|_| HeaderValue::from_static(PLAIN_POLICY))
}

fn json(status: StatusCode, content: &serde_json::Value, language: Language) -> Response<Body> {
    let mut response = answer(status, content.to_string(), "application/json", language);
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(PLAIN_POLICY),
    );
    response
}

fn answer(
    status: StatusCode,
    content: String,
    media_type: &'static str,
    language: Language,
) -> Response<Body> {
    const FIXED: [(HeaderName, &str); 6] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // SECURITY: our addresses may carry a sign-in's state.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept, accept-language, cookie"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let length = HeaderValue::from(content.len());
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(
        header::CONTENT_LANGUAGE,
        HeaderValue::from_static(language.tag()),
    );
    response
}

/// Header fields that some statuses must carry.
fn explain_status(response: &mut Response<Body>, refusal: &Refusal<'_>) {
    let code = refusal.code;
    let headers = response.headers_mut();
    if code.status() == StatusCode::UNAUTHORIZED {
        // RFC 9110 15.5.2: a 401 names a way to authenticate; RFC 6750 3: why a token was refused.
        // Never Negotiate or Basic: a browser would open a password box.
        let value = if code.as_str().starts_with("token-") {
            "Bearer realm=\"kerbgate\", error=\"invalid_token\""
        } else {
            "Bearer realm=\"kerbgate\""
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    } else if code.status() == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 15.5.6: a 405 lists what is allowed.
        let value = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(header::ALLOW, HeaderValue::from_static(value));
    } else if code.status() == StatusCode::SERVICE_UNAVAILABLE {
        let usual = HeaderValue::from_static(RETRY_SECONDS);
        let seconds = refusal.retry_after.map_or(usual, HeaderValue::from);
        headers.insert(header::RETRY_AFTER, seconds);
    }
}

fn button<'a>(topic: Topic, refusal: &Refusal<'a>, words: &'static Words) -> Option<Button<'a>> {
    match topic.action() {
        Action::None => None,
        // An empty reference is this very address, without its fragment (RFC 3986 5.2.2).
        Action::Retry => Some(Button {
            label: words.retry,
            address: "",
        }),
        Action::SignIn => safe_button(refusal.sign_in_again, words.sign_in),
        Action::SignOut => safe_button(refusal.sign_out, words.another_account),
    }
}

fn safe_button<'a>(address: Option<&'a str>, label: &'static str) -> Option<Button<'a>> {
    address
        .filter(|address| is_safe(address))
        .map(|address| Button { label, address })
}

/// SECURITY: a path on this host or an https address; never `javascript:`, nor `//elsewhere`.
fn is_safe(address: &str) -> bool {
    let path = address.starts_with('/') && !address.starts_with("//");
    (path || address.starts_with("https://"))
        && !address.contains(|c: char| c == '\\' || c.is_control())
}

fn instant(time: i64) -> String {
    OffsetDateTime::from_unix_timestamp(time)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| time.to_string())
}

/// The same in all languages, so that two people on the telephone mean the same instant.
fn readable(time: i64) -> String {
    instant(time).replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests;
