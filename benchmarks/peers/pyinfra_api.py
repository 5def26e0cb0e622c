"""pyinfra: its API, one operation per command, all hosts of an operation at once."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

from pyinfra.api import Config, Inventory, State  # noqa: E402 (gevent first, as pyinfra's documents say)
from pyinfra.api.connect import connect_all, disconnect_all  # noqa: E402
from pyinfra.api.operation import add_op  # noqa: E402
from pyinfra.api.operations import run_ops  # noqa: E402
from pyinfra.operations import files, server  # noqa: E402

from benchmarks.peers.work import Work, given  # noqa: E402


def main() -> None:
    """Do the given work."""
    work = given()
    login = {
        "ssh_port": work.port,
        "ssh_user": work.user,
        "ssh_key": work.key,
        "ssh_known_hosts_file": work.known_hosts,
        "ssh_strict_host_key_checking": "yes",
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
    }
    hosts = [(name, {"ssh_hostname": address}) for name, address in work.hosts.items()]
    state = State(Inventory((hosts, login)), Config(PARALLEL=len(hosts), CONNECT_TIMEOUT=60, FAIL_PERCENT=0))
    connect_all(state)
    if work.source:
        _put(state, work)
    else:
        _run(state, work)
    disconnect_all(state)


def _run(state: State, work: Work) -> None:
    operations = [add_op(state, server.shell, commands=[command]) for command in work.commands]
    run_ops(state)
    work.save({host.name: [operation[host].stdout for operation in operations] for host in state.inventory})


def _put(state: State, work: Work) -> None:
    for host in state.inventory:
        add_op(state, files.put, src=work.source, dest=work.target(host.name), host=host)
    run_ops(state)


if __name__ == "__main__":
    main()
