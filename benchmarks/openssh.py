"""OpenSSH's server as Debian packs it, unpacked into a cache: the machine itself gets no sshd, user or service."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import CommandFailed, ConfigurationInvalid, PipelineError
from pipeline.localcloud import cache
from pipeline.localcloud.system import run

__all__ = ["SSHD", "ensure_openssh"]

SSHD = "usr/sbin/sshd"
# The server, and what it links against that a Debian without it may lack.
PACKAGES = ("openssh-server", "libwrap0", "libnsl2", "libtirpc3")
_DIGEST = re.compile(r"\bSHA256:([0-9a-f]{64})$", re.MULTILINE)


def ensure_openssh(report: Callable[[str], None]) -> Path:
    """Return a directory with Debian's openssh-server unpacked in it, keyed by the digests of its packages.

    Raises ConfigurationInvalid where they cannot be had.
    """
    try:
        digests = _digests()
        key = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
        final = cache.directory("openssh") / key
        with cache.locked(f"openssh-{key}"):
            if not final.is_dir():
                report("hosts: unpacking Debian's openssh-server, once")
                _unpack(final)
    except PipelineError as error:
        raise ConfigurationInvalid(
            f"openssh-server could not be had: {error.message}", hint="apt-get update, then the same again"
        ) from error
    return final


def _digests() -> list[str]:
    """Return the packages' SHA256 digests as apt's signed lists tell them."""
    with tempfile.TemporaryDirectory() as empty:  # apt prints nothing about a file that is already there
        command = ("env", "-C", empty, "apt-get", "--print-uris", "download", *PACKAGES)
        try:
            found = _DIGEST.findall(run(*command, timeout=60))
        except CommandFailed:  # a new machine has no lists yet
            run("apt-get", "update", "-qq", timeout=300)
            found = _DIGEST.findall(run(*command, timeout=60))
    if len(found) != len(PACKAGES):
        raise ConfigurationInvalid(f"apt knows {len(found)} of {', '.join(PACKAGES)}")
    return sorted(found)


def _unpack(final: Path) -> None:
    """Download the packages, which apt checks against its lists, and unpack them; whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as made:
        downloads, unpacked = Path(made, "packages"), Path(made, "root")
        downloads.mkdir()
        run("env", "-C", str(downloads), "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *PACKAGES,
            timeout=300)  # fmt: skip
        for package in sorted(downloads.iterdir()):
            run("dpkg-deb", "-x", str(package), str(unpacked))
        if not (unpacked / SSHD).is_file():
            raise ConfigurationInvalid(f"the packages hold no {SSHD}")
        for left_out in ("usr/share", "etc", "lib/systemd"):
            shutil.rmtree(unpacked / left_out, ignore_errors=True)
        unpacked.rename(final)
