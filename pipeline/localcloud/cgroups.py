"""Control groups as the record of what runs: every process of a cloud is born in a group named after it.

The kernel keeps this record, so it is right even if we are killed between any two lines, a pid used again is never
taken for ours, and what a process leaves behind is found with it. A group of groups belongs to a cloud, each group
in it to one service or host.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from pipeline.edges.clock import Clock, wait_until
from pipeline.errors import ConfigurationInvalid

__all__ = ["Cgroups", "find"]


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups of one cloud.

    `roots` are the cloud's directories in the hierarchies: first cgroup v2's, then, where the machine has it,
    systemd's own v1 hierarchy, in which the systemd of a host would otherwise meet the other hosts.
    """

    roots: tuple[Path, ...]

    def make(self, name: str) -> tuple[Path, ...]:
        """Make the group `name` and return the files a process writes itself into."""
        for root in self.roots:
            (root / name).mkdir(parents=True, exist_ok=True)
        return tuple(root / name / "cgroup.procs" for root in self.roots)

    def names(self) -> tuple[str, ...]:
        """Return the groups there are, sorted."""
        return tuple(sorted({path.name for root in self.roots for path in _children(root)}))

    def populated(self, name: str) -> bool:
        """Return whether a process is in group `name` or in a group inside it; the kernel answers for all at once."""
        return "populated 1" in _text(self.roots[0] / name / "cgroup.events")

    def pids(self, name: str) -> tuple[int, ...]:
        """Return the processes of group `name` and of the groups inside it, sorted.

        One that moves from group to group meanwhile may be missed: to know if there is any, ask `populated`.
        """
        found = {
            int(pid)
            for root in self.roots
            for group in (root / name, *_tree(root / name))
            for pid in _text(group / "cgroup.procs").split()
        }
        return tuple(sorted(found))

    def terminate(self, name: str, clock: Clock, *, grace: float) -> None:
        """Ask the processes of `name` to end, and end what is left after `grace` seconds; then drop the group."""
        for pid in self.pids(name):
            _signal(pid, signal.SIGTERM)
        deadline = clock.monotonic() + grace
        while self.populated(name) and clock.monotonic() < deadline:
            clock.sleep(0.02)
        self.kill(name, clock)

    def kill(self, name: str, clock: Clock) -> frozenset[int]:
        """End every process of `name` at once, drop the group, return the pids that were ended. None there is well.

        Raises Inconclusive if a process outlives SIGKILL by 15 seconds.
        """

        ended: set[int] = set()

        def gone() -> bool:
            for pid in self.pids(name):
                _signal(pid, signal.SIGKILL)
                ended.add(pid)
            return not self.populated(name)

        wait_until(gone, clock, timeout=15, interval=0.02, what=f"the processes of {name} to end")
        for root in self.roots:
            for group in (*_tree(root / name), root / name):
                _remove(group, clock)
        return frozenset(ended)

    def remove(self, clock: Clock) -> None:
        """Drop the cloud's own groups, after every group in them was killed."""
        for root in self.roots:
            _remove(root, clock)


def find(cloud_name: str) -> Cgroups:
    """Return the groups of the cloud called `cloud_name`; they need not exist yet.

    Raises ConfigurationInvalid if this machine has no writable cgroup v2 hierarchy.
    """
    modern: list[Path] = []
    legacy: list[Path] = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2":
            modern.append(Path(where))
        if kind == "cgroup" and "name=systemd" in options.split(","):
            legacy.append(Path(where))
    if not modern or not os.access(modern[0], os.W_OK):
        raise ConfigurationInvalid(
            "no writable cgroup v2 hierarchy is mounted",
            hint="mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified",
        )
    return Cgroups(tuple(path / cloud_name for path in (*modern[:1], *legacy[:1])))


def _children(directory: Path) -> tuple[Path, ...]:
    try:
        return tuple(path for path in directory.iterdir() if path.is_dir())
    except OSError:  # not there, or gone as we looked
        return ()


def _tree(directory: Path) -> tuple[Path, ...]:
    """Return the groups inside `directory`, innermost first."""
    return tuple(found for child in _children(directory) for found in (*_tree(child), child))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:  # the group is not there, or went away as we looked
        return ""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _remove(group: Path, clock: Clock) -> None:
    """Remove an empty group; the kernel says busy for some moments after its last process ended."""

    def removed() -> bool:
        try:
            group.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait_until(removed, clock, timeout=15, interval=0.02, what=f"the empty cgroup {group}")
