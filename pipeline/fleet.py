"""The fleet as it is: what each engine and API host has on disk, runs, and talks on. Asked, never remembered.

Pure: the script that asks, and the reading of its answer; pipeline.edges.hosts carries them to the hosts and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.environment import Role
from pipeline.hostfiles import CURRENT
from pipeline.installation import RELEASES
from pipeline.inventory import Host

__all__ = ["PLAIN", "TLS", "Fleet", "HostState", "read_state", "state_script"]

PLAIN, TLS = "5672", "5671"
"""The broker's ports. Whoever runs Heat is connected to one of them, in whatever way its files have it by now."""


@dataclass(frozen=True, slots=True)
class HostState:
    """One host that runs Heat. `current` is the release its link names, `running` what its units run ("" for none).

    `stale` says that a unit runs with settings older than those on disk: a run that wrote them did not restart it.
    `draining` says that a unit was told to stop and has not ended yet: a run that told it so was killed or gave up.
    `encrypted` says that its settings have it come to database and broker over TLS; `connected` are the broker's ports
    that it has connections to now, be it from a unit that runs with older settings, or drains. `trusts` is the sha256
    of whose certificates its release trusts, "" for nobody's.
    """

    host: Host
    current: str
    running: str
    vhost: str
    installed: tuple[str, ...]
    stale: bool = False
    draining: bool = False
    encrypted: bool = False
    connected: frozenset[str] = frozenset()
    trusts: str = ""

    def settled_on(self, release_id: str) -> bool:
        """Whether the host's link and all its units are on `release_id`."""
        return self.current == self.running == release_id


@dataclass(frozen=True, slots=True)
class Fleet:
    """The states of all engine and API hosts."""

    states: tuple[HostState, ...]

    def of(self, role: Role) -> tuple[HostState, ...]:
        """Return the states of the hosts of `role`, in order."""
        return tuple(state for state in self.states if state.host.role is role)

    @property
    def releases(self) -> frozenset[str]:
        """The releases that hosts are on; empty before the first deploy."""
        return frozenset(state.current for state in self.states if state.current)

    @property
    def vhost(self) -> str:
        """The vhost that the region talks on, "" before the first deploy.

        Where no engine runs, be it that all were taken out of service, APIs tell, and then what is on disk: messages
        wait there, and engines that came up on another vhost would leave them to nobody.
        """
        hosts = (*self.of(Role.ENGINE), *self.of(Role.API))
        told = [state.vhost for state in hosts if state.running] + [state.vhost for state in hosts]
        return next(filter(None, told), "")

    def lacking(self, release_id: str) -> tuple[Host, ...]:
        """Return the hosts that do not have a release on their disks."""
        return tuple(state.host for state in self.states if release_id not in state.installed)


def state_script(units: Sequence[str]) -> str:
    """Return the script that prints a host's facts, one a line.

    A unit runs in its release's directory, whose real path /proc keeps whatever `current` names later.
    """
    return f"""\
[ -L {CURRENT} ] && echo "current $(basename "$(readlink {CURRENT})")"
grep -qs '^ssl = true$' {CURRENT}/etc/heat.conf && echo "encrypted heat.conf"
[ -f {CURRENT}/etc/authority.pem ] && echo "trusts $(sha256sum <{CURRENT}/etc/authority.pem)"
for port in {PLAIN} {TLS}; do
    [ -z "$(ss -Htn state established "( dport = :$port )" 2>/dev/null)" ] || echo "connected $port"
done
[ -f {CURRENT}/etc/vhost ] && echo "vhost $(cat {CURRENT}/etc/vhost)"
for manifest in {RELEASES}/*/manifest.json; do
    [ -f "$manifest" ] && echo "installed $(basename "$(dirname "$manifest")")"
done
for unit in {" ".join(units)}; do
    pid=$(systemctl show --property MainPID --value "$unit")
    if systemctl is-active --quiet "$unit" && [ "${{pid:-0}}" != 0 ]; then
        echo "running $(basename "$(readlink "/proc/$pid/cwd")")"
        since=$(systemctl show --property ExecMainStartTimestamp --value --timestamp=unix "$unit")
        newer=$(find {CURRENT}/etc/ "/etc/systemd/system/$unit.service" -type f -newermt "$since" 2>/dev/null)
        [ -z "$newer" ] || echo "stale $unit"
    else
        echo "running "
        [ "$(systemctl is-active "$unit")" != deactivating ] || echo "draining $unit"
    fi
done
true"""


def read_state(host: Host, answer: str) -> HostState:
    """Return the state that the answer to `state_script` describes; units on two releases count as not running."""
    facts = [line.partition(" ") for line in answer.splitlines()]
    running = {value for key, _, value in facts if key == "running"}
    single = {key: value for key, _, value in facts}
    return HostState(
        host=host,
        current=single.get("current", ""),
        running=running.pop() if len(running) == 1 else "",
        vhost=single.get("vhost", ""),
        installed=tuple(value for key, _, value in facts if key == "installed"),
        stale=any(key == "stale" for key, _, _ in facts),
        draining=any(key == "draining" for key, _, _ in facts),
        encrypted="encrypted" in single,
        trusts=single.get("trusts", "").partition(" ")[0],
        connected=frozenset(value for key, _, value in facts if key == "connected"),
    )
