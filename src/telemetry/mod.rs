//! What the gateway says about itself: diagnostics, one access line a request, audit events.
//!
//! Three `tracing` targets, all JSON lines: `kerbgate…` (diagnostics), `access` (one line a request) and
//! `audit` (who did what as whom). Access lines are written by `lines`, the others by `tracing`. Nothing here ever sees a token, a ticket or a cookie: the fields are
//! typed, and no field's type can hold one.

mod lines;
pub mod metrics;
pub mod traces;

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use lines::Lines;
use lines::Object;
pub use lines::Writer;

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of access and audit lines cannot be opened.
    #[error("log file {path:?} cannot be opened for appending: {source}")]
    File {
        /// The configured path.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Spans cannot be sent.
    #[error("log.traces {endpoint:?} cannot be used: {problem}")]
    Traces {
        /// The configured collector.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The system gives no thread to write with.
    #[error("no thread for access lines: {0}")]
    Thread(io::Error),
    /// `log.filter` is no filter.
    #[error(
        "log.filter {filter:?} is not a filter such as \"info\" or \"kerbgate=debug,info\": {problem}"
    )]
    Filter {
        /// The configured filter.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Starts logging: diagnostics to standard error, access and audit lines to `file` or standard output.
///
/// Access lines are written as long as the returned value lives; dropping it writes the last ones.
///
/// # Errors
/// The file cannot be opened, or the filter is none.
pub fn start(filter: &str, file: Option<&Path>) -> Result<Writer, Error> {
    start_as(filter, file, Format::Json)
}

/// How access lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, with everything that is known.
    #[default]
    Json,
    /// The combined format of Apache and nginx, without referrer and browser, with host, request id and reason behind.
    Combined,
}

/// Begins to send spans to `collector`; the last ones go when the returned value is dropped.
///
/// # Errors
/// The collector's address cannot be used.
pub fn send_traces(collector: &traces::Collector) -> Result<traces::Sending, Error> {
    traces::start(collector).map_err(|problem| Error::Traces {
        endpoint: collector.endpoint.clone(),
        problem,
    })
}

/// As [`start`], with access lines in `format`.
///
/// # Errors
/// The file cannot be opened, or the filter is none.
pub fn start_as(filter: &str, file: Option<&Path>, format: Format) -> Result<Writer, Error> {
    // The watcher tells of each change of a file; a log that lies beside the configuration would tell of itself, for ever.
    let watched = format!("{filter},notify=warn");
    let diagnostics = EnvFilter::try_new(watched).map_err(|problem| Error::Filter {
        filter: filter.to_owned(),
        problem: problem.to_string(),
    })?;
    let audit = |meta: &tracing::Metadata<'_>| meta.target() == "audit";
    // A filter without a hint has every span of every library made, only to be dropped: four fifths of a request over HTTP/2.
    let records_only = filter_fn(audit).with_max_level_hint(LevelFilter::INFO);
    let no_records = filter_fn(move |meta| !audit(meta)).with_max_level_hint(LevelFilter::TRACE);
    let (records, started) = match file {
        Some(path) => {
            let unusable = |source| Error::File {
                path: path.display().to_string(),
                source,
            };
            let file = append(path).map_err(unusable)?;
            let started = file.try_clone().and_then(Lines::start).map_err(unusable)?;
            (json().with_writer(Arc::new(file)).boxed(), started)
        }
        None => {
            let started = Lines::start(io::stdout()).map_err(Error::Thread)?;
            (json().with_writer(io::stdout).boxed(), started)
        }
    };
    tracing_subscriber::registry()
        .with(records.with_filter(records_only))
        .with(
            json()
                .with_writer(io::stderr)
                .with_filter(diagnostics.and(no_records)),
        )
        .init();
    let (lines, writer) = started;
    // `init` above panics at a second start, so this is the first.
    drop(ACCESS.set((lines, format)));
    Ok(writer)
}

/// Where access lines go, once logging has begun: as global as the logger is.
static ACCESS: OnceLock<(Arc<Lines>, Format)> = OnceLock::new();

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

fn json<S>() -> fmt::Layer<S, fmt::format::JsonFields, fmt::format::Format<fmt::format::Json>>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
}

/// One request's line. Written once, when the response's last byte went out or its reader went away.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The id that error pages show.
    pub request_id: String,
    /// The true client address.
    pub client: Arc<str>,
    /// The host asked for.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path without its query: queries carry secrets.
    pub path: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// The status sent.
    pub status: u16,
    /// Bytes of the response body sent.
    pub bytes: u64,
    /// Time from the request's head to the response's head.
    pub head: Duration,
    /// Time from the request's head to the response's end.
    pub total: Duration,
    /// How long the walk was in each of the rooms that may wait for somebody else.
    pub rooms: Rooms,
    /// The application, once it is known.
    pub application: String,
    /// `tid/oid`, once it is known.
    pub person: Arc<str>,
    /// The on-premises principal the request went on as.
    pub principal: String,
    /// The room in which the walk ended.
    pub end: &'static str,
    /// The reason code, when the walk ended early.
    pub why: &'static str,
    /// The side at fault, when something is broken.
    pub side: String,
    /// What exactly, when the walk ended early.
    pub detail: String,
    /// The trace it belongs to, where there is one.
    pub trace_id: String,
}

/// Where a walk's time went. The other rooms only compute: microseconds, if that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rooms {
    /// The issuer and the store.
    pub authn: Duration,
    /// Graph.
    pub authz: Duration,
    /// The directory.
    pub mapping: Duration,
    /// The KDC, then the backend up to its answer's head.
    pub forward: Duration,
}

impl Rooms {
    /// Adds time spent in `room`.
    pub fn add(&mut self, room: &str, spent: Duration) {
        match room {
            "authn" => self.authn += spent,
            "authz" => self.authz += spent,
            "mapping" => self.mapping += spent,
            "forward" => self.forward += spent,
            _ => {}
        }
    }
}

impl Access {
    /// Writes the line.
    pub fn write(&self) {
        metrics::metrics().served(self);
        let Some((lines, format)) = ACCESS.get() else {
            return;
        };
        let now = OffsetDateTime::now_utc();
        if *format == Format::Combined {
            lines.add_text(&self.combined(now));
            return;
        }
        lines.add(|line| self.json(&lines::timestamp(now), line));
    }

    /// The members in their order. By hand: a serializer's visits to twenty-five of them cost a tenth of a request.
    fn json(&self, timestamp: &str, line: &mut Vec<u8>) {
        let rooms = &self.rooms;
        let mut object = Object::begin(line);
        object.text("timestamp", timestamp);
        object.text("level", "INFO");
        object.text("request_id", &self.request_id);
        object.text("client", &self.client);
        object.text("host", &self.host);
        object.text("method", &self.method);
        object.text("path", &self.path);
        object.text("protocol", self.protocol);
        object.number("status", self.status.into());
        object.number("bytes", self.bytes);
        object.number("head_us", micros(self.head));
        object.number("total_us", micros(self.total));
        object.number("authn_us", micros(rooms.authn));
        object.number("authz_us", micros(rooms.authz));
        object.number("mapping_us", micros(rooms.mapping));
        object.number("forward_us", micros(rooms.forward));
        object.text("application", &self.application);
        object.text("person", &self.person);
        object.text("principal", &self.principal);
        object.text("end", self.end);
        object.text("why", self.why);
        object.text("side", &self.side);
        object.text("detail", &self.detail);
        if !self.trace_id.is_empty() {
            object.text("trace_id", &self.trace_id);
        }
        object.text("target", "access");
        object.end();
    }

    fn combined(&self, now: OffsetDateTime) -> String {
        const DATE: &[BorrowedFormatItem<'_>] =
            format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
        let date = now.format(DATE).unwrap_or_default();
        let user = [&*self.principal, &*self.person]
            .into_iter()
            .find(|name| !name.is_empty());
        // SECURITY: a path holds no quotes (they are refused), and no line breaks: a line stays one line.
        let Self {
            client,
            method,
            path,
            protocol,
            status,
            bytes,
            host,
            request_id,
            why,
            ..
        } = self;
        let user = user.unwrap_or("-");
        let [host, why] =
            [host.as_str(), *why].map(|text| if text.is_empty() { "-" } else { text });
        let path = path.escape_default();
        format!(
            "{client} - {user} [{date}] \"{method} {path} {protocol}\" {status} {bytes} \"-\" \"-\" {host} {request_id} {why}"
        )
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
