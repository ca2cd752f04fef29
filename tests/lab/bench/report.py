"""What was measured, for people, for programs and for BENCHMARKS.md."""

import datetime
import json
import subprocess

import machine

BEGIN, END = "<!-- figures: make bench ARGS=--record -->", "<!-- end of figures -->"


def verdicts(case):
    """For each goal: (goal, value, "met", "floor" or "missed")."""
    found = []
    for goal in case.goals:
        own = case.middle(goal.own)
        if goal.peer is None:
            value = case.difference
        else:
            peer = case.middle(goal.peer)
            if not own or not peer:
                continue
            value = own / peer
        if goal.floor is None:
            met = None
        else:
            met = "aim met" if value <= goal.aim else "floor met" if value <= goal.floor else "floor missed"
        found.append((goal, value, met))
    return found


def number(value, digits=1):
    return "-" if value is None else f"{value:.{digits}f}"


def row(case, server):
    peak = case.middle(server, "peak")
    return [server, number(case.middle(server), 2), case.unit, number(case.middle(server, "rate"), 0),
            number(case.middle(server, "p50"), 2), number(case.middle(server, "p99"), 2),
            number(peak / 1024 if peak else None)]


def text(cases):
    lines = []
    for case in cases:
        lines.append(f"\n{case.name}: {case.title}.{case.note}")
        lines.append(f"  {'':38} {'figure':>10} {'':16} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'peak MiB':>9}")
        for server in case.samples:
            cells = row(case, server)
            lines.append("  {:38} {:>10} {:16} {:>8} {:>8} {:>8} {:>9}".format(*cells))
        for goal, value, met in verdicts(case):
            asked = f"  floor {goal.floor}, aim {goal.aim}: {met}" if met else ""
            lines.append(f"  {goal.what}: {value:.2f}{asked}")
    return "\n".join(lines)


def versions():
    names = ["nginx", "haproxy", "apache2", "libapache2-mod-auth-openidc", "nghttp2-client", "wrk"]
    said = subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Version}\n", *names], capture_output=True, text=True,
                          check=False)
    return said.stdout.split("\n")[:-1]


def tool(command):
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def about(bench, command, loads, binary):
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine.shape(),
        "commit": tool(["git", "rev-parse", "--short", "HEAD"]),
        "binary": binary,
        "command": command,
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "load_average": loads,
        "versions": versions(),
    }


def as_json(cases, facts, wrong):
    def one(case):
        return {
            "case": case.name, "title": case.title, "unit": case.unit, "note": case.note.strip(),
            "proxies": {server: {"figure": case.middle(server), "rate": case.middle(server, "rate"),
                                 "p50_ms": case.middle(server, "p50"), "p99_ms": case.middle(server, "p99"),
                                 "peak_kib": case.middle(server, "peak"),
                                 "rounds": [getattr(sample, case.figure) for sample in samples]}
                        for server, samples in case.samples.items()},
            "goals": [{"what": goal.what, "value": value, "floor": goal.floor, "aim": goal.aim, "verdict": met}
                      for goal, value, met in verdicts(case)]}
    return json.dumps({**facts, "cases": [one(case) for case in cases], "failed": wrong}, indent=1, ensure_ascii=False) + "\n"


def markdown(cases, facts):
    before, after = facts["load_average"]
    lines = [
        BEGIN, "",
        f"{facts['date']}, {facts['machine']}, commit {facts['commit']}, {facts['binary']}. "
        f"`{facts['command']}`: {facts['rounds']} rounds of {facts['seconds']} s. "
        f"Load average before {before:.1f}, after {after:.1f}.", "",
        "Peers: " + ", ".join(facts["versions"]) + ".", "",
        "| What | Figure | Floor | Aim | |", "|---|---:|---:|---:|---|"]
    for case in cases:
        for goal, value, met in verdicts(case):
            floor, aim = (goal.floor, goal.aim) if met else ("", "")
            lines.append(f"| {case.name}: {goal.what} | {value:.2f} | {floor} | {aim} | {met or ''} |")
    lines += ["", "| Case | Who | Figure | | Requests/s | p50 ms | p99 ms | Peak MiB |",
              "|---|---|---:|---|---:|---:|---:|---:|"]
    for case in cases:
        for server in case.samples:
            lines.append(f"| {case.name} | " + " | ".join(row(case, server)) + " |")
    for case in cases:
        lines.append(f"\n`{case.name}`: {case.title}.{case.note}")
    return "\n".join([*lines, "", END])


def record(path, cases, facts):
    """Puts the tables between the two markers of BENCHMARKS.md."""
    with open(path, encoding="utf-8") as file:
        old = file.read()
    if BEGIN not in old or END not in old:
        raise SystemExit(f"bench: {path} has lost its markers: {BEGIN} … {END}")
    head, rest = old.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + markdown(cases, facts) + tail)
