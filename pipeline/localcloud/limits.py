"""Limits of the kernel that all clouds of this machine share: raised for them, put back when the last one has gone.

A host takes about seven inotify instances, all of them root's, and the kernel's usual 128 end with the third cloud: its
hosts then boot, but their cloud-init never finishes. What was found before is noted in a file that all clouds share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import cache

__all__ = ["ENOUGH", "ensure", "restore"]

# 4096 instances are some 580 hosts. 524288 watches are what most distributions set.
ENOUGH: Mapping[str, int] = {"fs.inotify.max_user_instances": 4096, "fs.inotify.max_user_watches": 524288}
PROC = Path("/proc/sys")
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Change:
    """A limit as it was `found`, and as it was `made`."""

    found: int
    made: int


def ensure(report: Callable[[str], None]) -> None:
    """Raise what is below ENOUGH, saying so in one line; nothing is ever lowered.

    Call it when the cloud's interface is there, so that `restore` by another cloud sees it. Raises
    ConfigurationInvalid, with the command to type, where the kernel's settings cannot be written, as in a container.
    """
    with cache.locked("limits"):
        low = {name: found for name, made in ENOUGH.items() if (found := _read(name)) < made}
        if not low:
            return
        # Noted before it is done: a limit that differs from its note when the time comes is left alone.
        _save({**_noted(), **{name: Change(found, ENOUGH[name]) for name, found in low.items()}})
        for name in low:
            _write(name, ENOUGH[name])
        report(f"kernel: {', '.join(f'{name} {found} -> {ENOUGH[name]}' for name, found in low.items())}")


def restore(clouds: Callable[[], tuple[str, ...]], report: Callable[[str], None]) -> None:
    """Put back what was found, unless there are still `clouds`, or someone else has set the limit since."""
    with cache.locked("limits"):
        if clouds():
            return
        ours = {name: change for name, change in _noted().items() if _read(name) == change.made}
        for name, change in ours.items():
            _write(name, change.found)
        _save({})
        if ours:
            report(f"kernel: {', '.join(f'{name} is {change.found} again' for name, change in ours.items())}")


def _path(name: str) -> Path:
    return PROC.joinpath(*name.split("."))


def _read(name: str) -> int:
    return int(_path(name).read_text(encoding="ascii"))


def _write(name: str, value: int) -> None:
    try:
        _path(name).write_text(f"{value}\n", encoding="ascii")
    except OSError as error:
        raise ConfigurationInvalid(
            f"{name} is {_read(name)}, should be {value}, and cannot be set here: {error.strerror}",
            hint=f"on the machine itself, outside of any container: sysctl -w {name}={value}",
        ) from error


def _noted() -> dict[str, Change]:
    """Return the changes of this boot; the kernel itself has forgotten those of an earlier one."""
    if not _file().is_file():
        return {}
    note = json.loads(_file().read_text(encoding="utf-8"))
    if note["boot"] != BOOT.read_text(encoding="ascii"):
        return {}
    return {name: Change(**change) for name, change in note["changes"].items()}


def _save(changes: Mapping[str, Change]) -> None:
    if not changes:
        _file().unlink(missing_ok=True)
        return
    unfinished = _file().with_suffix(".new")
    note = {
        "boot": BOOT.read_text(encoding="ascii"),
        "changes": {name: asdict(change) for name, change in changes.items()},
    }
    unfinished.write_text(json.dumps(note), encoding="utf-8")
    unfinished.rename(_file())


def _file() -> Path:
    return cache.directory("locks") / "limits.json"
