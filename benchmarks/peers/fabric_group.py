"""Fabric: a ThreadingGroup, command after command."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from fabric import Config, ThreadingGroup

from benchmarks.peers.work import Work, given


def main() -> None:
    """Do the given work."""
    work = given()
    group = ThreadingGroup(
        *work.hosts.values(),
        user=work.user,
        port=work.port,
        connect_kwargs={"key_filename": work.key, "look_for_keys": False, "allow_agent": False},
        config=Config(overrides={"load_ssh_configs": False}),
    )
    for connection in group:
        connection.client.load_host_keys(work.known_hosts)
    with group:
        if work.source:
            _put(group, work)
        else:
            _run(group, work)


def _run(group: ThreadingGroup, work: Work) -> None:
    printed: dict[str, list[str]] = {name: [] for name in work.hosts}
    for command in work.commands:
        results = {connection.host: result.stdout for connection, result in group.run(command, hide=True).items()}
        for name, address in work.hosts.items():
            printed[name].append(results[address])
    work.save(printed)


def _put(group: ThreadingGroup, work: Work) -> None:
    # A group's own put gives every host the same path.
    with ThreadPoolExecutor(len(group)) as pool:
        list(pool.map(lambda one, name: one.put(work.source, work.target(name)), group, work.hosts))


if __name__ == "__main__":
    main()
