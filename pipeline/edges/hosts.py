"""The fleet, asked of its hosts."""

from __future__ import annotations

from pipeline.edges.parallel import on_each
from pipeline.edges.ssh import Remote
from pipeline.environment import Role
from pipeline.errors import HostKeyRefused, HostUnreachable, PipelineError, PreflightUnreachable
from pipeline.fleet import Fleet, HostState, read_state, state_script
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host, Inventory

__all__ = ["observe", "visible"]


def observe(inventory: Inventory, remote: Remote) -> Fleet:
    """Return the fleet as its hosts describe it now, all asked at once.

    Raises PreflightUnreachable naming a host that did not answer: what cannot be seen is not guessed.
    """
    hosts = inventory.of(Role.API, Role.ENGINE)
    return Fleet(on_each(hosts, lambda host: _state(host, remote)))


def visible(inventory: Inventory, remote: Remote, *, without: type[PipelineError] = PipelineError) -> Fleet:
    """Return the fleet without the hosts that give no answer: what is checked one by one may be gone, or refuse us.

    Only those whose error is a `without` are left out; any other is raised. So is the first where none answers.
    """
    hosts = inventory.of(Role.API, Role.ENGINE)
    seen = on_each(hosts, lambda host: _seen(host, remote, without))
    states = tuple(one for one in seen if isinstance(one, HostState))
    errors = [one for one in seen if isinstance(one, PipelineError)]
    if errors and not states:
        raise errors[0]
    return Fleet(states)


def _seen(host: Host, remote: Remote, without: type[PipelineError]) -> HostState | PipelineError:
    try:
        return _state(host, remote)
    except without as error:
        return error


def _state(host: Host, remote: Remote) -> HostState:
    try:
        answer = remote.run(host, state_script(UNITS[host.role]), timeout=30)
    except (HostUnreachable, HostKeyRefused) as error:
        raise PreflightUnreachable(error.message, hint=error.hint) from error
    return read_state(host, answer.stdout)
