//! The two pages with a script, at both ends of a sign-in: what stands behind `#` in an address never leaves the browser,
//! so only a page there can keep it (RFC 3986 3.5, RFC 9110 4.2.5).
//!
//! In: where the way leads and which trip it is. Out: a page that goes on at once.
//!
//! # Why like this
//! - The part behind `#` stays in the tab, in the session storage of the application's own origin: it is in no URL of
//!   another host, in no answer of ours, in no log. It is kept together with the trip's name, so what an abandoned
//!   trip left behind is never put behind another address.
//! - SECURITY: the scripts are the same bytes for everybody, named in the policy by their hash; what differs stands in
//!   attributes, escaped. No value can become a script, whatever a path holds.
//! - The first page is a 401, not a 200: a service worker of the application may keep what it takes for the application's
//!   page, and would show it, with a trip long over, for ever.
//! - For the first two seconds nothing is seen of them: a sign-in is no flicker.

use std::time::Duration;

use askama::Template;
use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use super::Frame;
use super::Language;
use super::PLAIN_POLICY;
use super::Pages;
use super::is_safe;
use super::text;
use crate::model::body::Body;

#[derive(Template)]
#[template(path = "way.html", config = "src/pages/askama.toml")]
struct WayPage<'a> {
    frame: Frame<'a>,
    title: &'static str,
    happened: &'static str,
    next: &'static str,
    go_on: &'static str,
    to: &'a str,
    trip: &'a str,
    lasts: u64,
    script: &'static str,
}

pub(super) const LEAVE: &str = include_str!("templates/leave.js");
pub(super) const ARRIVE: &str = include_str!("templates/arrive.js");

impl Pages {
    /// Leaves the application for the sign-in at `to`; what stands behind `#` stays here, under the name `trip`, for
    /// as long as a sign-in `lasts`.
    #[must_use]
    pub fn leave(
        &self,
        to: &str,
        trip: &str,
        lasts: Duration,
        language: Language,
    ) -> Response<Body> {
        let status = StatusCode::UNAUTHORIZED;
        let mut response = self.way(status, (to, trip, lasts), LEAVE, language);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.leave_policy.clone());
        // RFC 9110 15.5.2: a 401 names a scheme. No browser asks for a password over this one.
        let scheme = HeaderValue::from_static("Bearer realm=\"kerbgate\"");
        headers.insert(header::WWW_AUTHENTICATE, scheme);
        response
    }

    /// Goes on to `to`, a path on this very host, with what was kept for `trip` behind it.
    #[must_use]
    pub fn arrive(&self, to: &str, trip: &str, language: Language) -> Response<Body> {
        let way = (to, trip, Duration::ZERO);
        let mut response = self.way(StatusCode::OK, way, ARRIVE, language);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, self.arrive_policy.clone());
        response
    }

    fn way(
        &self,
        status: StatusCode,
        (to, trip, lasts): (&str, &str, Duration),
        script: &'static str,
        language: Language,
    ) -> Response<Body> {
        let words = text::words(language);
        let page = WayPage {
            frame: self.frame(language),
            title: words.way.title,
            happened: words.way.happened,
            next: words.way.next,
            go_on: words.go_on,
            to: if is_safe(to) { to } else { "/" },
            trip,
            lasts: lasts.as_secs(),
            script,
        };
        self.page(status, &page, language)
    }
}

/// SECURITY: this one script and nothing else; no frame, no form, nothing from elsewhere.
pub(super) fn policy(style_hash: &str, script: &str) -> HeaderValue {
    let script_hash = STANDARD.encode(digest(&SHA256, script.as_bytes()));
    HeaderValue::try_from(format!(
        "default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}'; img-src data:; \
         form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ))
    .unwrap_or_else(|_| HeaderValue::from_static(PLAIN_POLICY))
}
