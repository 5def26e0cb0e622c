"""What a host is configured with: files rendered for its role and release, and the script that writes them.

A release's own files live beside it (/opt/heat/releases/ID/etc), so that one link switches program and configuration.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.environment import Environment, Role
from pipeline.installation import RELEASES
from pipeline.inventory import LOOPBACK, Host
from pipeline.region import Region
from pipeline.release import Release
from pipeline.render import render_text

__all__ = ["CURRENT", "PROXY", "UNITS", "WATCH", "HostFile", "release_files", "role_files", "write_script"]

CURRENT = "/opt/heat/current"
CERTIFICATE = "/etc/haproxy/heat.pem"
_COOKIE = "/var/lib/rabbitmq/.erlang.cookie"
_SYSTEMD = "/etc/systemd/system"
_INTERNAL = {Role.DATABASE: ("/etc/mysql", "mysql"), Role.MESSAGING: ("/etc/rabbitmq", "rabbitmq")}
UNITS = {
    Role.ENGINE: ("heat-engine",),
    Role.API: ("heat-api", "heat-api-cfn"),
    Role.DATABASE: ("mariadb",),
    Role.MESSAGING: ("rabbitmq-server",),
    Role.LOADBALANCER: ("haproxy",),
}
"""The systemd units that make a role, in the order they start."""
PROXY = "heat-database-proxy"
"""The unit by which engines and APIs reach whichever member of a database's cluster may be written to."""
WATCH = "heat-database-watch"
"""The socket unit of each such member that tells those proxies whether it may."""


@dataclass(frozen=True, slots=True)
class HostFile:
    """One file on a host; its content may hold secrets and never shows. `secret` says that all of it is one."""

    path: str
    content: str = field(repr=False)
    mode: str = "0644"
    owner: str = "root:root"
    secret: bool = False

    @property
    def digest(self) -> str:
        """The sha256 (hex) of the content."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def role_files(host: Host, environment: Environment, region: Region, templates: Path) -> tuple[HostFile, ...]:
    """Return the files that `host` has whatever release it runs: its units, or its service's configuration."""
    facts = {
        "host": host,
        "environment": environment,
        "region": region,
        "apis": region.inventory.of(Role.API),
        "members": region.inventory.of(host.role),
        "databases": region.inventory.of(Role.DATABASE),
        "clustered": environment.topology.is_cluster(host.role),
        "certificate": CERTIFICATE,
    }

    def rendered(name: str, path: str) -> HostFile:
        return HostFile(path, render_text(templates, f"hosts/{name}.j2", facts))

    if host.role in (Role.ENGINE, Role.API):
        units = UNITS[host.role]
        own = tuple(rendered(f"{unit}.service", f"{_SYSTEMD}/{unit}.service") for unit in units)
        proxy = _PROXY_FILES if environment.topology.is_cluster(Role.DATABASE) else ()
        return (*own, *(rendered(name, path) for name, path in proxy))
    files = _SERVICE_FILES[host.role] + (_MEMBER_FILES.get(host.role, ()) if facts["clustered"] else ())
    return (*_certificates(host, region), *_cookie(host, region), *(rendered(name, path) for name, path in files))


def _cookie(host: Host, region: Region) -> tuple[HostFile, ...]:
    """Return the file by which members of a broker's cluster, and its tools, know one another."""
    if host.role is not Role.MESSAGING or region.messaging_cookie is None:
        return ()
    return (HostFile(_COOKIE, region.messaging_cookie.reveal(), "0400", "rabbitmq:rabbitmq", secret=True),)


def _certificates(host: Host, region: Region) -> tuple[HostFile, ...]:
    """Return the files of what `host` shows those who connect to it, its key readable for its service alone."""
    if host.role is Role.LOADBALANCER:
        shown = region.certificate
        return (HostFile(CERTIFICATE, shown.with_key, "0600"),) if shown else ()
    if host.name not in region.internal:
        return ()
    directory, group = _INTERNAL[host.role]
    certificate = region.internal[host.name]
    return (
        HostFile(f"{directory}/heat-authority.pem", region.authority),
        HostFile(f"{directory}/heat.pem", certificate.chain),
        HostFile(f"{directory}/heat.key", certificate.key.reveal(), "0640", f"root:{group}", secret=True),
    )


_SERVICE_FILES = {
    Role.DATABASE: (("mariadb.cnf", "/etc/mysql/mariadb.conf.d/90-heat.cnf"),),
    Role.MESSAGING: (
        ("rabbitmq.conf", "/etc/rabbitmq/rabbitmq.conf"),
        ("rabbitmq-env.conf", "/etc/rabbitmq/rabbitmq-env.conf"),
        ("epmd.socket.conf", "/etc/systemd/system/epmd.socket.d/loopback.conf"),
    ),
    Role.LOADBALANCER: (("haproxy.cfg", "/etc/haproxy/haproxy.cfg"),),
}
_MEMBER_FILES = {
    Role.DATABASE: (
        (f"{WATCH}.socket", f"{_SYSTEMD}/{WATCH}.socket"),
        (f"{WATCH}@.service", f"{_SYSTEMD}/{WATCH}@.service"),
        (f"{WATCH}.sh", f"/usr/local/lib/{WATCH}.sh"),
    ),
}
_PROXY_FILES = (
    (f"{PROXY}.cfg", f"/etc/{PROXY}.cfg"),
    (f"{PROXY}.service", f"{_SYSTEMD}/{PROXY}.service"),
)


def release_files(
    host: Host, environment: Environment, region: Region, release: Release, vhost: str, templates: Path
) -> tuple[HostFile, ...]:
    """Return the files that belong to `release` on an engine or API host that talks on `vhost`."""
    root, databases = f"{RELEASES}/{release.id}", region.inventory.of(Role.DATABASE)
    facts = {
        "host": host,
        "environment": environment,
        "region": region,
        "identity": region.identity,
        "database": LOOPBACK if environment.topology.is_cluster(Role.DATABASE) else databases[0].address,
        "brokers": region.inventory.of(Role.MESSAGING),
        "release": release,
        "vhost": vhost,
        "root": root,
    }
    names = ["heat.conf", *(f"{unit}.ini" for unit in UNITS[host.role] if host.role is Role.API)]
    files = [
        HostFile(f"{root}/etc/{name}", render_text(templates, f"hosts/{name}.j2", facts), "0640", "root:heat")
        for name in names
    ]
    trusted = [HostFile(f"{root}/etc/authority.pem", region.authority)] if environment.heat_uses_tls else []
    return (*files, *trusted, HostFile(f"{root}/etc/vhost", f"{vhost}\n"))


def write_script(files: Sequence[HostFile]) -> str:
    """Return a script that writes those of `files` that differ, each whole or not at all, and prints their paths."""
    lines = ["set -eu", "umask 077", _WRITE]
    for file in files:
        text = base64.b64encode(file.content.encode()).decode()
        arguments = shlex.join([file.path, file.mode, file.owner])
        lines.append(f"put {arguments} <<'END'\n{text}\nEND")
    return "\n".join(lines)


_WRITE = """\
put() {
    partial="$(dirname "$1")/.$(basename "$1").partial"
    [ -d "$(dirname "$1")" ] || install -d -m 0755 "$(dirname "$1")"
    base64 -d >"$partial"
    chmod "$2" "$partial"
    chown "$3" "$partial"
    if [ "$(stat -c '%a %U:%G' "$1" 2>/dev/null)" = "$(stat -c '%a %U:%G' "$partial")" ] && cmp -s "$partial" "$1"; then
        rm -f "$partial"
    else
        mv -f "$partial" "$1"
        echo "$1"
    fi
}"""
