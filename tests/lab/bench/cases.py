"""The cases: what is loaded how, and what the issue asks of it.

Each case is a list of contestants taken in turn; a round of a contestant gives one `Sample`.
"""

import math
import subprocess
import sys
import time
from contextlib import suppress

import idle
from load import Nothing, Wrong, h2load, wrk

TEN_MIB = 10 * 1024 * 1024


class Case:
    def __init__(self, name, title, goals, unit="µs a request", figure="cpu"):
        self.name, self.title, self.goals, self.unit, self.figure = name, title, goals, unit, figure
        self.samples = {}
        self.note = ""

    def add(self, server, sample):
        self.samples.setdefault(server, []).append(sample)

    def middle(self, server, figure=None):
        values = [getattr(sample, figure or self.figure) for sample in self.samples.get(server, [])]
        return median([value for value in values if value is not None])


class Goal:
    """Kerbgate's figure over a peer's, or by itself where there is no peer."""

    def __init__(self, what, own, peer, floor, aim):
        self.what, self.own, self.peer, self.floor, self.aim = what, own, peer, floor, aim


def median(values):
    values = sorted(values)
    if not values:
        return None
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


class Bench:
    def __init__(self, world, rounds, seconds, quick):
        self.world, self.rounds, self.seconds, self.quick = world, rounds, seconds, quick
        self.cases = []

    def turns(self, case, contestants, run, warm=1):
        """`run(server, seconds)` for each contestant, round after round; the first, of `warm` seconds, does not count."""
        self.cases.append(case)
        for server in contestants:
            with suppress(Nothing):
                run(server, warm)
        for _ in range(self.rounds):
            for server in contestants:
                case.add(server.name, run(server, self.seconds))
                server.tidy()
        ciphers = {server.cipher for server in contestants}
        if len(ciphers) > 1:
            case.note += " Ciphers differ: " + ", ".join(f"{s.name} {s.cipher}" for s in contestants) + "."

    def small(self, name):
        world = self.world
        http2 = name == "h2"
        peers = [world.nginx, world.haproxy] + ([] if http2 else [world.apache])
        goals = [Goal("CPU to nginx's plain TLS proxying", "kerbgate", "nginx", *((1.3, 0.9) if http2 else (1.2, 0.9))),
                 Goal("CPU to HAProxy's", "kerbgate", "haproxy", None, None)]
        if not http2:
            goals.append(Goal("CPU to mod_auth_openidc with a session", "kerbgate", "mod_auth_openidc", 0.30, 0.15))
        case = Case(name, f"1 KiB, warm session, HTTP/{2 if http2 else '1.1'}", goals)
        options = ["-m", "8"] if http2 else ["--h1"]
        for server in [*peers, world.kerbgate]:
            world.check(server)
        self.turns(case, [*peers, world.kerbgate], lambda server, seconds: h2load(
            world, server, "/1k", [*options, "-c", "64", "-D", str(seconds)], length=1024), warm=2)

    def h1(self):
        self.small("h1")

    def h2(self):
        self.small("h2")

    def paced(self):
        """64 clients that keep a rate, whatever the answers do: half of what nginx managed."""
        world = self.world
        known = next((case for case in self.cases if case.name == "h1"), None)
        if known:
            best = known.middle("nginx", "rate")
        else:
            best = h2load(world, world.nginx, "/1k", ["--h1", "-c", "64", "-D", "2"], length=1024).rate
        each = max(1, int(best / 2 / 64))
        case = Case("paced", f"1 KiB at half of nginx's peak: {each * 64} requests/s",
                    [Goal("p99 to nginx's", "kerbgate", "nginx", 1.5, 1.0)], "ms, p99", "p99")
        self.turns(case, [world.nginx, world.kerbgate], lambda server, seconds: h2load(
            world, server, "/1k", ["--h1", "-c", "64", f"--rps={each}", "-D", str(seconds)], length=1024))
        for server, samples in case.samples.items():
            if case.middle(server, "rate") < each * 64 * 0.95:
                case.note += f" {server} did not keep the rate: {case.middle(server, 'rate'):.0f}/s."

    def stream(self, name):
        world = self.world
        upload = name == "upload"
        case = Case(name, f"10 MiB {name}, HTTP/1.1, 4 connections", [
            Goal("CPU per byte to nginx's", "kerbgate", "nginx", 1.3, 1.0)], "ns a KiB", "per_kib")
        options, path, length = ["--h1", "-c", "4"], "/10m", TEN_MIB
        if upload:
            file = f"{world.backend.folder}/10m"
            options, path, length = [*options, "-d", file], "/sink", None
        # A number of requests, not a time: half a body at the end would be work without an answer.
        count = {}

        def run(server, seconds):
            number = max(2, math.ceil(count.get(server.name, 8) * seconds / 4)) * 4
            sample = h2load(world, server, path, [*options, "-n", str(number)], length=length,
                            uploads=TEN_MIB if upload else 0)
            count.setdefault(server.name, sample.rate)
            return sample

        if upload:
            for server in (world.nginx, world.kerbgate):
                world.sink_takes_all(server)
        self.turns(case, [world.nginx, world.kerbgate], run)

    def download(self):
        self.stream("download")

    def upload(self):
        self.stream("upload")

    def handshake(self):
        world = self.world
        case = Case("handshake", "a new TLS 1.3 connection for each request, full handshake, P-256", [
            Goal("CPU to HAProxy's", "kerbgate", "haproxy", 1.2, 0.9),
            Goal("CPU to nginx's", "kerbgate", "nginx", None, None)], "µs a connection")
        rate = 400

        def run(server, seconds):
            count = rate * seconds
            return h2load(world, server, "/1k", ["--h1", "-c", str(count), "-n", str(count),
                                                 "-r", str(rate // 20), "--rate-period=50ms"], length=1024)

        self.turns(case, [world.haproxy, world.nginx, world.kerbgate], run)

    def idle(self):
        world, count = self.world, 3_000 if self.quick else 10_000
        case = Case("idle", f"{count} idle TLS connections after one request each", [
            Goal("memory to HAProxy's", "kerbgate", "haproxy", 2.0, 1.0),
            Goal("memory to nginx's", "kerbgate", "nginx", None, None)], "KiB each", "kib")
        self.cases.append(case)
        for server in world.fresh():
            world.check(server)
            case.add(server.name.removeprefix("fresh "), Held(idle.measure(world, server, count)))
            server.stop()

    def growth(self):
        """The same request through gateways that hold more."""
        world = self.world
        one, apps, sessions = "1 of each", "10000 applications", "100000 sessions, 1000 of them at work"
        every = "100000 sessions, all in turn"
        sizes = [(one, 1, 1), ("100 applications", 100, 1), (apps, 10_000, 1), ("10000 sessions", 1, 10_000),
                 (sessions, 1, 100_000)]
        names = [name for name, _, _ in sizes] + [every]
        case = Case("growth", "1 KiB, HTTP/1.1, by what the gateway holds; sessions taken in turn", [
            Goal(f"CPU, {name} to 1", name, one, *((1.1, 1.02) if name in (apps, sessions) else (None, None)))
            for name in names[1:]])
        runs = []
        for name, app_count, session_count in sizes:
            began = time.monotonic()
            gate = world.grown(name, app_count, session_count)
            say(f"  {name}: written and started in {time.monotonic() - began:.1f} s")
            world.check(gate)
            # Every session once, so that all are held.
            done, until = 0, time.monotonic() + 30
            while done < session_count * 1.1 and time.monotonic() < until:
                with suppress(Nothing):
                    done += wrk(world, gate, gate.all_cookies, 1 + session_count // 20_000).requests
            runs.append((name, gate, gate.some_cookies if name == sessions else gate.all_cookies))
        runs.append((every, gate, gate.all_cookies))
        self.cases.append(case)
        for _ in range(self.rounds):
            for name, gate, cookies in runs:
                if name != every:
                    # Rounds lie far apart: read again is what was not used for half a minute.
                    with suppress(Nothing):
                        wrk(world, gate, cookies, 1)
                case.add(name, wrk(world, gate, cookies, self.seconds))
                gate.tidy()
        case.note = (" With all in turn each session's memory is cold, and its last use is written once a minute.")
        for _, gate, _ in runs:
            gate.stop()

    def windows(self):
        """Windows authentication, warm; a token's price is the difference to the header application."""
        world = self.world
        gate = world.kerbgate
        case = Case("windows", "1 KiB, warm, Windows authentication, HTTP/1.1", [
            Goal("CPU of one warm Negotiate token, µs", "a token for each request", None, 60, 10)])
        self.cases.append(case)
        kinds = [("headers, no token", "wiki", "/1k"), ("a token for each request", "other", "/1k"),
                 ("Apache, each request", "intranet", "/static/1k"),
                 ("Apache, each connection", "timesheet", "/static/1k")]
        for _, host, path in kinds:
            world.check(gate, host, path)
        for number in range(self.rounds + 1):
            for name, host, path in kinds:
                sample = h2load(world, gate, path, ["--h1", "-c", "64", "-D", str(self.seconds if number else 1)],
                                host=host, length=1024)
                if number:
                    case.add(name, sample)
                gate.tidy()
        both = case.middle("a token for each request"), case.middle("headers, no token")
        case.difference = both[0] - both[1]

    ALL = ("h1", "h2", "paced", "download", "upload", "handshake", "idle", "growth", "windows")

    def run(self, names):
        wrong = []
        for name in names:
            say(name)
            try:
                getattr(self, name)()
            except (Wrong, OSError, subprocess.SubprocessError) as fault:
                # The other cases are still worth having; the end says that this one failed.
                print(f"bench: {name}: {fault}", file=sys.stderr)
                wrong.append(name)
                self.cases = [case for case in self.cases if case.name != name]
        return wrong


class Held:
    """Memory of a connection; nothing else was measured."""

    rate = p50 = p99 = peak = None

    def __init__(self, kib):
        self.kib = kib


BEGAN = time.monotonic()


def say(text):
    passed = int(time.monotonic() - BEGAN)
    print(f"{passed // 60:3}:{passed % 60:02}        {text}", flush=True)
