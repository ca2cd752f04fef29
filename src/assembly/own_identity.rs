//! The gateway's own identity, lent by `kerberos` to `ldap`: two tools that do not know each other.

use crate::kerberos::Delegator;
use crate::kerberos::SaslInitiator;
use crate::ldap::SaslExchange;
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
            let spn: Spn = format!("ldap/{host}").parse().map_err(text)?;
            let begun = self
                .0
                .sasl_context(&spn, channel_binding)
                .await
                .map_err(text)?;
            Ok(Box::new(Exchange(begun)) as Box<dyn SaslExchange>)
        })
    }
}

struct Exchange(SaslInitiator);

impl SaslExchange for Exchange {
    fn step<'a>(&'a mut self, token: Option<&'a [u8]>) -> Step<'a, Option<Vec<u8>>> {
        Box::pin(async move { self.0.step(token).await.map_err(text) })
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn unwrap<'a>(&'a mut self, message: &'a [u8]) -> Step<'a, Vec<u8>> {
        Box::pin(async move { self.0.unwrap(message).await.map_err(text) })
    }

    fn wrap<'a>(&'a mut self, message: &'a [u8]) -> Step<'a, Vec<u8>> {
        Box::pin(async move { self.0.wrap(message, false).await.map_err(text) })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
