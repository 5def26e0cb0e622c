"""Foresight: what an update of a stack would really do, by Heat's preview and the definitions behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.edges.heat import Heat
from pipeline.settling import Sent, settled
from pipeline.stacks import Content, Kind, ResourceChange, Stack

__all__ = ["foreseen"]


def foreseen(
    heat: Heat, stack: Stack, content: Content, body: Mapping[str, Any], *, tag: str
) -> tuple[ResourceChange, ...]:
    """Return what updating `stack`, which was last sent `content`, with `body` would do to each resource, sorted.

    `tag` is the one of the content to be sent: a stack that has it was sent the same hidden values. Raises HeatRefused.
    """
    changes = heat.preview_update(stack.identity, **body)
    # One that was marked unhealthy has failed in a stack that is complete, and Heat tells that it would be replaced.
    seems = any(one.kind is Kind.REPLACED for one in changes)
    resources = heat.resources(stack.identity) if seems or not stack.complete else ()
    sent = body["environment"]
    after = Sent(yaml.safe_load(body["template"]), body["files"], sent["resource_registry"], sent["parameters"])
    failed = {one.path for one in resources if one.failed}
    return settled(changes, Sent.of(content), after, failed=failed, hidden=not stack.was_sent(tag))
