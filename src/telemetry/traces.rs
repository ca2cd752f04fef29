//! Distributed traces: where a request belongs, passed on to backends and, if configured, told to a collector.
//!
//! In: the `traceparent` of a request (W3C Trace Context), and how the request ended. Out: the `traceparent` for the
//! backend, and a span for the collector (OTLP over HTTP). Without a collector, and without a `traceparent` to pass on,
//! nothing is done at all.
//!
//! SECURITY: whether a trace is recorded is decided here, by share, whatever the client's flag says: anybody can set it.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use opentelemetry::Context;
use opentelemetry::KeyValue;
use opentelemetry::trace::Span as _;
use opentelemetry::trace::SpanContext;
use opentelemetry::trace::SpanId;
use opentelemetry::trace::SpanKind;
use opentelemetry::trace::Status;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::trace::TraceFlags;
use opentelemetry::trace::TraceId;
use opentelemetry::trace::TraceState;
use opentelemetry::trace::Tracer as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::Span;
use uuid::Uuid;

use super::Access;

/// The header of the trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What systems on the way add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where spans are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// The full URL, such as `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// How many of a hundred traces are recorded.
    pub percent: u8,
}

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sends what is waiting, when dropped.
#[derive(Debug)]
pub struct Sending(SdkTracerProvider);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// How long a collector that does not answer holds up the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Begins to send spans to `collector`, in the background, in batches.
///
/// # Errors
/// The endpoint is no URL, or the system gives no thread.
pub(super) fn start(collector: &Collector) -> Result<Sending, String> {
    let endpoint = collector.endpoint.clone();
    // Its HTTP client brings a runtime of its own, which may not be made within ours.
    let building = thread::spawn(move || {
        opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .build()
    });
    let exporter = building
        .join()
        .map_err(|_| String::from("the exporter cannot be built"))?
        .map_err(|error| error.to_string())?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::TraceIdRatioBased(
            f64::from(collector.percent) / 100.0,
        ))
        .with_resource(
            Resource::builder_empty()
                .with_service_name("kerbgate")
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .build(),
        )
        .build();
    // A second start is refused by the logger before.
    drop(TRACER.set(provider.tracer("kerbgate")));
    Ok(Sending(provider))
}

/// A request's place in a trace.
#[derive(Debug)]
pub struct Traced(Place);

#[derive(Debug)]
enum Place {
    /// Told to the collector at its end.
    Told(Box<Span>),
    /// Only passed on.
    PassedOn(SpanContext),
}

impl Traced {
    /// The place of the request with these headers; none where nobody asked for one.
    #[must_use]
    pub fn begin(headers: &HeaderMap, request_id: Uuid) -> Option<Self> {
        let parent = headers.get(TRACEPARENT).and_then(parse);
        let Some(tracer) = TRACER.get() else {
            let (_, own) = request_id.as_u64_pair();
            return parent.map(|parent| {
                Self(Place::PassedOn(SpanContext::new(
                    parent.trace_id(),
                    SpanId::from(own),
                    parent.trace_flags(),
                    false,
                    TraceState::NONE,
                )))
            });
        };
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let builder = tracer.span_builder("request").with_kind(SpanKind::Server);
        let span = tracer.build_with_context(builder, &context);
        Some(Self(Place::Told(Box::new(span))))
    }

    fn context(&self) -> &SpanContext {
        match &self.0 {
            Place::Told(span) => span.span_context(),
            Place::PassedOn(context) => context,
        }
    }

    /// The trace's id.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.context().trace_id().to_string()
    }

    /// The `traceparent` for the backend.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        let context = self.context();
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        let text = format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            flags.to_u8()
        );
        HeaderValue::try_from(text).ok()
    }

    /// The request is over.
    pub fn end(self, access: &Access) {
        let Place::Told(mut span) = self.0 else {
            return;
        };
        if !span.is_recording() {
            return;
        }
        span.update_name(format!("{} {}", access.method, access.application));
        let text = |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
        let micros = |name: &'static str, spent: Duration| {
            KeyValue::new(name, i64::try_from(spent.as_micros()).unwrap_or(i64::MAX))
        };
        span.set_attributes([
            text("http.request.method", &access.method),
            text("url.path", &access.path),
            text("server.address", &access.host),
            KeyValue::new("http.response.status_code", i64::from(access.status)),
            text("kerbgate.application", &access.application),
            text("kerbgate.request_id", &access.request_id),
            text("kerbgate.reason", access.why),
            micros("kerbgate.authn_us", access.rooms.authn),
            micros("kerbgate.authz_us", access.rooms.authz),
            micros("kerbgate.mapping_us", access.rooms.mapping),
            micros("kerbgate.forward_us", access.rooms.forward),
        ]);
        if access.status >= 500 {
            span.set_status(Status::error(access.why));
        }
        span.end();
    }
}

/// Trace Context 3.2: version, trace id, parent id, flags; what is not exactly that starts a new trace.
fn parse(value: &HeaderValue) -> Option<SpanContext> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let sound = lower(version, 2)
        && version != "ff"
        && lower(trace, 32)
        && lower(parent, 16)
        && lower(flags, 2)
        // Later versions may add fields, this one may not.
        && (version != "00" || parts.next().is_none());
    if !sound {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(parent).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, value.parse().unwrap());
        let id = Uuid::from_u64_pair(1, 0x0123_4567_89ab_cdef);
        let traced = Traced::begin(&headers, id)?;
        Some(traced.header().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_trace_is_passed_on_with_our_own_place_in_it() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for flags in ["00", "01"] {
            assert_eq!(
                passed_on(&format!("00-{trace}-b7ad6b7169203331-{flags}")),
                Some(format!("00-{trace}-0123456789abcdef-{flags}"))
            );
        }
        assert!(passed_on(&format!("01-{trace}-b7ad6b7169203331-01-more")).is_some());
    }

    #[test]
    fn what_is_no_trace_is_not_passed_on() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for value in [
            String::new(),
            String::from("00"),
            format!("00-{trace}-b7ad6b7169203331"),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-b7ad6b7169203331-zz"),
            format!("00-{trace}-b7ad6b7169203331-1"),
        ] {
            assert_eq!(passed_on(&value), None, "{value}");
        }
    }
}
