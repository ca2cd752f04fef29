//! `Forwarded` and `X-Forwarded-For`: what a client wrote on the left never changes what the proxy said on the right.
#![no_main]

use std::net::IpAddr;
use std::net::Ipv4Addr;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use kerbgate_fuzz::listener::forwarded::client;
use kerbgate_fuzz::listener::forwarded::forwarded;
use kerbgate_fuzz::listener::forwarded::x_forwarded_for;
use kerbgate_fuzz::model::addresses::Networks;
use kerbgate_fuzz::model::addresses::Syntax;
use kerbgate_fuzz::model::addresses::Trusted;
use libfuzzer_sys::fuzz_target;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

fn headers(name: &'static str, fields: &[&str]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for field in fields {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(field.as_bytes()).ok()?,
        );
    }
    Some(headers)
}

fuzz_target!(|text: &str| {
    drop(forwarded(text));
    drop(x_forwarded_for(text));
    for (syntax, name, own) in [
        (Syntax::Forwarded, "forwarded", "for=203.0.113.7"),
        (Syntax::XForwardedFor, "x-forwarded-for", "203.0.113.7"),
    ] {
        let Ok(network) = "10.0.0.0/8".parse() else {
            return;
        };
        let trusted = Trusted {
            from: Networks::new(vec![network]),
            syntax,
        };
        for fields in [&[&*format!("{text}, {own}")][..], &[text, own]] {
            let Some(headers) = headers(name, fields) else {
                continue;
            };
            match client(&trusted, PROXY, &headers) {
                Ok(found) => assert_eq!(found, CLIENT, "{fields:?}"),
                // An open quote on the left makes the whole field unreadable, which refuses; the other syntax has none.
                Err(_) => assert_eq!(syntax, Syntax::Forwarded, "{fields:?}"),
            }
            // From anybody else it is only words.
            assert_eq!(client(&trusted, STRANGER, &headers), Ok(STRANGER));
        }
    }
});
