//! Which id a `Cookie` header brings for one of our names (RFC 6265 5.4, RFC 9113 8.2.3). Pure.
//!
//! No number in a cookie bounds a loop and nothing is allocated: a crafted header costs what its bytes cost.

use http::HeaderMap;
use http::header;
use thiserror::Error;

/// Two cookies of one of our names.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("two cookies {0}")]
pub struct Twice(String);

/// The id in the cookie `name`; garbage counts as absent.
///
/// # Errors
/// When the name comes twice.
pub fn id<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Twice> {
    let mut found = None;
    // HTTP/2 may split the header (RFC 9113 8.2.3).
    for field in headers.get_all(header::COOKIE) {
        // Bytes, not text: a neighbor's cookie may hold anything.
        for pair in field.as_bytes().split(|b| *b == b';') {
            let Some(rest) = pair.trim_ascii().strip_prefix(name.as_bytes()) else {
                continue;
            };
            let value = match rest.trim_ascii_start() {
                [] => &[],
                [b'=', value @ ..] => value,
                [..] => continue, // a longer name
            };
            // SECURITY: browsers keep one `__Host-` cookie of a name; a second one was planted (cookie tossing), and which
            // of the two is ours cannot be known.
            if found.is_some() {
                return Err(Twice(name.to_owned()));
            }
            found = Some(value);
        }
    }
    Ok(found
        .and_then(|value| std::str::from_utf8(value).ok())
        .filter(|value| is_id(value)))
}

/// True for a text that could be an id of ours.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 43
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "__Host-kerbgate";

    fn headers(fields: &[Vec<u8>]) -> HeaderMap {
        let values = fields
            .iter()
            .filter_map(|field| HeaderValue::from_bytes(field).ok());
        values.map(|value| (header::COOKIE, value)).collect()
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_make_an_id_up(fields: Vec<Vec<u8>>) {
            let headers = headers(&fields);
            if let Ok(Some(id)) = id(&headers, NAME) {
                prop_assert!(is_id(id));
            }
        }

        /// Where ours stands among others, and how the header is split, changes nothing.
        #[test]
        fn ours_is_found_among_any_others(
            before in prop::collection::vec("[a-zA-Z_-]{1,9}(=[ -:<-~]{0,9})?", 0..5),
            ours in "[A-Za-z0-9_-]{43}",
            after in prop::collection::vec("[a-zA-Z_-]{1,9}(=[ -:<-~]{0,9})?", 0..5),
            split: bool,
        ) {
            let mut pairs = before;
            pairs.push(format!("{NAME}={ours}"));
            pairs.extend(after);
            let fields: Vec<Vec<u8>> = if split {
                pairs.iter().map(|pair| pair.clone().into_bytes()).collect()
            } else {
                vec![pairs.join("; ").into_bytes()]
            };
            let whole = headers(&fields);
            prop_assert_eq!(id(&whole, NAME), Ok(Some(&*ours)));
            let mut tossed = fields;
            tossed.push(format!("x=y; {NAME}=").into_bytes());
            let tossed = headers(&tossed);
            prop_assert_eq!(id(&tossed, NAME), Err(Twice(NAME.to_owned())));
        }
    }
}
