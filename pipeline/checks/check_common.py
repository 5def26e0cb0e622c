"""What holds for every host: it booted well, its clock is right, and it runs, holds and listens to what it should."""

from __future__ import annotations

import shlex
from typing import Any

from pipeline.checks.expectation import answer, differences, expect
from pipeline.checks.listening import exposed, role_listens, sockets
from pipeline.checks.processes import unit_properties
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.hostfiles import UNITS, HostFile, release_files, role_files
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

ROLES = tuple(Role)

_SKEW = 2.0  # seconds; Keystone's tokens and the engines' rows are compared by the clock
_FREE_MIB = 1024  # what installing the next release takes, with room for logs


def check_no_unit_failed(host: Any) -> None:
    """No unit is failed."""
    failed = answer(host, "systemctl list-units --failed --plain --no-legend")
    names = [line.split()[0] for line in failed.splitlines() if line.strip()]
    expect(not names, expected="no failed unit", found=", ".join(names), likely=f"journalctl -u {' -u '.join(names)}")


def check_system_is_running(host: Any) -> None:
    """The host finished booting and systemd is content."""
    state = host.run("systemctl is-system-running").stdout.strip()
    causes = {"degraded": "a unit failed", "starting": "a job never ends: systemctl list-jobs"}
    likely = causes.get(state, "the host is going down, or in rescue mode")
    expect(state == "running", expected="system state running", found=state, likely=likely)


def check_clock_is_right(target: Host, survey: Survey) -> None:
    """The clock is the controller's and every other host's, within two seconds."""
    offsets = dict(survey.clock_offsets())
    own = offsets.pop(target.name, None)
    expect(own is not None, expected="its time", found="no answer", likely="the host cannot be reached")
    own = own or 0.0
    far = max(offsets, key=lambda name: abs(offsets[name] - own), default=target.name)
    apart = abs(offsets.get(far, own) - own)
    expect(
        abs(own) < _SKEW and apart < _SKEW,
        expected=f"a clock within {_SKEW:.0f} s of the controller and of every host",
        found=f"{own:+.1f} s from the controller, {apart:.1f} s from {far}",
        likely="no time synchronisation there, or on the other side: timedatectl",
    )


def check_disk_has_room(host: Any) -> None:
    """There is room to work and to install the next release."""
    places = "df --output=avail,target -B1M / /opt /var/lib"
    lines = [line.split() for line in answer(host, places).splitlines()[1:]]
    short = sorted({f"{free} MiB on {where}" for free, where in lines if int(free) < _FREE_MIB})
    likely = "old releases in /opt/heat/releases, backups or logs: du -xsh /opt/heat /var/backups /var/log"
    expect(not short, expected=f"{_FREE_MIB} MiB free", found=", ".join(short), likely=likely)


def check_name_is_its_own(host: Any, target: Host, site: Site) -> None:
    """The host is the one that the inventory says answers at its address."""
    name = answer(host, "hostname --short").strip()
    expected = f"{site.environment.name}-{target.name}"
    likely = f"another machine answers at {target.address}, or it was renamed"
    expect(name == expected, expected=f"host name {expected}", found=name, likely=likely)


def check_login_is_not_root_and_may_become_it(target: Host, site: Site) -> None:
    """The pipeline logs in as an ordinary user that may become root, without a password."""
    result = site.remote.run(target, "id -un; sudo -n id -un", root=False, check=False, timeout=60)
    user = site.environment.ssh.user
    expected = f"login as {user}, who becomes root by sudo"
    likely = "cloud-init's user data or /etc/sudoers.d was changed"
    expect(result.stdout.split() == [user, "root"], expected=expected, found=result.stdout.split(), likely=likely)


def check_units_are_enabled_and_active(host: Any, target: Host) -> None:
    """The role's units run, start at boot, and run as their files on disk say."""
    wanted = {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    for unit in UNITS[target.role]:
        found = differences(wanted, unit_properties(host, unit))
        likely = f"it was stopped, disabled or fails to start: journalctl -u {unit} on {target.name}"
        expect(not found, expected=f"{unit} active, enabled and not changed on disk", found=found, likely=likely)


def check_files_are_as_rendered(host: Any, target: Host, site: Site, release: Release, vhost: str) -> None:
    """Every file the pipeline writes has the content, mode and owner it renders now. Only digests are compared."""
    files = _files(target, site, release, vhost)
    described = answer(host, _DESCRIBE % shlex.join(file.path for file in files))
    found = {path: rest for path, _, rest in (line.partition(" ") for line in described.splitlines())}
    told = ((file.path, _how(file, found.get(file.path, ""))) for file in files)
    wrong = [f"{path} {how}" for path, how in told if how]
    expect(
        not wrong,
        expected=f"{len(files)} files as rendered for {release.id}",
        found=", ".join(wrong),
        likely=f"changed by hand, or templates and environment moved on since: inv deploy {site.environment.name}",
    )


def check_nothing_unexpected_listens(host: Any, target: Host, site: Site) -> None:
    """Only ssh and the role's own ports are open to the network."""
    found = exposed(sockets(host), target, site.environment)
    likely = "a service is bound to every address, or does not belong on this host"
    expect(not found, expected="only ssh and the role's ports beyond loopback", found=", ".join(found), likely=likely)


def check_listens_where_expected(host: Any, target: Host, site: Site) -> None:
    """The role's ports are open on the host's own address."""
    listening = {(one.address, one.port) for one in sockets(host)}
    wanted = role_listens(target, site.environment)
    missing = [f"{address}:{port}" for address, port in wanted if (address, port) not in listening]
    likely = f"{' or '.join(UNITS[target.role])} is down, or bound to another address"
    expect(not missing, expected="its ports open", found=f"closed: {', '.join(missing)}", likely=likely)


# File by file: its path, then mode, owner and digest; a file that is missing has no line.
_DESCRIBE = """\
for file in %s; do
    [ -f "$file" ] && echo "$file $(stat -c '%%a %%U:%%G' "$file") $(sha256sum <"$file" | cut -c 1-64)"
done
true"""


def _files(target: Host, site: Site, release: Release, vhost: str) -> tuple[HostFile, ...]:
    files = role_files(target, site.environment, site.region, site.templates)
    if target.role in (Role.ENGINE, Role.API):
        files += release_files(target, site.environment, site.region, release, vhost, site.templates)
    return files


def _how(file: HostFile, found: str) -> str:
    """Return how a file differs from what is rendered, "" where it does not."""
    if not found:
        return "is missing"
    mode, owner, digest = found.split()
    wrong = []
    if int(mode, 8) != int(file.mode, 8) or owner != file.owner:
        wrong.append(f"is {mode} {owner} instead of {file.mode} {file.owner}")
    if digest != file.digest:
        wrong.append("has another content")
    return " and ".join(wrong)
