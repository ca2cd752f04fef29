//! The gateway's parsers, from the gateway's own files. Each needs little of its house, and the whole of it, instrumented,
//! takes minutes to compile; these take seconds, so they can be fuzzed in every `make test`.
#![allow(missing_docs)]

pub mod authn {
    #[path = "../../../../src/authn/cookie_header.rs"]
    pub mod cookie_header;
}

pub mod forward {
    #[path = "../../../../src/forward/frames.rs"]
    pub mod frames;
    #[path = "../../../../src/forward/headers.rs"]
    pub mod headers;
}

pub mod listener {
    #[path = "../../../../src/listener/forwarded.rs"]
    pub mod forwarded;
    #[path = "../../../../src/listener/framing.rs"]
    pub mod framing;
    #[path = "../../../../src/listener/proxy_header.rs"]
    pub mod proxy_header;
}

pub mod model {
    #[path = "../../../../src/model/addresses.rs"]
    pub mod addresses;
}

pub mod route {
    #[path = "../../../../src/route/target.rs"]
    pub mod target;
}
