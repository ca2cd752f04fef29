//! The gateway's own identity, lent by `kerberos` to `ldap`: two tools that do not know each other.

use crate::kerberos;
use crate::kerberos::Delegator;
use crate::kerberos::Kind;
use crate::kerberos::SaslInitiator;
use crate::ldap::SaslExchange;
use crate::ldap::SaslFailure;
use crate::ldap::SaslFault;
use crate::ldap::SaslSource;
use crate::ldap::Step;
use crate::model::names::HostName;
use crate::model::names::Spn;

/// Begins SASL GSSAPI exchanges as the gateway.
pub(super) struct Own(pub(super) Delegator);

impl SaslSource for Own {
    fn begin<'a>(
        &'a self,
        host: &'a HostName,
        channel_binding: Option<&'a [u8]>,
    ) -> Step<'a, Box<dyn SaslExchange>> {
        Box::pin(async move {
            let spn: Result<Spn, _> = format!("ldap/{host}").parse();
            let spn = spn.map_err(|bad| (SaslFault::Other, bad.to_string()))?;
            let begun = self
                .0
                .sasl_context(&spn, channel_binding)
                .await
                .map_err(|error| failure(&error))?;
            Ok(Box::new(Exchange(begun)) as Box<dyn SaslExchange>)
        })
    }
}

struct Exchange(SaslInitiator);

impl SaslExchange for Exchange {
    fn step<'a>(&'a mut self, token: Option<&'a [u8]>) -> Step<'a, Option<Vec<u8>>> {
        Box::pin(async move { self.0.step(token).await.map_err(|error| failure(&error)) })
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn unwrap<'a>(&'a mut self, message: &'a [u8]) -> Step<'a, Vec<u8>> {
        Box::pin(async move {
            self.0
                .unwrap(message)
                .await
                .map_err(|error| failure(&error))
        })
    }

    fn wrap<'a>(&'a mut self, message: &'a [u8]) -> Step<'a, Vec<u8>> {
        Box::pin(async move {
            self.0
                .wrap(message, false)
                .await
                .map_err(|error| failure(&error))
        })
    }
}

fn failure(error: &kerberos::Error) -> SaslFailure {
    let fault = match error.kind() {
        Kind::KdcUnreachable | Kind::Busy => SaslFault::Kdc,
        Kind::KeytabUnusable => SaslFault::Keytab,
        Kind::PrincipalUnknown
        | Kind::PrincipalRefused
        | Kind::SpnUnknown
        | Kind::DelegationRefused
        | Kind::KdcRefused
        | Kind::ClockSkew
        | Kind::IdentityMismatch
        | Kind::TicketRefused
        | Kind::Gateway => SaslFault::Other,
    };
    (fault, error.to_string())
}
