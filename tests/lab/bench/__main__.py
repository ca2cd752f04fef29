"""`make bench`: Kerbgate beside nginx, HAProxy and Apache with mod_auth_openidc, in turn, on one machine.

    python3 tests/lab/bench --lab kerbgate-lab --lab-folder DIR --binary kerbgate --json FILE
        [--quick] [--only h1,h2,…] [--strict] [--record]

In: a running lab (`kerbgate-lab up`) and a build of Kerbgate. Out: a table, the same as JSON, and with --record
in BENCHMARKS.md. Exit code 1 when a case failed, or, with --strict, when a floor is missed.

| File | What it is |
|---|---|
| `machine.py` | cores, processor time, memory, by the kernel |
| `servers.py` | backend, peers, Kerbgate: configuration, start, end |
| `world.py` | all of them together |
| `person.py`, `sessions.py` | one real sign-in; many sessions made from it |
| `load.py`, `idle.py` | requests; connections that do nothing |
| `cases.py`, `report.py` | what is measured, against what; what is said about it |
"""

import argparse
import signal
import sys

sys.dont_write_bytecode = True

import machine  # noqa: E402
import report  # noqa: E402
from cases import Bench, say  # noqa: E402
from world import World  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="make bench ARGS=…")
    for needed in ("--lab", "--lab-folder", "--binary", "--json"):
        parser.add_argument(needed, required=True)
    parser.add_argument("--built", default="", help="how the binary was built, for the record")
    parser.add_argument("--quick", action="store_true", help="shorter rounds: to try the bench, not to quote")
    parser.add_argument("--only", default="", help=f"cases, separated by commas: {', '.join(Bench.ALL)}")
    parser.add_argument("--strict", action="store_true", help="fail when a floor is missed")
    parser.add_argument("--record", action="store_true", help="put the figures into BENCHMARKS.md")
    given = parser.parse_args()
    given.cases = given.only.split(",") if given.only else list(Bench.ALL)
    unknown = [name for name in given.cases if name not in Bench.ALL]
    if unknown:
        parser.error(f"no case {unknown[0]}: {', '.join(Bench.ALL)}")
    if given.record and (given.quick or given.only):
        parser.error("--record wants the whole bench")
    return given


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine.raise_limits()
    before = machine.load_average()
    rounds, seconds = (2, 2) if given.quick else (3, 4)
    world = World(given.lab, given.lab_folder, given.binary)
    try:
        say("starting the peers and Kerbgate")
        world.backend_and_peers()
        world.gateway()
        bench = Bench(world, rounds, seconds, given.quick)
        wrong = bench.run(given.cases)
    finally:
        world.end()
    command = "make bench" + (" ARGS=--quick" if given.quick else "")
    facts = report.about(bench, command, [before, machine.load_average()], given.built)
    print(report.text(bench.cases))
    print(f"\nload average {facts['load_average'][0]:.1f} before, {facts['load_average'][1]:.1f} after; "
          "figures of a machine that did other work meanwhile are not worth quoting")
    with open(given.json, "w", encoding="utf-8") as out:
        out.write(report.as_json(bench.cases, facts, wrong))
    missed = [f"{case.name}: {goal.what}" for case in bench.cases
              for goal, _, met in report.verdicts(case) if met == "floor missed"]
    for what in missed:
        print(f"floor missed: {what}")
    if wrong:
        print(f"bench: failed: {', '.join(wrong)}", file=sys.stderr)
        return 1
    if given.record:
        report.record("BENCHMARKS.md", bench.cases, facts)
    return 1 if given.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
