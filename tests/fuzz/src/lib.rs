//! The gateway's parsers, from the gateway's own files. Each needs little of its house, and the whole of it, instrumented,
//! takes minutes to compile; these take seconds, so they can be fuzzed in every `make test`.
#![allow(missing_docs, dead_code)]

#[path = "../../../src/authn"]
pub mod authn {
    pub mod cookie_header;
}

#[path = "../../../src/forward"]
pub mod forward {
    pub mod frames;
    pub mod headers;
}

#[path = "../../../src/listener"]
pub mod listener {
    pub mod forwarded;
    pub mod framing;
    pub mod proxy_header;
}

#[path = "../../../src/model"]
pub mod model {
    pub mod addresses;
}

#[path = "../../../src/route"]
pub mod route {
    pub mod target;
}
