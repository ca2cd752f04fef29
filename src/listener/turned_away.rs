//! What ends before it is a request: a short answer where HTTP is spoken, and a line in the access log.
//!
//! The answer is plain text in English: nothing is known of who reads it. The lines are limited for each
//! address and in all, and a later one says how many were left out: a flood must not fill a disk.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use uuid::Uuid;

use crate::listener::Peer;
use crate::listener::buckets::Buckets;
use crate::listener::buckets::Key;
use crate::model::rates::Rate;
use crate::model::stop::Code;
use crate::telemetry::Access;

const MINUTE: Duration = Duration::from_secs(60);

/// The access lines of what was turned away.
#[derive(Debug)]
pub struct Lines {
    each: Buckets,
    all: Buckets,
    left_out: AtomicU64,
}

impl Default for Lines {
    fn default() -> Self {
        let rate = |count| {
            let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
            Buckets::new(Rate {
                count,
                period: MINUTE,
            })
        };
        Self {
            each: rate(60),
            all: rate(3000),
            left_out: AtomicU64::new(0),
        }
    }
}

impl Lines {
    /// A connection that spoke no HTTP.
    pub fn connection(&self, client: IpAddr, why: &'static str, detail: String) {
        self.write(client, |access| {
            access.why = why;
            access.detail = detail;
        });
    }

    fn request(&self, peer: &Peer, request_id: String, code: Code, detail: String) {
        self.write(peer.client, |access| {
            access.request_id = request_id;
            access.protocol = "HTTP/1.1";
            access.status = code.status().as_u16();
            access.why = code.as_str();
            access.detail = detail;
        });
    }

    fn write(&self, client: IpAddr, fill: impl FnOnce(&mut Access)) {
        let everybody = Key::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let line = self
            .each
            .take(Key::address(client))
            .and_then(|()| self.all.take(everybody));
        if line.is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut access = Access {
            client: client.to_string().into(),
            end: "listener",
            side: String::from("client"),
            ..Access::default()
        };
        fill(&mut access);
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            access.detail = format!("{} ({left_out} lines before this left out)", access.detail);
        }
        access.write();
    }
}

/// The whole answer to an HTTP/1 client, which is noted as well. The connection ends with it.
pub fn http1(lines: &Lines, peer: &Peer, code: Code, detail: String) -> Vec<u8> {
    let request_id = Uuid::now_v7().simple().to_string();
    let answer = answer(code, &request_id, peer.is_secure());
    lines.request(peer, request_id, code, detail);
    answer
}

fn answer(code: Code, request_id: &str, secure: bool) -> Vec<u8> {
    let status: StatusCode = code.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let code = code.as_str();
    let body = format!(
        "{} {reason}\n\nThis request was refused before it reached an application.\nCode: {code}\nRequest: {request_id}\n",
        status.as_u16(),
    );
    let hsts = if secure {
        "strict-transport-security: max-age=31536000\r\n"
    } else {
        ""
    };
    format!(
        "HTTP/1.1 {} {reason}\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\ncontent-length: {}\r\n{hsts}\
         kerbgate-reason: {code}\r\nkerbgate-request-id: {request_id}\r\n\r\n{body}",
        status.as_u16(),
        body.len(),
    )
    .into_bytes()
}
