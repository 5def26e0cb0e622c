"""Releases as the wheelhouse keeps them, for tests that build none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.edges import wheelhouse
from pipeline.edges.index import Index
from pipeline.release import Release


def keep(cache: Path, release: Release) -> Path:
    """Put a release where built ones are kept, with an archive of a few bytes; return the archive."""
    home = cache / "releases" / release.id
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(release.to_json())
    archive = wheelhouse._load(home / "manifest.json").archive  # its name changes with the archives' format
    archive.write_bytes(release.id.encode())
    (home / "archive.sha256").write_text(f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n")
    return archive


def build_nothing(patch: pytest.MonkeyPatch) -> None:
    """Fail the test that would ask a package index: unit tests need no network."""

    def asked(self: Index, wanted: object, *, exclude_newer: str = "") -> None:
        pytest.fail(f"the package index was asked for {wanted}")

    patch.setattr(Index, "resolve", asked)
