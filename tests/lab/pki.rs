//! The lab's certificate authority and every certificate below it.
//!
//! The authority lives as long as the lab's folder, so that somebody who trusted it in a browser
//! need not do so again; the certificates are made anew at every start.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use time::Duration;
use time::OffsetDateTime;

use crate::trouble::Because;
use crate::trouble::Trouble;

/// An authority that signs whatever the lab asks for.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority of this folder, made when there is none yet.
    pub fn in_folder(folder: &Path) -> Result<Self, Trouble> {
        fs::create_dir_all(folder).because(format!("{}", folder.display()))?;
        let key_file = folder.join("ca.key");
        let certificate_file = folder.join("ca.pem");
        let params = authority_params();
        let key = if key_file.exists() && certificate_file.exists() {
            let pem = fs::read_to_string(&key_file).because("the lab's CA key")?;
            KeyPair::from_pem(&pem).because("the lab's CA key")?
        } else {
            let key = KeyPair::generate().because("a key for the lab's CA")?;
            let certificate = params.self_signed(&key).because("the lab's CA")?;
            write_private(&key_file, &key.serialize_pem())?;
            fs::write(&certificate_file, certificate.pem()).because("the lab's CA")?;
            key
        };
        Ok(Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Where clients find the certificate to trust.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// `NAME.pem` (the certificate) and `NAME.key` for these host names and addresses.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<Identity, Trouble> {
        let identity = Identity {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names).because(format!("certificate {name}"))?;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(1);
        params.not_after = now + Duration::days(90);
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().because(format!("a key for {name}"))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .because(format!("certificate {name}"))?;
        fs::write(&identity.certificate, certificate.pem()).because(format!("{name}.pem"))?;
        write_private(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }
}

/// The two files of a server.
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

// Fixed, because the issuer is rebuilt from it and the kept key at every start.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2045, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Kerbgate lab CA");
    params
}

fn write_private(file: &Path, text: &str) -> Result<(), Trouble> {
    fs::write(file, text).because(format!("{}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))
        .because(format!("{}", file.display()))
}
