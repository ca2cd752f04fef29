//! StartTLS (RFC 4511 4.14) and bind (RFC 4513), spoken before ldap3 takes the stream over.
//!
//! Why ourselves: ldap3's own GSSAPI takes credentials from the process's environment only, which is what
//! the gateway must never have, and it knows no simple bind that refuses an empty password.

use std::future::Future;
use std::pin::Pin;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use super::ber;
use super::ber::Answer;
use super::error::Error;
use super::error::Refusal;
use super::error::ResultCode;
use crate::model::names::HostName;
use crate::model::secret::Secret;

/// How the gateway proves who it is.
pub enum Bind {
    /// With its Kerberos credential (SASL GSSAPI, RFC 4752) and channel binding.
    Gssapi(Box<dyn SaslSource>),
    /// With name and password; only ever inside TLS.
    Simple {
        /// The bind name: a DN, a UPN or `DOMAIN\name`.
        name: String,
        /// Its password.
        password: Secret<String>,
    },
}

/// Whose fault it is that the gateway could not prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslFault {
    /// No KDC gave a ticket.
    Kdc,
    /// The gateway's own keytab.
    Keytab,
    /// Anything else, the domain controller included.
    Other,
}

/// A SASL step that failed: whose fault, and a text for the log.
pub type SaslFailure = (SaslFault, String);

/// What a SASL step comes to.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, SaslFailure>> + Send + 'a>>;

/// Where SASL exchanges come from: the Kerberos room, which this one does not know.
pub trait SaslSource: Send + Sync {
    /// Begins an exchange with `ldap/host`, bound to the TLS channel if there is a binding.
    fn begin<'a>(
        &'a self,
        host: &'a HostName,
        channel_binding: Option<&'a [u8]>,
    ) -> Step<'a, Box<dyn SaslExchange>>;
}

/// One exchange, the client's side (RFC 4752 3.1).
pub trait SaslExchange: Send {
    /// The next token to send, or `None` when nothing is left to send.
    fn step<'a>(&'a mut self, token: Option<&'a [u8]>) -> Step<'a, Option<Vec<u8>>>;
    /// Whether both sides have proved who they are.
    fn is_complete(&self) -> bool;
    /// Opens a message of the server's.
    fn unwrap<'a>(&'a mut self, message: &'a [u8]) -> Step<'a, Vec<u8>>;
    /// Signs a message to the server, without encrypting it.
    fn wrap<'a>(&'a mut self, message: &'a [u8]) -> Step<'a, Vec<u8>>;
}

impl std::fmt::Debug for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Bind {
    /// As whom, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Gssapi(_) => String::from("bind with Kerberos"),
            Self::Simple { name, .. } => format!("bind as {name:?}"),
        }
    }
}

/// Asks for TLS on a plain connection; nothing but the one answer is read.
pub(super) async fn start_tls<S>(stream: &mut S, server: &HostName) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let operation = ber::element(0x77, &ber::element(0x80, b"1.3.6.1.4.1.1466.20037"));
    let mut line = Line {
        stream,
        server,
        step: "StartTLS",
        id: 0,
    };
    let answer = line.ask(&operation, 0x78).await?;
    // RFC 4511 4.14.3: go on without TLS? Never: a refused StartTLS ends the connection.
    line.expect(answer, ResultCode::SUCCESS).map(drop)
}

/// Binds; afterwards the stream speaks LDAP as the gateway.
pub(super) async fn bind<S>(
    stream: &mut S,
    server: &HostName,
    bind: &Bind,
    channel_binding: Option<&[u8]>,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = Line {
        stream,
        server,
        step: "bind",
        id: 0,
    };
    match bind {
        Bind::Simple { name, password } => line.simple(name, password).await,
        Bind::Gssapi(source) => line.gssapi(source.as_ref(), channel_binding).await,
    }
}

struct Line<'a, S> {
    stream: &'a mut S,
    server: &'a HostName,
    step: &'static str,
    id: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<'_, S> {
    async fn ask(&mut self, operation: &[u8], answer: u8) -> Result<Answer, Error> {
        self.id += 1;
        let request = ber::message(self.id, operation);
        let read = async {
            self.stream.write_all(&request).await?;
            self.stream.flush().await?;
            ber::read_message(self.stream).await
        };
        let message = read.await.map_err(|error| Error::Unreachable {
            server: self.server.clone(),
            step: self.step,
            reason: error.to_string(),
        })?;
        ber::answer(&message, self.id, answer).ok_or_else(|| Error::Protocol {
            server: self.server.clone(),
            operation: self.step.to_owned(),
            reason: String::from("the answer is not LDAP"),
        })
    }

    fn expect(&self, answer: Answer, wanted: ResultCode) -> Result<Answer, Error> {
        if answer.code == wanted.0 {
            return Ok(answer);
        }
        Err(Error::Refused {
            server: self.server.clone(),
            operation: self.step.to_owned(),
            refusal: Refusal {
                code: ResultCode(answer.code),
                diagnostic: answer.diagnostic,
            },
        })
    }

    async fn simple(&mut self, name: &str, password: &Secret<String>) -> Result<(), Error> {
        // RFC 4513 5.1.2: a name with an empty password is an "unauthenticated bind" that succeeds.
        // SECURITY: taken as success, the gateway would go on as nobody and read an empty directory.
        if password.expose().is_empty() || name.is_empty() {
            return Err(Error::EmptyPassword {
                name: name.to_owned(),
            });
        }
        let authentication = ber::element(0x80, password.expose().as_bytes());
        let answer = self
            .ask(&ber::bind_request(name, &authentication), 0x61)
            .await?;
        self.expect(answer, ResultCode::SUCCESS).map(drop)
    }

    async fn gssapi(
        &mut self,
        source: &dyn SaslSource,
        channel_binding: Option<&[u8]>,
    ) -> Result<(), Error> {
        let server = self.server;
        let sasl = |(fault, reason): SaslFailure| Error::Sasl {
            server: server.clone(),
            fault,
            reason,
        };
        let mut exchange = source.begin(server, channel_binding).await.map_err(sasl)?;
        let mut token = exchange.step(None).await.map_err(sasl)?;
        // AP-REQ, AP-REP; other mechanisms' extra rounds do not occur, so a short bound is enough.
        for _ in 0..4 {
            let answer = self.sasl(token.as_deref().unwrap_or_default()).await?;
            let answer = self.expect(answer, ResultCode::SASL_IN_PROGRESS)?;
            let message = answer.sasl.unwrap_or_default();
            if exchange.is_complete() {
                return self.security_layer(exchange.as_mut(), &message).await;
            }
            token = exchange.step(Some(&message)).await.map_err(sasl)?;
        }
        let endless = String::from("the exchange does not come to an end");
        Err(sasl((SaslFault::Other, endless)))
    }

    /// RFC 4752 3.1: the server offers security layers; we choose none, for TLS protects.
    async fn security_layer(
        &mut self,
        exchange: &mut dyn SaslExchange,
        message: &[u8],
    ) -> Result<(), Error> {
        let server = self.server;
        let sasl = |(fault, reason): SaslFailure| Error::Sasl {
            server: server.clone(),
            fault,
            reason,
        };
        let offer = exchange.unwrap(message).await.map_err(sasl)?;
        let [layers, _, _, _] = offer.as_slice() else {
            let reason = format!("the security-layer offer has {} octets", offer.len());
            return Err(sasl((SaslFault::Other, reason)));
        };
        if layers & 1 == 0 {
            let reason = String::from("the server insists on a SASL security layer inside TLS");
            return Err(sasl((SaslFault::Other, reason)));
        }
        let choice = exchange.wrap(&[1, 0, 0, 0]).await.map_err(sasl)?;
        let answer = self.sasl(&choice).await?;
        self.expect(answer, ResultCode::SUCCESS).map(drop)
    }

    async fn sasl(&mut self, token: &[u8]) -> Result<Answer, Error> {
        let mut credentials = ber::element(ber::OCTETS, b"GSSAPI");
        credentials.extend(ber::element(ber::OCTETS, token));
        let authentication = ber::element(0xa3, &credentials);
        self.ask(&ber::bind_request("", &authentication), 0x61)
            .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn an_empty_password_is_never_sent() {
        let server: HostName = "dc1".parse().unwrap();
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let empty = Bind::Simple {
            name: String::from("svc"),
            password: Secret::new(String::new()),
        };
        let refused = bind(&mut ours, &server, &empty, None).await;
        assert!(matches!(refused, Err(Error::EmptyPassword { .. })));
        drop(ours);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.unwrap();
        assert!(sent.is_empty());
    }

    #[tokio::test]
    async fn a_refused_start_tls_is_an_error() {
        let server: HostName = "dc1".parse().unwrap();
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let answering = tokio::spawn(async move {
            ber::read_message(&mut theirs).await.unwrap();
            // unavailable (52), no text.
            theirs
                .write_all(&ber::message(
                    1,
                    &ber::element(0x78, &[10, 1, 52, 4, 0, 4, 0]),
                ))
                .await
                .unwrap();
        });
        let refused = start_tls(&mut ours, &server).await.unwrap_err();
        assert_eq!(refused.code(), Some(ResultCode(52)));
        answering.await.unwrap();
    }
}
