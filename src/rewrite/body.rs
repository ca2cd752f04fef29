//! Link translation in bodies, for applications that ask for it: which answers, and how they stream.
//!
//! In: an answer of a backend. Out: the same answer, or one whose body is translated while it passes. As
//! much is asked of the backend as the client asks of us; memory is bounded whatever the body's length.
//! What cannot be translated (compressed, in ranges, in UTF-16) passes as it came.
//!
//! A translated body has no length, no digest and no ranges, and is no longer the same byte for byte: its
//! strong `ETag` becomes a weak one (RFC 9110 8.8.1), so that it is never put together from parts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context as Poller;
use std::task::Poll;
use std::task::ready;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::model::application::Application;
use crate::model::application::links::Translation;
use crate::model::body::Body;
use crate::model::body::BodyError;
use crate::rewrite::html::Html;
use crate::rewrite::references::Context;
use crate::rewrite::scan::Scanner;
use crate::rewrite::table::Links;

/// What a body needs as long as it lasts.
#[derive(Clone, Debug)]
pub struct Guide {
    /// The application that answered.
    pub application: Arc<Application>,
    /// All published applications.
    pub links: Arc<Links>,
}

impl Guide {
    /// For one look.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            application: &self.application,
            links: &self.links,
        }
    }
}

/// Asks for what can be translated: nothing compressed, and documents as a whole.
pub fn ask(headers: &mut HeaderMap) {
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    // RFC 9110 14.2: a server may ignore Range. Downloads and media keep it; a part of a page is useless.
    let destination = headers.get("sec-fetch-dest").map(HeaderValue::as_bytes);
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let is_page = destination.is_some_and(|for_what| PAGES.contains(&for_what))
        || accept.is_some_and(|accept| accept.starts_with(b"text/"));
    if is_page {
        headers.remove(header::RANGE);
        headers.remove(header::IF_RANGE);
    }
}

const PAGES: [&[u8]; 6] = [
    b"document",
    b"iframe",
    b"frame",
    b"object",
    b"script",
    b"style",
];

/// What is said of the very bytes.
const OF_BYTES: [HeaderName; 6] = [
    header::CONTENT_LENGTH,
    header::ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Translates the body of `response` if its application asks for that.
#[must_use]
pub fn translate(mut response: Response<Body>, guide: &Guide) -> Response<Body> {
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED {
        weaken(response.headers_mut());
        return response;
    }
    let bare = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::PARTIAL_CONTENT].contains(&status);
    let Some(kind) = kind(response.headers(), guide.application.links).filter(|_| !bare) else {
        return response;
    };
    let coding = response.headers().get(header::CONTENT_ENCODING);
    if let Some(coding) =
        coding.filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        tracing::warn!(
            application = %guide.application.id,
            ?coding,
            "links are not translated: the backend compresses although it was asked not to",
        );
        return response;
    }
    let headers = response.headers_mut();
    for name in &OF_BYTES {
        headers.remove(name);
    }
    weaken(headers);
    let engine = match kind {
        Kind::Html => Engine::Html(Box::new(Html::new(guide))),
        Kind::Css => Engine::Text(Scanner::css(), guide.clone()),
        Kind::Text => Engine::Text(Scanner::new(), guide.clone()),
    };
    response.map(|content| {
        if content.is_end_stream() {
            return content;
        }
        let translated = Translated {
            content,
            engine: Some(engine),
            last: None,
        };
        translated.boxed_unsync()
    })
}

fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else {
        return;
    };
    if tag.as_bytes().starts_with(b"\"") {
        let weak = [b"W/", tag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            headers.insert(header::ETAG, weak);
        }
    }
}

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Html,
    Css,
    Text,
}

/// `None` for what the application does not want translated, or what is not made of ASCII.
fn kind(headers: &HeaderMap, wanted: Translation) -> Option<Kind> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let essence = essence.trim().to_ascii_lowercase();
    let (kind, on) = match essence.as_str() {
        "text/html" | "application/xhtml+xml" => (Kind::Html, wanted.html),
        "text/css" => (Kind::Css, wanted.css),
        "text/javascript" | "application/javascript" | "application/x-javascript" => {
            (Kind::Text, wanted.javascript)
        }
        other if other.ends_with("/json") || other.ends_with("+json") => (Kind::Text, wanted.json),
        other if other.ends_with("/xml") || other.ends_with("+xml") => (Kind::Text, wanted.xml),
        _ => return None,
    };
    let parameters = parameters.to_ascii_lowercase();
    let wide = NOT_ASCII.iter().any(|name| parameters.contains(name));
    (on && !wide).then_some(kind)
}

/// Charsets in which a slash need not be a slash.
const NOT_ASCII: [&str; 6] = ["utf-16", "utf-32", "utf-7", "iso-2022", "ucs-", "ebcdic"];

enum Engine {
    Html(Box<Html>),
    Text(Scanner, Guide),
}

impl Engine {
    fn write(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Html(html) => html.write(data, out),
            Self::Text(scanner, guide) => scanner.write(data, &guide.context(), out),
        }
    }

    fn end(mut self, out: &mut Vec<u8>) {
        match &mut self {
            Self::Html(html) => html.end(out),
            Self::Text(scanner, guide) => scanner.end(&guide.context(), out),
        }
    }
}

/// A body that is translated while it is read.
struct Translated {
    content: Body,
    /// `None` after the end.
    engine: Option<Engine>,
    /// Trailers that came with the end.
    last: Option<Frame<Bytes>>,
}

impl HttpBody for Translated {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.engine.is_none() {
                return Poll::Ready(self.last.take().map(Ok));
            }
            let mut out = Vec::new();
            match ready!(Pin::new(&mut self.content).poll_frame(poller)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(engine) = &mut self.engine {
                            engine.write(&data, &mut out);
                        }
                    }
                    Err(trailers) => {
                        self.last = Some(trailers);
                        if let Some(engine) = self.engine.take() {
                            engine.end(&mut out);
                        }
                    }
                },
                None => {
                    if let Some(engine) = self.engine.take() {
                        engine.end(&mut out);
                    }
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.engine.is_none() && self.last.is_none()
    }
}
