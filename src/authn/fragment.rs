//! The part of an address behind `#` across a sign-in: kept by the browser itself, on the application's own origin.
//!
//! In: the two answers on the application's host between which a browser is away. Out: for a browser that can do it, a
//! page instead of a redirect; for everybody else the redirect. What the pages do is in [`crate::pages::Pages::leave`].
//!
//! The cookie says only that something is kept in some tab of this browser, so that all others get the shorter way.
//! It is left to expire with the sign-in: another tab may be away just as long.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::header;
use http::request::Parts;

use super::Inner;
use super::answer;
use super::cookie;
use super::fetch;
use crate::model::body::Body;
use crate::model::stop::Stop;
use crate::pages::Language;
use crate::store::records::Pending;

impl Inner {
    /// Sends the browser from the application's host to the sign-in at `to`.
    pub(super) fn leave(
        &self,
        head: &Parts,
        pending: &Pending,
        to: &str,
        cookies: Vec<HeaderValue>,
    ) -> Result<Response<Body>, Stop> {
        if !shows_pages(head) {
            return answer::redirect(to, cookies);
        }
        let (trip, language) = (trip(pending), Language::from_accept(&head.headers));
        let page = self.pages.leave(to, &trip, self.settings.sign_in, language);
        Ok(with(cookies, page))
    }

    /// Sends the browser on to where it wanted to go on this host: `to`, from the root.
    pub(super) fn arrive(
        &self,
        head: &Parts,
        pending: &Pending,
        to: &str,
        cookies: Vec<HeaderValue>,
    ) -> Result<Response<Body>, Stop> {
        if !cookie::may_hold(&head.headers, &cookie::FRAGMENT_FINDER) || !shows_pages(head) {
            return answer::redirect(to, cookies);
        }
        let (trip, language) = (trip(pending), Language::from_accept(&head.headers));
        Ok(with(cookies, self.pages.arrive(to, &trip, language)))
    }
}

/// A name for this one sign-in that opens nothing: what is kept under it is put behind no other address.
fn trip(pending: &Pending) -> String {
    let (name, _) = pending.hash.octets().split_at(12);
    URL_SAFE_NO_PAD.encode(name)
}

/// True for a window's own navigation in a browser that says so. A frame shows no page of ours, and a program would be
/// puzzled by one.
fn shows_pages(head: &Parts) -> bool {
    let is = |name, wanted| fetch::text(&head.headers, name) == Some(wanted);
    head.method == Method::GET
        && is(fetch::SEC_FETCH_MODE, "navigate")
        && is(fetch::SEC_FETCH_DEST, "document")
        && fetch::takes_html(&head.headers)
}

fn with(cookies: Vec<HeaderValue>, mut page: Response<Body>) -> Response<Body> {
    for cookie in cookies {
        page.headers_mut().append(header::SET_COOKIE, cookie);
    }
    page
}
