"""The services of a cloud: what they are, and in which order they come up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from pipeline.edges.clock import Clock
from pipeline.localcloud import database, identity, settings
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.credentials import Secrets
from pipeline.localcloud.services import UNPRIVILEGED, Service, ensure

__all__ = ["Parts", "services", "start"]

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
# A cold start imports a great deal from a disk that may be slow.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What services are made from: the environment of Keystone and Heat, the image of hosts."""

    venv: Path
    image: Path


def start(
    cloud: LocalCloud,
    secrets: Secrets,
    parts: Parts,
    groups: Cgroups,
    clock: Clock,
    report: Callable[[str], None],
) -> None:
    """Have every service running and healthy, starting at the same time what does not need each other."""

    def have(service: Service) -> None:
        started = ensure(service, groups, cloud.logs, clock)
        report(f"{service.name}: {'started' if started else 'running'}, {service.url}")

    database.prepare(cloud, groups, clock)
    settings.write(_keystone_conf(cloud), settings.keystone(cloud))
    settings.write(_heat_conf(cloud), settings.heat(cloud, parts.venv, secrets))
    first, *others = services(cloud, secrets, parts)
    have(first)
    with ThreadPoolExecutor(len(others)) as pool:
        for future in [pool.submit(have, service) for service in others]:
            future.result()
    identity.register(cloud, secrets)
    identity.write_clouds_yaml(cloud, secrets)


def services(cloud: LocalCloud, secrets: Secrets, parts: Parts) -> tuple[Service, ...]:
    """Return the services of `cloud`, the database, which others need, first."""
    return (
        database.service(cloud),
        _keystone(cloud, parts.venv),
        _seed(cloud, parts.venv),
        _machines(cloud, secrets, parts.image),
    )


def _keystone(cloud: LocalCloud, venv: Path) -> Service:
    program, config = HERE / "daemons" / "run_keystone.py", _keystone_conf(cloud)
    return Service(
        name="keystone",
        command=(*UNPRIVILEGED, str(venv / "bin/python"), "-P", str(program)),
        url=cloud.keystone_url,
        healthy=lambda: _answers(cloud.keystone_url),
        made_of=(program, config),
        listens=((cloud.gateway, 5000),),
        before=lambda: _have_schema(cloud, "keystone"),
        environment={
            "HDH_CONFIG": str(config),
            "HDH_PREPARED": str(_prepared(cloud, "keystone")),
            "HDH_SECRETS": str(cloud.directory / "secrets.json"),
            "HDH_HOST": cloud.gateway,
            "HDH_PORT": "5000",
            "HDH_REGION": cloud.region,
            "HDH_URL": cloud.keystone_url,
        },
        deadline=PATIENCE,
    )


def _seed(cloud: LocalCloud, venv: Path) -> Service:
    program, config = HERE / "daemons" / "run_seed.py", _heat_conf(cloud)
    api, cfn = f"http://{cloud.gateway}:8004", f"http://{cloud.gateway}:8000"
    return Service(
        name="seed",
        command=(*UNPRIVILEGED, str(venv / "bin/python"), "-P", str(program)),
        url=f"{api} (signals: {cfn})",
        healthy=lambda: _answers(f"{api}/healthcheck") and _answers(f"{cfn}/healthcheck"),
        made_of=(program, config, *sorted(settings.PLUGINS.glob("*.py"))),
        listens=((cloud.gateway, 8004), (cloud.gateway, 8000)),
        before=lambda: _have_schema(cloud, "seed"),
        environment={
            "HDH_CONFIG": str(config),
            "HDH_PREPARED": str(_prepared(cloud, "seed")),
            "HDH_HOST": cloud.gateway,
            "HDH_API_PORT": "8004",
            "HDH_CFN_PORT": "8000",
        },
        deadline=PATIENCE,
    )


def _machines(cloud: LocalCloud, secrets: Secrets, image: Path) -> Service:
    """Return the machines service, which needs all of root's powers: it mounts and makes namespaces."""
    token = {"X-Auth-Token": secrets.machines_token}
    return Service(
        name="machines",
        command=(sys.executable, "-m", "pipeline.localcloud.machines", str(cloud.directory), str(image)),
        url=cloud.machines_url,
        healthy=lambda: _answers(f"{cloud.machines_url}/network", token),
        made_of=tuple(sorted(HERE.glob("*.py"))),
        listens=((cloud.loopback, 8900),),
        environment={"PYTHONPATH": str(REPOSITORY)},
        deadline=PATIENCE,
    )


def _have_schema(cloud: LocalCloud, name: str) -> None:
    database.have_schema(cloud, name, complete=_prepared(cloud, name).is_file())


def _prepared(cloud: LocalCloud, name: str) -> Path:
    """Return the file by which a service says that its first migration is done."""
    return cloud.directory / f"{name}.prepared"


def _keystone_conf(cloud: LocalCloud) -> Path:
    return cloud.directory / "keystone.conf"


def _heat_conf(cloud: LocalCloud) -> Path:
    return cloud.directory / "heat.conf"


def _answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Return whether `url`, of one of our own services, answers with success within two seconds."""
    try:
        request = Request(url, headers=dict(headers or {}))  # noqa: S310 (one of our own http URLs)
        with urlopen(request, timeout=2) as response:  # noqa: S310 (the same)
            return bool(response.status < 300)
    except (URLError, OSError):
        return False
