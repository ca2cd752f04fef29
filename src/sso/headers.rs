//! Identity headers: what a header application learns of the person.
//!
//! Pure: claims and account in, header values out. The scrubbing of what a client sent under these names
//! is `forward`'s first step for every request, before these are set.

use http::HeaderMap;
use http::HeaderValue;

use crate::model::account::Account;
use crate::model::application::HeaderSso;
use crate::model::application::HeaderValueFrom;
use crate::model::claims::Claims;
use crate::model::claims::Groups;

/// The headers that `settings` name, for the person of `claims`.
///
/// A fact that is not known gives no header at all: absent is not the same as empty.
#[must_use]
pub fn identity(settings: &HeaderSso, claims: &Claims, account: Option<&Account>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, from) in &settings.headers {
        if let Some(value) = value(*from, claims, account)
            && let Ok(value) = HeaderValue::from_str(&visible(&value))
        {
            headers.insert(name.clone(), value);
        }
    }
    headers
}

fn value(from: HeaderValueFrom, claims: &Claims, account: Option<&Account>) -> Option<String> {
    match from {
        HeaderValueFrom::ObjectId => Some(claims.person.oid.to_string()),
        HeaderValueFrom::TenantId => Some(claims.person.tid.to_string()),
        HeaderValueFrom::DisplayName => Some(claims.shown_name()),
        HeaderValueFrom::Email => claims.email.clone(),
        HeaderValueFrom::Upn => claims.upn.clone(),
        HeaderValueFrom::Roles => Some(claims.roles.join(",")),
        HeaderValueFrom::Groups => match &claims.groups {
            Groups::Listed(groups) => Some(
                groups
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            ),
            Groups::Overage => None,
        },
        HeaderValueFrom::Sam => account.map(|account| account.principal.name().to_owned()),
        HeaderValueFrom::AccountUpn => account.and_then(|account| account.upn.clone()),
        HeaderValueFrom::Sid => account.map(|account| account.sid.to_string()),
    }
}

/// Percent-encodes (RFC 3986 2.1, over UTF-8) what is not visible ASCII or a space, and `%` itself.
///
/// SECURITY: a line break in a display name would otherwise write headers of its own.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=31 | 127.. => out.push_str(&format!("%{byte:02X}")),
            b' '..=b'~' => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_neither_break_the_line_nor_hide_its_bytes() {
        assert_eq!(visible("Jane\r\nX-Admin: 1"), "Jane%0D%0AX-Admin: 1");
        assert_eq!(visible("Åsa 100%"), "%C3%85sa 100%25");
        assert_eq!(visible("plain, \"quoted\""), "plain, \"quoted\"");
    }
}
