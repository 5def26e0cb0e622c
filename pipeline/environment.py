"""An Environment: one region of Heat, as a chain of YAML files describes it: defaults, its stage, its own.

Heat has "environments" of its own (parameters and resource_registry): those are called heat_environment here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pipeline import mistakes
from pipeline.errors import ConfigurationInvalid
from pipeline.layers import Layered, lay
from pipeline.policy import Policy
from pipeline.promotion import Promotion, Verification
from pipeline.quantities import Address, Cidr, Lease, Seconds, Written, WrongKey
from pipeline.secrets import Secrets
from pipeline.stackrules import StackRules
from pipeline.yamlfile import Document, read

__all__ = [
    "ALL",
    "CLUSTERED",
    "CONTROL",
    "CONTROLLING",
    "Environment",
    "InternalTls",
    "Provider",
    "Role",
    "Tls",
    "Topology",
    "layers",
    "list_environments",
    "load",
]

ALL = "all"  # what commands take for every environment
DEFAULTS = "defaults"
STAGES = "stages"
_NAME = Written(r"[a-z][a-z0-9-]{0,30}", "small letters, digits and dashes, 31 at most, and a letter first")
_RELEASE_URL = r'https://[^\s"\\@{}/]+/[^\s"\\@{}]*\{archive\}[^\s"\\@{}]*'
_JUMP = Written(r"(\w[^\s@:]*@)?(\w[\w.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", "HOST, USER@HOST or USER@HOST:PORT")
_AMQP, _AMQPS = 5672, 5671  # what IANA has for the broker's protocol, plain and over TLS
_BESIDE_APIS = (3306, 4369, _AMQPS, _AMQP, 25672)  # what database, Erlang's port mapper and broker have on one machine
_OF_LOCAL_CLOUD = "local"  # its only flavor and its only image
_WITH_PASSWORD = re.compile(r"://[^@\s]*:\S*@")  # a password may hold any sign, a slash too


class Role(StrEnum):
    """What a host does: one role each, but for those of a small region that share one machine."""

    DATABASE = "database"
    MESSAGING = "messaging"
    API = "api"
    ENGINE = "engine"
    LOADBALANCER = "loadbalancer"


class Provider(StrEnum):
    """Which templates make hosts: the local cloud's machines, or Nova and Neutron."""

    LOCAL = "local"
    OPENSTACK = "openstack"


Name = Annotated[str, _NAME, Field(description="small letters, digits and dashes")]

CloudName = Annotated[
    str,
    Written(r"[A-Za-z0-9][\w.-]{0,62}", "letters, digits and . _ -, 63 at most, and a letter or digit first"),
    Field(description="as OpenStack's own names are"),
]

Sort = Annotated[str, Written(r"\S(.*\S)?", "a name, with no blanks around it")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, use_attribute_docstrings=True)


CLUSTERED = (Role.DATABASE, Role.MESSAGING)
"""The roles whose hosts, where there is more than one, are members of a cluster."""
_SIZES = (1, 3, 5, 7)
_ONE, _NONE = {"const": 1}, {"const": 0}
CONTROL = "control"
"""The stack, and the machine in it, that a small region has in place of one for each role of CONTROLLING."""
CONTROLLING = (Role.DATABASE, Role.MESSAGING, Role.API, Role.LOADBALANCER)


class Placement(StrEnum):
    """How hosts of a role are kept on different hypervisors: always, where there are enough of them, or not at all."""

    APART = "anti-affinity"
    APART_IF_POSSIBLE = "soft-anti-affinity"
    ANYWHERE = "any"


class Hosts(_Frozen):
    """How many hosts a role has, of what size, and where. The local cloud heeds the number alone."""

    count: StrictInt = Field(ge=1, le=200)
    flavor: Sort = _OF_LOCAL_CLOUD
    image: Sort = _OF_LOCAL_CLOUD
    placement: Placement = Placement.APART_IF_POSSIBLE
    availability_zones: tuple[CloudName, ...] = ()
    """Nova's; hosts go to one after the other."""
    volume_gb: StrictInt = Field(default=0, ge=0, le=65536)
    """Size of a root volume to boot from; 0 for the flavor's own disk."""
    data_volume_gb: StrictInt = Field(default=0, ge=0, le=65536)
    """Size of a volume for what the database or the broker keeps; 0 for none."""


def _for_editors(**values: Any) -> Any:
    """Return a field of hosts that editors hold against more than its own schema; the validators below decide."""
    # Beside a $ref only what is in allOf counts in editors too: some of them lay the two on one another by their keys.
    return Field(json_schema_extra={"allOf": [{"properties": values}]})


class Topology(_Frozen):
    """The hosts of every role."""

    control: Annotated[Hosts | None, _for_editors(count=_ONE, data_volume_gb=_NONE)] = None
    """One machine that is database, broker, API and load balancer at once; without it each role has hosts of its own.

    Where there is one, the counts of those roles are 1, and their other fields are not heeded.
    """
    database: Annotated[Hosts, _for_editors(count={"enum": [*_SIZES]})]
    messaging: Annotated[Hosts, _for_editors(count={"enum": [*_SIZES]})]
    api: Annotated[Hosts, _for_editors(data_volume_gb=_NONE)]
    engine: Annotated[Hosts, _for_editors(data_volume_gb=_NONE)]
    loadbalancer: Annotated[Hosts, _for_editors(count=_ONE, data_volume_gb=_NONE)]

    def of(self, role: Role) -> Hosts:
        """Return the hosts of `role`."""
        found: Hosts = getattr(self, role.value)
        return found

    def is_cluster(self, role: Role) -> bool:
        """Whether the hosts of `role` keep the same data together: Galera, or RabbitMQ with quorum queues."""
        return role in CLUSTERED and self.of(role).count > 1

    @property
    def clusters(self) -> tuple[Role, ...]:
        """The roles that are clusters."""
        return tuple(role for role in CLUSTERED if self.is_cluster(role))

    def shares(self, role: Role) -> bool:
        """Whether the hosts of `role` are on one machine with those of others."""
        return self.control is not None and role in CONTROLLING

    def beside(self, role: Role) -> tuple[Role, ...]:
        """Return the roles that are on a machine which has `role`, itself among them."""
        return CONTROLLING if self.shares(role) else (role,)

    def stack_of(self, role: Role) -> str:
        """Return the name of the stack that has the hosts of `role`."""
        return CONTROL if self.shares(role) else str(role)

    @property
    def stacks(self) -> tuple[str, ...]:
        """The names of the stacks that have hosts."""
        return tuple(dict.fromkeys(self.stack_of(role) for role in Role))

    @model_validator(mode="after")
    def _one_machine(self) -> Topology:
        if self.control is None:
            return self
        if self.control.count != 1:
            raise WrongKey("control.count", "must be 1: roles that are to have more hosts have hosts of their own")
        if self.control.data_volume_gb:
            raise WrongKey("control.data_volume_gb", "must be 0: it keeps the data of two services; use volume_gb")
        for role in CONTROLLING:
            if self.of(role).count != 1:
                raise WrongKey(f"{role.value}.count", "must be 1 where there is a control host, which is the one")
        return self

    @model_validator(mode="after")
    def _quorums(self) -> Topology:
        if self.loadbalancer.count != 1:
            raise WrongKey("loadbalancer.count", "must be 1: it holds the one address of the endpoints")
        for role in CLUSTERED:
            if self.of(role).count not in _SIZES:
                raise WrongKey(
                    f"{role.value}.count",
                    "must be 1, or 3, 5 or 7 for a cluster: it needs a majority, and one host more than these bears no "
                    "more losses",
                )
        return self

    @model_validator(mode="after")
    def _data_where_it_is_kept(self) -> Topology:
        for role in (Role.API, Role.ENGINE, Role.LOADBALANCER):
            if self.of(role).data_volume_gb:
                raise WrongKey(f"{role.value}.data_volume_gb", "must be 0: hosts of this role keep no data")
        return self


class Endpoints(StrEnum):
    """What customers reach a region at: its load balancer's floating address, an Octavia before it, or its own."""

    FLOATING_IP = "floating_ip"
    OCTAVIA = "octavia"
    NONE = "none"


class Network(_Frozen):
    """The network that the hosts share. `cidr` may be left out where the provider decides it."""

    cidr: Cidr | None = None
    external_network: str | None = None
    operator_cidr: Cidr | None = None
    dns: tuple[Address, ...] = ()
    endpoints: Endpoints = Endpoints.FLOATING_IP
    """Floating addresses, of either kind, come from `external_network`: there are none without it."""


ReleaseUrl = Annotated[str, Written(_RELEASE_URL, "an https:// URL with {archive} in it once, and no password")]


class Ssh(_Frozen):
    """How the pipeline logs in, and where hosts find releases: from each other, unless there is a `release_url`."""

    user: Name = "pipeline"
    port: StrictInt = Field(default=22, ge=1, le=65535)
    connect_timeout: Seconds = 20
    jump: tuple[Annotated[str, WithJsonSchema(_JUMP.json_schema)], ...] = ()
    """Jump hosts on the way, the first one first: USER@HOST:PORT."""
    config: Path | None = None
    """An OpenSSH client configuration whose ProxyJump is heeded where `jump` is not set, as ~/.ssh/config."""
    known_hosts: Path | None = None
    """Where the keys of jump hosts are pinned."""
    starts: StrictInt = Field(default=8, ge=1, le=100)
    """How many connections are opened at once through one jump host: its sshd drops more (MaxStartups)."""
    identity: Path | None = None
    """A private key to log in with, instead of the environment's own."""
    certificate: Path | None = None
    """The user's certificate for that key, where it is not beside it."""
    agent: StrictBool = False
    """Whether keys of an SSH agent are tried too."""
    release_url: ReleaseUrl | None = None
    """Where hosts fetch releases from instead of from here: https://…/{archive}."""

    def url_of(self, archive: str) -> str:
        """Return where hosts fetch the release's `archive`, "" where the environment names no such place."""
        return self.release_url.replace("{archive}", archive) if self.release_url else ""


class HeatSettings(_Frozen):
    """Settings of the deployed Heat."""

    region: CloudName
    creates_region: StrictBool
    engine_workers: StrictInt = Field(ge=1, le=64)
    engine_threads: StrictInt = Field(default=64, ge=1, le=1024)
    """How many resources, and how many requests, each worker has in hand at once (oslo.messaging's pool)."""
    api_processes: StrictInt = Field(ge=1, le=64)
    api_threads: StrictInt = Field(ge=1, le=64)
    graceful_shutdown_timeout: Seconds
    api_port: StrictInt = Field(default=8004, ge=1024, le=65535)
    """From 1024 on, as `cfn_port`: the APIs run as a user that may not listen below."""
    cfn_port: StrictInt = Field(default=8000, ge=1024, le=65535)

    @model_validator(mode="after")
    def _two_ports(self) -> HeatSettings:
        if self.api_port == self.cfn_port:
            raise WrongKey("cfn_port", "must not be api_port: both APIs listen on the same hosts")
        return self


class Deadlines(_Frozen):
    """How long each wait may take."""

    stack: Seconds
    step: Seconds


class Traffic(_Frozen):
    """The canary's own customers: how many, and how fast they work."""

    clients: StrictInt = Field(ge=1, le=64)
    pause: Seconds
    stack_timeout: Seconds
    before: Seconds
    after: Seconds
    hold: Seconds = Field(
        default=0,
        description="seconds that a WaitCondition of the canary stays open before it is signalled; 0 for none",
    )


def _lock_url(text: str) -> str:
    if _WITH_PASSWORD.search(text):
        raise ValueError("expected no password in it: secrets.lock_url may refer to a URL that has one")
    return text


LockUrl = Annotated[
    str, AfterValidator(_lock_url), WithJsonSchema({"type": "string", "not": {"pattern": _WITH_PASSWORD.pattern}})
]


class Lock(_Frozen):
    """Where the lock is that keeps two runs apart: tooz's `url`, or files of this workspace.

    A killed run's lock is given up after `lease`, with files at once.
    """

    url: LockUrl | None = None
    lease: Lease = 60


class InternalTls(StrEnum):
    """Three steps: database and broker take TLS beside plain connections, Heat comes by it, nothing else is taken."""

    OFFERED = "offered"
    USED = "used"
    REQUIRED = "required"


class Tls(_Frozen):
    """TLS of the endpoints: files of a certificate that somebody signed, or nothing: then the environment signs one.

    Paths are of this machine. `authority` is for customers that do not trust the signer anyway. What `internal` hosts
    show one another the environment always signs itself.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    internal: InternalTls | None = None

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class Environment(_Frozen):
    """One region: where it runs, what it is made of, how it is changed."""

    name: Name
    description: str = ""
    stage: Name | None = None
    """Which file of stages/ lies between the defaults and this region's own."""
    provider: Provider
    cloud: CloudName
    """The entry of clouds.yaml whose Heat launches the hosts."""
    region: CloudName | None = None
    """The region of that cloud to launch them in, where its entry names none or another."""
    promotes_from: Name | None = None
    """The environment that a release must have proved itself in before it is promoted to this one."""
    topology: Topology
    network: Network
    ssh: Ssh
    heat: HeatSettings
    policies: Policy
    deadlines: Deadlines
    traffic: Traffic
    verification: Verification = Verification()
    promotion: Promotion = Promotion()
    lock: Lock = Lock()
    secrets: Secrets = Secrets()
    tls: Tls | None = None
    stacks: StackRules = StackRules()

    @field_validator("topology")
    @classmethod
    def _sizes_that_a_cloud_has(cls, topology: Topology, given: ValidationInfo) -> Topology:
        for stack in topology.stacks if given.data.get("provider") is Provider.OPENSTACK else ():
            for key in ("flavor", "image"):
                if getattr(getattr(topology, stack), key) == _OF_LOCAL_CLOUD:
                    raise WrongKey(f"{stack}.{key}", f"must be given: {_OF_LOCAL_CLOUD!r} is of the local cloud alone")
        return topology

    @field_validator("ssh")
    @classmethod
    def _jump_hosts(cls, ssh: Ssh) -> Ssh:
        for index, text in enumerate(ssh.jump):
            if not _JUMP.fits(text):
                raise WrongKey(f"jump.{index}", f"must be {_JUMP.expected}")
        return ssh

    @field_validator("heat")
    @classmethod
    def _ports_that_are_free(cls, heat: HeatSettings, given: ValidationInfo) -> HeatSettings:
        ssh, topology = given.data.get("ssh"), given.data.get("topology")
        for key, port in (("api_port", heat.api_port), ("cfn_port", heat.cfn_port)):
            if ssh and port == ssh.port:
                raise WrongKey(key, "must not be ssh.port: sshd listens there")
            if topology and topology.control and port in _BESIDE_APIS:
                raise WrongKey(key, f"must not be {port}: on a control host database or broker listens there")
        return heat

    @property
    def scheme(self) -> str:
        """How the endpoints are asked: http or https."""
        return "https" if self.tls else "http"

    @property
    def internal_tls(self) -> InternalTls | None:
        """What database and broker take; None where they take no TLS."""
        return self.tls.internal if self.tls else None

    @property
    def heat_uses_tls(self) -> bool:
        """Whether Heat comes to database and broker over TLS."""
        return self.internal_tls in (InternalTls.USED, InternalTls.REQUIRED)

    @property
    def messaging_ports(self) -> tuple[int, ...]:
        """The ports that the broker listens on for Heat: first the one that Heat is told."""
        both = {InternalTls.OFFERED: (_AMQP, _AMQPS), InternalTls.USED: (_AMQPS, _AMQP), None: (_AMQP,)}
        return both.get(self.internal_tls, (_AMQPS,))


def list_environments(directory: Path) -> tuple[str, ...]:
    """Return the names of the environments in `directory`, sorted, without the defaults and the stages.

    Only files count: an editor may leave links that lead nowhere beside them.
    """
    return tuple(name for name in _files(directory) if name not in (ALL, DEFAULTS))


def _files(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in directory.glob("*.yaml") if path.is_file()))


def load(name: str, directory: Path) -> Environment:
    """Return environment `name` of `directory`: `defaults.yaml`, its stage's file and its own, one on the other.

    Raises ConfigurationInvalid naming file, line, key and what was expected.
    """
    layered = layers(name, directory)
    try:
        environment = Environment.model_validate({**layered.values, "name": name})
    except ValidationError as error:
        place, mistake = mistakes.told(error, layered)
        raise ConfigurationInvalid(
            f"{place}: {mistake}", hint=f"edit {place.path}, then inv env.show {name}"
        ) from error
    _check_upstreams(environment, directory, layered)
    return environment


def layers(name: str, directory: Path) -> Layered:
    """Return the files of environment `name` laid one on the other, and what each set; nothing is validated yet.

    Raises ConfigurationInvalid for an unknown environment or stage, and for a file that cannot be read.
    """
    if not _NAME.fits(name):
        raise _no_name(name, directory)
    path = directory / f"{name}.yaml"
    if name in (ALL, DEFAULTS) or not path.is_file():
        known = _there_are(list_environments(directory))
        raise ConfigurationInvalid(f"{path}: no such environment ({known})", hint="inv env.list")
    own = read(path)
    stage = own.values.get("stage")
    below = [read(directory / f"{DEFAULTS}.yaml"), *([read(_stage_file(stage, own))] if stage is not None else [])]
    for document in below:
        _refuse(document, "stage", "only a region's own file says which stage it is")
    for document in (*below, own):
        _refuse(document, "name", "unknown key: an environment is called as its file is")
    return lay(*below, own)


def _no_name(name: str, directory: Path) -> ConfigurationInvalid:
    """Return the error for what cannot be the name of an environment; a path made of it may lead anywhere."""
    known = list_environments(directory)
    if name in known:
        path = directory / f"{name}.yaml"
        return ConfigurationInvalid(f"{path}: a name has {_NAME.expected}", hint=f"rename {path}")
    return ConfigurationInvalid(
        f"{name!r:.40}: no such environment ({_there_are(known)}); a name has {_NAME.expected}", hint="inv env.list"
    )


def _there_are(known: Sequence[str]) -> str:
    return f"there are: {', '.join(known) or 'none'}"


def _refuse(document: Document, key: str, why: str) -> None:
    if key in document.values:
        place = f"{document.path}:{document.lines[(key,)]}"
        raise ConfigurationInvalid(f"{place}: {key}: {why}", hint=f"edit {document.path}")


def _stage_file(stage: object, own: Document) -> Path:
    directory = own.path.parent / STAGES
    known = _files(directory)
    if stage not in known:
        raise ConfigurationInvalid(
            f"{own.path}:{own.lines[('stage',)]}: stage: there is no {directory / f'{stage}.yaml'} "
            f"({_there_are(known)})",
            hint=f"edit {own.path}",
        )
    return directory / f"{stage}.yaml"


def _check_upstreams(environment: Environment, directory: Path, layered: Layered) -> None:
    """Refuse promotions that come from nowhere, or from where they go to."""
    way, known = [environment.name], list_environments(directory) if environment.promotes_from else ()
    place = layered.nearest(("promotes_from",))
    for upstream in _upstreams(environment.promotes_from, directory):
        if upstream not in known:
            raise ConfigurationInvalid(
                f"{place}: promotes_from: there is no environment {upstream!r}", hint="inv env.list"
            )
        if upstream in way:
            raise ConfigurationInvalid(
                f"{place}: promotes_from: a cycle: {' from '.join([*way, upstream])}", hint=f"edit {place.path}"
            )
        way.append(upstream)


def _upstreams(first: str | None, directory: Path) -> Iterator[str]:
    """Yield whom an environment is promoted from, and that one, and so on; without end where it is a cycle."""
    upstream: object = first
    while isinstance(upstream, str):
        yield upstream
        upstream = layers(upstream, directory).values.get("promotes_from")
