"""The subject of a verification: what is checked, and what a check may ask for by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.checks.survey import Survey
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["OFFERED", "Subject"]

OFFERED = frozenset({"host", "target", "site", "release", "vhost", "survey"})
"""The arguments of a check: testinfra's `host`, our `target`, and the values of the region it belongs to."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A site that should run `release` on `vhost`, the hosts of it to check, and the survey of it."""

    site: Site
    release: Release
    vhost: str
    hosts: tuple[Host, ...]
    survey: Survey

    def offers(self, target: Host) -> dict[str, Any]:
        """Return the arguments of the checks of `target`, once it has answered. Raises what it answered instead."""
        return {
            "host": self.survey.host(target),
            "target": target,
            "site": self.site,
            "release": self.release,
            "vhost": self.vhost,
            "survey": self.survey,
        }
