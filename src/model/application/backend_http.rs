//! Which HTTP an application's servers are spoken to in.

/// The protocol towards backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendHttp {
    /// HTTP/1.1. Negotiate works with nothing else, every server speaks it, and one stuck connection holds up
    /// one request only: whoever wants to gain something from HTTP/2 knows it (gRPC needs it).
    #[default]
    Http1,
    /// HTTP/2 alone: agreed on over TLS, with prior knowledge (RFC 9113 3.3) on `http://`.
    Http2,
    /// What the server prefers, asked over TLS (ALPN, RFC 7301).
    Auto,
}
