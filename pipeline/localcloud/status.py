"""What of a local cloud runs, asked of the kernel and of the services themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.edges.clock import SystemClock
from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import cgroups, control, credentials
from pipeline.localcloud import cloud as records
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.hosts import Hosts
from pipeline.localcloud.packages import check_root

__all__ = ["CloudStatus", "HostStatus", "ServiceStatus", "logs", "status"]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service: `pid` is None if it does not run, `healthy` whether it answers."""

    name: str
    pid: int | None
    healthy: bool
    url: str


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host: `pid` is its supervisor's, `state` "running" or "stopped"."""

    name: str
    address: str
    pid: int | None
    state: str


@dataclass(frozen=True, slots=True)
class CloudStatus:
    """A cloud and its parts; `cloud` is None if there is none in the directory."""

    cloud: LocalCloud | None
    services: tuple[ServiceStatus, ...] = ()
    hosts: tuple[HostStatus, ...] = ()

    @property
    def healthy(self) -> bool:
        """Return whether there is a cloud and each of its services answers."""
        return self.cloud is not None and all(service.healthy for service in self.services)


def status(directory: Path) -> CloudStatus:
    """Return what runs of the cloud in `directory`. Changes nothing. Raises ConfigurationInvalid without root."""
    check_root("local.status")
    cloud = records.load(directory)
    if cloud is None:
        return CloudStatus(None)
    groups = cgroups.find(cloud.name)
    services = []
    # How a service is asked does not depend on what it was made from, so no image or environment is needed here.
    for service in control.services(cloud, credentials.load(directory), control.Parts(Path(), Path())):
        pids = groups.pids(service.name)
        answers = bool(pids) and service.healthy()
        services.append(ServiceStatus(service.name, pids[0] if pids else None, answers, service.url))
    hosts = Hosts(cloud, groups, Path(), SystemClock())
    return CloudStatus(cloud, tuple(services), tuple(_host(hosts, host.name, host.address) for host in hosts.all()))


def logs(directory: Path, name: str) -> Path:
    """Return the log file of service or host `name`. Raises ConfigurationInvalid, naming those there are."""
    check_root(f"local.logs {name}")
    known = {path.stem: path for path in sorted((directory / "logs").glob("*.log"))}
    if name not in known:
        raise ConfigurationInvalid(
            f"no log of {name!r} (there are: {', '.join(known) or 'none'})", hint="inv local.status"
        )
    return known[name]


def _host(hosts: Hosts, name: str, address: str) -> HostStatus:
    pids = hosts.pids(name)
    state = "running" if hosts.running(name) else "stopped"
    return HostStatus(name, address, pids[0] if pids else None, state)
