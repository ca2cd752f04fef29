"""Who runs where, and what a process costs: read from the kernel, not asked of the programs."""

import os
import platform
import resource
import socket
import time


def cores():
    """Proxy, load, backend: one core each where there are three, else the backend shares the load's."""
    own = sorted(os.sched_getaffinity(0))
    if len(own) < 2:
        raise SystemExit("bench: one processor only; the load would be measured with the proxy")
    return own[0], own[1], own[2] if len(own) > 2 else own[1]


def raise_limits():
    """As many open files as this user may have; what we start inherits it. Returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def processor_time(pids):
    """Nanoseconds of user and system time of whole processes, threads that ended included."""
    # clock_getcpuclockid(3) of another process: the pid, inverted, and CPUCLOCK_SCHED.
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def _kib(pid, file, field):
    with open(f"/proc/{pid}/{file}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def memory(pids):
    """KiB in use, shared pages counted by share."""
    return sum(_kib(pid, "smaps_rollup", "Pss") for pid in pids)


def forget_peak(pids):
    """Lets the next `peak` be of what happens from now on."""
    for pid in pids:
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")


def peak(pids):
    """KiB in use at the worst moment since `forget_peak`."""
    return sum(_kib(pid, "status", "VmHWM") for pid in pids)


def children(pid):
    """A process and those it started."""
    found = [pid]
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        for child in file.read().split():
            found += children(int(child))
    return found


def load_average():
    """Of the last minute: above one for each core, others were at work too."""
    return os.getloadavg()[0]


def shape():
    """What somebody needs to compare; no names."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "an unknown system")
    count = len(os.sched_getaffinity(0))
    return f"{count} cores ({model}), {gib:.0f} GiB, {system}"


_taken = set()


def free_port(port):
    """A port nobody listens on, below the ephemeral ones."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                if port not in _taken:
                    _taken.add(port)
                    return port
            except OSError:
                pass
        port += 1
