//! A real Active Directory: Samba, functional level 2016, schema 2019.
//!
//! A domain is provisioned once per folder and kept as it was before anybody signed in; each start
//! begins with a copy of that, so that a guest who "was never here" really was not.
//! Nothing outside the folder is written.

use std::fs;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

use tokio::process::Command;

use crate::facts::Accounts;
use crate::pki::Identity;
use crate::processes;
use crate::processes::Service;
use crate::trouble::Because;
use crate::trouble::Trouble;

pub const REALM: &str = "CONTOSO.TEST";
pub const DC: &str = "dc1.contoso.test";
const SCRIPT: &str = include_str!("directory.py");

/// Where the directory keeps its things, below the lab's folder.
pub struct Samba {
    root: PathBuf,
    logs: PathBuf,
    address: Ipv4Addr,
}

impl Samba {
    pub fn new(folder: &Path, address: Ipv4Addr) -> Self {
        Self {
            root: folder.join("ad"),
            logs: folder.join("logs"),
            address,
        }
    }

    /// Whether a domain was provisioned here, by this version of the recipe.
    pub fn is_provisioned(&self) -> bool {
        fs::read_to_string(self.root.join("recipe")).is_ok_and(|text| text == self.recipe())
    }

    // The domain's own DNS holds the address, so another address means another domain.
    fn recipe(&self) -> String {
        format!("{} {}\n{SCRIPT}", self.address, self.root.display())
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub fn keytabs(&self) -> PathBuf {
        self.root.join("keytabs")
    }

    /// Makes the domain with its accounts, and keeps it as the pristine copy.
    pub async fn provision(&self) -> Result<(), Trouble> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root).because(self.root.display())?;
        }
        let tree = self.root.join("tree");
        for folder in [&tree, &self.keytabs()] {
            fs::create_dir_all(folder).because(folder.display())?;
        }
        let interfaces = format!("--option=interfaces={}/32", self.address);
        let mut provision = Command::new("samba-tool");
        provision
            .args(["domain", "provision", "--server-role=dc"])
            .arg(format!("--targetdir={}", tree.display()))
            .args([&format!("--realm={REALM}"), "--domain=CONTOSO"])
            .args(["--host-name=dc1", &format!("--host-ip={}", self.address)])
            .args([
                "--dns-backend=SAMBA_INTERNAL",
                "--adminpass=Admin.Pass.2026",
            ])
            .args(["--function-level=2016", "--base-schema=2019"])
            .args(["--option=ad dc functional level = 2016", &interfaces])
            .arg("--option=bind interfaces only = yes")
            // File attributes in a database of its own: containers forbid the real ones.
            .arg("--option=vfs objects = acl_xattr xattr_tdb")
            .arg(format!(
                "--option=xattr_tdb:file = {}",
                tree.join("xattr.tdb").display()
            ));
        processes::run(&mut provision, &self.logs.join("provision.log")).await?;
        self.configure()?;
        let script = self.root.join("directory.py");
        fs::write(&script, SCRIPT).because(script.display())?;
        let mut fill = Command::new("/usr/bin/python3");
        fill.arg(&script)
            .args([self.configuration(), self.keytabs()])
            .arg(self.root.join("accounts.json"));
        processes::run(&mut fill, &self.logs.join("directory.log")).await?;
        fs::rename(&tree, self.root.join("pristine")).because("keep the pristine domain")?;
        fs::write(self.root.join("recipe"), self.recipe()).because("the domain's recipe")
    }

    /// SIDs and passwords.
    pub fn accounts(&self) -> Result<Accounts, Trouble> {
        let text = fs::read(self.root.join("accounts.json")).because("accounts.json")?;
        serde_json::from_slice(&text).because("accounts.json")
    }

    /// Starts the domain controller from the pristine copy; returns when it answers.
    pub async fn start(&self, tls: &Identity, authority: &Path) -> Result<Service, Trouble> {
        let tree = self.root.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree).because(tree.display())?;
        }
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"])
            .args([self.root.join("pristine"), tree.clone()]);
        processes::run(&mut copy, &self.logs.join("copy.log")).await?;
        let tls_folder = tree.join("private/tls");
        fs::create_dir_all(&tls_folder).because(tls_folder.display())?;
        for (from, to) in [
            (tls.certificate.as_path(), "cert.pem"),
            (tls.key.as_path(), "key.pem"),
            (authority, "ca.pem"),
        ] {
            fs::copy(from, tls_folder.join(to)).because(from.display())?;
        }
        self.configure()?;
        let configuration = self.configuration();
        let mut service = Service::start(
            "samba",
            self.logs.join("samba.log"),
            Path::new("samba"),
            &[
                "--foreground".as_ref(),
                "--no-process-group".as_ref(),
                "--debug-stdout".as_ref(),
                "--configfile".as_ref(),
                configuration.as_os_str(),
            ],
            &[],
        )?;
        let ports = [88, 464, 389, 636].map(|port| SocketAddr::from((self.address, port)));
        service.listening(&ports).await?;
        Ok(service)
    }

    fn configuration(&self) -> PathBuf {
        self.root.join("tree/etc/smb.conf")
    }

    fn configure(&self) -> Result<(), Trouble> {
        let tree = self.root.join("tree");
        for folder in ["etc", "run", "lock", "state", "cache", "private"] {
            let folder = tree.join(folder);
            fs::create_dir_all(&folder).because(folder.display())?;
        }
        let text = SMB_CONF
            .replace("@TREE@", &tree.display().to_string())
            .replace("@ADDRESS@", &self.address.to_string());
        fs::write(self.configuration(), text).because("smb.conf")
    }
}

// Signed or encrypted LDAP only, as a hardened domain wants it; file serving is left out.
const SMB_CONF: &str = "\
[global]
    workgroup = CONTOSO
    realm = CONTOSO.TEST
    netbios name = DC1
    server role = active directory domain controller
    ad dc functional level = 2016
    server services = ldap, cldap, kdc, dns
    ldap server require strong auth = yes
    interfaces = @ADDRESS@/32
    bind interfaces only = yes
    disable netbios = yes
    allow dns updates = disabled
    dns forwarder =
    private dir = @TREE@/private
    state directory = @TREE@/state
    cache directory = @TREE@/cache
    lock directory = @TREE@/lock
    pid directory = @TREE@/run
    ncalrpc dir = @TREE@/run/ncalrpc
    ntp signd socket directory = @TREE@/run/ntp
    winbindd socket directory = @TREE@/run/winbindd
    tls keyfile = @TREE@/private/tls/key.pem
    tls certfile = @TREE@/private/tls/cert.pem
    tls cafile = @TREE@/private/tls/ca.pem
    vfs objects = acl_xattr xattr_tdb
    xattr_tdb:file = @TREE@/xattr.tdb
    log level = 1
    panic action =
";
