"""The pipeline's own canary customers: every stack and every request of theirs is counted."""

from __future__ import annotations

from pipeline.traffic.ledger import Counts, Ledger, Noticed, RequestCounts, StackCounts, TrafficReport
from pipeline.traffic.relay import WaitCounts
from pipeline.traffic.traffic import Traffic, clean, dismiss

__all__ = [
    "Counts",
    "Ledger",
    "Noticed",
    "RequestCounts",
    "StackCounts",
    "Traffic",
    "TrafficReport",
    "WaitCounts",
    "clean",
    "dismiss",
]
