"""Hosts: a Debian that boots systemd in a container of its own, from the shared image.

What is kept of a host is its directory, STATE/machines/NAME: machine.json (written first, so that whatever was
half-made is found), the seed that cloud-init reads, and all that the host wrote. Whether it runs, the kernel knows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from pathlib import Path

from pipeline.edges.clock import Clock, wait_until
from pipeline.localcloud import mounts, network
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.services import launch
from pipeline.localcloud.system import run

__all__ = ["Host", "Hosts", "group"]

RECORD = "machine.json"
SEED = "var/lib/cloud/seed/nocloud"
# What systemd does for a unit: 133 is how nspawn, told to keep its unit, asks to be started again for a reboot.
_BOOT_AGAIN = 'status=133; while [ "$status" -eq 133 ]; do "$@"; status=$?; done; exit "$status"'
PROPAGATE = Path("/run/systemd/nspawn/propagate")


@dataclass(frozen=True, slots=True)
class Host:
    """A host as it was asked for: `id` is its machine's, `address` its one address."""

    id: str
    name: str
    address: str
    user_data: str


def group(name: str) -> str:
    """Return the cgroup that host `name` runs in, apart from the groups of services."""
    return f"host-{name}"


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of one cloud, booted from `image`."""

    cloud: LocalCloud
    groups: Cgroups
    image: Path
    clock: Clock

    def all(self) -> tuple[Host, ...]:
        """Return the hosts there should be, by name; one that is being removed meanwhile may be among them or not."""
        found = map(_recorded, sorted(self.cloud.machines.glob(f"*/{RECORD}")))
        return tuple(host for host in found if host is not None)

    def create(self, host: Host) -> None:
        """Record a new host and boot it; what an earlier, killed attempt under its name left is removed first."""
        self.destroy(host.name)
        self._record(host)
        self.boot(host)

    def boot(self, host: Host) -> None:
        """Start `host` from its disk. One that runs is ended first, as if its power had failed."""
        self._power_off(host.name)
        directory = self.cloud.machines / host.name
        root = mounts.overlay(self.image, directory)
        _write_seed(root, host)
        namespace = network.connect(self.cloud, host.name, IPv4Address(host.address))
        launch(
            group(host.name),
            _nspawn(self.cloud, host, root, namespace),
            self.groups,
            self.cloud.logs / f"{host.name}.log",
            # Its lock file would outlive a host that is killed; our own record says who may boot what.
            {"SYSTEMD_NSPAWN_LOCK": "0"},
        )
        wait_until(
            lambda: self.running(host.name),
            self.clock,
            timeout=10,
            interval=0.02,
            what=f"host {host.name} to start",
            hint=f"inv local.logs {host.name}",
        )

    def destroy(self, name: str) -> None:
        """End host `name` and forget all of it. None there is well."""
        self._power_off(name)
        self._clear(name)
        (self.cloud.logs / f"{name}.log").unlink(missing_ok=True)

    def running(self, name: str) -> bool:
        """Return whether host `name` is on."""
        return self.groups.populated(group(name))

    def pids(self, name: str) -> tuple[int, ...]:
        """Return the processes of host `name`, its supervisor first; none if it is off."""
        return self.groups.pids(group(name))

    def _power_off(self, name: str) -> None:
        self.groups.kill(group(name), self.clock)
        network.disconnect(self.cloud, name)
        mounts.unmount_below(self.cloud.machines / name)
        left = PROPAGATE / f"{self.cloud.name}-{name}"
        if left.is_dir():
            left.rmdir()

    def _clear(self, name: str) -> None:
        directory = self.cloud.machines / name
        mounts.unmount_below(directory)
        # The record goes first: without it there is no host, however little of the rest is gone.
        (directory / RECORD).unlink(missing_ok=True)
        # --one-file-system: should a mount be left after all, what is behind it stays.
        run("rm", "-rf", "--one-file-system", "--", str(directory), timeout=300)

    def _record(self, host: Host) -> None:
        directory = self.cloud.machines / host.name
        directory.mkdir(parents=True)
        directory.chmod(0o700)
        unfinished = directory / f".{RECORD}"
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(host)), encoding="utf-8")
        unfinished.rename(directory / RECORD)


def _recorded(record: Path) -> Host | None:
    """Return the host on record; None where another thread has removed it since the record was found."""
    try:
        text = record.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Host(**json.loads(text))


def _nspawn(cloud: LocalCloud, host: Host, root: Path, namespace: str) -> tuple[str, ...]:
    return (
        "sh", "-c", _BOOT_AGAIN, host.name, "systemd-nspawn", "--quiet", "--boot", f"--directory={root}",
        f"--machine={cloud.name}-{host.name}", f"--hostname={host.name}",
        f"--network-namespace-path={network.NAMESPACES / namespace}",
        "--register=no", "--keep-unit",
        # A console, so that its systemd has where to say what it starts and what failed, and cloud-init what it did.
        "--console=read-only", "--setenv=SYSTEMD_COLORS=0",
        "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--rlimit=RLIMIT_NOFILE=65536",
    )  # fmt: skip


def _write_seed(root: Path, host: Host) -> None:
    """Write what cloud-init and the resolver read. The name resolves to the address, as RabbitMQ wants it."""
    seed = root / SEED
    seed.mkdir(parents=True, exist_ok=True)
    seed.chmod(0o700)
    (seed / "meta-data").write_text(f"instance-id: {host.id}\nlocal-hostname: {host.name}\n", encoding="utf-8")
    (seed / "user-data").write_text(host.user_data or "#cloud-config\n{}\n", encoding="utf-8")
    (root / "etc/hostname").write_text(f"{host.name}\n", encoding="utf-8")
    hosts = root / "etc/hosts"
    if not hosts.is_file() or host.address not in hosts.read_text(encoding="utf-8"):
        hosts.write_text(f"127.0.0.1 localhost\n{host.address} {host.name}\n", encoding="utf-8")
