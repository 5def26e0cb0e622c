"""What the machine itself must bring: root, a kernel with the right parts, a handful of Debian packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.errors import CommandFailed, ConfigurationInvalid
from pipeline.localcloud.system import run

__all__ = ["check_kernel", "check_root", "ensure_packages", "install", "missing"]

# What each is needed for is found on the path, so that a machine that has it otherwise is left alone.
PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "gpg": "gpg",  # finds, for mmdebstrap, the key of the archive on a machine that is no Debian
    "systemd-nspawn": "systemd-container",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
    "ip": "iproute2",
    "mount": "mount",
    "setpriv": "util-linux",
    "ssh": "openssh-client",  # inv local.ssh
}
FILES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",  # mirrors and indexes may be https
}
FILESYSTEMS = ("overlay", "cgroup2")


def check_root(what: str) -> None:
    """Raise ConfigurationInvalid unless we are root, who alone may make namespaces, mounts and bridges."""
    if os.geteuid() != 0:
        raise ConfigurationInvalid("the local cloud needs root", hint=f"sudo ./inv {what}")


def check_kernel() -> None:
    """Raise ConfigurationInvalid if the kernel lacks a filesystem that hosts need."""
    for name in FILESYSTEMS:
        if name not in _filesystems():
            _try("modprobe", name)
        if name not in _filesystems():
            raise ConfigurationInvalid(f"this kernel has no {name} filesystem", hint=f"modprobe {name}")


def missing() -> tuple[str, ...]:
    """Return the Debian packages that are not installed yet, sorted."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin"
    absent = {package for program, package in PACKAGES.items() if not shutil.which(program, path=path)}
    absent |= {package for path, package in FILES.items() if not Path(path).is_file()}
    return tuple(sorted(absent))


def ensure_packages(report: Callable[[str], None]) -> None:
    """Install what is missing, with apt, saying so.

    Raises ConfigurationInvalid with the command to type where that is impossible or fails.
    """
    absent = missing()
    if not absent:
        return
    by_hand = f"apt-get install --no-install-recommends {' '.join(absent)}"
    if not shutil.which("apt-get"):
        raise ConfigurationInvalid(f"not installed: {', '.join(absent)}", hint=f"on Debian: {by_hand}")
    report(f"packages: installing {', '.join(absent)}")
    try:
        run("apt-get", "update", "-qq", timeout=300)
        run(*install(absent), timeout=900)
    except CommandFailed as error:
        raise ConfigurationInvalid(
            f"packages could not be installed: {error.message}", hint=f"apt-get update && {by_hand}"
        ) from error


def install(names: Iterable[str]) -> tuple[str, ...]:
    """Return the command that installs the packages `names` and asks no questions."""
    return (
        "env", "DEBIAN_FRONTEND=noninteractive",
        "apt-get", "install", "-qq", "-y", "--no-install-recommends", *names,
    )  # fmt: skip


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text(encoding="ascii").splitlines()}


def _try(*command: str) -> None:
    """Run what may mend the matter; whether it did is checked by what we came for, not by its status."""
    try:
        run(*command)
    except (CommandFailed, ConfigurationInvalid):
        return
