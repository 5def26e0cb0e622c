"""The smoke test: a ladder that any Heat of a clouds.yaml must be able to climb."""

from __future__ import annotations

from pipeline.smoke.ladder import climb
from pipeline.smoke.report import RungResult, SmokeReport

__all__ = ["RungResult", "SmokeReport", "climb"]
