"""The backend, the peers and Kerbgate: each with its configuration, each ended by pid.

All proxies: one worker on the same core, the same certificate, TLS 1.3, kept connections to the backend, an
access log in a file.
"""

import os
import shutil
import signal
import socket
import subprocess
import time

import machine


class Server:
    """A process that listens on a port of loopback."""

    def __init__(self, world, name, core):
        self.world, self.name, self.core = world, name, core
        self.folder = os.path.join(world.work, name.replace(" ", "-"))
        os.makedirs(self.folder, mode=0o700)
        self.log = os.path.join(self.folder, "access.log")
        self.process = None
        self.cipher = None
        self.port = 0
        # A cookie header by host, and for files of cookies how far they were used.
        self.cookies, self.turn = {}, {}

    def write(self, file, text):
        path = os.path.join(self.folder, file)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def start(self, *command, env=None):
        output = open(self.log, "ab")
        # pdeathsig: nothing survives this script, however it ends.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(self.core), *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, **(env or {})})
        output.close()
        self.world.started.append(self)
        self.wait()

    def wait(self, patience=60):
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            if self.ready():
                return
            time.sleep(0.05)
        raise SystemExit(f"bench: {self.name} did not start:\n{self.last_words()}")

    def ready(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def last_words(self):
        text = ""
        for file in sorted(os.listdir(self.folder)):
            if file.endswith((".log", ".err")):
                with open(os.path.join(self.folder, file), encoding="utf-8", errors="replace") as log:
                    text += "".join(line[:300].rstrip("\n") + "\n" for line in log.readlines()[-6:])
        return text

    def pids(self):
        return machine.children(self.process.pid)

    def url(self, path, host="wiki"):
        return f"https://{host}.localhost:{self.port}{path}"

    def tidy(self):
        """Empties the log: some gigabytes would be written otherwise."""
        for file in os.listdir(self.folder):
            if file.endswith(".log"):
                os.truncate(os.path.join(self.folder, file), 0)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


NGINX = """daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.err;
events {{ worker_connections 30000; }}
http {{
  access_log {folder}/access.log combined buffer=64k flush=1s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 0;
  {body}
}}
"""


class Backend(Server):
    """What everybody forwards to: cheap, so that the proxies are the bottleneck as long as possible."""

    def __init__(self, world, core, sink):
        super().__init__(world, "backend", core)
        self.port = machine.free_port(18400)
        with open(os.path.join(self.folder, "10m"), "wb") as file:
            for _ in range(160):
                file.write(b"x" * 65536)
        body = f"""
  access_log off; sendfile on; tcp_nopush on;
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location = /1k {{ default_type text/plain; return 200 "{'x' * 1024}"; }}
    location = /10m {{ root {self.folder}; }}
    location = /who {{ default_type text/plain; return 200 "$http_x_remote_user"; }}
    location = /sink {{
      proxy_pass http://{sink}/echo; proxy_http_version 1.1; proxy_request_buffering off;
      client_body_buffer_size 256k;
    }}
  }}"""
        conf = self.write("nginx.conf", NGINX.format(folder=self.folder, body=body))
        self.start("nginx", "-p", self.folder, "-c", conf)


class Nginx(Server):
    def __init__(self, world, core, name="nginx"):
        super().__init__(world, name, core)
        self.port = machine.free_port(18443)
        # Bodies stream, as Kerbgate's do: by way of a file nginx would pay twice.
        body = f"""
  upstream backend {{ server 127.0.0.1:{world.backend.port}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{self.port} ssl http2 backlog=4096; ssl_protocols TLSv1.3;
    ssl_certificate {world.certificate}; ssl_certificate_key {world.key};
    proxy_request_buffering off; proxy_max_temp_file_size 0;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}"""
        conf = self.write("nginx.conf", NGINX.format(folder=self.folder, body=body))
        self.start("nginx", "-p", self.folder, "-c", conf)


class Haproxy(Server):
    def __init__(self, world, core, name="haproxy"):
        super().__init__(world, name, core)
        self.port = machine.free_port(18543)
        both = self.write("both.pem", "")
        os.chmod(both, 0o600)
        with open(both, "w", encoding="ascii") as out:
            for file in (world.certificate, world.key):
                with open(file, encoding="ascii") as text:
                    out.write(text.read())
        conf = self.write("haproxy.cfg", f"""global
  nbthread 1
  no strict-limits
  maxconn 25000
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
frontend f
  bind 127.0.0.1:{self.port} ssl crt {both} alpn h2,http/1.1 ssl-min-ver TLSv1.3 backlog 4096
  default_backend b
backend b
  server s 127.0.0.1:{world.backend.port}
""")
        self.start("haproxy", "-db", "-f", conf)


class Apache(Server):
    """Apache with mod_auth_openidc: one process, its session in shared memory on the server."""

    MODULES = ("mpm_event authn_core authz_core authz_user headers socache_shmcb ssl proxy proxy_http "
               "auth_openidc").split()

    def __init__(self, world, core):
        super().__init__(world, "mod_auth_openidc", core)
        self.port = machine.free_port(18643)

    # Its address has to be registered at the issuer before it can be started.
    def callback(self):
        return self.url("/oidc-callback")

    def serve(self, issuer, client, secret, ca):
        folder = self.folder
        modules = "\n".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in self.MODULES)
        conf = self.write("apache.conf", f"""{modules}
ServerRoot {folder}
ServerName wiki.localhost
PidFile {folder}/pid
ErrorLog {folder}/error.err
DefaultRuntimeDir {folder}
User www-data
Group www-data
StartServers 1
ServerLimit 1
ThreadLimit 192
ThreadsPerChild 192
MaxRequestWorkers 192
MinSpareThreads 1
MaxSpareThreads 192
MaxKeepAliveRequests 0
KeepAliveTimeout 600
BufferedLogs On
LogFormat "%h %l %u %t \\"%r\\" %>s %b \\"%{{Referer}}i\\" \\"%{{User-Agent}}i\\"" combined
Listen 127.0.0.1:{self.port}
<VirtualHost 127.0.0.1:{self.port}>
  CustomLog {folder}/access.log combined
  SSLEngine on
  SSLProtocol TLSv1.3
  SSLCertificateFile {self.world.certificate}
  SSLCertificateKeyFile {self.world.key}
  OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
  OIDCClientID {client}
  OIDCClientSecret {secret}
  OIDCRedirectURI {self.callback()}
  OIDCCryptoPassphrase {os.urandom(16).hex()}
  OIDCPKCEMethod S256
  OIDCSessionType server-cache
  OIDCCacheType shm
  OIDCScope "openid profile email"
  OIDCSSLValidateServer On
  OIDCCABundlePath {ca}
  OIDCUnAuthAction auth
  OIDCSessionInactivityTimeout 28800
  OIDCCacheShmEntrySizeMax 65536
  ProxyRequests Off
  ProxyPass / http://127.0.0.1:{self.world.backend.port}/
  <Location />
    AuthType openid-connect
    Require valid-user
  </Location>
</VirtualHost>
""")
        self.start("apache2", "-DFOREGROUND", "-f", conf)


class Entra(Server):
    """The lab's emulator, with the addresses of everybody who signs people in here."""

    def __init__(self, world, core):
        super().__init__(world, "entra", core)
        self.port = machine.free_port(18744)

    def serve(self, lab, secret, redirects):
        facts = self.world.facts
        self.start(
            lab, "entra", "--listen", f"127.0.0.1:{self.port}", "--public-url", self.url("", "entra"),
            "--cert", facts["entra_certificate"], "--key", facts["entra_key"], "--client-secret", secret,
            "--people-sids", facts["sids_file"], *(f"--redirect-uri={address}" for address in redirects))


class Kerbgate(Server):
    """One worker, as everybody; the configuration is the lab's, with this backend behind the header application."""

    def __init__(self, world, name, core, port):
        super().__init__(world, name, core)
        self.port = machine.free_port(port)
        self.root = os.path.join(self.folder, "etc")

    def configure(self, entra_port):
        subprocess.run([self.world.lab, "configure", "--dir", self.world.lab_folder, "--to", self.root,
                        "--port", str(self.port), "--entra-port", str(entra_port)], check=True)
        self.edit("kerbgate.toml", ("[gateway]\n", "[gateway]\nworkers = 1\n"),
                  ("[listener]\n", '[listener]\nidle = "10m"\nmax_connections = 20000\n'))
        with open(os.path.join(self.root, "kerbgate.toml"), "a", encoding="utf-8") as out:
            out.write('\n[session]\nrecheck = "2h"\n')
        self.edit("apps/wiki.toml", (self.line("apps/wiki.toml", "backend_urls"), self.backend_line()))

    def backend_line(self):
        return f'backend_urls = ["http://127.0.0.1:{self.world.backend.port}/"]\n'

    def read(self, file):
        with open(os.path.join(self.root, file), encoding="utf-8") as text:
            return text.read()

    def line(self, file, begins):
        return next(line + "\n" for line in self.read(file).splitlines() if line.startswith(begins))

    def edit(self, file, *changes):
        text = self.read(file)
        for old, new in changes:
            if old not in text:
                raise SystemExit(f"bench: {file} has no {old!r}")
            text = text.replace(old, new, 1)
        with open(os.path.join(self.root, file), "w", encoding="utf-8") as out:
            out.write(text)

    def keep_apps(self, *kept):
        for file in os.listdir(os.path.join(self.root, "apps")):
            if file.removesuffix(".toml") not in kept:
                os.remove(os.path.join(self.root, "apps", file))

    def state(self, file=""):
        return os.path.join(self.root, "state", file)

    def take_keys(self, other):
        for file in os.listdir(other.state()):
            if file.endswith(".key"):
                shutil.copy2(other.state(file), self.state(file))

    def run(self, binary):
        self.marker = os.path.join(self.folder, "ready")
        self.start(binary, "run", "--config", os.path.join(self.root, "kerbgate.toml"), "--ready-file", self.marker)

    def ready(self):
        return os.path.exists(self.marker)
