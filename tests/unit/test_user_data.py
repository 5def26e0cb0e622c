"""What hosts do at their first boot: the script that mounts a volume for data, run for real on a disk in a file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from builders import LOCAL, TEMPLATES

from pipeline.environment import Environment, Role
from pipeline.render import render
from tests.regions import openstack_region

ID = "0f6a6a52-9d1e-4c6b-8f5e-2d1f3c4b5a69"
TOOLS = ("blkid", "mkfs.ext4")
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def user_data(role: Role, environment: Environment | None = None) -> dict[str, object]:
    """Return the cloud-config of the first host of a role."""
    stacks = {stack.name: stack for stack in render(environment or openstack_region(), TEMPLATES)}
    host = yaml.safe_load(stacks[role.value].template)["resources"][f"{role.value}-0"]
    text = host["properties"]["user_data"]["str_replace"]["template"]
    assert text.startswith("#cloud-config\n")
    content: dict[str, object] = yaml.safe_load(text)
    return content


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return the root of a machine with the tools of any Debian or Ubuntu, but for those that change the machine."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SBIN) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    for directory in ("bin", "etc", "dev/disk/by-id"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/fstab").touch()
    for tool in ("mount", "systemctl", "sleep", "rmdir"):
        (tmp_path / "bin" / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>{tmp_path}/did\n')
        (tmp_path / "bin" / tool).chmod(0o755)
    return tmp_path


def _disk(machine: Path, megabytes: int = 8) -> Path:
    disk = machine / "dev/disk/by-id" / f"virtio-{ID[:20]}"
    with disk.open("wb") as stream:
        stream.truncate(megabytes * 2**20)
    return disk


def _boot(machine: Path, role: Role = Role.DATABASE) -> str:
    """Run the boot command on the machine; return what it did there that a test must not."""
    (script,) = user_data(role)["bootcmd"]  # type: ignore[misc]
    for path in ("/etc/fstab", "/dev/disk", "/var/lib"):
        script = script.replace(path, f"{machine}{path}")
    script = script.replace("$DATA_VOLUME", ID)
    environment = {"PATH": f"{machine}/bin:{SBIN}"}
    subprocess.run(["sh", "-c", script], check=False, env=environment, capture_output=True, timeout=60)
    did = machine / "did"
    return did.read_text() if did.exists() else ""


def _kind(disk: Path) -> str:
    command = ["blkid", "-p", "-o", "value", "-s", "TYPE", str(disk)]
    return subprocess.run(command, env={"PATH": SBIN}, capture_output=True, text=True, check=False).stdout.strip()


def test_a_blank_volume_is_formatted_and_mounted_where_the_service_keeps_its_data(machine: Path) -> None:
    disk = _disk(machine)
    assert f"mount {machine}/var/lib/mysql\n" in _boot(machine)
    assert _kind(disk) == "ext4"
    fields = (machine / "etc/fstab").read_text().split()
    assert fields[1:3] == [f"{machine}/var/lib/mysql", "ext4"]
    assert "x-systemd.required-by=mariadb.service" in fields[3].split(",")


def test_a_volume_with_data_on_it_is_mounted_as_it_is(machine: Path) -> None:
    disk = _disk(machine)
    _boot(machine)
    before = disk.read_bytes()
    (machine / "etc/fstab").write_text("")  # a new server that was given the volume of the one before
    assert f"mount {machine}/var/lib/mysql\n" in _boot(machine)
    assert disk.read_bytes() == before


def test_another_boot_changes_nothing(machine: Path) -> None:
    _disk(machine)
    _boot(machine)
    (machine / "did").unlink()
    fstab = (machine / "etc/fstab").read_text()
    assert _boot(machine) == ""
    assert (machine / "etc/fstab").read_text() == fstab


def test_what_may_be_two_things_at_once_is_never_formatted(machine: Path) -> None:
    disk = _disk(machine)
    _boot(machine)
    with disk.open("r+b") as stream:  # the mark of a swap beside that of ext4: blkid ends with 8
        stream.seek(4086)
        stream.write(b"SWAPSPACE2")
    before = disk.read_bytes()
    (machine / "etc/fstab").write_text("")
    _boot(machine)
    assert disk.read_bytes() == before


def test_a_volume_that_never_comes_is_waited_for_and_not_made_up(machine: Path) -> None:
    did = _boot(machine)
    assert did.count("sleep 1\n") == 300
    assert "mount" not in did
    assert (machine / "etc/fstab").read_text() == ""


@pytest.mark.parametrize(
    ("role", "directory"), [(Role.DATABASE, "/var/lib/mysql"), (Role.MESSAGING, "/var/lib/rabbitmq")]
)
def test_a_host_without_its_volume_signals_that_it_failed(role: Role, directory: str, tmp_path: Path) -> None:
    content = user_data(role)
    (signal,) = (file["content"] for file in content["write_files"] if file["path"].endswith(".py"))  # type: ignore[attr-defined]
    (tmp_path / "signal.py").write_text(signal)
    unmounted = content["runcmd"][0].replace("/run/", f"{tmp_path}/")  # type: ignore[index]
    subprocess.run(["sh", "-c", f"mountpoint() {{ false; }}\n{unmounted}"], check=True)
    told = subprocess.run(["python3", str(tmp_path / "signal.py")], capture_output=True, text=True, check=True).stdout
    assert '"Status": "FAILURE"' in told
    assert f'"Reason": "no data volume at {directory}"' in told


@pytest.mark.parametrize("role", [Role.API, Role.ENGINE, Role.LOADBALANCER])
def test_hosts_that_keep_nothing_mount_nothing(role: Role) -> None:
    assert "bootcmd" not in user_data(role)


def test_the_local_cloud_has_no_volumes_and_all_packages() -> None:
    for role in Role:
        assert not {"bootcmd", "packages"} & set(user_data(role, LOCAL))


def test_packages_are_those_that_debian_and_ubuntu_both_call_so() -> None:
    common = {"curl", "socat", "python3", "python3-venv"}
    services = {Role.DATABASE: {"mariadb-server"}, Role.MESSAGING: {"rabbitmq-server"}, Role.LOADBALANCER: {"haproxy"}}
    for role in Role:
        assert set(user_data(role)["packages"]) == common | services.get(role, set())  # type: ignore[call-overload]
