//! `Destination` and `If` as one server of the application knows its resources (RFC 4918 10.3 and 10.4). Pure.
//!
//! Absolute, as older servers want them (RFC 2518 9.3), with the scheme, the host and the path with which the very same
//! request reaches the server: it compares them with its own (RFC 9110 7.1).

use http::HeaderMap;
use http::HeaderValue;
use http::header;

use crate::forward::balance::Server;
use crate::forward::draft::backend_target;
use crate::route::named::Condition;
use crate::route::named::DESTINATION;
use crate::route::named::IF;
use crate::route::named::Named;
use crate::route::target::Target;

/// Adds them to `headers`, whose `Host` is already the server's; `prefix` is the application's. `None` when one of
/// them is not below it or no header can carry it.
pub(super) fn write(
    named: &Named,
    prefix: &str,
    server: &Server,
    headers: &mut HeaderMap,
) -> Option<()> {
    let scheme = if server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let host = headers.get(header::HOST)?.to_str().ok()?.to_owned();
    let url = |target: &Target| {
        let path = backend_target(&server.base, target.under(prefix)?, target.query());
        Some(format!("{scheme}://{host}{path}"))
    };
    if let Some(target) = &named.destination {
        let value = HeaderValue::try_from(url(target)?).ok()?;
        headers.insert(DESTINATION, value);
    }
    if !named.conditions.is_empty() {
        let mut value = String::new();
        for part in &named.conditions {
            if !value.is_empty() {
                value.push(' ');
            }
            match part {
                Condition::About(target) => value.extend(["<", &url(target)?, ">"]),
                Condition::List(list) => value.push_str(list),
            }
        }
        headers.insert(IF, HeaderValue::try_from(value).ok()?);
    }
    Some(())
}
