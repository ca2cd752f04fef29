//! Our cookies: opaque random ids, bound to one host by the `__Host-` prefix (RFC 6265bis 4.1.3.2).

use std::sync::LazyLock;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderValue;
use http::header;
use memchr::memmem::Finder;

use super::cookie_header;
use crate::model::stop::Code;
use crate::model::stop::Stop;

/// The session.
pub const SESSION: &str = "__Host-kerbgate";
/// Binds a sign-in to the browser that began it.
pub const BINDING: &str = "__Host-kerbgate-signin";

/// Finds a kept form again.
pub const FORM: &str = "__Host-kerbgate-form";
/// Some tab keeps what stood behind `#` (see `fragment`). A script of ours sets it, so that scripts can read it.
pub const FRAGMENT: &str = "__Host-kerbgate-fragment";

/// True for a cookie that is ours: no backend ever sees it. Without regard to case, as browsers treat the prefix.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let name = name.trim();
    [SESSION, BINDING, FORM, FRAGMENT]
        .iter()
        .any(|ours| name.eq_ignore_ascii_case(ours))
}

/// Where [`BINDING`] may stand.
pub(super) static BINDING_FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(BINDING));
/// Where [`FORM`] may stand.
pub(super) static FORM_FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(FORM));

/// Where [`FRAGMENT`] may stand.
pub(super) static FRAGMENT_FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(FRAGMENT));

/// The id in the cookie `name`; garbage counts as absent.
///
/// # Errors
/// `cookie-duplicate`.
pub(super) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Stop> {
    cookie_header::id(headers, name)
        .map_err(|twice| Stop::deny(Code::CookieDuplicate, twice.to_string()))
}

/// False when the cookie `name` is certainly absent: cheap, for what almost never is there.
pub(super) fn may_hold(headers: &HeaderMap, name: &LazyLock<Finder<'_>>) -> bool {
    let holds = |value: &HeaderValue| name.find(value.as_bytes()).is_some();
    headers.get_all(header::COOKIE).iter().any(holds)
}

/// `Set-Cookie` for a kept form.
pub(super) fn form(id: &str, lasts: Duration) -> Result<HeaderValue, Stop> {
    set(&format!(
        "{FORM}={id}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax",
        lasts.as_secs()
    ))
}

/// `Set-Cookie` that removes the one for a kept form.
pub const FORM_GONE: HeaderValue = HeaderValue::from_static(
    "__Host-kerbgate-form=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax",
);

/// `Set-Cookie` for the session: gone with the browser; its lifetimes are kept on our side.
pub(super) fn session(id: &str) -> Result<HeaderValue, Stop> {
    set(&format!(
        "{SESSION}={id}; Path=/; Secure; HttpOnly; SameSite=Lax"
    ))
}

/// `Set-Cookie` for the binding.
pub(super) fn binding(id: &str, lasts: Duration) -> Result<HeaderValue, Stop> {
    set(&format!(
        "{BINDING}={id}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax",
        lasts.as_secs()
    ))
}

/// `Set-Cookie` that removes the cookie `name`.
pub(super) fn removed(name: &str) -> Result<HeaderValue, Stop> {
    set(&format!(
        "{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
    ))
}

fn set(value: &str) -> Result<HeaderValue, Stop> {
    HeaderValue::from_str(value).map_err(|_| super::reason::internal("a cookie is no header value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::random;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        fields
            .iter()
            .map(|field| (header::COOKIE, HeaderValue::from_bytes(field).unwrap()))
            .collect()
    }

    #[test]
    fn one_sound_cookie_is_read_and_nothing_else() {
        let id = random::id().unwrap();
        let good = format!("a=b; {SESSION}={id}; c=d");
        assert_eq!(
            read(&headers(&[good.as_bytes()]), SESSION).unwrap(),
            Some(id.as_str())
        );
        let split = [b"x=\xff\xfe".as_slice(), good.as_bytes()];
        assert_eq!(read(&headers(&split), SESSION).unwrap(), Some(id.as_str()));
        let oversize = format!("{SESSION}={}", "A".repeat(8000));
        for garbage in [
            "",
            "a",
            SESSION,
            "__Host-kerbgate=",
            "__Host-kerbgate=x y",
            &oversize,
        ] {
            assert_eq!(
                read(&headers(&[garbage.as_bytes()]), SESSION).unwrap(),
                None,
                "{garbage:.40}"
            );
        }
        // Another name is another cookie, prefixes and case included.
        for other in [
            "__Host-kerbgate-signin",
            "__host-kerbgate",
            "Host-kerbgate",
            "X__Host-kerbgate",
        ] {
            let field = format!("{other}={id}");
            assert_eq!(
                read(&headers(&[field.as_bytes()]), SESSION).unwrap(),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn two_of_a_name_are_refused_wherever_they_stand() {
        let id = random::id().unwrap();
        let one = format!("{SESSION}={id}");
        let two = format!("{one}; {SESSION}=garbage");
        for fields in [&[two.as_bytes()][..], &[one.as_bytes(), one.as_bytes()][..]] {
            let Err(Stop::Deny(denial)) = read(&headers(fields), SESSION) else {
                panic!("accepted");
            };
            assert_eq!(denial.code, Code::CookieDuplicate);
        }
    }

    #[test]
    fn all_our_cookies_stay_small_and_locked() {
        let id = random::id().unwrap();
        let session = session(&id).unwrap();
        let binding = binding(&id, Duration::from_secs(900)).unwrap();
        for cookie in [&session, &binding] {
            let text = cookie.to_str().unwrap();
            for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(text.contains(flag), "{text}");
            }
            assert!(!text.to_ascii_lowercase().contains("domain"));
        }
        assert!(session.len() + binding.len() < 400);
        assert!(is_ours("__HOST-Kerbgate") && is_ours(BINDING) && !is_ours("kerbgate"));
    }
}
