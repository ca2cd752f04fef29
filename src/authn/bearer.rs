//! Access tokens of API clients (RFC 6750), in the `Authorization` header only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header;

use super::AuthenticatedUser;
use super::Inner;
use super::reason;
use crate::listener::buckets::Key;
use crate::model::application::Application;
use crate::model::stop::Code;
use crate::model::stop::Stop;

/// The bearer token of a request; other schemes are none of ours.
///
/// # Errors
/// Several `Authorization` fields of which one is a bearer token: which one counts would be a guess.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<&str>, Stop> {
    let all = headers.get_all(header::AUTHORIZATION);
    let found = all
        .iter()
        .find_map(|value| after_scheme(value.to_str().ok()?));
    if found.is_some() && all.iter().count() > 1 {
        return Err(Stop::deny(Code::BadRequest, "several Authorization fields"));
    }
    Ok(found)
}

/// RFC 9110 11.1: the scheme is compared without case.
fn after_scheme(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// `exp` of a token that was validated: when what it has opened must close. Without one, at once.
fn expires(token: &str) -> i64 {
    #[derive(serde::Deserialize)]
    struct Expires {
        exp: i64,
    }
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&payload).map_or(0, |expires: Expires| expires.exp)
}

impl Inner {
    /// The person an access token speaks for. The token decides alone: no cookie is looked at.
    pub(super) async fn bearer_user(
        &self,
        token: &str,
        app: &Application,
        client: Option<Key>,
    ) -> Result<AuthenticatedUser, Stop> {
        let counted = self.bad_tokens.as_ref().zip(client);
        if let Some((bad_tokens, key)) = counted {
            bad_tokens.check(key).map_err(|after| {
                let detail = format!("{key} has shown too many tokens that do not hold");
                Stop::later(Code::TooManyRequests, detail, after)
            })?;
        }
        match self
            .issuer
            .validate_access_token(token, &app.bearer_audiences)
            .await
        {
            Ok(claims) => Ok(AuthenticatedUser::by_bearer(claims, token, expires(token))),
            Err(error) => {
                let stop = reason::issuer(&error);
                // An issuer that cannot be asked is not the client's doing.
                if let (Stop::Deny(_), Some((bad_tokens, key))) = (&stop, counted) {
                    // Empty already, by others at the same moment: the next one is refused.
                    let _: Result<(), _> = bad_tokens.take(key);
                }
                Err(stop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_bearer_field_is_read() {
        let headers = |values: &[&'static str]| -> HeaderMap {
            values
                .iter()
                .map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value)))
                .collect()
        };
        for (values, wanted) in [
            (&["Bearer a.b.c"][..], Some("a.b.c")),
            (&["bEARER  a.b.c"][..], Some("a.b.c")),
            (&["Bearer "][..], Some("")),
            (&["Bearer"][..], None),
            (&["Basic eDp5"][..], None),
            (&["Negotiate YII"][..], None),
            (&[][..], None),
        ] {
            assert_eq!(token(&headers(values)).unwrap(), wanted, "{values:?}");
        }
        assert!(token(&headers(&["Bearer a", "Bearer b"])).is_err());
        assert!(token(&headers(&["Basic eDp5", "Bearer b"])).is_err());
        assert_eq!(token(&headers(&["Basic a", "Basic b"])).unwrap(), None);
    }
}
