//! `Set-Cookie` of a backend, for the published host alone. RFC 6265 4.1; pure.
//!
//! `SameSite`, `HttpOnly`, `Partitioned` and the lifetime stay as the application says.

use http::HeaderMap;
use http::HeaderValue;
use http::header;
use http::header::Entry;

use crate::forward::headers::is_ours;
use crate::model::application::Application;
use crate::rewrite::table::below;

/// Makes the cookies of a backend those of its published URL.
pub fn translate(headers: &mut HeaderMap, application: &Application) {
    let mut refused = false;
    if let Entry::Occupied(mut cookies) = headers.entry(header::SET_COOKIE) {
        for cookie in cookies.iter_mut() {
            match set_cookie(cookie.as_bytes(), application) {
                Some(ours) => *cookie = ours,
                None => {
                    refused = true;
                    *cookie = REFUSED;
                }
            }
        }
    }
    if !refused {
        return;
    }
    let all = headers.get_all(header::SET_COOKIE).iter();
    let kept: Vec<HeaderValue> = all.filter(|value| !value.is_empty()).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for cookie in kept {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Marks what is to be taken out.
const REFUSED: HeaderValue = HeaderValue::from_static("");

/// A backend's cookie for the published host; `None` if it may not be set.
fn set_cookie(cookie: &[u8], application: &Application) -> Option<HeaderValue> {
    let mut parts = cookie.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let pair = parts.next()?;
    // SECURITY: a backend that could set these would sign its visitors in as somebody else. A cookie
    // without a name is `=value` to some browsers, and `value` may look like one of ours.
    let name_less = pair.strip_prefix(b"=").unwrap_or(pair).trim_ascii();
    if is_ours(name_less) {
        return None;
    }
    // RFC 6265bis 4.1.3.2: `__Host-` is only accepted with Path=/.
    let pinned = pair
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"__Host-"));
    let mut ours = Vec::with_capacity(cookie.len() + SECURE.len() + application.prefix.len());
    ours.extend_from_slice(pair);
    for part in parts {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        let name = name.trim_ascii();
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        // Without Domain a cookie stays with the one host that the application is published under.
        if name.is_empty() || is(b"domain") || is(b"secure") {
            continue;
        }
        ours.extend_from_slice(b"; ");
        if is(b"path") && !pinned {
            let value = part.get(name.len()..).unwrap_or_default().trim_ascii();
            let path = value.strip_prefix(b"=").unwrap_or_default().trim_ascii();
            ours.extend_from_slice(b"Path=");
            ours.extend_from_slice(cookie_path(path, application).as_bytes());
        } else {
            ours.extend_from_slice(part);
        }
    }
    // The published host is only reached over TLS.
    ours.extend_from_slice(SECURE);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(ours)).ok()
}

const SECURE: &[u8] = b"; Secure";

/// A path below the backend's becomes one below ours; any other one becomes ours, since the backend's
/// root is not the root of the published host, which other applications may share.
fn cookie_path(path: &[u8], application: &Application) -> String {
    let path = std::str::from_utf8(path).unwrap_or_default();
    let prefix = application.prefix.trim_end_matches('/');
    let root = if prefix.is_empty() { "/" } else { prefix };
    let mut bases = application
        .backends
        .iter()
        .map(|backend| backend.url.path().trim_end_matches('/'));
    // An application that was told its prefix (`X-Forwarded-Prefix`) has done it itself.
    let is_told = !prefix.is_empty() && below(path, prefix).is_some();
    if is_told && !bases.clone().any(|base| base.starts_with(prefix)) {
        return path.to_owned();
    }
    match bases.find_map(|base| below(path, base)) {
        Some("" | "/") if prefix.is_empty() => root.to_owned(),
        Some(rest) if path.starts_with('/') => format!("{prefix}{rest}"),
        Some(_) | None => root.to_owned(),
    }
}
