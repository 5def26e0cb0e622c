"""The Python package index: resolves requirements with uv, and downloads exactly the files the lock names.

Index addresses may carry private details: they live in memory during a build and never reach a file or a message.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from requests.auth import HTTPBasicAuth
from requests.utils import get_netrc_auth

from pipeline.errors import ConfigurationInvalid, Inconclusive, PipelineError

__all__ = ["Index", "Locked", "run_uv", "scrub"]

_PARALLEL = 8
_TIMEOUT = 60.0  # seconds for one answer of the index
_UV_DEADLINE = 600.0  # seconds for one run of uv
_ADDRESSES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")  # in uv's own order
_GLIBC = 28  # uv's x86_64-unknown-linux-gnu means manylinux_2_28; Debian 12 has 2.36


@dataclass(frozen=True, slots=True)
class Locked:
    """One file that a resolution chose; `sha256` is the index's, `url` stays out of every repr and record."""

    name: str
    version: str
    filename: str
    sha256: str
    url: str = field(repr=False)

    @property
    def is_wheel(self) -> bool:
        """Whether it installs as it is; otherwise it is a source to be built."""
        return self.filename.endswith(".whl")


class Index:
    """The index that uv is configured for, seen as hosts with `python` on `machine` (as "x86_64") see it."""

    def __init__(self, uv: str, *, python: str, machine: str) -> None:
        self._uv = uv
        self._python = python
        self._machine = machine
        self._local = threading.local()

    def resolve(self, wanted: Iterable[str], *, exclude_newer: str = "") -> tuple[Locked, ...]:
        """Return one file per package for the requirements in `wanted`, as of `exclude_newer` (a date) if given.

        Raises ConfigurationInvalid when they cannot be met, Inconclusive when the index does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="resolve-") as scratch:
            out = Path(scratch, "pylock.toml")
            as_of = ["--exclude-newer", exclude_newer] if exclude_newer else []
            self._compile(wanted, scratch, "--format", "pylock.toml", "-o", str(out), *as_of)
            lock = tomllib.loads(out.read_text())
        ranks = {tag: rank for rank, tag in enumerate(self._tags())}
        return tuple(_choose(package, ranks) for package in lock["packages"])

    def neighbours(self, name: str, version: str) -> tuple[str, ...]:
        """Return the versions of `name` just below and just above `version`, where there are any."""
        found = []
        for requirement, resolution in ((f"{name}<{version}", "highest"), (f"{name}>{version}", "lowest")):
            try:
                text = self._compile([requirement], None, "--no-deps", "--resolution", resolution)
            except ConfigurationInvalid:
                continue  # none on this side is an answer
            found += re.findall(rf"^{re.escape(name)}==(\S+)", text, re.MULTILINE)
        return tuple(found)

    def download(self, files: Sequence[Locked], into: Path) -> None:
        """Put each file at `into`/sha256/filename, unless it is there and whole.

        An index gets the login that uv's variables have for its host, else that of ~/.netrc.
        Raises ConfigurationInvalid for a file that is not what the lock says, or that the index wants (another) login
        for, Inconclusive when the index fails.
        """
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="download") as pool:
            for _ in pool.map(lambda file: self._fetch(file, into / file.sha256 / file.filename), files):
                pass

    def _fetch(self, file: Locked, to: Path) -> None:
        if to.exists() and hashlib.sha256(to.read_bytes()).hexdigest() == file.sha256:
            return
        try:
            answer = self._session().get(file.url, timeout=_TIMEOUT, auth=_login(file.url, os.environ))
            answer.raise_for_status()
            content = answer.content
        except requests.RequestException as error:
            raise _failed(file, error) from error
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ConfigurationInvalid(
                f"{file.filename} from the index is not the file that was locked", hint="try again"
            )
        to.parent.mkdir(parents=True, exist_ok=True)
        partial = to.with_name(f".{to.name}.{threading.get_ident()}")
        partial.write_bytes(content)
        partial.rename(to)

    def _session(self) -> requests.Session:
        """One kept-alive connection per thread: a session is not for sharing."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            bundle = os.environ.get("SSL_CERT_FILE", "")  # uv's; requests heeds its own REQUESTS_CA_BUNDLE before it
            self._local.session.verify = bundle if Path(bundle).is_file() else True
        session: requests.Session = self._local.session
        return session

    def _compile(self, wanted: Iterable[str], cwd: str | None, *options: str) -> str:
        quiet = ("--quiet", "--no-header", "--no-annotate", "--no-progress")
        hosts = ("--python-version", self._python, "--python-platform", f"{self._machine}-unknown-linux-gnu")
        return run_uv(
            [self._uv, "pip", "compile", *quiet, *hosts, *options, "-"],
            stdin="\n".join(wanted),
            cwd=cwd,
            what="the release's requirements cannot be resolved",
        )

    def _tags(self) -> Iterator[Tag]:
        """The wheels the hosts accept, best first."""
        major, minor = (int(part) for part in self._python.split("."))
        old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        platforms = [
            name
            for level in range(_GLIBC, 4, -1)
            for name in (f"manylinux_2_{level}", old.get(level))
            if name is not None
        ]
        platforms = [f"{name}_{self._machine}" for name in (*platforms, "linux")]
        yield from cpython_tags((major, minor), platforms=platforms)
        yield from compatible_tags((major, minor), f"cp{major}{minor}", platforms)


def run_uv(argv: list[str], *, what: str, stdin: str = "", cwd: str | None = None, **env: str) -> str:
    """Run uv and return what it printed. A failure raises with uv's own reason on one line and no address in it."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            cwd=cwd,
            env={**os.environ, **env},
            umask=0o022,  # a built wheel records the modes of its files
            text=True,
            capture_output=True,
            timeout=_UV_DEADLINE,
        )
    except subprocess.TimeoutExpired as error:
        raise Inconclusive(f"{what}: uv gave no answer in {_UV_DEADLINE:.0f} s", hint="try again") from error
    except OSError as error:
        raise ConfigurationInvalid(f"uv cannot be run: {error.strerror}", hint="./inv --list") from error
    if done.returncode == 0:
        return done.stdout
    reason = scrub(done.stderr)
    if re.search(r"failed to (fetch|download)|error sending request|timed out|dns error", reason, re.IGNORECASE):
        raise Inconclusive("the package index did not answer", hint="check the network, then try again")
    raise ConfigurationInvalid(f"{what}: {reason}")


def scrub(text: str, *, limit: int = 400) -> str:
    """Return uv's message as one line of at most `limit` characters, with every address replaced."""
    text = re.sub(r"[a-z][a-z0-9+.-]*://[^\s`'\")]+", "<address>", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?(?=/|:\d|\b\s*port)", "<address>", text, flags=re.IGNORECASE)
    text = re.sub(r"[\s×│╰├─▶]+", " ", text).strip()
    return text if len(text) <= limit else f"{text[:limit]}…"


def _failed(file: Locked, error: requests.RequestException) -> PipelineError:
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return ConfigurationInvalid(
            f"{file.filename} did not come from the index, which wants a login that may have it (status {status})",
            hint="put the index's login into ~/.netrc, then try again",
        )
    reason = f"status {status}" if status else type(error).__name__
    return Inconclusive(f"{file.filename} did not come from the index ({reason})", hint="try again")


def _login(url: str, variables: Mapping[str, str]) -> HTTPBasicAuth | None:
    """Return the login that uv's `variables` have for the scheme, host and port of `url`; None where they have none.

    An index with a name has it in UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD, or as others in its address.
    """
    for entry in " ".join(variables.get(name, "") for name in _ADDRESSES).split():
        named = re.fullmatch(r"([\w.-]+)=(.+)", entry)
        name, address = named.groups() if named else ("", entry)
        if _origin(address) != _origin(url):
            continue
        prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}"
        given = tuple(variables.get(f"{prefix}_{part}", "") for part in ("USERNAME", "PASSWORD")) if name else ()
        parts = urlsplit(address)
        user, password = given if any(given) else (unquote(parts.username or ""), unquote(parts.password or ""))
        if password or (user and get_netrc_auth(url) is None):  # a token may stand alone as the user
            return HTTPBasicAuth(user.encode(), password.encode())
    return None


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return parts.scheme, parts.netloc.rpartition("@")[2].lower().removesuffix(usual)


def _choose(package: dict[str, Any], ranks: dict[Tag, int]) -> Locked:
    """Return the best wheel of a package in a pylock.toml, else its source."""
    wheels = []
    for wheel in package.get("wheels", ()):
        name = _filename(wheel)
        if fitting := [ranks[tag] for tag in _tags_of(name) if tag in ranks]:
            wheels.append((min(fitting), name, wheel))
    if wheels:
        _, name, file = min(wheels, key=lambda wheel: wheel[:2])
    elif file := package.get("sdist"):
        name = _filename(file)
    else:
        raise ConfigurationInvalid(f"{package['name']} {package['version']} has no wheel for the hosts, and no source")
    if "sha256" not in file.get("hashes", {}) or "url" not in file:
        raise ConfigurationInvalid(f"{name} has no sha256 on this index, so it cannot be locked")
    return Locked(package["name"], package["version"], name, file["hashes"]["sha256"], file["url"])


def _filename(file: dict[str, Any]) -> str:
    return file.get("name") or unquote(urlsplit(file.get("url", "")).path.rsplit("/", 1)[-1])


def _tags_of(filename: str) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return frozenset()
