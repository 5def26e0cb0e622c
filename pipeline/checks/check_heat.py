"""What holds for every host that runs Heat: the right release, run the right way, configured like its peers."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.checks import questions
from pipeline.checks.drift import service_settings
from pipeline.checks.expectation import answer, differences, expect
from pipeline.checks.journals import errors_in
from pipeline.checks.processes import current_release, process_of, seconds_of, unit_properties
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.hostfiles import CURRENT, UNITS, role_files
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

ROLES = (Role.ENGINE, Role.API)

_ERRORS = 5  # of a log that are shown


def check_units_have_the_right_settings(host: Any, target: Host, site: Site) -> None:
    """systemd runs Heat as its unit files are rendered now: as user heat, hardened, ended by TERM to its parent."""
    for file in role_files(target, site.environment, site.region, site.templates):
        unit, wanted = Path(file.path).stem, service_settings(file)
        found = differences(wanted, unit_properties(host, unit))
        expected = " ".join(f"{key}={wanted[key]}" for key in wanted if f"{key}=" in found)
        likely = "a drop-in or an edited unit file: systemctl cat " + unit
        expect(not found, expected=f"{unit} with {expected}", found=found, likely=likely)


def check_systemd_waits_longer_than_a_drain(host: Any, target: Host, site: Site) -> None:
    """systemd kills no unit that still drains: TimeoutStopSec is above graceful_shutdown_timeout."""
    graceful = site.environment.heat.graceful_shutdown_timeout
    for unit in UNITS[target.role]:
        span = unit_properties(host, unit).get("TimeoutStopUSec", "0s")
        likely = f"a drop-in, or a unit that was not reloaded: systemctl cat {unit}"
        found = f"TimeoutStopSec {span}"
        expect(seconds_of(span) > graceful, expected=f"{unit}: more than {graceful:.0f} s", found=found, likely=likely)


def check_current_names_the_release(host: Any, release: Release) -> None:
    """The link `current` names the release."""
    found = current_release(host)
    likely = "an upgrade was interrupted or reverted here: inv upgrade goes on with it"
    expect(found == release.id, expected=f"{CURRENT} -> {release.id}", found=found, likely=likely)


def check_units_run_the_release(host: Any, target: Host, release: Release) -> None:
    """What runs is what `current` names, as user heat."""
    for unit in UNITS[target.role]:
        process = process_of(host, unit)
        found = f"{process.release} as {process.user}" if process else "no process"
        likely = "it was not restarted since the link moved" if process else f"it is down: journalctl -u {unit}"
        expected = f"{release.id} as heat"
        expect(found == expected, expected=f"{unit} from {expected}", found=found, likely=likely)


def check_every_worker_is_there(host: Any, target: Host, site: Site) -> None:
    """Each unit has as many worker processes as the environment says."""
    heat = site.environment.heat
    expected = heat.engine_workers if target.role is Role.ENGINE else heat.api_processes
    for unit in UNITS[target.role]:
        process = process_of(host, unit)
        found = process.children if process else 0
        likely = f"workers die at their start, or the unit was not restarted since: journalctl -u {unit}"
        expect(found == expected, expected=f"{unit}: {expected} worker processes", found=found, likely=likely)


def check_release_is_whole(host: Any, release: Release) -> None:
    """The manifest on disk is the release's own, package by package."""
    found = answer(host, *questions.checksum(release))[:12]
    expected = hashlib.sha256(release.to_json().encode()).hexdigest()[:12]
    likely = "the installation was changed by hand: remove it while another release runs, and install it again"
    expect(found == expected, expected=f"manifest sha256 {expected}…", found=found, likely=likely)


def check_revision_is_the_releases(host: Any, release: Release) -> None:
    """heat_revision in the configuration in use is the release's id, so that build_info proves it."""
    found = answer(host, *questions.REVISION).strip()
    likely = "heat.conf was edited, or `current` names another release"
    expect(found == release.id, expected=f"heat_revision = {release.id}", found=found, likely=likely)


def check_configured_like_its_peers(target: Host, survey: Survey) -> None:
    """heat.conf, apart from the host's own name, and the manifest are those of the role's other hosts."""
    digests = survey.common_configuration(target.role)
    common, _ = Counter(digests.values()).most_common(1)[0] if digests else ("", 0)
    split = len(set(digests.values())) > 1 and 2 * sum(one == common for one in digests.values()) <= len(digests)
    same = digests.get(target.name) == common and not split
    found = ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())
    likely = "one was edited by hand, or is on another release: diff /opt/heat/current/etc/heat.conf of both"
    expect(same, expected=f"one configuration on all {target.role.value} hosts", found=found, likely=likely)


def check_reaches_database_and_broker(host: Any, site: Site) -> None:
    """The host can open connections to the database and to the broker."""
    for peer, port in questions.peers(site):
        reached = host.run(*questions.reach(peer, port)).rc == 0
        likely = f"{UNITS[peer.role][0]} is down or bound elsewhere, or a security group is in the way"
        expect(reached, expected=f"a way to {peer.name} {peer.address}:{port}", found="none", likely=likely)


def check_log_has_no_error_since_the_start(host: Any, target: Host) -> None:
    """Since they were started, the units logged no error but connections that were lost and are there again."""
    for unit in UNITS[target.role]:
        errors = errors_in(answer(host, *questions.journal(unit), program="journalctl").splitlines())
        expect(
            not errors,
            expected=f"no error in the log of {unit} since its start",
            found=f"{len(errors)}, the last: {errors[-1][:200]}" if errors else "none",
            likely=f"Heat met what it does not know how to handle: journalctl -u {unit} on {target.name}",
            detail="\n".join(error[:200] for error in errors[-_ERRORS:]),
        )


def check_certificate_of_keystone_lasts(host: Any, site: Site) -> None:
    """Where Keystone is asked over TLS, this host trusts its certificate, and that lasts long enough."""
    question = questions.certificate(site)
    if question is None:
        return
    name, port = questions.identity_of(site)
    ends = datetime.fromtimestamp(float(answer(host, *question, program=f"{name}:{port}")), UTC)
    left = (ends - site.clock.now()) / timedelta(days=1)
    likely = "nobody renewed it, or Keystone was not reloaded since"
    found = f"{left:.0f} days, until {ends:%Y-%m-%d}"
    needed = site.environment.verification.certificate / 86400
    expect(left >= needed, expected=f"{needed:g} days left for {name}:{port}", found=found, likely=likely)
