//! The only unsafe code of the house: the credential calls that libgssapi lacks, and the process's end.
//!
//! In: the gateway's principal and keytab, or a credential and a client's name. Out: a [`Portable`]
//! credential, bytes that open into an independent copy (`gss_export_cred`, `gss_import_cred`).
//!
//! # Why copies
//!
//! libkrb5 holds a credential's lock while it talks to the KDC, so one credential shared by all would let
//! one hanging exchange stop everybody. Each call works on its own copy: private MEMORY cache, own lock.
#![expect(
    unsafe_code,
    reason = "libgssapi 0.11 has no gss_acquire_cred_from, no gss_export_cred and hides its raw handles; \
              std has no handler of the process's end and no way out past those of others"
)]

use std::ffi::CString;
use std::ffi::c_int;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libgssapi::credential::Cred;
use libgssapi::error::Error as RawError;
use libgssapi::error::MajorFlags;
use libgssapi_sys as sys;
use zeroize::Zeroizing;

use crate::model::names::Principal;
use crate::model::secret::Secret;

use super::native::Held;

/// RFC 4121, content octets of 1.2.840.113554.1.2.2.
const KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// `GSS_KRB5_NT_PRINCIPAL_NAME` (RFC 1964 2.1.1), 1.2.840.113554.1.2.2.1.
const NT_PRINCIPAL: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";

/// A failed call, its text made on the thread that made the call.
///
/// libkrb5 keeps the detailed message in thread-local storage: formatted elsewhere it would be another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GssFailure {
    /// GSS-API major status.
    pub major: u32,
    /// Mechanism's minor status: a krb5 error code.
    pub minor: u32,
    /// libkrb5's own words.
    pub text: String,
}

impl From<RawError> for GssFailure {
    fn from(raw: RawError) -> Self {
        let minor = if raw.minor == 0 {
            String::new()
        } else {
            raw.to_string()
        };
        // The words of the minor status stand in brackets behind those of the major one.
        let text = match minor.split_once(" (") {
            Some((_, detail)) => detail.trim_end_matches(')').to_owned(),
            None => format!("{raw}"),
        };
        Self {
            major: raw.major.bits(),
            minor: raw.minor,
            text: text.trim().to_owned(),
        }
    }
}

fn check(major: u32, minor: u32) -> Result<(), GssFailure> {
    if major == sys::GSS_S_COMPLETE {
        return Ok(());
    }
    Err(RawError {
        major: MajorFlags::from_bits_retain(major),
        minor,
    }
    .into())
}

/// A credential as bytes; holds keys, so it never prints and is wiped on drop.
#[derive(Debug)]
pub(super) struct Portable(Secret<Vec<u8>>);

impl Portable {
    /// Opens an independent copy.
    ///
    /// # Errors
    /// libkrb5 cannot read its own export, which means it is out of memory.
    pub(super) fn open(&self) -> Result<Cred, GssFailure> {
        let raw = self.open_raw()?;
        // SAFETY: `raw` was just made by gss_import_cred and is given away here, once.
        Ok(unsafe { Cred::from_c(raw.into_inner()) })
    }

    /// The same, with the means to look at what will be fetched into it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_to_look(&self) -> Result<Opened, GssFailure> {
        let raw = self.open_raw()?.into_inner();
        // SAFETY: `raw` was just made by gss_import_cred and is given away here, once; what `Opened` keeps
        // beside it is not released by it.
        let cred = unsafe { Cred::from_c(raw) };
        Ok(Opened { cred, raw })
    }

    fn open_raw(&self) -> Result<RawCred, GssFailure> {
        let bytes = self.0.expose();
        let mut minor = 0;
        let mut cred = RawCred(ptr::null_mut());
        let mut token = sys::gss_buffer_desc {
            length: bytes.len(),
            value: bytes.as_ptr().cast_mut().cast(),
        };
        // SAFETY: `token` borrows `bytes` for the call, which only reads it; `cred` receives a new handle.
        let major =
            unsafe { sys::gss_import_cred(&raw mut minor, &raw mut token, &raw mut cred.0) };
        check(major, minor)?;
        Ok(cred)
    }

    /// Whether the ticket of `client` in it is forwardable: the condition under which a KDC takes it as
    /// evidence for classic constrained delegation (MS-SFU 3.2.5.1.2). `None` where libkrb5's format is not
    /// the one known (MIT 1.11 to 1.22): it serves the diagnosis and no decision.
    #[must_use]
    pub(super) fn is_forwardable(&self, client: &Principal) -> Option<bool> {
        const FORWARDABLE: u64 = 0x4000_0000;
        let bytes = self.0.expose();
        let start = bytes.iter().position(|byte| *byte == b'[')?;
        let value: serde_json::Value = serde_json::Deserializer::from_slice(bytes.get(start..)?)
            .into_iter()
            .next()?
            .ok()?;
        let tickets = value.pointer("/1/7")?.as_array()?;
        tickets
            .iter()
            .skip(1)
            .find(|ticket| {
                let is_client = ticket
                    .get(0)
                    .and_then(serde_json::Value::as_str)
                    .is_some_and(|name| name.eq_ignore_ascii_case(client.as_str()));
                let is_config = ticket
                    .get(1)
                    .and_then(serde_json::Value::as_str)
                    .is_none_or(|name| name.contains("X-CACHECONF"));
                is_client && !is_config
            })
            .and_then(|ticket| ticket.get(8)?.as_u64())
            .map(|flags| flags & FORWARDABLE != 0)
    }
}

/// A credential whose content can be read.
pub(super) struct Opened {
    /// The credential.
    pub(super) cred: Cred,
    /// The same one's handle, valid as long as `cred`.
    raw: sys::gss_cred_id_t,
}

impl Opened {
    /// The ticket for `server` (`HTTP/intranet.corp.example.com@CORP.EXAMPLE.COM`) in it, with its session
    /// key; nothing where libkrb5's format is not the one known (MIT 1.11 to 1.22).
    pub(super) fn held(&self, server: &str) -> Option<Held> {
        let borrowed = ManuallyDrop::new(RawCred(self.raw));
        held(&borrowed.export().ok()?, server)
    }
}

fn held(portable: &Portable, server: &str) -> Option<Held> {
    let bytes = portable.0.expose();
    let start = bytes.iter().position(|byte| *byte == b'[')?;
    let mut value: serde_json::Value = serde_json::Deserializer::from_slice(bytes.get(start..)?)
        .into_iter()
        .next()?
        .ok()?;
    let tickets = value.pointer("/1/7").and_then(serde_json::Value::as_array);
    let found = tickets.and_then(|tickets| tickets.iter().find_map(|ticket| one(ticket, server)));
    wipe(&mut value);
    found
}

/// One ticket as `export_cred.c` writes it: client, server, `[enctype, key]`, four times, whether a
/// second ticket encrypts it, flags, addresses, ticket.
fn one(ticket: &serde_json::Value, server: &str) -> Option<Held> {
    let text = |at: usize| ticket.get(at).and_then(serde_json::Value::as_str);
    let number = |at: usize| ticket.get(at).and_then(serde_json::Value::as_i64);
    if !text(1)?.eq_ignore_ascii_case(server) || ticket.get(7)?.as_bool()? {
        return None;
    }
    let key = ticket.get(2)?;
    Some(Held {
        client: text(0)?.to_owned(),
        enctype: u32::try_from(key.get(0)?.as_i64()?).ok()?,
        key: Zeroizing::new(STANDARD.decode(key.get(1)?.as_str()?).ok()?),
        // A ticket that begins at once has no time of its own to begin (RFC 4120 5.3).
        begins: number(4).filter(|at| *at != 0).or_else(|| number(3))?,
        ends: number(5)?,
        ticket: STANDARD.decode(text(10)?).ok()?,
    })
}

/// SECURITY: session keys do not stay behind in freed memory.
fn wipe(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => zeroize::Zeroize::zeroize(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(wipe),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(wipe),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// The gateway's own credential, straight from `keytab` into the private cache `ccache`, and how long it lives.
///
/// Asks the KDC (AS exchange). Nothing ambient is read: keytab and cache are named.
///
/// # Errors
/// The KDC refused, or could not be reached, or the keytab has no usable key.
pub(super) fn acquire(
    principal: &Principal,
    keytab: &Path,
    ccache: &str,
) -> Result<(Portable, Duration), GssFailure> {
    let keytab = c_string(&format!("FILE:{}", keytab.display()))?;
    let ccache = c_string(ccache)?;
    let mut elements = [
        sys::gss_key_value_element_desc {
            key: c"client_keytab".as_ptr(),
            value: keytab.as_ptr(),
        },
        sys::gss_key_value_element_desc {
            key: c"ccache".as_ptr(),
            value: ccache.as_ptr(),
        },
    ];
    let store = sys::gss_key_value_set_desc {
        count: 2,
        elements: elements.as_mut_ptr(),
    };
    let name = RawName::import(principal)?;
    let mut krb5 = oid(KRB5);
    let mut mechs = sys::gss_OID_set_desc {
        count: 1,
        elements: &raw mut krb5,
    };
    let mut minor = 0;
    let mut cred = RawCred(ptr::null_mut());
    // SAFETY: every pointer is to a live local (the strings, the set, the name) and is only read by the
    // call; `cred` receives a new handle that `RawCred` releases.
    let major = unsafe {
        sys::gss_acquire_cred_from(
            &raw mut minor,
            name.0,
            sys::_GSS_C_INDEFINITE,
            &raw mut mechs,
            initiate(),
            &raw const store,
            &raw mut cred.0,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    check(major, minor)?;
    // The call above is lazy: asking for the lifetime is what makes libkrb5 fetch the ticket.
    let mut lifetime = 0;
    // SAFETY: `cred` is a live handle; the one out-parameter asked for is a live local.
    let major = unsafe {
        sys::gss_inquire_cred(
            &raw mut minor,
            cred.0,
            ptr::null_mut(),
            &raw mut lifetime,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    check(major, minor)?;
    Ok((cred.export()?, Duration::from_secs(u64::from(lifetime))))
}

/// S4U2Self (MS-SFU 3.1.5.1.1): a ticket to ourselves in `client`'s name, as a credential.
///
/// # Errors
/// The KDC refused or could not be reached.
pub(super) fn impersonate(service: &Portable, client: &Principal) -> Result<Portable, GssFailure> {
    let service = service.open_raw()?;
    let name = RawName::import(client)?;
    let mut krb5 = oid(KRB5);
    let mut mechs = sys::gss_OID_set_desc {
        count: 1,
        elements: &raw mut krb5,
    };
    let mut minor = 0;
    let mut cred = RawCred(ptr::null_mut());
    // SAFETY: `service` and `name` are live handles, `mechs` a live local that is only read; `cred`
    // receives a new handle that `RawCred` releases.
    let major = unsafe {
        sys::gss_acquire_cred_impersonate_name(
            &raw mut minor,
            service.0,
            name.0,
            sys::_GSS_C_INDEFINITE,
            &raw mut mechs,
            initiate(),
            &raw mut cred.0,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    check(major, minor)?;
    cred.export()
}

struct RawCred(sys::gss_cred_id_t);

impl RawCred {
    fn into_inner(mut self) -> sys::gss_cred_id_t {
        std::mem::replace(&mut self.0, ptr::null_mut())
    }

    fn export(&self) -> Result<Portable, GssFailure> {
        let mut minor = 0;
        let mut token = sys::gss_buffer_desc {
            length: 0,
            value: ptr::null_mut(),
        };
        // SAFETY: `self.0` is a live handle; `token` receives memory of the library's.
        let major = unsafe { sys::gss_export_cred(&raw mut minor, self.0, &raw mut token) };
        check(major, minor)?;
        let length = token.length;
        // SAFETY: on success the library gives `length` readable and writable bytes at `value`, ours alone
        // until released.
        let bytes = unsafe { std::slice::from_raw_parts_mut(token.value.cast::<u8>(), length) };
        let portable = Portable(Secret::new(bytes.to_vec()));
        // SECURITY: the export holds session keys; the library's buffer is not wiped by its release.
        zeroize::Zeroize::zeroize(bytes);
        // SAFETY: `token` was filled by the library and `bytes` is not used again.
        unsafe { sys::gss_release_buffer(&raw mut minor, &raw mut token) };
        Ok(portable)
    }
}

impl Drop for RawCred {
    fn drop(&mut self) {
        if !self.0.is_null() {
            let mut minor = 0;
            // SAFETY: the handle is live and owned by us alone.
            unsafe { sys::gss_release_cred(&raw mut minor, &raw mut self.0) };
        }
    }
}

struct RawName(sys::gss_name_t);

impl RawName {
    fn import(principal: &Principal) -> Result<Self, GssFailure> {
        let text = principal.as_str();
        let mut buffer = sys::gss_buffer_desc {
            length: text.len(),
            value: text.as_ptr().cast_mut().cast(),
        };
        let mut kind = oid(NT_PRINCIPAL);
        let mut minor = 0;
        let mut name = Self(ptr::null_mut());
        // SAFETY: `buffer` borrows `text` and `kind` a static for the call, which only reads them; `name`
        // receives a new handle that `RawName` releases.
        let major = unsafe {
            sys::gss_import_name(
                &raw mut minor,
                &raw mut buffer,
                &raw mut kind,
                &raw mut name.0,
            )
        };
        check(major, minor)?;
        Ok(name)
    }
}

impl Drop for RawName {
    fn drop(&mut self) {
        if !self.0.is_null() {
            let mut minor = 0;
            // SAFETY: the handle is live and owned by us alone.
            unsafe { sys::gss_release_name(&raw mut minor, &raw mut self.0) };
        }
    }
}

fn oid(bytes: &'static [u8]) -> sys::gss_OID_desc {
    sys::gss_OID_desc {
        length: u32::try_from(bytes.len()).unwrap_or(0),
        elements: bytes.as_ptr().cast_mut().cast(),
    }
}

fn initiate() -> sys::gss_cred_usage_t {
    sys::gss_cred_usage_t::try_from(sys::GSS_C_INITIATE).unwrap_or(1)
}

fn c_string(text: &str) -> Result<CString, GssFailure> {
    CString::new(text).map_err(|_| GssFailure {
        major: MajorFlags::GSS_S_BAD_NAME.bits(),
        minor: 0,
        text: "a name holds a zero byte".to_owned(),
    })
}

mod c {
    use super::c_int;
    use super::c_void;

    unsafe extern "C" {
        pub(super) fn on_exit(
            handler: extern "C" fn(c_int, *mut c_void),
            argument: *mut c_void,
        ) -> c_int;
        pub(super) safe fn _exit(status: c_int) -> !;
    }
}

/// Has `handler` called with the exit status when the process ends by `exit` or by the end of `main`,
/// before the finalizers of the libraries (on_exit(3)). False: the C library has no room for one more.
pub(super) fn on_exit(handler: extern "C" fn(c_int, *mut c_void)) -> bool {
    // SAFETY: the handler is a function of this program, never unloaded; it makes nothing of its argument.
    unsafe { c::on_exit(handler, ptr::null_mut()) == 0 }
}

/// Ends the process now: no handler, no finalizer, no buffer of the C library (_exit(2)).
pub(super) fn leave(status: c_int) -> ! {
    c::_exit(status)
}
