//! `[cors]`: other sites' scripts.

use http::HeaderName;
use http::HeaderValue;
use http::Method;
use url::Url;

use crate::config::reader::Section;
use crate::model::application::cors::Cors;
use crate::model::application::cors::Preflight;

/// Reads the section; `None` when it is not there.
pub(super) fn read(section: &Section<'_>) -> Option<Cors> {
    let preflight = section.choice(
        "preflight",
        &[
            ("refuse", Preflight::Refuse),
            ("backend", Preflight::Backend),
            ("answer", Preflight::Answer),
        ],
    );
    let origins = origins(section);
    let methods: Vec<Method> = section.list("methods", "a method such as \"PUT\"");
    let headers: Vec<HeaderName> = section.list("headers", "the name of a header");
    let credentials = section.flag("credentials", false);
    let max_age = section.number("max_age", 0..=86_400, 600);
    if section.exists() {
        section.required(
            "preflight",
            "\"refuse\", \"backend\" or \"answer\"",
            preflight,
        );
    }
    if preflight == Some(Preflight::Answer) && origins.is_empty() {
        section.mistake(
            "origins",
            "names nobody whom preflight = \"answer\" could answer",
        );
    }
    section.finish();
    let joined = |names: Vec<&str>| HeaderValue::try_from(names.join(", ")).ok();
    let methods = if methods.is_empty() {
        HeaderValue::from_static("GET, HEAD, POST")
    } else {
        joined(methods.iter().map(Method::as_str).collect())?
    };
    Some(Cors {
        preflight: preflight?,
        origins,
        methods,
        headers: if headers.is_empty() {
            None
        } else {
            joined(headers.iter().map(HeaderName::as_str).collect())
        },
        credentials,
        max_age: HeaderValue::from(max_age),
    })
}

fn origins(section: &Section<'_>) -> Vec<HeaderValue> {
    const WANTED: &str = "an origin such as \"https://app.example.com\"";
    let urls: Vec<Url> = section.list("origins", WANTED);
    let mut origins = Vec::new();
    for url in urls {
        let origin = url.origin().ascii_serialization();
        // SECURITY: no `*` and no `null`: anybody can be those.
        let sound = matches!(url.scheme(), "https" | "http")
            && url.host_str().is_some_and(|host| !host.contains('*'))
            && url.as_str().trim_end_matches('/') == origin;
        match HeaderValue::try_from(origin) {
            Ok(origin) if sound => origins.push(origin),
            Ok(_) | Err(_) => section.mistake("origins", &format!("\"{url}\" is not {WANTED}")),
        }
    }
    origins
}
