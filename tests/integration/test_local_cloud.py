"""The local cloud for real: a stack boots a host, the host signals its keys, SSH gets in, nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import openstack
import pytest
from heatclient import client
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

from pipeline.edges.clock import SystemClock, wait_until
from pipeline.localcloud import LocalCloud, cgroups, down, load, logs, mounts, network, status, up
from pipeline.localcloud import cloud as records

pytestmark = pytest.mark.integration

USER_DATA = """#cloud-config
locale: C.UTF-8
users:
- name: pipeline
  sudo: ALL=(ALL) NOPASSWD:ALL
  shell: /bin/bash
  ssh_authorized_keys: ["$key"]
write_files:
- path: /root/signal
  permissions: "0700"
  content: |
    #!/bin/sh
    printf '{"Status":"SUCCESS","UniqueId":"ed25519","Reason":"up","Data":"%s"}' \\
        "$(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)" >/root/body
    curl --silent --show-error --fail -X PUT -H 'Content-Type:' --data-binary @/root/body "$url"
runcmd:
- /root/signal
"""
HARDENED = """[Service]
ExecStart=/bin/sleep 600
KillMode=mixed
TimeoutStopSec=20
User=nobody
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
"""


def template(name: str, key: str) -> dict[str, Any]:
    machine = {
        "name": name,
        "address": {"get_attr": ["address", "ip_address"]},
        "user_data": {
            "str_replace": {"params": {"$url": {"get_resource": "handle"}, "$key": key}, "template": USER_DATA}
        },
    }
    condition = {"Handle": {"get_resource": "handle"}, "Timeout": 180, "Count": 1}
    return {
        "heat_template_version": "2021-04-16",
        "resources": {
            "network": {"type": "Local::Network", "properties": {"name": name}},
            "address": {"type": "Local::Address", "properties": {"name": name}},
            "handle": {"type": "AWS::CloudFormation::WaitConditionHandle"},
            "machine": {"type": "Local::Machine", "properties": machine},
            "up": {
                "type": "AWS::CloudFormation::WaitCondition",
                "depends_on": "machine",
                "properties": condition,
            },
        },
        "outputs": {
            "address": {"value": {"get_attr": ["machine", "address"]}},
            "cidr": {"value": {"get_attr": ["network", "cidr"]}},
            "keys": {"value": {"get_attr": ["up", "Data"]}},
        },
    }


def config_of(cloud: LocalCloud) -> Any:
    return openstack.config.OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one(cloud.cloud)


def heat_of(cloud: LocalCloud) -> client.Client:
    session = config_of(cloud).get_session()
    return client.Client("1", session=session, region_name=cloud.region, service_type="orchestration")


def settled(heat: client.Client, name: str) -> Any:
    def answer() -> Any:
        stack = heat.stacks.get(name)
        return None if stack.stack_status.endswith("IN_PROGRESS") else stack

    return wait_until(answer, SystemClock(), timeout=240, what=f"stack {name}")


def gone(heat: client.Client, name: str) -> bool:
    return name not in {stack.stack_name for stack in heat.stacks.list()}


class Shell:
    """A login on a host that accepts only the key that the host signalled."""

    def __init__(self, directory: Path, identity: Path, stack: Any) -> None:
        outputs = {output["output_key"]: output["output_value"] for output in stack.outputs}
        self.address = outputs["address"]
        known = directory / "known_hosts"
        known.write_text(f"{self.address} {json.loads(outputs['keys'])['ed25519']}\n")
        self._ssh = [
            "ssh", "-q", "-i", str(identity), "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", f"pipeline@{self.address}",
        ]  # fmt: skip

    def run(self, command: str, stdin: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [*self._ssh, command], input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout.strip()


@pytest.fixture(scope="module")
def heat(cloud: LocalCloud) -> client.Client:
    return heat_of(cloud)


@pytest.fixture(scope="module")
def host(heat: client.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Shell]]:
    directory = tmp_path_factory.mktemp("ssh")
    identity = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(identity)], check=True)
    name = f"probe-{uuid.uuid4().hex[:8]}"
    key = identity.with_suffix(".pub").read_text().strip()
    heat.stacks.create(stack_name=name, template=template(name, key))
    try:
        stack = settled(heat, name)
        assert stack.stack_status == "CREATE_COMPLETE", stack.stack_status_reason
        yield name, Shell(directory, identity, stack)
    finally:
        heat.stacks.delete(name)
        wait_until(lambda: gone(heat, name), SystemClock(), timeout=60, what=f"stack {name} to go")


def test_a_fresh_host_runs_with_no_failed_unit(host: tuple[str, Shell]) -> None:
    _, shell = host
    assert shell.run("systemctl is-system-running --wait") == (0, "running")
    assert shell.run("systemctl --failed --no-legend") == (0, "")


def test_a_host_knows_its_own_name(host: tuple[str, Shell]) -> None:
    name, shell = host
    assert shell.run("hostname") == (0, name)
    assert shell.run("getent hosts $(hostname)")[1].split() == [shell.address, name]


def test_hardened_units_start_and_stop_whole(host: tuple[str, Shell]) -> None:
    _, shell = host
    shell.run("sudo tee /etc/systemd/system/probe.service", HARDENED)
    assert shell.run("sudo systemctl start probe && systemctl is-active probe") == (0, "active")
    assert shell.run("sudo systemctl stop probe; systemctl is-active probe; pgrep -u nobody")[1] == "inactive"
    assert shell.run("sudo systemd-run --quiet --wait --pipe -p User=nobody id -un") == (0, "nobody")


def test_the_programs_of_every_role_start(host: tuple[str, Shell]) -> None:
    _, shell = host
    assert shell.run("sudo systemctl start mariadb haproxy rabbitmq-server") == (0, "")
    assert shell.run("sudo mariadb --skip-column-names --execute 'SELECT 1'") == (0, "1")
    assert shell.run("sudo rabbitmqctl --quiet await_startup")[0] == 0
    assert shell.run("systemctl --failed --no-legend") == (0, "")


def test_a_host_reaches_the_services_and_nothing_beyond(cloud: LocalCloud, host: tuple[str, Shell]) -> None:
    _, shell = host
    assert shell.run(f"curl --silent --fail --output /dev/null {cloud.keystone_url}")[0] == 0
    status_, _ = shell.run("curl --silent --max-time 5 http://192.0.2.1/")
    assert status_ == 7  # cannot connect, at once; 28 would be a time-out


def test_a_rebooted_host_comes_back_with_its_disk(host: tuple[str, Shell]) -> None:
    _, shell = host
    _, before = shell.run("touch kept; cat /proc/sys/kernel/random/boot_id")
    shell.run("sudo systemctl reboot")

    def back() -> bool:
        code, after = shell.run("cat /proc/sys/kernel/random/boot_id")
        return code == 0 and after != before

    wait_until(back, SystemClock(), timeout=60, what="the host to boot again")
    assert shell.run("ls kept; systemctl is-system-running --wait") == (0, "kept\nrunning")


def test_a_second_machine_of_the_same_name_is_refused_by_name(heat: client.Client, host: tuple[str, Shell]) -> None:
    name, _ = host
    stack = f"second-{name}"
    machine = {"type": "Local::Machine", "properties": {"name": name}}
    heat.stacks.create(stack_name=stack, template={"heat_template_version": "2021-04-16", "resources": {"m": machine}})
    found = settled(heat, stack)
    heat.stacks.delete(stack)
    wait_until(lambda: gone(heat, stack), SystemClock(), timeout=60, what="the stack to go")
    assert found.stack_status == "CREATE_FAILED"
    assert repr(name) in found.stack_status_reason


def test_status_and_logs_tell_of_services_and_hosts(cloud: LocalCloud, host: tuple[str, Shell]) -> None:
    name, shell = host
    found = status(cloud.directory)
    assert found.healthy
    assert {service.name for service in found.services} == {"mariadb", "keystone", "seed", "machines"}
    assert (name, shell.address, "running") in {(known.name, known.address, known.state) for known in found.hosts}
    assert logs(cloud.directory, "seed").stat().st_size > 0
    console = logs(cloud.directory, name).read_text()
    assert "Started ssh.service" in console
    assert "Cloud-init v." in console


def test_a_request_is_judged_by_its_own_token_whatever_others_ask_beside_it(cloud: LocalCloud) -> None:
    config = config_of(cloud)
    project, auth = config.get_session(), config.get_auth_args()
    keystone, me = f"{auth['auth_url'].removesuffix('/v3')}/v3", project.get_user_id()
    (admin,) = project.get(f"{keystone}/roles", params={"name": "admin"}).json()["roles"]
    granted = f"{keystone}/domains/default/users/{me}/roles/{admin['id']}"
    project.put(granted)
    login = {key: auth[key] for key in ("auth_url", "username", "password", "user_domain_name")}
    domain = Session(Password(**login, domain_name="Default"))
    over = threading.Event()

    def ask_of_the_domain() -> None:
        while not over.is_set():
            domain.get(f"{keystone}/domains/default")

    def list_trusts(_: int) -> int:  # no token of a domain may
        answer = project.get(f"{keystone}/OS-TRUST/trusts", params={"trustor_user_id": me}, raise_exc=False)
        return int(answer.status_code)

    with ThreadPoolExecutor(8) as threads:
        others = [threads.submit(ask_of_the_domain) for _ in range(4)]
        try:
            answers = list(threads.map(list_trusts, range(200)))
        finally:
            over.set()
        for other in others:
            other.result()
    project.delete(granted)
    assert answers == [200] * 200


def test_the_machines_service_refuses_whoever_has_no_token(cloud: LocalCloud) -> None:
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{cloud.machines_url}/machines", timeout=5)  # noqa: S310 (our own http URL)


def test_up_is_idempotent_and_hosts_outlive_it(cloud: LocalCloud, host: tuple[str, Shell]) -> None:
    before = {service.name: service.pid for service in status(cloud.directory).services}
    assert up(cloud.directory, report=print) == cloud
    assert {service.name: service.pid for service in status(cloud.directory).services} == before
    assert host[1].run("true")[0] == 0


def test_up_goes_on_after_a_kill_and_down_leaves_nothing(tmp_path: Path) -> None:
    """A second cloud beside the shared one: killed twice on its way up, then up, then down."""
    directory = tmp_path / "cloud"
    program = (
        "import sys; from pathlib import Path; from pipeline.localcloud import up; up(Path(sys.argv[1]), report=print)"
    )
    for seconds in (1.0, 4.0):
        with subprocess.Popen([sys.executable, "-c", program, str(directory)], stdout=subprocess.DEVNULL) as run:
            time.sleep(seconds)
            run.kill()
    try:
        cloud = up(directory, report=print)
        assert status(directory).healthy
        assert heat_of(cloud).stacks.list() is not None
    finally:
        down(directory, report=print)
    assert_nothing_left(cloud)


def assert_nothing_left(cloud: LocalCloud) -> None:
    assert not cloud.directory.exists()
    assert not cloud.run_directory.exists()
    assert load(cloud.directory) is None
    assert network.namespaces(cloud) == ()
    assert cloud.network not in network.taken()
    assert mounts.below(cloud.directory) == ()
    assert not any(root.exists() for root in cgroups.find(cloud.name).roots)
    assert records.tag(cloud.directory) not in Path("/proc/self/mountinfo").read_text()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert str(cloud.directory) not in (process / "cmdline").read_text(errors="replace")
        except FileNotFoundError:
            continue
