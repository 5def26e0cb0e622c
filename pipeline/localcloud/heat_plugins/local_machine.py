"""Heat resources of the local cloud: a machine, an address, the network. Nova and Neutron are to a large cloud what they are here.

Loaded by the seed Heat from its plugin_dirs; talks to the machines service that heat.conf's [local_cloud] names.
"""

import json
import uuid

import requests
from heat.common import exception
from heat.common.i18n import _
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


class Refused(exception.HeatException):
    """The machines service said no."""

    msg_fmt = _("machines service: %(reason)s")


def call(method, path, body=None):
    """Ask the machines service; return its document, or None where there is nothing under `path`."""
    with open(cfg.CONF.local_cloud.secrets_file, encoding="utf-8") as file:
        token = json.load(file)["machines_token"]
    response = requests.request(
        method, cfg.CONF.local_cloud.machines_url + path, json=body, headers={"X-Auth-Token": token}, timeout=120
    )
    if response.status_code == 404:
        return None
    document = response.json() if response.content else {}
    if not response.ok:
        raise Refused(reason=document.get("error", response.reason))
    return document


def name_property(what):
    """Return the schema of a name, which is what the thing is: another name is another thing."""
    return properties.Schema(
        properties.Schema.STRING,
        _("Name of %s.") % what,
        required=True,
        constraints=[constraints.AllowedPattern(HOST_NAME)],
    )


class LocalMachine(resource.Resource):
    """A host of the local cloud, which boots systemd and runs cloud-init. Its user data is read once, at its first boot."""

    PROPERTIES = (NAME, ADDRESS, USER_DATA) = ("name", "address", "user_data")
    ATTRIBUTES = (NAME_ATTR, ADDRESS_ATTR) = ("name", "address")

    properties_schema = {
        NAME: name_property("the machine, and of its host"),
        ADDRESS: properties.Schema(
            properties.Schema.STRING,
            _("Address, of a Local::Address for instance; the next free one if left out."),
        ),
        USER_DATA: properties.Schema(properties.Schema.STRING, _("What cloud-init reads."), default=""),
    }
    attributes_schema = {
        NAME_ATTR: attributes.Schema(_("Name of the host."), type=attributes.Schema.STRING),
        ADDRESS_ATTR: attributes.Schema(_("Address of the host."), type=attributes.Schema.STRING),
    }

    def handle_create(self):
        """Boot the machine. Its id is kept before it is asked for, so that whatever happens, it can be deleted."""
        self.resource_id_set(str(uuid.uuid4()))
        wanted = {
            "id": self.resource_id,
            "name": self.properties[self.NAME],
            "user_data": self.properties[self.USER_DATA],
            "address": self.properties[self.ADDRESS] or "",
        }
        call("POST", "/machines", wanted)
        return self.resource_id

    def check_create_complete(self, machine_id):
        """Say whether the machine runs; one that is gone or off again has failed."""
        return self._running(machine_id)

    def handle_check(self):
        """Confirm that the machine still runs."""
        self._running(self.resource_id)

    def handle_delete(self):
        """End the machine; one that is gone already is well."""
        if self.resource_id is not None:
            call("DELETE", f"/machines/{self.resource_id}")

    def prepare_for_replace(self):
        """End the old machine before the new one boots: both have the same name, and often the same address."""
        self.handle_delete()

    def _running(self, machine_id):
        machine = call("GET", f"/machines/{machine_id}")
        if machine is None:
            raise exception.EntityNotFound(entity="Local::Machine", name=machine_id)
        if machine["state"] != "running":
            raise exception.ResourceUnknownStatus(
                resource_status=machine["state"], status_reason=_("see inv local.logs %s") % machine["name"]
            )
        return True

    def _resolve_attribute(self, name):
        if self.resource_id is None:
            return None
        machine = call("GET", f"/machines/{self.resource_id}")
        return machine[name] if machine else None


class LocalAddress(resource.Resource):
    """An address kept for someone, known before the machine that will have it."""

    PROPERTIES = (NAME,) = ("name",)
    ATTRIBUTES = (IP_ADDRESS,) = ("ip_address",)

    properties_schema = {NAME: name_property("the address")}
    attributes_schema = {
        IP_ADDRESS: attributes.Schema(_("The address."), type=attributes.Schema.STRING),
    }

    def handle_create(self):
        """Reserve the address, with an id kept before it is asked for."""
        self.resource_id_set(str(uuid.uuid4()))
        call("POST", "/addresses", {"id": self.resource_id, "name": self.properties[self.NAME]})

    def handle_delete(self):
        """Give the address back."""
        if self.resource_id is not None:
            call("DELETE", f"/addresses/{self.resource_id}")

    def _resolve_attribute(self, name):
        if self.resource_id is None:
            return None
        reserved = call("GET", f"/addresses/{self.resource_id}")
        return reserved["address"] if reserved else None


class LocalNetwork(resource.Resource):
    """The network every machine is in. There is one, so creating and deleting it changes nothing."""

    PROPERTIES = (NAME,) = ("name",)
    ATTRIBUTES = (CIDR, GATEWAY) = ("cidr", "gateway")

    properties_schema = {NAME: name_property("the network, for people")}
    attributes_schema = {
        CIDR: attributes.Schema(_("The network, in CIDR notation."), type=attributes.Schema.STRING),
        GATEWAY: attributes.Schema(_("The machine's own address in it."), type=attributes.Schema.STRING),
    }

    def handle_create(self):
        """Confirm that the network is there."""
        self.resource_id_set(call("GET", "/network")["cidr"])

    def handle_delete(self):
        """Leave the network: it belongs to the cloud."""

    def _resolve_attribute(self, name):
        return call("GET", "/network")[name]


def resource_mapping():
    """Tell Heat what there is."""
    return {
        "Local::Machine": LocalMachine,
        "Local::Address": LocalAddress,
        "Local::Network": LocalNetwork,
    }
