"""An Environment: one region of Heat, as its YAML file and the defaults beside it describe it.

Heat has "environments" of its own (parameters and resource_registry): those are called heat_environment here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ConfigurationInvalid
from pipeline.policy import Policy
from pipeline.quantities import Seconds
from pipeline.stackrules import StackRules

__all__ = ["Environment", "Provider", "Role", "Topology", "list_environments", "load", "merge"]

DEFAULTS = "defaults"
_NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
_RELEASE_URL = re.compile(r"https://[^\s\"\\@{}/]+/[^\s\"\\@{}]*\{archive\}[^\s\"\\@{}]*")
_MERGE = "tag:yaml.org,2002:merge"


class Role(StrEnum):
    """What a host does, one role each."""

    DATABASE = "database"
    MESSAGING = "messaging"
    API = "api"
    ENGINE = "engine"
    LOADBALANCER = "loadbalancer"


class Provider(StrEnum):
    """Which templates make hosts: the local cloud's machines, or Nova and Neutron."""

    LOCAL = "local"
    OPENSTACK = "openstack"


Name = Annotated[str, Field(pattern=_NAME.pattern, description="small letters, digits and dashes")]

CloudName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,62}$", description="as OpenStack's own names are")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Hosts(_Frozen):
    """How many hosts a role has, and of what size."""

    count: int = Field(ge=1, le=200)
    flavor: str = "local"
    image: str = "local"


class Topology(_Frozen):
    """The hosts of every role."""

    database: Hosts
    messaging: Hosts
    api: Hosts
    engine: Hosts
    loadbalancer: Hosts

    def of(self, role: Role) -> Hosts:
        """Return the hosts of `role`."""
        found: Hosts = getattr(self, role.value)
        return found

    @model_validator(mode="after")
    def _one_of_each(self) -> Topology:
        for role in (Role.DATABASE, Role.MESSAGING, Role.LOADBALANCER):
            if self.of(role).count != 1:
                raise ValueError(f"{role.value}.count must be 1: clusters of this role are not supported")
        return self


class Network(_Frozen):
    """The network that the hosts share. `cidr` may be left out where the provider decides it."""

    cidr: IPv4Network | None = None
    external_network: str | None = None
    operator_cidr: IPv4Network | None = None
    dns: tuple[str, ...] = ()


def _release_url(text: str) -> str:
    if not _RELEASE_URL.fullmatch(text):
        raise ValueError("expected an https:// URL with {archive} in it once, and no password")
    return text


ReleaseUrl = Annotated[str, AfterValidator(_release_url)]


class Ssh(_Frozen):
    """How the pipeline logs in, and where hosts find releases: from each other, unless there is a `release_url`."""

    user: Name = "pipeline"
    port: int = Field(default=22, ge=1, le=65535)
    connect_timeout: Seconds = 20
    jump: tuple[str, ...] = ()
    """Jump hosts on the way, the first one first: USER@HOST:PORT."""
    config: Path | None = None
    """An OpenSSH client configuration whose ProxyJump is heeded where `jump` is not set, as ~/.ssh/config."""
    known_hosts: Path | None = None
    """Where the keys of jump hosts are pinned."""
    starts: int = Field(default=8, ge=1, le=100)
    """How many connections are opened at once through one jump host: its sshd drops more (MaxStartups)."""
    identity: Path | None = None
    """A private key to log in with, instead of the environment's own."""
    certificate: Path | None = None
    """The user's certificate for that key, where it is not beside it."""
    agent: bool = False
    """Whether keys of an SSH agent are tried too."""
    release_url: ReleaseUrl | None = None
    """Where hosts fetch releases from instead of from here: https://…/{archive}."""

    def url_of(self, archive: str) -> str:
        """Return where hosts fetch the release's `archive`, "" where the environment names no such place."""
        return self.release_url.replace("{archive}", archive) if self.release_url else ""


class HeatSettings(_Frozen):
    """Settings of the deployed Heat."""

    region: CloudName
    creates_region: bool
    engine_workers: int = Field(ge=1, le=64)
    api_processes: int = Field(ge=1, le=64)
    api_threads: int = Field(ge=1, le=64)
    graceful_shutdown_timeout: Seconds
    api_port: int = Field(default=8004, ge=1, le=65535)
    cfn_port: int = Field(default=8000, ge=1, le=65535)


class Deadlines(_Frozen):
    """How long each wait may take."""

    stack: Seconds
    step: Seconds


class Traffic(_Frozen):
    """The canary's own customers: how many, and how fast they work."""

    clients: int = Field(ge=1, le=64)
    pause: Seconds
    stack_timeout: Seconds
    before: Seconds
    after: Seconds
    hold: Seconds = Field(
        default=0,
        description="seconds that a WaitCondition of the canary stays open before it is signalled; 0 for none",
    )


class Lock(_Frozen):
    """Where the lock is that keeps two runs apart: tooz's `url`, or files of this workspace.

    A killed run's lock is given up after `lease`, with files at once.
    """

    url: str | None = None
    lease: Seconds = 60


class Environment(_Frozen):
    """One region: where it runs, what it is made of, how it is changed."""

    name: Name
    description: str = ""
    provider: Provider
    cloud: CloudName
    promotes_from: Name | None = None
    topology: Topology
    network: Network
    ssh: Ssh
    heat: HeatSettings
    policies: Policy
    deadlines: Deadlines
    traffic: Traffic
    lock: Lock = Lock()
    stacks: StackRules = StackRules()


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which PyYAML would let the last one win."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [key_node for key_node, _ in node.value]  # as written: building the mapping expands merges in place
    mapping = loader.construct_mapping(node)
    seen: set[object] = set()
    for key_node in own:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        seen.add(key)
    return mapping


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def list_environments(directory: Path) -> tuple[str, ...]:
    """Return the names of the environments in `directory`, sorted, without the defaults."""
    return tuple(sorted(path.stem for path in directory.glob("*.yaml") if path.stem != DEFAULTS))


def load(name: str, directory: Path) -> Environment:
    """Return environment `name` of `directory`: `defaults.yaml` overlaid with `NAME.yaml`.

    Raises ConfigurationInvalid naming file, line, key and what was expected.
    """
    path = directory / f"{name}.yaml"
    if name == DEFAULTS or not path.is_file():
        known = ", ".join(list_environments(directory)) or "none"
        raise ConfigurationInvalid(f"{path}: no such environment (there are: {known})", hint="inv env.list")
    defaults = directory / f"{DEFAULTS}.yaml"
    merged = merge(_read(defaults), _read(path))
    try:
        environment = Environment.model_validate({**merged, "name": name})
    except ValidationError as error:
        raise ConfigurationInvalid(
            _explain(error, path, defaults), hint=f"edit {path}, then inv env.show {name}"
        ) from error
    upstream = environment.promotes_from
    if upstream is not None and upstream not in list_environments(directory):
        raise ConfigurationInvalid(f"{path}: promotes_from: there is no environment {upstream!r}", hint="inv env.list")
    return environment


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `overlay` laid on it: mappings merge key by key, anything else is replaced."""
    result = dict(base)
    for key, value in overlay.items():
        known = result.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        result[key] = merge(known, value) if both and isinstance(known, Mapping) else value
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error.strerror}", hint="inv env.list") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{_place(path, error)}", hint=f"edit {path}") from error
    if not isinstance(document, dict):
        raise ConfigurationInvalid(f"{path}: expected a mapping of keys to values", hint=f"edit {path}")
    return document


def _place(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    return f"{path}{line}: {getattr(error, 'problem', None) or 'is not UTF-8 YAML'}"


def _explain(error: ValidationError, path: Path, defaults: Path) -> str:
    first = error.errors()[0]
    location = tuple(str(part) for part in first["loc"])
    file, line = _find(location, path, defaults)
    key = ".".join(location) or "(whole file)"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{file}{line}: {key}: {_expected(first['type'], first['msg'], first['input'])}{more}"


def _expected(kind: str, message: str, found: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is required"
    expected = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return f"expected {expected}, found {found!r}" if message.startswith("Input") else f"{expected}, found {found!r}"


def _find(location: tuple[str, ...], path: Path, defaults: Path) -> tuple[Path, str]:
    """Return the file, and ":LINE", that set the longest part of `location`."""
    best: tuple[int, Path, str] = (0, path, "")
    for file in (path, defaults):
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        depth, line = 0, 0
        for part in location:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            match = next(((k, v) for k, v in pairs if k.value == part), None)
            if match is None:
                break
            depth, line, node = depth + 1, match[0].start_mark.line + 1, match[1]
        if depth > best[0]:
            best = (depth, file, f":{line}")
    return best[1], best[2]
