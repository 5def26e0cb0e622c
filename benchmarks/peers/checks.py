"""Twelve checks that hold on every host of a benchmark, as an operator of testinfra would write them."""

from __future__ import annotations

from typing import Any

__all__ = ["CHECKS"]


def test_the_users_are_listed_in_a_file_that_all_may_read(host: Any) -> None:
    """One file, three facts."""
    users = host.file("/etc/passwd")
    assert users.is_file
    assert users.user == "root"
    assert users.mode & 0o444 == 0o444


def test_the_passwords_are_not(host: Any) -> None:
    """The mode of a file."""
    assert host.file("/etc/shadow").mode & 0o007 == 0


def test_debian_is_what_it_says(host: Any) -> None:
    """The content of a file."""
    assert host.file("/etc/os-release").contains("^ID=")


def test_sshd_has_a_place_to_shut_itself_in(host: Any) -> None:
    """A directory and its owner."""
    place = host.file("/run/sshd")
    assert place.is_directory
    assert place.user == "root"


def test_root_is_root(host: Any) -> None:
    """A user."""
    root = host.user("root")
    assert root.uid == 0
    assert root.shell == "/bin/bash"


def test_sshd_has_a_user_of_its_own(host: Any) -> None:
    """A user without a shell."""
    assert host.user("sshd").shell == "/usr/sbin/nologin"


def test_there_is_a_group_for_root(host: Any) -> None:
    """A group."""
    assert host.group("root").gid == 0


def test_sshd_runs(host: Any) -> None:
    """Processes."""
    assert host.process.filter(comm="sshd", user="root")


def test_sshd_listens_where_we_logged_in(host: Any) -> None:
    """A socket; which one, the host says itself."""
    address, port = host.check_output("echo $SSH_CONNECTION").split()[2:]
    assert host.socket(f"tcp://{address}:{port}").is_listening


def test_bash_is_a_package(host: Any) -> None:
    """A package."""
    assert host.package("bash").is_installed


def test_run_is_a_file_system_in_memory(host: Any) -> None:
    """A mount."""
    assert host.mount_point("/run").filesystem == "tmpfs"


def test_a_command_ends_as_it_should(host: Any) -> None:
    """A command and its status."""
    assert host.run("id -u").stdout.strip() == "0"
    assert host.run("test -e /nowhere").rc == 1


CHECKS = tuple(check for name, check in sorted(globals().items()) if name.startswith("test_"))
"""All of them, for a runner that is not pytest."""
