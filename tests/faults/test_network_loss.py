"""The cloud's network loses packets and is slow for the whole of an upgrade: it ends well, and nothing is lost.

Where the kernel has no netem, loss comes from a filter (cls_bpf), and delay from links so narrow that packets queue.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.faults import NEW, Region

LOSS = 0.05
NARROW = ("root", "tbf", "rate", "8mbit", "burst", "4kb", "latency", "300ms")
# Classic BPF: load a random word; below the threshold the packet is shot (2), else it passes (0).
SHOOT = f"4,32 0 0 4294963256,53 1 0 {int(LOSS * (1 << 32))},6 0 0 2,6 0 0 0"


def test_an_upgrade_over_a_lossy_network_ends_well_and_loses_nothing(region: Region) -> None:
    region.install()
    with lossy(region):
        run = region.upgrade({"traffic": {"clients": 2, "before": 1, "after": 1}})
        assert run.wait(500) == 0
        assert run.code == 0, run.output
    region.is_whole(NEW)


@contextmanager
def lossy(region: Region) -> Iterator[None]:
    """Lose packets on every port of the cloud's bridge, as they come in from hosts and from this machine."""
    name = region.cloud.name
    links = _run("ip", "-n", name, "-o", "link", "show", "master", "bridge").splitlines()
    ports = [line.split(": ")[1].split("@")[0] for line in links]
    assert len(ports) >= 8, ports
    netem = ("root", "netem", "loss", "5%", "delay", "50ms")
    delayed = _try("tc", "-n", name, "qdisc", "add", "dev", ports[0], *netem)
    print("5 % loss, 50 ms delay" if delayed else "no sch_netem in this kernel: 5 % loss by cls_bpf, 8 Mbit/s by tbf")
    try:
        for port in ports[1:] if delayed else ports:
            if delayed:
                _run("tc", "-n", name, "qdisc", "add", "dev", port, *netem)
                continue
            _run("tc", "-n", name, "qdisc", "add", "dev", port, "clsact")
            _run("tc", "-n", name, "filter", "add", "dev", port, "ingress", "bpf", "da", "bytecode", SHOOT)
            _run("tc", "-n", name, "qdisc", "add", "dev", port, *NARROW)
        yield
        told = "".join(_run("tc", "-n", name, "-s", "qdisc", "show", "dev", port) for port in ports)
        assert sum(map(int, re.findall(r"dropped (\d+)", told))) > 100, told
        assert delayed or sum(map(int, re.findall(r"overlimits (\d+)", told))) > 1000, told
    finally:
        for port in ports:
            _try("tc", "-n", name, "qdisc", "del", "dev", port, "root")
            _try("tc", "-n", name, "qdisc", "del", "dev", port, "clsact")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _try(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
