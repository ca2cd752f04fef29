//! The backends: one Apache with mod_auth_gssapi that trusts nobody but its keytabs.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

use crate::address::RUN;
use crate::address::free_port;
use crate::pki::Identity;
use crate::processes::Service;
use crate::trouble::Because;
use crate::trouble::Trouble;

const SCRIPT: &str = include_str!("backends/echo.lua");
const WWW_DATA: u32 = 33; // fixed in Debian's base-passwd

/// What a virtual host does with tickets.
enum Tickets {
    /// None asked for.
    Ignored,
    /// Each request brings one.
    EachRequest(&'static str),
    /// The first one counts for the connection, as IIS does it.
    Connection(&'static str),
}

/// Addresses of the virtual hosts.
pub struct Ports {
    pub intranet: SocketAddr,
    pub intranet_tls: SocketAddr,
    pub timesheet: SocketAddr,
    pub refusing: SocketAddr,
    pub undelegated: SocketAddr,
    pub plain: SocketAddr,
}

impl Ports {
    fn choose(address: Ipv4Addr) -> Result<Self, Trouble> {
        let mut next = 8081;
        let mut port = || -> Result<SocketAddr, Trouble> {
            let port = free_port(address, next)?;
            next = port + 1;
            Ok(SocketAddr::from((address, port)))
        };
        Ok(Self {
            intranet: port()?,
            timesheet: port()?,
            refusing: port()?,
            undelegated: port()?,
            plain: port()?,
            intranet_tls: port()?,
        })
    }

    fn all(&self) -> [SocketAddr; 6] {
        [
            self.intranet,
            self.timesheet,
            self.refusing,
            self.undelegated,
            self.plain,
            self.intranet_tls,
        ]
    }
}

/// Everything Apache needs to start.
pub struct Apache<'a> {
    pub address: Ipv4Addr,
    pub keytabs: &'a Path,
    pub logs: &'a Path,
    pub krb5_conf: &'a Path,
    pub tls: &'a Identity,
}

impl Apache<'_> {
    /// Where its files are: the workers run as www-data, who cannot look into everybody's home.
    fn root(&self) -> PathBuf {
        Path::new(RUN).join(self.address.to_string())
    }

    /// Starts it; returns when every address accepts connections.
    pub async fn start(&self) -> Result<(Service, Ports), Trouble> {
        let root = self.root();
        remove_files(self.address)?;
        for folder in ["keytabs", "pages/static", "run", "tmp", "tls"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).because(folder.display())?;
        }
        for folder in [&root, &root.join("keytabs"), &root.join("tmp")] {
            give(folder, 0o750)?;
        }
        self.copy_keytabs()?;
        pages(&root)?;
        fs::copy(self.krb5_conf, root.join("krb5.conf")).because("krb5.conf for Apache")?;
        for file in [&self.tls.certificate, &self.tls.key] {
            let name = file.file_name().unwrap_or_else(|| OsStr::new("missing"));
            fs::copy(file, root.join("tls").join(name)).because(file.display())?;
        }
        let ports = Ports::choose(self.address)?;
        let configuration = root.join("apache.conf");
        fs::write(&configuration, self.configuration(&ports)).because("apache.conf")?;
        let temporary = root.join("tmp");
        let mut service = Service::start(
            "apache",
            self.logs.join("apache.log"),
            Path::new("apache2"),
            &[
                "-D".as_ref(),
                "FOREGROUND".as_ref(),
                "-f".as_ref(),
                configuration.as_os_str(),
            ],
            &[
                ("KRB5_CONFIG", root.join("krb5.conf").as_os_str()),
                // The replay cache is on, as in life: a token sent twice is refused.
                ("KRB5RCACHEDIR", temporary.as_os_str()),
                ("TMPDIR", temporary.as_os_str()),
                ("LANG", "C.UTF-8".as_ref()),
            ],
        )?;
        service.listening(&ports.all()).await?;
        Ok((service, ports))
    }

    fn copy_keytabs(&self) -> Result<(), Trouble> {
        for name in ["intranet", "timesheet", "refusing", "undelegated"] {
            let file = format!("{name}.keytab");
            let copy = self.root().join("keytabs").join(&file);
            fs::copy(self.keytabs.join(&file), &copy).because(&file)?;
            give(&copy, 0o400)?;
        }
        Ok(())
    }

    fn configuration(&self, ports: &Ports) -> String {
        let root = self.root();
        let mut text = MAIN
            .replace("@ROOT@", &root.display().to_string())
            .replace("@LOGS@", &self.logs.display().to_string());
        let hosts = [
            ("intranet", ports.intranet, Tickets::EachRequest("intranet")),
            (
                "timesheet",
                ports.timesheet,
                Tickets::Connection("timesheet"),
            ),
            ("refusing", ports.refusing, Tickets::EachRequest("refusing")),
            (
                "undelegated",
                ports.undelegated,
                Tickets::EachRequest("undelegated"),
            ),
            ("plain", ports.plain, Tickets::Ignored),
        ];
        for (name, address, tickets) in &hosts {
            text.push_str(&self.virtual_host(name, *address, tickets, ""));
        }
        let tls = root.join("tls");
        text.push_str(&self.virtual_host(
            "intranet",
            ports.intranet_tls,
            &Tickets::EachRequest("intranet"),
            &format!(
                "  SSLEngine on\n  SSLCertificateFile {0}/backend.pem\n  SSLCertificateKeyFile {0}/backend.key\n",
                tls.display()
            ),
        ));
        text
    }

    fn virtual_host(
        &self,
        name: &str,
        address: SocketAddr,
        tickets: &Tickets,
        more: &str,
    ) -> String {
        let rule = |keytab: &str, bound: &str| {
            format!(
                "    AuthType GSSAPI\n    AuthName \"{name}\"\n    \
                 GssapiCredStore keytab:{}/keytabs/{keytab}.keytab\n    \
                 GssapiAllowedMech krb5\n    GssapiConnectionBound {bound}\n    \
                 Require valid-user\n    \
                 Header always set X-Remote-User \"expr=%{{REMOTE_USER}}\" \
                 \"expr=-n %{{REMOTE_USER}}\"\n",
                self.root().display()
            )
        };
        let rule = match tickets {
            Tickets::Ignored => String::from("    Require all granted\n"),
            Tickets::EachRequest(keytab) => rule(keytab, "Off"),
            Tickets::Connection(keytab) => rule(keytab, "On"),
        };
        format!(
            "Listen {address}\n<VirtualHost {address}>\n  ServerName {name}.contoso.test\n{more}  \
             <Location \"/\">\n{rule}  </Location>\n</VirtualHost>\n"
        )
    }
}

/// Takes away what an earlier Apache at this address left.
pub fn remove_files(address: Ipv4Addr) -> Result<(), Trouble> {
    let root = Path::new(RUN).join(address.to_string());
    if root.exists() {
        fs::remove_dir_all(&root).because(root.display())?;
    }
    Ok(())
}

fn pages(root: &Path) -> Result<(), Trouble> {
    let pages = root.join("pages");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(pages.join(name), bytes).because(format!("the backends' page {name}"))
    };
    fs::write(root.join("echo.lua"), SCRIPT).because("echo.lua")?;
    file("whoami", b"see X-Remote-User\n")?;
    file("landed", b"landed\n")?;
    file("static/1k", &[b'k'; 1024])?;
    let mut big = fs::File::create(pages.join("big")).because("the backends' page big")?;
    for block in 0..10_240_u32 {
        // Every KiB differs, so that a lost or doubled piece shows.
        let line = format!("{block:>1023}\n");
        big.write_all(line.as_bytes())
            .because("the backends' page big")?;
    }
    Ok(())
}

fn give(path: &Path, mode: u32) -> Result<(), Trouble> {
    chown(path, Some(WWW_DATA), Some(WWW_DATA)).because(path.display())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).because(path.display())
}

const MAIN: &str = r#"ServerRoot @ROOT@
PidFile @ROOT@/run/apache.pid
Mutex posixsem
ServerName contoso.test
ServerTokens Prod
UseCanonicalName On
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule auth_gssapi_module /usr/lib/apache2/modules/mod_auth_gssapi.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule socache_shmcb_module /usr/lib/apache2/modules/mod_socache_shmcb.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule lua_module /usr/lib/apache2/modules/mod_lua.so
User www-data
Group www-data

Timeout 60
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
LimitRequestFieldSize 65536
ServerLimit 4
StartServers 2
ThreadsPerChild 64
MinSpareThreads 32
MaxSpareThreads 256
MaxRequestWorkers 256
AsyncRequestWorkerFactor 16

ErrorLog @LOGS@/apache-error.log
LogLevel warn
# Who arrived, and how many requests the connection had served before.
LogFormat "%{%FT%T}t.%{msec_frac}t %v %a:%{remote}p user=%u \"%r\" %>s %b keepalive=%k id=%{X-Request-Id}i" who
CustomLog @LOGS@/apache-access.log who

TypesConfig /dev/null
DocumentRoot @ROOT@/pages
<Directory />
  Require all denied
</Directory>
<Directory @ROOT@/pages>
  Require all granted
</Directory>
LuaScope thread
LuaCodeCache forever
<LocationMatch "^/(|echo(/.*)?|redirect|cookie|status|slow)$">
  LuaMapHandler .* @ROOT@/echo.lua handle
</LocationMatch>
<Location "/cookie">
  Header always add Set-Cookie "plain=1; Path=/"
  Header always add Set-Cookie "expr=scoped=2; Domain=%{SERVER_NAME}; Path=/cookie; HttpOnly"
</Location>
<LocationMatch "^/(whoami|landed|big|static/)">
  ForceType text/plain
</LocationMatch>
"#;
