//! What is known of a walk while it goes on, and the access line that it becomes.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use uuid::Uuid;

use super::stay::CutShort;
use super::tunnel::Tunnel;
use crate::listener::Peer;
use crate::listener::authority::BadAuthority;
use crate::listener::authority::HostPort;
use crate::listener::authority::authority;
use crate::listener::buckets::Inside;
use crate::model::application::Application;
use crate::model::body::Body;
use crate::model::body::BodyError;
use crate::model::poll;
use crate::model::poll::Poll as Looked;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::telemetry::Access;
use crate::telemetry::traces::TRACEPARENT;
use crate::telemetry::traces::TRACESTATE;
use crate::telemetry::traces::Traced;

/// The reason of a walk whose client went away.
pub(super) const CLIENT_GONE: &str = Code::ClientGone.as_str();

/// What is known of a walk so far; becomes the access line whatever happens, a vanished client included.
pub(super) struct Trace {
    pub(super) access: Access,
    pub(super) began: Instant,
    entered: Instant,
    /// When the clock was last looked at.
    looked: Looked,
    pub(super) app: Option<Arc<Application>>,
    pub(super) client: IpAddr,
    /// Places taken until the response's end.
    pub(super) held: Vec<Inside>,
    /// The answer opens it.
    pub(super) tunnel: Option<Tunnel>,
    /// The other site whose script asks, where [cors] lists it.
    pub(super) other_site: Option<HeaderValue>,
    /// Where it belongs in a trace.
    pub(super) traced: Option<Traced>,
    /// The host it is for, until somebody asks.
    named: Option<Result<HostPort, BadAuthority>>,
    /// The id as a header's value.
    id: HeaderValue,
    /// The host named in the TLS handshake.
    sni: Option<Arc<str>>,
}

impl Trace {
    pub(super) fn begin(request: &Request<Incoming>) -> Self {
        let peer = request.extensions().get::<Peer>();
        let client = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.client);
        let sni = peer.and_then(|peer| peer.sni.clone());
        let now = Instant::now();
        let id = Uuid::now_v7();
        let mut text = Uuid::encode_buffer();
        let text: &str = id.simple().encode_lower(&mut text);
        let named = authority(request);
        let traced = Traced::begin(request.headers(), id);
        let mut header = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        // No secret, but never the same twice: HPACK is not to remember it (RFC 7541 6.2.3).
        header.set_sensitive(true);
        Self {
            access: Access {
                request_id: text.to_owned(),
                trace_id: traced.as_ref().map(Traced::trace_id).unwrap_or_default(),
                client: peer
                    .map_or_else(|| client.to_string().into(), |peer| Arc::clone(&peer.text)),
                host: named.as_ref().map(written).unwrap_or_default(),
                method: request.method().as_str().to_owned(),
                path: request.uri().path().to_owned(),
                protocol: protocol(request.version()),
                end: "route",
                ..Access::default()
            },
            began: now,
            entered: now,
            looked: poll::this(),
            app: None,
            client,
            held: Vec::new(),
            tunnel: None,
            other_site: None,
            traced,
            named: Some(named),
            sni,
            id: header,
        }
    }

    /// What was named in the handshake, where it is not `host`.
    pub(super) fn handshake_named(&self, host: &str) -> Option<&str> {
        self.sni.as_deref().filter(|sni| *sni != host)
    }

    /// The host that the request is for; asked once.
    pub(super) fn named(&mut self) -> Result<HostPort, BadAuthority> {
        self.named.take().unwrap_or(Err(BadAuthority::Missing))
    }

    /// The backend learns its place in the trace; what was no `traceparent` goes no further.
    pub(super) fn tell_place(&self, headers: &mut HeaderMap) {
        match self.traced.as_ref().and_then(Traced::header) {
            Some(place) => {
                headers.insert(TRACEPARENT, place);
            }
            None if headers.contains_key(TRACEPARENT) => {
                headers.remove(TRACEPARENT);
                headers.remove(TRACESTATE);
            }
            None => {}
        }
    }

    /// The client is known now; until then it was the connection's other end.
    pub(super) fn comes_from(&mut self, client: IpAddr) {
        if self.client != client {
            self.client = client;
            self.access.client = client.to_string().into();
        }
    }

    pub(super) fn hold(&mut self, inside: Option<Inside>) {
        self.held.extend(inside);
    }

    /// From here on the walk is in `room`; empty = it reached its end.
    pub(super) fn enter(&mut self, room: &'static str) {
        self.leave();
        self.access.end = room;
    }

    fn leave(&mut self) {
        // What was computed without waiting for anybody counts for the next room that waits: microseconds.
        if poll::this() != self.looked {
            self.leave_at(Instant::now());
        }
    }

    fn leave_at(&mut self, now: Instant) {
        let spent = now.saturating_duration_since(self.entered);
        self.access.rooms.add(self.access.end, spent);
        self.entered = now;
        self.looked = poll::this();
    }

    pub(super) fn application(&self) -> &str {
        self.app.as_ref().map_or("", |app| app.id.as_str())
    }

    pub(super) fn request_id(&self) -> HeaderValue {
        self.id.clone()
    }

    pub(super) fn answered(&mut self, response: &Response<Body>) {
        let now = Instant::now();
        self.leave_at(now);
        self.access.status = response.status().as_u16();
        self.access.head = now.saturating_duration_since(self.began);
    }

    /// The line is written when the response's last byte is out.
    pub(super) fn finish(mut self: Box<Self>, response: Response<Body>) -> Response<Body> {
        self.answered(&response);
        let (head, content) = response.into_parts();
        // The answer to HEAD is over with its head; nobody asks for its body.
        let ended = self.access.method == "HEAD";
        let content = Counted {
            content,
            trace: self,
            ended,
        };
        Response::from_parts(head, content.boxed_unsync())
    }
}

/// As it stands in the line, without a formatter where nothing is to be formatted.
fn written(named: &HostPort) -> String {
    match named.port {
        None => named.host.clone(),
        Some(_) => named.to_string(),
    }
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.access.total = self.began.elapsed();
        self.access.application = self.application().to_owned();
        if self.access.status == 0 {
            self.access.why = CLIENT_GONE;
        }
        self.access.write();
        if let Some(traced) = self.traced.take() {
            traced.end(&self.access);
        }
    }
}

/// A response's body that counts itself for the access line.
struct Counted {
    content: Body,
    trace: Box<Trace>,
    ended: bool,
}

impl Drop for Counted {
    /// hyper drops a body of known length after its last byte without asking for its end.
    fn drop(&mut self) {
        if !self.ended && !self.content.is_end_stream() {
            self.trace.access.why = CLIENT_GONE;
            self.trace.access.side = Side::Client.to_string();
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.trace.access.bytes += u64::try_from(bytes).unwrap_or(0);
            }
            Some(Err(error)) => {
                self.ended = true;
                (self.trace.access.why, self.trace.access.side) = match CutShort::of(&**error) {
                    Some(code) => (code.as_str(), String::new()),
                    None => ("body-cut", Side::Backend.to_string()),
                };
                self.trace.access.detail = error.to_string();
            }
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}
