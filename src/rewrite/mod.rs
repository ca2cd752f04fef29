//! The backend's response in, ours out: what leads to a backend leads to where it is published. Pure.
//!
//! Specifications: RFC 9110 7.6.1, 10.2.2 (Location), RFC 8288 (Link), RFC 6265 4.1 (Set-Cookie).
//! `Server` stays: hiding it protects nobody, and support people ask for it. `Content-Security-Policy` is
//! translated, since a policy that names the backend's own host would block the application itself;
//! `Report-To` and `Reporting-Endpoints` are not: nothing breaks when a report does not arrive.
//!
//! Runs for every answer: one walk over the names finds what there is to do, and most have nothing.
//!
//! | File | What it is |
//! |---|---|
//! | `table.rs` | every backend URL and its published URL |
//! | `references.rs` | the headers that hold references |
//! | `cookies.rs` | `Set-Cookie` |
//! | `body.rs`, `html.rs`, `scan.rs` | links in bodies, for applications that ask for it |

pub mod body;
pub mod cookies;
pub mod html;
pub mod references;
pub mod scan;
pub mod table;

use http::HeaderMap;
use http::HeaderValue;
use http::header;

use crate::forward::headers::HOP_BY_HOP;
use crate::forward::headers::declared_trailers;
use crate::forward::headers::listed_in_connection;
use crate::forward::headers::trailer_header;
use crate::forward::negotiate;
use crate::model::application::Application;
use crate::model::application::Sso;
use crate::rewrite::references::Context;
use crate::rewrite::table::Links;

/// Strict transport security for a year, as published hosts are only ever served over TLS; for the host
/// alone, since its siblings may be no business of ours. Every answer of the gateway carries it.
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Makes a backend's response headers ours.
pub fn response(headers: &mut HeaderMap, application: &Application, links: &Links) {
    let mut todo = Todo::default();
    for name in headers.keys() {
        todo.note(name.as_str());
    }
    let trailers = todo
        .trailer
        .then(|| trailer_header(&declared_trailers(headers, &[])))
        .flatten();
    if todo.connection {
        for name in listed_in_connection(headers) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    if todo.hop_by_hop {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
    if let Some(trailers) = trailers {
        headers.insert(header::TRAILER, trailers);
    }
    if todo.internal {
        for name in INTERNAL {
            headers.remove(name);
        }
    }
    if todo.challenges {
        challenges(headers, application);
    }
    if todo.references {
        references::translate(headers, &Context { application, links });
    }
    if todo.cookies {
        cookies::translate(headers, application);
    }
}

/// What an answer's names ask for.
#[derive(Default)]
struct Todo {
    connection: bool,
    trailer: bool,
    hop_by_hop: bool,
    internal: bool,
    challenges: bool,
    references: bool,
    cookies: bool,
}

impl Todo {
    fn note(&mut self, name: &str) {
        match name {
            "set-cookie" => self.cookies = true,
            "www-authenticate" | "authentication-info" => self.challenges = true,
            "connection" => self.connection = true,
            "trailer" => {
                self.trailer = true;
                self.hop_by_hop = true;
            }
            _ => {
                self.hop_by_hop |= HOP_BY_HOP.iter().any(|one| one.as_str() == name);
                self.internal |= INTERNAL.contains(&name);
                self.references |= references::NAMES.iter().any(|one| one.as_str() == name);
            }
        }
    }
}

/// What a backend says about its own neighborhood. RFC 7838: Alt-Svc would lead past the gateway.
/// The `kerbgate-` names are ours: support reads them as the gateway's word.
const INTERNAL: [&str; 8] = [
    "alt-svc",
    "http2-settings",
    "kerbgate-reason",
    "kerbgate-request-id",
    "persistent-auth",
    "proxy-authentication-info",
    "x-forwarded-for",
    "x-forwarded-host",
];

/// Challenges end at the gateway, as far as the gateway answers them.
///
/// SECURITY: a `Negotiate` challenge would make the browser offer its own credentials, or ask for a
/// password; a `Negotiate` answer is a token (security requirement 36).
fn challenges(headers: &mut HeaderMap, application: &Application) {
    let kept: Vec<HeaderValue> = match &application.sso {
        Sso::Kerberos(_) | Sso::Headers(_) => {
            headers.remove("authentication-info");
            Vec::new()
        }
        Sso::None => headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter(|value| !negotiate::names_negotiate(value.as_bytes()))
            .cloned()
            .collect(),
    };
    headers.remove(header::WWW_AUTHENTICATE);
    for value in kept {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
}

#[cfg(test)]
mod body_tests;
#[cfg(test)]
mod tests;
