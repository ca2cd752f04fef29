"""The load: h2load and wrk, and the proof that what they counted were the right answers."""

import json
import math
import os
import re
import subprocess
import urllib.parse

import machine


class Wrong(Exception):
    """Answers that were not what was asked for: a figure of them would mean nothing."""


class Nothing(Wrong):
    """No answer within the time: what a warming up on a busy machine may end with, a round may not."""


class Sample:
    """One round of one proxy."""

    def __init__(self, requests, rate, nanoseconds, data=0, p50=None, p99=None, peak=0):
        self.requests, self.rate, self.data = requests, rate, data
        self.cpu = nanoseconds / requests / 1000
        self.per_kib = nanoseconds / (data / 1024) if data else None
        self.p50, self.p99, self.peak = p50, p99, peak


def percentiles(path):
    """p50 and p99 in milliseconds of h2load's log."""
    with open(path, encoding="ascii") as lines:
        times = sorted(int(line.split("\t")[2]) for line in lines if line.strip())
    if not times:
        return None, None
    return tuple(times[math.ceil(len(times) * share) - 1] / 1000 for share in (0.50, 0.99))


def _numbers(pattern, text):
    found = re.search(pattern, text, re.M)
    return [int(part) for part in found.groups()] if found else None


def h2load(world, server, path, options, host="wiki", length=None, uploads=0):
    """One run. The `length` of the answers is checked; where bodies of `uploads` bytes are sent, they are the data."""
    log = os.path.join(world.work, "h2load.log")
    if os.path.exists(log):
        os.remove(log)
    command = ["taskset", "-c", str(world.load_core), "h2load", "-t", "1", f"--log-file={log}",
               # The proxies would choose differently: HAProxy insists on AES-256.
               "--tls13-ciphers=TLS_AES_128_GCM_SHA256",
               # h2load does not know that *.localhost is this machine.
               f"--connect-to=127.0.0.1:{server.port}", *options]
    cookie = server.cookies.get(host)
    if cookie:
        command += ["-H", f"cookie: {cookie}"]
    pids = server.pids()
    machine.forget_peak(pids)
    before = machine.processor_time(pids)
    run = subprocess.run(command + [server.url(path, host)], capture_output=True, text=True, check=False,
                         timeout=120)
    spent = machine.processor_time(pids) - before
    text = run.stdout
    codes = _numbers(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    traffic = _numbers(r"^traffic: .*\((\d+)\) total, .*\((\d+)\) headers.*\((\d+)\) data", text)
    rate = re.search(r"^finished in .*?, ([\d.]+) req/s", text, re.M)
    if run.returncode or not codes or not traffic or not rate or codes[0] == 0 or sum(codes[1:]):
        fault = Nothing if codes and not sum(codes) else Wrong
        raise fault(f"{server.name} {path}: not only 200:\n{text[-900:]}{run.stderr[-300:]}\n{server.last_words()}")
    good, data = codes[0], traffic[2]
    # When the time was over, up to 512 answers were under way: a status without its data, or data without its end.
    if length is not None and abs(good * length - data) > 600 * length:
        raise Wrong(f"{server.name} {path}: {data} bytes in {good} answers of {length}")
    cipher = re.search(r"^Cipher: (\S+)", text, re.M)
    server.cipher = cipher[1] if cipher else None
    p50, p99 = percentiles(log)
    return Sample(good, float(rate[1]), spent, uploads * good or data, p50, p99, machine.peak(pids))


# Each request with the next cookie of a file; the sum of what happened as JSON.
LUA = """
local requests, at = {}, 0
function init(args)
  at = tonumber(args[4])
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", args[2], {["Host"] = args[3], ["Cookie"] = line})
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('SUM {"requests": %d, "us": %d, "bytes": %d, "wrong": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(world, server, cookies, seconds, host="wiki", path="/1k"):
    """One run over a file of cookies, one a line, taken in turn; the next run goes on where this one stopped."""
    script = os.path.join(world.work, "turns.lua")
    with open(script, "w", encoding="ascii") as out:
        out.write(LUA)
    url = server.url(path, host)
    where = urllib.parse.urlsplit(url)
    pids = server.pids()
    machine.forget_peak(pids)
    before = machine.processor_time(pids)
    run = subprocess.run(
        [*world.with_hosts, "taskset", "-c", str(world.load_core), "wrk", "-t1", "-c64",
         f"-d{seconds}s", "-s", script, url, "--", cookies, path, where.netloc, str(server.turn.get(cookies, 0))],
        capture_output=True, text=True, check=False, timeout=120)
    spent = machine.processor_time(pids) - before
    found = re.search(r"^SUM (.*)$", run.stdout, re.M)
    total = json.loads(found[1]) if found else {"requests": 0, "wrong": 0}
    if run.returncode or total["requests"] == 0 or total["wrong"]:
        fault = Wrong if run.returncode or total["wrong"] else Nothing
        raise fault(f"{server.name} {path}: {total}\n{run.stdout[-500:]}{run.stderr[-500:]}\n{server.last_words()}")
    server.turn[cookies] = server.turn.get(cookies, 0) + total["requests"]
    return Sample(total["requests"], total["requests"] / total["us"] * 1e6, spent, total["bytes"],
                  total["p50"] / 1000, total["p99"] / 1000, machine.peak(pids))
