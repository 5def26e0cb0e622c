"""What holds for every host: it booted well, its clock is right, and it runs, holds and listens to what it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.checks import questions
from pipeline.checks.drift import diff, expected_files, how
from pipeline.checks.expectation import answer, differences, expect
from pipeline.checks.listening import exposed, role_listens, sockets
from pipeline.checks.masking import secrets_of
from pipeline.checks.processes import process_of, unit_properties
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.hostfiles import UNITS, HostFile
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

ROLES = tuple(Role)

_INODES_USED = 95  # percent
_FILES_USED = 0.8  # of what a process may open


def check_no_unit_failed(host: Any) -> None:
    """No unit is failed."""
    failed = answer(host, *questions.FAILED_UNITS)
    names = [line.split()[0] for line in failed.splitlines() if line.strip()]
    expect(not names, expected="no failed unit", found=", ".join(names), likely=f"journalctl -u {' -u '.join(names)}")


def check_system_is_running(host: Any) -> None:
    """The host finished booting and systemd is content."""
    state = host.run(*questions.SYSTEM_STATE).stdout.strip()
    causes = {"degraded": "a unit failed", "starting": "a job never ends: systemctl list-jobs"}
    likely = causes.get(state, "the host is going down, or in rescue mode")
    expect(state == "running", expected="system state running", found=state, likely=likely)


def check_clock_is_right(target: Host, site: Site, survey: Survey) -> None:
    """The clock is the controller's and every other host's, within the environment's verification.clock_skew."""
    skew = site.environment.verification.clock_skew
    offsets = dict(survey.clock_offsets())
    own = offsets.pop(target.name, None)
    expect(own is not None, expected="its time", found="no answer", likely="the host cannot be reached")
    own = own or 0.0
    far = max(offsets, key=lambda name: abs(offsets[name] - own), default=target.name)
    apart = abs(offsets.get(far, own) - own)
    expect(
        abs(own) < skew and apart < skew,
        expected=f"a clock within {skew:g} s of the controller and of every host",
        found=f"{own:+.1f} s from the controller, {apart:.1f} s from {far}",
        likely="no time synchronisation there, or on the other side: timedatectl",
    )


def check_disk_has_room(host: Any, target: Host, site: Site) -> None:
    """There is room, in bytes and in files, to work and to install the next release."""
    needed = site.environment.verification.free_mib
    lines = [line.split() for line in answer(host, *questions.disks(target)).splitlines()[1:]]
    short = {f"{free} MiB on {where}" for free, _, where in lines if int(free) < needed}
    # A filesystem that makes inodes as it needs them shows "-".
    short |= {f"{used} of inodes used on {where}" for _, used, where in lines if _percent(used) > _INODES_USED}
    likely = "old releases in /opt/heat/releases, backups or logs: du -xsh /opt/heat /var/backups /var/log"
    expected = f"{needed} MiB free, and no more than {_INODES_USED} % of inodes used"
    expect(not short, expected=expected, found=", ".join(sorted(short)), likely=likely)


def check_open_files_are_far_from_their_limit(host: Any, target: Host) -> None:
    """No process of the role's units has opened four fifths of the files it may."""
    for unit in UNITS[target.role]:
        process = process_of(host, unit)
        used, limit = process.fullest if process else (0, float("inf"))
        expect(
            used < _FILES_USED * limit,
            expected=f"a process of {unit} to have fewer than {_FILES_USED:.0%} of its {limit:.0f} files open",
            found=f"{used} open",
            likely=f"connections leak, or many customers at once: ls -l /proc/PID/fd on {target.name}",
        )


def check_name_is_its_own(host: Any, target: Host, site: Site) -> None:
    """The machine is the one that the inventory says answers at its address."""
    name = answer(host, *questions.HOSTNAME).strip()
    expected = f"{site.environment.name}-{target.machine}"
    likely = f"another machine answers at {target.address}, or it was renamed"
    expect(name == expected, expected=f"host name {expected}", found=name, likely=likely)


def check_login_is_not_root_and_may_become_it(host: Any, site: Site) -> None:
    """The pipeline logs in as an ordinary user that may become root, without a password."""
    found = answer(host, *questions.LOGIN, program="id").split()  # whom sudo knows to have become root
    user = site.environment.ssh.user
    expected = f"login as {user}, who becomes root by sudo"
    likely = "cloud-init's user data or /etc/sudoers.d was changed"
    expect(found == [user, "root"], expected=expected, found=", then ".join(found), likely=likely)


def check_units_are_enabled_and_active(host: Any, target: Host, site: Site) -> None:
    """The role's units run, start at boot, and run as their files on disk say."""
    wanted = {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    for unit in (*UNITS[target.role], *questions.beside(target, site)):
        found = differences(wanted, unit_properties(host, unit))
        likely = f"it was stopped, disabled or fails to start: journalctl -u {unit} on {target.name}"
        expect(not found, expected=f"{unit} active, enabled and not changed on disk", found=found, likely=likely)


def check_files_are_as_rendered(host: Any, target: Host, site: Site, release: Release, vhost: str) -> None:
    """Every file the pipeline writes has the content, mode and owner it renders now; what differs is shown, masked."""
    files = expected_files(target, site, release, vhost)
    described = answer(host, *questions.digests(target, site, release, vhost), program="sha256sum")
    found = {path: rest for path, _, rest in (line.partition(" ") for line in described.splitlines())}
    told = {file: how(file, found.get(file.path, "")) for file in files}
    wrong = {file: said for file, said in told.items() if said}
    again = f"inv deploy {site.environment.name} --release {release.id}"
    expect(
        not wrong,
        expected=f"{len(files)} files as rendered for {release.id}",
        found=", ".join(f"{file.path} {said}" for file, said in wrong.items()),
        likely=f"changed by hand, or templates and environment moved on since: {again}",
        detail="\n".join(_diffs(host, [file for file, said in wrong.items() if "content" in said], site)),
    )


def check_nothing_unexpected_listens(host: Any, target: Host, site: Site) -> None:
    """Only ssh and the ports of the machine's own roles are open to the network."""
    found = exposed(sockets(host), target, site.environment)
    likely = "a service is bound to every address, or does not belong on this host"
    expect(not found, expected="only ssh and the role's ports beyond loopback", found=", ".join(found), likely=likely)


def check_listens_where_expected(host: Any, target: Host, site: Site) -> None:
    """The role's ports are open on the address that it serves."""
    listening = {(one.address, one.port) for one in sockets(host)}
    wanted = role_listens(target, site.environment)
    missing = [f"{address}:{port}" for address, port in wanted if (address, port) not in listening]
    likely = f"{' or '.join(UNITS[target.role])} is down, or bound to another address"
    expect(not missing, expected="its ports open", found=f"closed: {', '.join(missing)}", likely=likely)


def _diffs(host: Any, files: list[HostFile], site: Site) -> Iterator[str]:
    """Yield what differs in each of `files`, which takes a question of its own: digests are asked first."""
    for file in files:
        yield diff(file, answer(host, "cat -- %s", file.path), secrets_of(site.region))


def _percent(text: str) -> int:
    return int(text.removesuffix("%")) if text[:-1].isdigit() else 0
