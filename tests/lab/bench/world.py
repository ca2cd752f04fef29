"""Everything that runs during a bench, and its end."""

import json
import os
import shutil
import subprocess
import tempfile

import machine
from load import Wrong
from person import Person
from servers import Apache, Backend, Entra, Haproxy, Kerbgate, Nginx
from sessions import copy_store


class World:
    def __init__(self, lab, lab_folder, binary):
        self.lab, self.lab_folder, self.binary = lab, lab_folder, os.path.abspath(binary)
        with open(os.path.join(lab_folder, "lab.json"), encoding="utf-8") as file:
            self.facts = json.load(file)
        self.certificate, self.key = self.facts["gateway_certificate"], self.facts["gateway_key"]
        self.core, self.load_core, self.backend_core = machine.cores()
        self.work = tempfile.mkdtemp(prefix="kerbgate-bench.")
        # Apache's children are another user's.
        os.chmod(self.work, 0o711)
        self.started = []
        self.with_hosts = self._with_hosts()

    def _with_hosts(self):
        # wrk asks the resolver, which may not know *.localhost (RFC 6761 6.3): in a mount namespace it does.
        hosts = os.path.join(self.work, "hosts")
        with open(hosts, "w", encoding="ascii") as out:
            out.write("127.0.0.1 localhost wiki.localhost\n")
        return ["unshare", "-m", "sh", "-c", f'mount --bind "{hosts}" /etc/hosts && exec "$@"', "sh"]

    def end(self):
        for server in reversed(self.started):
            server.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    def backend_and_peers(self):
        self.backend = Backend(self, self.backend_core, self.facts["backends"]["wiki"])
        self.nginx = Nginx(self, self.core)
        self.haproxy = Haproxy(self, self.core)
        self.apache = Apache(self, self.core)

    def gateway(self):
        """The gateway that most cases are about, with somebody signed in everywhere."""
        self.entra = Entra(self, self.load_core)
        self.kerbgate = gate = Kerbgate(self, "kerbgate", self.core, 18843)
        gate.configure(self.entra.port)
        # Warm tokens by difference: the same backend, once with headers and once with a ticket that it ignores.
        intranet = gate.read("apps/intranet.toml")
        with open(os.path.join(gate.root, "apps", "other.toml"), "w", encoding="utf-8") as out:
            out.write(intranet.replace("https://intranet.", "https://other."))
        gate.edit("apps/other.toml", (gate.line("apps/other.toml", "backend_urls"), gate.backend_line()))
        with open(os.path.join(gate.root, "client-secret"), encoding="ascii") as file:
            secret = file.read()
        redirects = [f"https://login.localhost:{gate.port}/.kerbgate/callback", self.apache.callback()]
        self.entra.serve(self.lab, secret, redirects)
        gate.run(self.binary)
        person = Person(self.facts["ca"])
        for host, path in (("wiki", "/who"), ("other", "/who"), ("intranet", "/static/1k"), ("timesheet", "/static/1k")):
            gate.cookies[host] = person.sign_in(gate.url(path, host))
        boot = gate.read("kerbgate.toml").splitlines()
        issuer, client = (next(line.split('"')[1] for line in boot if line.startswith(key))
                          for key in ("issuer =", "client_id ="))
        self.apache.serve(issuer, client, secret, self.facts["ca"])
        self.apache.cookies["wiki"] = Person(self.facts["ca"]).sign_in(self.apache.url("/who"))

    def fresh(self):
        """HAProxy, nginx and Kerbgate just started: a heap that once was larger hides what is new in it."""
        return [Haproxy(self, self.core, "fresh haproxy"), Nginx(self, self.core, "fresh nginx"),
                self.grown("fresh kerbgate", 1, 1)]

    def grown(self, name, apps, sessions):
        """One more gateway, with so many applications and sessions."""
        gate = Kerbgate(self, name, self.core, 18943)
        gate.configure(self.entra.port)
        gate.keep_apps("wiki")
        model = gate.read("apps/wiki.toml")
        for number in range(1, apps):
            text = model.replace("https://wiki.", f"https://a{number}.")
            with open(os.path.join(gate.root, "apps", f"a{number}.toml"), "w", encoding="utf-8") as out:
                out.write(text)
        gate.take_keys(self.kerbgate)
        cookies = copy_store(self.kerbgate, gate, sessions)
        gate.cookies["wiki"] = cookies[0]
        gate.all_cookies = gate.write("all-cookies", "\n".join(cookies) + "\n")
        some = cookies[:: max(1, len(cookies) // 1000)]
        gate.some_cookies = gate.write("some-cookies", "\n".join(some) + "\n")
        gate.run(self.binary)
        return gate

    def check(self, server, host="wiki", path="/1k"):
        """A request by hand: 200, the right length, and not without a session where there should be one."""
        command = ["curl", "-sS", "-k", "--connect-to", f"::127.0.0.1:{server.port}", "-o", "/dev/null",
                   "-w", "%{http_code} %{size_download}"]
        url = server.url(path, host)
        cookie = server.cookies.get(host, "")
        if cookie:
            bare = subprocess.run([*command, url], capture_output=True, text=True, check=False).stdout
            if bare.startswith("200"):
                raise Wrong(f"bench: {server.name} lets in whoever has no session")
            command += ["-H", f"Cookie: {cookie}"]
        said = subprocess.run([*command, url], capture_output=True, text=True, check=False).stdout
        if said != "200 1024":
            raise Wrong(f"bench: {server.name} {url}: {said}, not 200 1024\n{server.last_words()}")

    def sink_takes_all(self, server):
        """An upload by hand: every byte reached the backend."""
        command = ["curl", "-sS", "-k", "--connect-to", f"::127.0.0.1:{server.port}", "-H", "Expect:",
                   "-T", os.path.join(self.backend.folder, "10m"), "-X", "POST",
                   "-H", f"Cookie: {server.cookies.get('wiki', 'none=1')}", server.url("/sink")]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if '"body_length":10485760' not in said.replace(" ", ""):
            raise Wrong(f"bench: {server.name}: an upload did not arrive whole: {said[:300]}")
