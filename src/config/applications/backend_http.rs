//! `backend_http` of an application.

use crate::config::reader::Section;
use crate::model::application::Backend;
use crate::model::application::Sso;
use crate::model::application::backend_http::BackendHttp;

/// Reads the key and holds it against what else the application says.
pub(super) fn read(root: &Section<'_>, backends: &[Backend], sso: Option<&Sso>) -> BackendHttp {
    const KEY: &str = "backend_http";
    let choices = [
        ("http1", BackendHttp::Http1),
        ("http2", BackendHttp::Http2),
        ("auto", BackendHttp::Auto),
    ];
    let read = root.choice(KEY, &choices).unwrap_or_default();
    // SECURITY: RFC 4559 6: Negotiate signs a connection in, and over HTTP/2 that one is everybody's.
    if read != BackendHttp::Http1 && matches!(sso, Some(Sso::Kerberos(_))) {
        root.mistake(
            KEY,
            "does not go with [sso.kerberos]: Negotiate is bound to HTTP/1.1 (RFC 4559; IIS answers \
             HTTP_1_1_REQUIRED); remove one of the two",
        );
    }
    let plain = backends.iter().find(|one| one.url.scheme() != "https");
    if let Some(backend) = plain.filter(|_| read == BackendHttp::Auto) {
        root.mistake(
            KEY,
            &format!(
                "\"auto\" asks the server within TLS (ALPN), and \"{}\" has none; write \"http2\" if it speaks \
                 HTTP/2 with prior knowledge as gRPC servers do, otherwise \"http1\"",
                backend.url
            ),
        );
    }
    read
}
