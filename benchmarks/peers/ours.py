"""The pipeline's own way: SshRemote, hosts in threads, as every stage uses it; or only a part of that.

With "handshakes" it connects and no more, with "startup" it does not even that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.work import Work, given
from pipeline.edges.parallel import on_each
from pipeline.edges.ssh import SshRemote
from pipeline.environment import Role, Ssh
from pipeline.inventory import Host


def main() -> None:
    """Do the given work, or only its handshakes."""
    work = given()
    hosts = [Host(name, Role.ENGINE, address, (work.host_keys[name],)) for name, address in work.hosts.items()]
    with SshRemote(Ssh(user=work.user, port=work.port), Path(work.key)) as remote:
        if sys.argv[2:] == ["startup"]:
            return
        if sys.argv[2:] == ["handshakes"]:
            on_each(hosts, remote.connect)
        elif work.source:
            on_each(hosts, lambda host: remote.put(host, Path(work.source), work.target(host.name)))
        else:
            printed = on_each(hosts, lambda host: _run(remote, host, work))
            work.save({host.name: texts for host, texts in zip(hosts, printed, strict=True)})


def _run(remote: SshRemote, host: Host, work: Work) -> list[str]:
    return [remote.run(host, command, root=False).stdout for command in work.commands]


if __name__ == "__main__":
    main()
