//! Why a request did not become a backend's answer.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::headers::BadHeader;
use crate::listener::body::BodyCut;
use crate::model::stop::Code;
use crate::model::stop::Side;
use crate::model::stop::Stop;

/// Why a request did not become a backend's answer.
#[derive(Debug, Error)]
pub enum Error {
    /// No connection: refused, unroutable, unknown name.
    #[error("backend {backend} cannot be reached: {source}")]
    Unreachable {
        /// `host:port`.
        backend: String,
        /// What the network said.
        source: io::Error,
    },
    /// No connection in time.
    #[error("backend {backend} did not accept a connection within {within:?}")]
    ConnectTimeout {
        /// `host:port`.
        backend: String,
        /// The limit.
        within: Duration,
    },
    /// TLS was not established: certificate, name, version.
    #[error("TLS with backend {backend} failed: {source}")]
    Tls {
        /// `host:port`.
        backend: String,
        /// What TLS said.
        source: io::Error,
    },
    /// The request was sent, and no answer began in time.
    #[error("backend {backend} did not begin to answer within {within:?}")]
    FirstByte {
        /// `host:port`.
        backend: String,
        /// The limit.
        within: Duration,
    },
    /// The connection ended before an answer. Not tried again: the backend may have acted on it.
    #[error(
        "backend {backend} closed the connection before it answered: {}",
        whole(source)
    )]
    Closed {
        /// `host:port`.
        backend: String,
        /// What hyper said.
        source: hyper::Error,
    },
    /// The answer is no sound HTTP.
    #[error(
        "backend {backend} answered what is no HTTP of the version that is configured: {}",
        whole(source)
    )]
    Protocol {
        /// `host:port`.
        backend: String,
        /// What hyper said.
        source: hyper::Error,
    },
    /// The answer switches protocols, unasked.
    #[error("a backend of {0} switched protocols without being asked")]
    Switched(String),
    /// The backend's answer to a WebSocket handshake fits no request of ours.
    #[error("backend {backend} answered a WebSocket handshake wrongly: {problem}")]
    Handshake {
        /// `host:port`.
        backend: String,
        /// What does not fit.
        problem: &'static str,
    },
    /// The backend asks for Negotiate again after it got our token.
    #[error(
        "backend {backend} answered 401 Negotiate to the ticket for the {index}. backend URL's SPN"
    )]
    TicketRefused {
        /// `host:port`.
        backend: String,
        /// Which of the application's backend URLs, from 0: its SPN's place.
        index: usize,
    },
    /// The credential could not be made; the room that makes it says why.
    #[error("no credential for the backend")]
    Credential(Box<Stop>),
    /// The client's body is too large or was silent for too long.
    #[error(transparent)]
    Body(#[from] BodyCut),
    /// The client went away in the middle of its body.
    #[error("the client ended the request body early")]
    ClientGone,
    /// A header that may not be forwarded.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// A protocol switch.
    #[error("a switch to protocol \"{0}\" is not forwarded")]
    Upgrade(String),
    /// TRACE or CONNECT, in any spelling.
    #[error("method {0} is never forwarded")]
    Method(http::Method),
    /// Every server has its most requests, and as many wait as may.
    #[error("every server of {application} has its max_connections, and {length} requests wait")]
    QueueFull {
        /// The application.
        application: String,
        /// How many may wait.
        length: usize,
        /// When it makes sense to come back.
        after: Duration,
    },
    /// Every server had its most requests for as long as one may wait.
    #[error("every server of {application} had its max_connections for {waited:?}")]
    QueueLate {
        /// The application.
        application: String,
        /// How long the request waited.
        waited: Duration,
    },
    /// Each server was tried, and none takes requests.
    #[error("no server of {application} takes requests: {each}")]
    NoneLeft {
        /// The application.
        application: String,
        /// What is wrong with each.
        each: String,
        /// What was wrong with the one that was tried last.
        last: Box<Self>,
    },
    /// What cannot happen with a checked configuration.
    #[error("application {0} has no usable backend URL")]
    Misconfigured(String),
}

/// What hyper said, and what made it say so.
fn whole(error: &hyper::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said.push_str(": ");
        said.push_str(&error.to_string());
        cause = error.source();
    }
    said
}

impl Error {
    /// Whose side is at fault.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self::NoneLeft { last, .. } => last.side(),
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::Tls { .. }
            | Self::FirstByte { .. }
            | Self::Closed { .. }
            | Self::Protocol { .. }
            | Self::Switched(_)
            | Self::Handshake { .. }
            | Self::QueueFull { .. }
            | Self::QueueLate { .. }
            | Self::TicketRefused { .. } => Side::Backend,
            Self::Body(_)
            | Self::ClientGone
            | Self::Header(_)
            | Self::Upgrade(_)
            | Self::Method(_) => Side::Client,
            Self::Credential(_) | Self::Misconfigured(_) => Side::Gateway,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::NoneLeft { last, .. } => last.code(),
            Self::QueueFull { .. } => Code::BackendQueueFull,
            Self::QueueLate { .. } => Code::BackendQueueTimeout,
            Self::Unreachable { .. } | Self::ConnectTimeout { .. } | Self::Closed { .. } => {
                Code::BackendUnreachable
            }
            Self::Tls { .. } => Code::BackendTls,
            Self::FirstByte { .. } => Code::BackendTimeout,
            Self::Protocol { .. } | Self::Switched(_) | Self::Handshake { .. } => {
                Code::BackendProtocol
            }
            Self::TicketRefused { .. } => Code::TicketRefused,
            Self::Body(BodyCut::TooLarge(_)) => Code::BodyTooLarge,
            Self::Body(BodyCut::Silent(_) | BodyCut::TooSlow(_)) => Code::RequestTimeout,
            Self::Body(BodyCut::TooLong(_)) => Code::TotalTimeout,
            Self::ClientGone => Code::ClientGone,
            Self::Header(_) => Code::BadRequest,
            Self::Upgrade(_) => Code::UpgradeRefused,
            Self::Method(_) => Code::MethodRefused,
            Self::Credential(_) | Self::Misconfigured(_) => Code::Internal,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match (error.side(), error) {
            (_, Error::Credential(stop)) => *stop,
            (_, Error::QueueFull { after, .. }) => {
                Self::later(Code::BackendQueueFull, detail, after)
            }
            // Who comes back joins the queue again: soon is as good as later.
            (_, Error::QueueLate { .. }) => {
                Self::later(Code::BackendQueueTimeout, detail, Duration::from_secs(1))
            }
            (Side::Client, error) => Self::deny(error.code(), detail),
            (side, error) => Self::fail(error.code(), side, detail),
        }
    }
}
