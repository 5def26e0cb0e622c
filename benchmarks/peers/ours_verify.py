"""The pipeline's way to check hosts: testinfra over one connection per host, hosts in threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.checks import CHECKS
from benchmarks.peers.work import given
from pipeline.edges.parallel import on_each
from pipeline.edges.ssh import Result, SshRemote
from pipeline.edges.testinfra_backend import connected
from pipeline.environment import Role, Ssh
from pipeline.inventory import Host


class AsLogin(SshRemote):
    """An SshRemote that never asks for sudo: the user that logs in to these hosts is root."""

    def run(self, *arguments: Any, **options: Any) -> Result:
        """Run a script; see Remote.run."""
        return super().run(*arguments, **{**options, "root": False})


def main() -> None:
    """Check every host, and say how many checks passed, as pytest does."""
    work = given()
    hosts = [Host(name, Role.ENGINE, address, (work.host_keys[name],)) for name, address in work.hosts.items()]
    with AsLogin(Ssh(user=work.user, port=work.port), Path(work.key)) as remote:
        passed = sum(on_each(hosts, lambda host: _passed(connected(remote, host))))
    print(f"{passed} passed")


def _passed(host: object) -> int:
    """Run every check; one that fails ends the run with its traceback."""
    for check in CHECKS:
        check(host)
    return len(CHECKS)


if __name__ == "__main__":
    main()
