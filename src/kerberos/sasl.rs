//! The gateway's own identity, for the one place that needs it: the SASL GSSAPI bind to the directory
//! (RFC 4752).
//!
//! A type of its own, and only for `ldap/` services, so that it can never end in a backend's request.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use libgssapi::context::ClientCtx;
use libgssapi::context::CtxFlags;
use libgssapi::context::SecurityContext as _;
use libgssapi::name::Name;
use libgssapi::oid::GSS_MECH_KRB5;
use libgssapi::oid::GSS_NT_KRB5_PRINCIPAL;

use crate::model::names::Principal;
use crate::model::names::Spn;

use super::Inner;
use super::error::Error;
use super::error::Step;
use super::ffi::GssFailure;

/// The client's side of a SASL GSSAPI exchange. Every step runs on the room's own threads.
pub struct SaslInitiator {
    context: Arc<Mutex<ClientCtx>>,
    channel_binding: Arc<Option<Vec<u8>>>,
    spn: Spn,
    begun: bool,
    inner: Arc<Inner>,
}

impl std::fmt::Debug for SaslInitiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SaslInitiator")
            .field("spn", &self.spn)
            .finish_non_exhaustive()
    }
}

pub(super) async fn begin(
    inner: &Arc<Inner>,
    spn: &Spn,
    channel_binding: Option<&[u8]>,
) -> Result<SaslInitiator, Error> {
    // SECURITY: with any other class the gateway could appear as itself at an application.
    if !spn
        .as_str()
        .get(..5)
        .is_some_and(|class| class.eq_ignore_ascii_case("ldap/"))
    {
        return Err(Error::Setup {
            what: format!("service {spn}"),
            reason: "the gateway speaks as itself to ldap/ services only".to_owned(),
        });
    }
    let (tgt, _) = inner.keeper.current(&inner.asker).await?;
    let own = inner.keeper.principal.clone();
    let failed = {
        let (own, spn) = (own.clone(), spn.clone());
        move |failure: GssFailure| Error::gss(Step::InitContext, &own, Some(&spn), failure)
    };
    let target = format!("{spn}@{}", inner.realm);
    let context = inner
        .asker
        .compute(Step::InitContext, &own, move || {
            let target = Name::new(target.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))
                .map_err(|raw| failed(raw.into()))?;
            let cred = tgt.portable.open().map_err(failed)?;
            Ok(ClientCtx::new(
                Some(cred),
                target,
                CtxFlags::GSS_C_MUTUAL_FLAG | CtxFlags::GSS_C_INTEG_FLAG,
                Some(GSS_MECH_KRB5),
            ))
        })
        .await?;
    Ok(SaslInitiator {
        context: Arc::new(Mutex::new(context)),
        channel_binding: Arc::new(channel_binding.map(<[u8]>::to_vec)),
        spn: spn.clone(),
        begun: false,
        inner: Arc::clone(inner),
    })
}

impl SaslInitiator {
    /// The next token to send, or `None` when the context is complete and nothing is left to send.
    ///
    /// # Errors
    /// The KDC refused the service ticket, or the server's token does not verify.
    pub async fn step(&mut self, token: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let token = token.map(<[u8]>::to_vec);
        let binding = Arc::clone(&self.channel_binding);
        let work = move |context: &mut ClientCtx| {
            context
                .step(token.as_deref(), (*binding).as_deref())
                .map(|answer| answer.map(|bytes| bytes.to_vec()))
        };
        if std::mem::replace(&mut self.begun, true) {
            return self.compute(work).await;
        }
        // Only the first step asks the KDC (for the service ticket).
        let (own, spn) = (self.inner.keeper.principal.clone(), self.spn.clone());
        let context = Arc::clone(&self.context);
        self.inner
            .asker
            .kdc(Step::InitContext, &self.inner.keeper.principal, move || {
                let mut context = context.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut context)
                    .map_err(|raw| Error::gss(Step::InitContext, &own, Some(&spn), raw.into()))
            })
            .await
    }

    /// Whether both sides have proved who they are.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.context
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_complete()
    }

    /// Opens a message of the server's.
    ///
    /// # Errors
    /// The message was not made by the server, or changed on the way.
    pub async fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let message = message.to_vec();
        self.compute(move |context| context.unwrap(&message).map(|bytes| bytes.to_vec()))
            .await
    }

    /// Seals a message to the server, encrypted if `encrypt`.
    ///
    /// # Errors
    /// The context is not complete.
    pub async fn wrap(&mut self, message: &[u8], encrypt: bool) -> Result<Vec<u8>, Error> {
        let message = message.to_vec();
        self.compute(move |context| context.wrap(encrypt, &message).map(|bytes| bytes.to_vec()))
            .await
    }

    /// As whom the gateway speaks.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.inner.keeper.principal
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ClientCtx) -> Result<T, libgssapi::error::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (own, spn) = (self.inner.keeper.principal.clone(), self.spn.clone());
        let context = Arc::clone(&self.context);
        self.inner
            .asker
            .compute(Step::MutualAuth, &self.inner.keeper.principal, move || {
                let mut context = context.lock().unwrap_or_else(PoisonError::into_inner);
                work(&mut context)
                    .map_err(|raw| Error::gss(Step::MutualAuth, &own, Some(&spn), raw.into()))
            })
            .await
    }
}
