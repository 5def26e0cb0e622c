"""The cloud's network: a bridge in a network namespace of its own, and one namespace for each host.

The bridge does not stand in the machine's own namespace because there, on a machine with Docker, the machine's firewall
would also judge frames between two hosts. The machine has one leg in the network, with the gateway's address.
"""

from __future__ import annotations

import json
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from pipeline.errors import CommandFailed
from pipeline.localcloud.cloud import PREFIX, LocalCloud
from pipeline.localcloud.system import run

__all__ = ["clouds", "connect", "disconnect", "ensure", "namespaces", "ready", "remove", "taken"]

NAMESPACES = Path("/run/netns")
BRIDGE = "bridge"  # its name inside the namespace


def taken() -> tuple[IPv4Network, ...]:
    """Return the networks of this machine's interfaces."""
    links = json.loads(run("ip", "-json", "-4", "address", "show"))
    return tuple(
        IPv4Interface(f"{entry['local']}/{entry['prefixlen']}").network
        for link in links
        for entry in link.get("addr_info", ())
        if "local" in entry
    )


def clouds() -> tuple[str, ...]:
    """Return the names of the clouds that have a leg on this machine, of whichever checkout they are."""
    return tuple(name for _, name in socket.if_nameindex() if name.startswith(PREFIX))


def ready(cloud: LocalCloud) -> bool:
    """Return whether the machine's leg is there, with its address, and up."""
    try:
        links = json.loads(run("ip", "-json", "-4", "address", "show", "dev", cloud.bridge, "up"))
    except CommandFailed:
        return False
    addresses = [entry.get("local") for link in links for entry in link.get("addr_info", ())]
    return cloud.gateway in addresses


def ensure(cloud: LocalCloud) -> None:
    """Have the bridge and the machine's leg. What an earlier, killed run left half-made is made anew."""
    if ready(cloud):
        return
    _delete_namespace(cloud.name)
    _delete_link(cloud.bridge)
    run("ip", "netns", "add", cloud.name)
    _batch(
        f"link add {BRIDGE} type bridge forward_delay 0",
        f"link set {BRIDGE} up",
        f"link add uplink type veth peer name {cloud.bridge} netns 1",
        f"link set uplink master {BRIDGE} up",
        namespace=cloud.name,
    )
    # The address comes last: it is what `ready` asks for.
    _batch(
        f"link set {cloud.bridge} up",
        f"address add {cloud.gateway}/{cloud.network.prefixlen} dev {cloud.bridge}",
    )


def connect(cloud: LocalCloud, host: str, address: IPv4Address) -> str:
    """Give `host` a namespace with `address` on its eth0, and return the namespace's name."""
    name = f"{cloud.name}-{host}"
    _delete_namespace(name)
    port = f"p{address.packed[-1]}"
    _delete_link(port, namespace=cloud.name)
    run("ip", "netns", "add", name)
    run("ip", "-n", cloud.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
    _batch(f"link set {port} master {BRIDGE} up", namespace=cloud.name)
    _batch(
        "link set lo up",
        f"address add {address}/{cloud.network.prefixlen} dev eth0",
        "link set eth0 up",
        # Nothing is behind the gateway: said at once, no program on a host waits for an answer that cannot come, and
        # none gets out by way of a machine that forwards packets.
        "route add unreachable default",
        namespace=name,
    )
    return name


def disconnect(cloud: LocalCloud, host: str) -> None:
    """Take the namespace of `host` away, and its cable with it. None there is well."""
    _delete_namespace(f"{cloud.name}-{host}")


def namespaces(cloud: LocalCloud) -> tuple[str, ...]:
    """Return the cloud's namespaces: the bridge's and those of hosts."""
    if not NAMESPACES.is_dir():
        return ()
    names = (path.name for path in NAMESPACES.iterdir())
    return tuple(sorted(name for name in names if name == cloud.name or name.startswith(f"{cloud.name}-")))


def remove(cloud: LocalCloud) -> None:
    """Remove every namespace and interface of the cloud."""
    for name in namespaces(cloud):
        _delete_namespace(name)
    _delete_link(cloud.bridge)


def _batch(*commands: str, namespace: str = "") -> None:
    where = ("-n", namespace) if namespace else ()
    run("ip", *where, "-batch", "-", stdin="\n".join(commands) + "\n")


def _delete_namespace(name: str) -> None:
    if (NAMESPACES / name).exists():
        try:
            run("ip", "netns", "delete", name)
        except CommandFailed:
            # A run killed between making the file and mounting the namespace on it leaves a plain file.
            (NAMESPACES / name).unlink(missing_ok=True)


def _delete_link(name: str, namespace: str = "") -> None:
    where = ("-n", namespace) if namespace else ()
    try:
        run("ip", *where, "link", "delete", name)
    except CommandFailed as error:
        if "Cannot find device" not in error.stderr:
            raise
