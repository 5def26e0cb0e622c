"""The workspace: where a checkout keeps its inputs, its state, and what is cached for all checkouts of a user."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.environment import Environment, Provider

__all__ = ["Workspace"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """The checkout at `root`. State is below `state` (never in git); caches hold only what can be made again."""

    root: Path
    state: Path

    @property
    def environments(self) -> Path:
        """Directory of the environments' YAML."""
        return self.root / "environments"

    @property
    def templates(self) -> Path:
        """Directory of the Jinja templates."""
        return self.root / "templates"

    @property
    def cloud(self) -> Path:
        """Directory of the local cloud's state."""
        return self.state / "cloud"

    @property
    def records(self) -> Path:
        """Directory of the evidence."""
        return self.state / "records"

    @property
    def runs(self) -> Path:
        """Directory of what runs leave: plan, events, journal, summary."""
        return self.state / "runs"

    @property
    def locks(self) -> Path:
        """Directory of the locks of environments whose lock is this machine's."""
        return self.state / "locks"

    @property
    def cache(self) -> Path:
        """Directory of caches: $XDG_CACHE_HOME/heat-deploys-heat."""
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "heat-deploys-heat"

    @property
    def uv(self) -> str:
        """The uv that is installed beside the Python that runs this."""
        return str(Path(sys.executable).with_name("uv"))

    def key(self, environment: str) -> Path:
        """The private SSH key of an environment."""
        return self.state / "environments" / environment / "id_ed25519"

    def known_hosts(self, environment: str) -> Path:
        """The pinned host keys of an environment, as OpenSSH reads them."""
        return self.state / "environments" / environment / "known_hosts"

    def authority(self, environment: str) -> Path:
        """Directory of an environment's own certificate authority."""
        return self.state / "environments" / environment / "authority"

    def customer_clouds(self, environment: str) -> Path:
        """The clouds.yaml of an environment's canary customer; its entry has the environment's name."""
        return self.state / "environments" / environment / "clouds.yaml"

    def clouds(self, environment: Environment) -> Path | None:
        """The clouds.yaml that an environment's cloud is in: the local cloud's own, or (None) the user's."""
        return self.cloud / "clouds.yaml" if environment.provider is Provider.LOCAL else None
