//! The few answers of this room that are no pages.

use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use url::Url;

use super::reason;
use crate::model::body;
use crate::model::body::Body;
use crate::model::stop::Stop;

/// `https://host[:port]` of a URL, as a browser writes it into `Origin`.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// A redirect that nobody keeps and that tells the next page nothing of where it came from.
pub(super) fn redirect(to: &str, cookies: Vec<HeaderValue>) -> Result<Response<Body>, Stop> {
    let location =
        HeaderValue::from_str(to).map_err(|_| reason::internal("an address is no header value"))?;
    let mut response = plain(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, location);
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// An answer without content.
pub(super) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // SECURITY: ids and codes stand in our URLs; the next page must not learn them.
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

/// JSON.
pub(super) fn json(content: &serde_json::Value) -> Response<Body> {
    let mut response = plain(StatusCode::OK);
    *response.body_mut() = body::full(content.to_string());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
