"""Which names and addresses are in use: the rules of the machines service, apart from how it is asked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.localcloud.hosts import Host, Hosts

__all__ = ["Conflict", "Invalid", "NotFound", "Registry"]

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
POOL = range(10, 250)  # of the /24: the first are the machine's own, the last are left free


class Invalid(Exception):
    """The request makes no sense, whatever else there is."""


class Conflict(Exception):
    """A name or address is taken."""


class NotFound(Exception):
    """There is nothing under that name or id."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The machines and reserved addresses of one cloud.

    Different names are worked on in parallel; the same name, and the choice of an address, one after the other.
    """

    hosts: Hosts
    _choosing: threading.Lock = field(default_factory=threading.Lock)
    _names: dict[str, threading.Lock] = field(default_factory=dict)
    _chosen: dict[str, str] = field(default_factory=dict)

    def machines(self) -> list[dict[str, str]]:
        """Return every machine: id, name, address, state ("running" or "stopped")."""
        return [self._view(host) for host in self.hosts.all()]

    def machine(self, identity: str) -> dict[str, str]:
        """Return one machine by its id."""
        return self._view(self._find(identity))

    def create(self, identity: str, name: str, address: str | None, user_data: str) -> dict[str, str]:
        """Boot a new machine `name` with the id `identity`, at `address` or the next free one.

        The caller chooses the id, so that it can delete what it asked for even if it never saw the answer.
        A machine that fails to start leaves nothing behind.
        """
        _check_name(name)
        _check_id(identity)
        with self._working_on(name):
            if any(name == host.name or identity == host.id for host in self.hosts.all()):
                raise Conflict(f"there is a machine called {name!r}: delete it, or take another name")
            with self._claimed(name, address) as chosen:
                host = Host(identity, name, str(chosen), user_data)
                try:
                    self.hosts.create(host)
                except (PipelineError, OSError):
                    self.hosts.destroy(name)
                    raise
                return self._view(host)

    def delete(self, identity: str) -> None:
        """End the machine and forget it. None there is well."""
        try:
            host = self._find(identity)
        except NotFound:
            return
        with self._working_on(host.name):
            self.hosts.destroy(host.name)

    def reboot(self, identity: str) -> dict[str, str]:
        """Cut the machine's power and start it again from its disk."""
        host = self._find(identity)
        with self._working_on(host.name):
            self.hosts.boot(host)
        return self._view(host)

    def resume(self) -> tuple[str, ...]:
        """Boot every machine that should run and does not: after this machine, or a killed service, started again.

        Return what went wrong, a line per machine: one that does not boot keeps no other from it.
        """
        failures = []
        for host in self.hosts.all():
            try:
                if not self.hosts.running(host.name):
                    self.hosts.boot(host)
            except (PipelineError, OSError) as error:
                failures.append(f"{host.name}: {error}")
        return tuple(failures)

    def reserve(self, identity: str, name: str) -> dict[str, str]:
        """Reserve an address under `name` for the holder of `identity`, who may ask again for the same."""
        _check_name(name)
        _check_id(identity)
        with self._choosing:
            reserved = self._reserved()
            if any(entry["name"] == name and key != identity for key, entry in reserved.items()):
                raise Conflict(f"an address is reserved under {name!r} already: delete it, or take another name")
            if identity not in reserved:
                reserved = {**reserved, identity: {"name": name, "address": str(self._free())}}
                self._save(reserved)
        return {"id": identity, **reserved[identity]}

    def address(self, identity: str) -> dict[str, str]:
        """Return the reserved address by its id."""
        with self._choosing:
            reserved = self._reserved()
        if identity not in reserved:
            raise NotFound(f"there is no address {identity!r}")
        return {"id": identity, **reserved[identity]}

    def release(self, identity: str) -> None:
        """Give a reserved address back. None there is well."""
        with self._choosing:
            self._save({key: entry for key, entry in self._reserved().items() if key != identity})

    def network(self) -> dict[str, str]:
        """Return the network that machines are in."""
        cloud = self.hosts.cloud
        return {"cidr": cloud.subnet, "gateway": cloud.gateway}

    def _find(self, identity: str) -> Host:
        for host in self.hosts.all():
            if host.id == identity:
                return host
        raise NotFound(f"there is no machine {identity!r}")

    def _view(self, host: Host) -> dict[str, str]:
        state = "running" if self.hosts.running(host.name) else "stopped"
        return {"id": host.id, "name": host.name, "address": host.address, "state": state}

    @contextmanager
    def _working_on(self, name: str) -> Iterator[None]:
        with self._choosing:
            lock = self._names.setdefault(name, threading.Lock())
        with lock:
            yield

    @contextmanager
    def _claimed(self, name: str, wanted: str | None) -> Iterator[IPv4Address]:
        """Hold an address for `name` until its machine is on record."""
        with self._choosing:
            address = self._free() if wanted is None else self._allowed(wanted)
            self._chosen[name] = str(address)
        try:
            yield address
        finally:
            with self._choosing:
                del self._chosen[name]

    def _in_use(self) -> set[str]:
        return {host.address for host in self.hosts.all()} | set(self._chosen.values())

    def _allowed(self, wanted: str) -> IPv4Address:
        network = self.hosts.cloud.network
        try:
            address = IPv4Address(wanted)
        except AddressValueError as error:
            raise Invalid(f"{wanted!r} is no IPv4 address") from error
        if address not in network or address.packed[-1] not in POOL:
            raise Invalid(f"{wanted} is not among {network[POOL[0]]} to {network[POOL[-1]]}")
        if wanted in self._in_use():
            raise Conflict(f"another machine has the address {wanted}")
        return address

    def _free(self) -> IPv4Address:
        used = self._in_use() | {entry["address"] for entry in self._reserved().values()}
        for number in POOL:
            address = self.hosts.cloud.network[number]
            if str(address) not in used:
                return address
        raise Conflict(f"every address of {self.hosts.cloud.subnet} is in use")

    def _path(self) -> Path:
        return self.hosts.cloud.directory / "addresses.json"

    def _reserved(self) -> dict[str, dict[str, str]]:
        if not self._path().is_file():
            return {}
        found: dict[str, dict[str, str]] = json.loads(self._path().read_text(encoding="utf-8"))
        return found

    def _save(self, reserved: Mapping[str, Mapping[str, str]]) -> None:
        unfinished = self._path().with_suffix(".new")
        unfinished.write_text(json.dumps(reserved, indent=2), encoding="utf-8")
        unfinished.rename(self._path())


def _check_id(identity: str) -> None:
    if not ID.fullmatch(identity):
        raise Invalid(f"{identity!r} is no id: a UUID is expected")


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name for a host: small letters, digits and dashes, at most 42")
