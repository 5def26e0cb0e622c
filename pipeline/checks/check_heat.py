"""What holds for every host that runs Heat: the right release, run the right way, configured like its peers."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from pipeline.checks.expectation import answer, differences, expect
from pipeline.checks.processes import SETTINGS, current_release, process_of, seconds_of, unit_properties
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.hostfiles import CURRENT, UNITS
from pipeline.installation import release_dir
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

ROLES = (Role.ENGINE, Role.API)


def check_units_have_the_right_settings(host: Any, target: Host) -> None:
    """systemd runs Heat as user heat, hardened, and ends it by TERM to its parent."""
    for unit in UNITS[target.role]:
        found = differences(SETTINGS, unit_properties(host, unit))
        expected = " ".join(f"{key}={SETTINGS[key]}" for key in SETTINGS if f"{key}=" in found)
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
    found = answer(host, "sha256sum -- %s", f"{release_dir(release.id)}/manifest.json")[:12]
    expected = hashlib.sha256(release.to_json().encode()).hexdigest()[:12]
    likely = "the installation was changed by hand: remove it while another release runs, and install it again"
    expect(found == expected, expected=f"manifest sha256 {expected}…", found=found, likely=likely)


def check_revision_is_the_releases(host: Any, release: Release) -> None:
    """heat_revision in the configuration in use is the release's id, so that build_info proves it."""
    found = answer(host, "sed -n 's/^heat_revision *= *//p' %s", f"{CURRENT}/etc/heat.conf").strip()
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
    for role, port in ((Role.DATABASE, 3306), (Role.MESSAGING, 5672)):
        peer = site.region.inventory.one(role)
        # testinfra's own is_reachable gives up after one second, which a busy host may need for the shell alone.
        reached = host.run("timeout 10 bash -c ': </dev/tcp/%s/%s'", peer.address, str(port)).rc == 0
        likely = f"{UNITS[role][0]} is down or bound elsewhere, or a security group is in the way"
        expect(reached, expected=f"a way to {peer.name} {peer.address}:{port}", found="none", likely=likely)
