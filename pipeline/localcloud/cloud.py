"""The record of one local cloud: its names, its addresses and where its files are. All of it follows from two facts,
the directory and the network, so the record never disagrees with itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pipeline.errors import ConfigurationInvalid

__all__ = ["LocalCloud", "candidates", "choose", "load", "save", "tag"]

TEST_RANGE = IPv4Network("198.18.0.0/15")  # RFC 2544: never routed on the internet
RECORD = "cloud.json"
PREFIX = "hdh-"  # of the names of all clouds


@dataclass(frozen=True, slots=True)
class LocalCloud:
    """One cloud: `directory` holds its state, `network` is the /24 that it took of 198.18.0.0/15.

    `cloud` and `region` are what clouds.yaml calls it. `bridge` is its interface on this machine, with `gateway`
    as address: Keystone and Heat listen there, for hosts. `loopback` is where the rest listens, for this machine.
    """

    directory: Path
    network: IPv4Network
    cloud: str = "seed"
    region: str = "seed"

    @property
    def name(self) -> str:
        """Return the name that everything of this cloud on the machine starts with."""
        return f"{PREFIX}{tag(self.directory)}"

    @property
    def bridge(self) -> str:
        """Return the interface by which this machine reaches the hosts."""
        return self.name

    @property
    def subnet(self) -> str:
        """Return the network in CIDR notation."""
        return str(self.network)

    @property
    def gateway(self) -> str:
        """Return this machine's address in the cloud's network."""
        return str(self.network[1])

    @property
    def loopback(self) -> str:
        """Return a loopback address of the cloud's own, so that ports never collide between clouds."""
        return str(IPv4Address((127 << 24) | (int(self.network[1]) & 0xFFFFFF)))

    @property
    def keystone_url(self) -> str:
        """Return the identity endpoint."""
        return f"http://{self.gateway}:5000/v3"

    @property
    def heat_url(self) -> str:
        """Return the orchestration endpoint of the seed Heat, as the catalog has it."""
        return f"http://{self.gateway}:8004/v1/%(tenant_id)s"

    @property
    def cfn_url(self) -> str:
        """Return the endpoint hosts signal to."""
        return f"http://{self.gateway}:8000/v1"

    @property
    def machines_url(self) -> str:
        """Return the machines service."""
        return f"http://{self.loopback}:8900"

    @property
    def clouds_yaml(self) -> Path:
        """Return the file that holds this cloud's credentials, and no other's."""
        return self.directory / "clouds.yaml"

    @property
    def run_directory(self) -> Path:
        """Return the directory of sockets; short, because a socket's path may have 107 characters."""
        return Path("/run") / self.name

    @property
    def logs(self) -> Path:
        """Return the directory of logs, one NAME.log per service and host."""
        return self.directory / "logs"

    @property
    def machines(self) -> Path:
        """Return the directory of hosts, one directory each."""
        return self.directory / "machines"

    @property
    def database_socket(self) -> Path:
        """Return the only way to the database."""
        return self.run_directory / "mariadb.sock"

    def database_url(self, schema: str) -> str:
        """Return SQLAlchemy's URL of `schema`: no password, the socket knows who is calling."""
        return f"mysql+pymysql://root@/{schema}?unix_socket={self.database_socket}&charset=utf8mb4"


def tag(directory: Path) -> str:
    """Return six hex digits that tell this cloud from those of other checkouts."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:6]


def candidates(directory: Path) -> Iterator[IPv4Network]:
    """Yield every /24 of the test range, starting at one that follows from `directory`."""
    networks = list(TEST_RANGE.subnets(new_prefix=24))
    first = int(tag(directory), 16) % len(networks)
    yield from networks[first:] + networks[:first]


def choose(directory: Path, taken: Iterable[IPv4Network]) -> LocalCloud:
    """Return a cloud on the first network that overlaps none of `taken`.

    Raises ConfigurationInvalid if all 512 are taken.
    """
    occupied = tuple(taken)
    for network in candidates(directory):
        if not any(network.overlaps(other) for other in occupied):
            return LocalCloud(directory.resolve(), network)
    raise ConfigurationInvalid(
        f"every /24 of {TEST_RANGE} is in use on this machine", hint="ip -4 address, then inv local.down"
    )


def save(cloud: LocalCloud) -> None:
    """Write the record into the cloud's directory; a reader sees the old one or the new one, never half of it."""
    facts = {
        "name": cloud.name, "subnet": cloud.subnet, "bridge": cloud.bridge, "gateway": cloud.gateway,
        "cloud": cloud.cloud, "region": cloud.region, "clouds_yaml": str(cloud.clouds_yaml),
        "keystone_url": cloud.keystone_url, "heat_url": cloud.heat_url, "cfn_url": cloud.cfn_url,
    }  # fmt: skip
    unfinished = cloud.directory / f".{RECORD}"
    unfinished.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    unfinished.rename(cloud.directory / RECORD)


def load(directory: Path) -> LocalCloud | None:
    """Return the cloud recorded in `directory`, or None if there is none.

    Raises ConfigurationInvalid if the record cannot be understood, or the directory was moved since: names follow
    from its path.
    """
    path = directory / RECORD
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        cloud = LocalCloud(directory.resolve(), IPv4Network(facts["subnet"]))
        name = str(facts["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationInvalid(f"{path}: not the record of a local cloud", hint="inv local.down") from error
    if name != cloud.name:
        raise ConfigurationInvalid(
            f"{path}: this cloud, {name}, was made while its directory had another path",
            hint="move the directory back and inv local.down, then move it again",
        )
    return cloud
