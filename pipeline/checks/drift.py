"""Drift: files as they are rendered now beside files as they are on a host; by digest first, then line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import unified_diff

from pipeline.checks.masking import masked
from pipeline.environment import Role
from pipeline.hostfiles import HostFile, release_files, role_files
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["diff", "expected_files", "how", "service_settings", "settings_in"]

_SHOWN = 40  # lines of a diff

_AS_WRITTEN = {
    "User", "Group", "KillMode", "LimitNOFILE", "NoNewPrivileges", "PrivateDevices", "PrivateTmp",
    "ProtectControlGroups", "ProtectHome", "ProtectKernelModules", "ProtectKernelTunables", "ProtectSystem", "Restart",
    "RestrictSUIDSGID", "Type", "UMask", "WorkingDirectory",
}  # fmt: skip
"""What `systemctl show` tells of a unit in the very words of its file."""


def expected_files(target: Host, site: Site, release: Release, vhost: str) -> tuple[HostFile, ...]:
    """Return every file that the pipeline writes on `target`, as it renders it now."""
    files = role_files(target, site.environment, site.region, site.templates)
    if target.role in (Role.ENGINE, Role.API):
        files += release_files(target, site.environment, site.region, release, vhost, site.templates)
    return files


def how(file: HostFile, found: str) -> str:
    """Return how a file differs, "" where it does not; `found` is "MODE OWNER DIGEST", "" for a missing one."""
    if not found:
        return "is missing"
    mode, owner, digest = found.split()
    wrong = []
    if int(mode, 8) != int(file.mode, 8) or owner != file.owner:
        wrong.append(f"is {mode} {owner} instead of {file.mode} {file.owner}")
    if digest != file.digest:
        wrong.append("has another content")
    return " and ".join(wrong)


def diff(file: HostFile, found: str, secrets: Sequence[str]) -> str:
    """Return what the host's file (-) and the one rendered now (+) differ in, without any secret of either."""
    texts = ("", "") if file.secret else (found, file.content)
    there, here = (masked(text, secrets).splitlines() for text in texts)
    names = f"{file.path} on the host", f"{file.path} as rendered"
    lines = list(unified_diff(there, here, *names, lineterm="", n=1))
    if not lines:  # then they differ in secrets, or in the end of the last line
        return f"{file.path}: only a secret differs"
    more = [f"(and {len(lines) - _SHOWN} lines more)"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more])


def service_settings(unit: HostFile) -> Mapping[str, str]:
    """Return what a rendered unit's [Service] sets, as far as systemd tells it in the same words."""
    settings = settings_in(unit.content.splitlines(), "Service")
    return {key: value for key, value in settings.items() if key in _AS_WRITTEN}


def settings_in(lines: Iterable[str], section: str) -> Mapping[str, str]:
    """Return {key: value} of one section of an INI file; a key without a value has "". The last of a key counts."""
    return dict(_settings(lines, section))


def _settings(lines: Iterable[str], section: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in map(str.strip, lines):
        if header := re.fullmatch(r"\[(.+)\]", line):
            inside = header[1] == section
        elif inside and line and line[0] not in "#;":
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()
