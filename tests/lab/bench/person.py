"""A person with a browser's patience: signs in once at the emulator and leaves with cookies."""

import html
import http.cookiejar
import re
import socket
import ssl
import urllib.parse
import urllib.request

LOGIN = "jane@fabrikam.example"

_resolve = socket.getaddrinfo


def _loopback(host, *rest, **more):
    # *.localhost is this machine (RFC 6761 6.3), which not every resolver knows.
    return _resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **more)


socket.getaddrinfo = _loopback


class Person:
    def __init__(self, ca):
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)),
            urllib.request.HTTPCookieProcessor(self.jar))
        # Without Fetch Metadata: who has no scripts is better served with redirects alone.
        self.opener.addheaders = [("Accept", "text/html")]

    def open(self, url, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        with self.opener.open(url, data, timeout=60) as answer:
            return answer.geturl(), answer.status, answer.read()

    def sign_in(self, url):
        """Opens `url` and signs in where asked; returns the cookies for its host, as one header."""
        at, status, body = self.open(url)
        if b'name="login"' in body:
            page = body.decode()
            action = re.search(r'<form[^>]*action="([^"]*)"', page)
            form = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page))
            form = {name: html.unescape(value) for name, value in form.items()}
            where = urllib.parse.urljoin(at, html.unescape(action[1])) if action else at
            at, status, body = self.open(where, {**form, "login": LOGIN})
        if status != 200 or at != url:
            raise SystemExit(f"bench: the sign-in for {url} ended at {at} with {status}: {body[:300]!r}")
        return self.cookies(url)

    def cookies(self, url):
        request = urllib.request.Request(url)
        self.jar.add_cookie_header(request)
        pairs = request.get_header("Cookie", "").split("; ")
        # What only binds a sign-in to a browser is not part of a warm request.
        return "; ".join(pair for pair in pairs if not pair.startswith("__Host-kerbgate-"))
