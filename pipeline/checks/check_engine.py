"""What holds for engine hosts alone: Heat counts their workers as alive, and what they work with lasts."""

from __future__ import annotations

from pipeline.checks.expectation import expect
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.site import Site

ROLES = (Role.ENGINE,)


def check_workers_report_to_the_database(target: Host, site: Site, survey: Survey) -> None:
    """Heat's table `service` has one live row per worker: fewer hang or never started, more were killed."""
    expected = site.environment.heat.engine_workers
    found = survey.live_workers().get(target.name, 0)
    few = "the engine is down, hangs, or cannot write to the database: journalctl -u heat-engine"
    many = "an engine was killed, not drained: its rows turn down within two minutes, verify again then"
    likely = few if found < expected else many
    expect(found == expected, expected=f"{expected} live rows", found=found, likely=likely)


def check_tokens_outlive_actions(survey: Survey, site: Site) -> None:
    """A customer's new token is good for as long as an engine may work on what the customer asked for."""
    longest = site.environment.heat.graceful_shutdown_timeout
    found = survey.token_seconds()
    likely = "[token] expiration of Keystone is short: what an action asks for late in its life would be refused"
    expect(found >= longest, expected=f"tokens good for {longest:.0f} s", found=f"{found:.0f} s", likely=likely)
