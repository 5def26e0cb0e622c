"""Heat resources of the local cloud: a machine, an address, the network, as Nova and Neutron have them elsewhere.

Loaded by the seed Heat from its plugin_dirs; talks to the machines service that heat.conf's [local_cloud] names.
"""
# mypy: disallow-subclassing-any=False
# (Heat carries no types.)

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import requests
from heat.common import exception
from heat.engine import attributes, constraints, properties, resource
from oslo_config import cfg

cfg.CONF.register_opts(
    [
        cfg.StrOpt("machines_url", help="URL of the machines service."),
        cfg.StrOpt("secrets_file", help="File with the machines_token, as JSON."),
    ],
    group="local_cloud",
)

HOST_NAME = "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?"
TEXT = properties.Schema.STRING


class Refused(exception.HeatException):
    """The machines service said no."""

    msg_fmt = "machines service: %(reason)s"


def call(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any] | None:
    """Ask the machines service; return its document, or None where there is nothing under `path`."""
    secrets = json.loads(Path(cfg.CONF.local_cloud.secrets_file).read_text(encoding="utf-8"))
    headers = {"X-Auth-Token": secrets["machines_token"]}
    url = cfg.CONF.local_cloud.machines_url + path
    response = requests.request(method, url, json=body, headers=headers, timeout=120)
    if response.status_code == 404:
        return None
    document: dict[str, Any] = response.json() if response.content else {}
    if not response.ok:
        raise Refused(reason=document.get("error", response.reason))
    return document


def name_property(what: str) -> properties.Schema:
    """Return the schema of a name, which is what the thing is: another name is another thing."""
    return properties.Schema(
        TEXT, f"Name of {what}.", required=True, constraints=[constraints.AllowedPattern(HOST_NAME)]
    )


def attribute(what: str) -> attributes.Schema:
    """Return the schema of an attribute that is text."""
    return attributes.Schema(what, type=attributes.Schema.STRING)


class LocalMachine(resource.Resource):
    """A host of the local cloud, which boots systemd and cloud-init, and reads its user data at its first boot."""

    PROPERTIES = (NAME, ADDRESS, USER_DATA) = ("name", "address", "user_data")
    ATTRIBUTES = ("name", "address")

    properties_schema = {  # noqa: RUF012 (so it is in Heat)
        NAME: name_property("the machine, and of its host"),
        ADDRESS: properties.Schema(TEXT, "Address, as of a Local::Address; the next free one if left out."),
        USER_DATA: properties.Schema(TEXT, "What cloud-init reads.", default=""),
    }
    attributes_schema = {  # noqa: RUF012 (so it is in Heat)
        "name": attribute("Name of the host."),
        "address": attribute("Address of the host."),
    }

    def handle_create(self) -> str:
        """Boot the machine. Its id is kept before it is asked for, so that whatever happens, it can be deleted."""
        identity = str(uuid.uuid4())
        self.resource_id_set(identity)
        wanted = {
            "id": identity,
            "name": self.properties[self.NAME],
            "address": self.properties[self.ADDRESS] or "",
            "user_data": self.properties[self.USER_DATA],
        }
        call("POST", "/machines", wanted)
        return identity

    def check_create_complete(self, identity: str) -> bool:
        """Confirm that the machine runs; one that is off again has failed."""
        self._confirm_running(identity)
        return True

    def handle_check(self) -> None:
        """Confirm that the machine still runs."""
        self._confirm_running(self.resource_id)

    def handle_delete(self) -> None:
        """End the machine; one that is gone already is well."""
        if self.resource_id is not None:
            call("DELETE", f"/machines/{self.resource_id}")

    def prepare_for_replace(self) -> None:
        """End the old machine before the new one boots: both have the same name, and often the same address."""
        self.handle_delete()

    def _confirm_running(self, identity: str) -> None:
        machine = call("GET", f"/machines/{identity}")
        if machine is None:
            raise exception.EntityNotFound(entity="Local::Machine", name=identity)
        if machine["state"] != "running":
            raise exception.ResourceUnknownStatus(
                resource_status=machine["state"], status_reason=f"see inv local.logs {machine['name']}"
            )

    def _resolve_attribute(self, name: str) -> str | None:
        machine = call("GET", f"/machines/{self.resource_id}") if self.resource_id else None
        return machine[name] if machine else None


class LocalAddress(resource.Resource):
    """An address kept for someone, known before the machine that will have it."""

    PROPERTIES = (NAME,) = ("name",)
    ATTRIBUTES = ("ip_address",)

    properties_schema = {NAME: name_property("the address")}  # noqa: RUF012 (so it is in Heat)
    attributes_schema = {"ip_address": attribute("The address.")}  # noqa: RUF012 (so it is in Heat)

    def handle_create(self) -> None:
        """Reserve the address, with an id kept before it is asked for."""
        identity = str(uuid.uuid4())
        self.resource_id_set(identity)
        call("POST", "/addresses", {"id": identity, "name": self.properties[self.NAME]})

    def handle_delete(self) -> None:
        """Give the address back."""
        if self.resource_id is not None:
            call("DELETE", f"/addresses/{self.resource_id}")

    def _resolve_attribute(self, name: str) -> str | None:
        reserved = call("GET", f"/addresses/{self.resource_id}") if self.resource_id else None
        return reserved["address"] if reserved and name == "ip_address" else None


class LocalNetwork(resource.Resource):
    """The network every machine is in. There is one, so creating and deleting it changes nothing."""

    PROPERTIES = (NAME,) = ("name",)
    ATTRIBUTES = ("cidr", "gateway")

    properties_schema = {NAME: name_property("the network, for people")}  # noqa: RUF012 (so it is in Heat)
    attributes_schema = {  # noqa: RUF012 (so it is in Heat)
        "cidr": attribute("The network, in CIDR notation."),
        "gateway": attribute("The machine's own address in it."),
    }

    def handle_create(self) -> None:
        """Confirm that the network is there."""
        self.resource_id_set(self._network()["cidr"])

    def handle_delete(self) -> None:
        """Leave the network: it belongs to the cloud."""

    def _resolve_attribute(self, name: str) -> str | None:
        return str(self._network()[name])

    def _network(self) -> dict[str, Any]:
        network = call("GET", "/network")
        if network is None:
            raise exception.EntityNotFound(entity="Local::Network", name=self.properties[self.NAME])
        return network


def resource_mapping() -> dict[str, type]:
    """Tell Heat what there is."""
    return {
        "Local::Machine": LocalMachine,
        "Local::Address": LocalAddress,
        "Local::Network": LocalNetwork,
    }
