//! An application's backends are spoken to in the HTTP that its file says, and what passes is the same. The
//! backend is Apache with mod_http2.

use std::fs;
use std::process::Command;

use aws_lc_rs::digest;
use aws_lc_rs::digest::SHA256;
use http::Method;

use crate::lab::Running;
use crate::lab::Stage;
use crate::lab::eventually;
use crate::lab::free_port;
use crate::visitor::Speaks;
use crate::visitor::Visitor;
use crate::walk::world;

const LARGE: usize = 16 << 20;

struct Apache {
    _process: Running,
    plain: u16,
    secure: u16,
}

/// Serves a large file and a small one, over TLS and without, and logs the protocol of each request.
async fn apache(stage: &Stage) -> Apache {
    let root = stage.path("apache");
    fs::create_dir(&root).unwrap();
    // The workers run as somebody else.
    Command::new("chmod")
        .arg("-R")
        .arg("a+rx")
        .arg(stage.path(""))
        .status()
        .unwrap();
    fs::write(root.join("large"), large()).unwrap();
    fs::write(root.join("small"), "small").unwrap();
    let ((plain, held), (secure, also_held)) = (free_port(), free_port());
    let facts = &stage.lab.facts;
    let config = format!(
        r#"ServerRoot "{root}"
ServerName wiki.localhost
PidFile "{root}/pid"
ErrorLog "{root}/error"
LogFormat "%H %U" short
CustomLog "{root}/access" short
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
Listen 127.0.0.1:{plain}
Listen 127.0.0.1:{secure}
DocumentRoot "{root}"
<VirtualHost 127.0.0.1:{plain}>
    Protocols h2c http/1.1
</VirtualHost>
<VirtualHost 127.0.0.1:{secure}>
    Protocols h2 http/1.1
    SSLEngine on
    SSLCertificateFile "{certificate}"
    SSLCertificateKeyFile "{key}"
</VirtualHost>
"#,
        root = root.display(),
        certificate = facts.gateway_certificate.display(),
        key = facts.gateway_key.display(),
    );
    fs::write(root.join("apache.conf"), config).unwrap();
    drop((held, also_held));
    let mut command = Command::new("/usr/sbin/apache2");
    command
        .arg("-DFOREGROUND")
        .arg("-f")
        .arg(root.join("apache.conf"));
    let process = Running::start("apache", &command, root.join("output"));
    eventually("apache listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", secure))
            .await
            .is_ok()
    })
    .await;
    Apache {
        _process: process,
        plain,
        secure,
    }
}

fn large() -> Vec<u8> {
    (0..LARGE as u64 / 8)
        .flat_map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
        .collect()
}

/// Publishes `wiki` before it, without sign-in.
fn publish(stage: &Stage, url: &str, more: &str) {
    let tls = format!(
        "[backend_tls]\nca_file = \"{}\"\nserver_name = \"wiki.localhost\"\n",
        stage.lab.facts.ca.display()
    );
    let tls = if url.starts_with("https") { &*tls } else { "" };
    let text = format!(
        "name = \"wiki\"\npublished_url = \"{}\"\nbackend_urls = [\"{url}\"]\npass_through = true\n{more}{tls}",
        stage.url("wiki", "/"),
    );
    fs::write(stage.path("apps/wiki.toml"), text).unwrap();
}

async fn status(visitor: &mut Visitor, stage: &Stage, path: &str) -> u16 {
    let url = stage.url("wiki", path).parse().unwrap();
    let answer = visitor.once(Method::GET, &url, None).await.unwrap();
    answer.status.as_u16()
}

#[tokio::test]
async fn each_backend_in_the_protocol_of_its_application() {
    let (stage, _) = world("").await;
    let apache = apache(&stage).await;
    let (plain, secure) = (
        format!("http://127.0.0.1:{}/", apache.plain),
        format!("https://127.0.0.1:{}/", apache.secure),
    );
    let sum = digest::digest(&SHA256, &large());
    let cases = [
        ("", &secure, "HTTP/1.1"),
        ("backend_http = \"http1\"\n", &secure, "HTTP/1.1"),
        ("backend_http = \"auto\"\n", &secure, "HTTP/2.0"),
        ("backend_http = \"http2\"\n", &secure, "HTTP/2.0"),
        ("", &plain, "HTTP/1.1"),
        ("backend_http = \"http2\"\n", &plain, "HTTP/2.0"),
    ];
    for (at, (more, url, wanted)) in cases.into_iter().enumerate() {
        publish(&stage, url, more);
        let _entra = stage.entra(&[]).await;
        let _gateway = stage.gateway().await;
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let visitor = Visitor::new(&stage.lab.facts.ca, speaks);
            let url = stage.url("wiki", &format!("/large?{at}")).parse().unwrap();
            let mut answer = visitor.request(Method::GET, &url).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{more}{url}");
            let mut got = digest::Context::new(&SHA256);
            while let Some(piece) = answer.chunk().await.unwrap() {
                got.update(&piece);
            }
            assert_eq!(got.finish().as_ref(), sum.as_ref(), "{more}{url}");
            let mut visitor = Visitor::new(&stage.lab.facts.ca, speaks);
            assert_eq!(status(&mut visitor, &stage, "/small").await, 200);
            assert_eq!(status(&mut visitor, &stage, "/none").await, 404);
        }
        let log = stage.path("apache/access");
        let seen = fs::read_to_string(&log).unwrap();
        let others: Vec<_> = seen
            .lines()
            .filter(|line| !line.starts_with(wanted))
            .collect();
        assert!(others.is_empty(), "{more}{url}: {others:?}");
        assert_eq!(seen.lines().count(), 6, "{more}{url}: {seen}");
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&log)
            .unwrap();
    }
}
