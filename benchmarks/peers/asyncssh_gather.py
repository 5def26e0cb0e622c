"""asyncssh: all hosts at once on one event loop."""

from __future__ import annotations

import asyncio

import asyncssh

from benchmarks.peers.work import Work, given


async def main() -> None:
    """Do the given work."""
    work = given()
    printed = await asyncio.gather(*(_host(work, name, address) for name, address in work.hosts.items()))
    if not work.source:
        work.save(dict(zip(work.hosts, printed, strict=True)))


async def _host(work: Work, name: str, address: str) -> list[str]:
    login = {"port": work.port, "username": work.user, "client_keys": [work.key], "known_hosts": work.known_hosts}
    async with asyncssh.connect(address, config=None, agent_path=None, **login) as connection:
        if work.source:
            async with connection.start_sftp_client() as sftp:
                await sftp.put(work.source, work.target(name))
            return []
        return [(await connection.run(command, check=True)).stdout for command in work.commands]


if __name__ == "__main__":
    asyncio.run(main())
