"""The stacks of the smoke test, beside the chain of pipeline.chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.chain import waiting

__all__ = ["CHILD", "NESTED_WORD", "crowd", "nested", "waiting"]

CHILD = "child.yaml"
NESTED_WORD = "handed down and back"

_CHILD = """
heat_template_version: 2018-08-31
parameters:
  word: {type: string}
resources:
  inner:
    type: OS::Heat::TestResource
    properties: {value: {get_param: word}}
outputs:
  word: {value: {get_attr: [inner, output]}}
"""

_PARENT = f"""
heat_template_version: 2018-08-31
resources:
  nested:
    type: {CHILD}
    properties: {{word: "{NESTED_WORD}"}}
outputs:
  word: {{value: {{get_attr: [nested, word]}}}}
"""


def nested() -> dict[str, Any]:
    """Return a stack whose only resource is a template that travels with it; output `word` is NESTED_WORD."""
    return {"template": yaml.safe_load(_PARENT), "files": {CHILD: _CHILD}}


def crowd(size: int, seconds: float) -> dict[str, Any]:
    """Return a stack of `size` resources that need nothing of each other and take `seconds` each."""
    member: Mapping[str, Any] = {
        "type": "OS::Heat::TestResource",
        "properties": {"action_wait_secs": {"create": seconds, "update": 0, "delete": 0}},
    }
    resources = {f"member-{number}": member for number in range(size)}
    return {"template": {"heat_template_version": "2018-08-31", "resources": resources}}
