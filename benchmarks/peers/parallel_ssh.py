"""parallel-ssh: its native client, command after command."""

from __future__ import annotations

from gevent import joinall
from pssh.clients import ParallelSSHClient

from benchmarks.peers.work import Work, given


def main() -> None:
    """Do the given work."""
    work = given()
    client = ParallelSSHClient(
        list(work.hosts.values()), user=work.user, port=work.port, pkey=work.key, pool_size=len(work.hosts)
    )
    if work.source:
        targets = [{"local_file": work.source, "remote_file": work.target(name)} for name in work.hosts]
        joinall(client.copy_file("%(local_file)s", "%(remote_file)s", copy_args=targets), raise_error=True)
    else:
        _run(client, work)


def _run(client: ParallelSSHClient, work: Work) -> None:
    names = {address: name for name, address in work.hosts.items()}
    printed: dict[str, list[str]] = {name: [] for name in work.hosts}
    for command in work.commands:
        for output in client.run_command(command):
            printed[names[output.host]].append("\n".join(output.stdout))
            if output.exit_code != 0:
                raise SystemExit(f"{output.host}: status {output.exit_code}")
    work.save(printed)


if __name__ == "__main__":
    main()
