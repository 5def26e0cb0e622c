"""A stack of nothing but dependencies: cheap to make, and its outputs prove that Heat went through it in order.

    secret → first → left  → joined → last → outputs
                   → right ↗

It needs no other service than Heat, so that a failure is Heat's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["RESOURCES", "body", "explain"]

_HOT = """
heat_template_version: 2018-08-31
parameters:
  word: {type: string}
  wait: {type: number, default: 0}
resources:
  secret:
    type: OS::Heat::RandomString
    properties: {length: 12}
  first:
    type: OS::Heat::TestResource
    properties:
      value: {list_join: ["-", [{get_param: word}, {get_attr: [secret, value]}]]}
      wait_secs: 0
  left:
    type: OS::Heat::TestResource
    properties:
      value: {list_join: [".", [{get_attr: [first, output]}, left]]}
      wait_secs: {get_param: wait}
      action_wait_secs: {delete: 0}
  right:
    type: OS::Heat::TestResource
    properties:
      value: {list_join: [".", [{get_attr: [first, output]}, right]]}
      wait_secs: 0
      action_wait_secs: {create: {get_param: wait}}
  joined:
    type: OS::Heat::Value
    properties:
      type: string
      value: {list_join: ["+", [{get_attr: [left, output]}, {get_attr: [right, output]}]]}
  last:
    type: OS::Heat::TestResource
    properties:
      value: {get_attr: [joined, value]}
      wait_secs: 0
outputs:
  secret: {value: {get_attr: [secret, value]}}
  result: {value: {get_attr: [last, output]}}
"""
_TEMPLATE: Mapping[str, Any] = yaml.safe_load(_HOT)

RESOURCES: frozenset[str] = frozenset(_TEMPLATE["resources"])


def body(word: str, *, wait: float = 0) -> dict[str, Any]:
    """Return what Heat wants to create or update the chain: `word` goes through it, `wait` seconds are spent in it."""
    return {"template": _TEMPLATE, "parameters": {"word": word, "wait": wait}}


def explain(outputs: Mapping[str, Any], word: str, *, secret: str | None = None) -> str:
    """Return what is wrong with the chain's outputs for `word`, or "" where they are right.

    `secret` is what the random string was before; an update must not have changed it.
    """
    now = outputs.get("secret")
    if not now:
        return "output secret is empty"
    if secret is not None and now != secret:
        return "output secret changed though nothing it depends on did"
    expected = f"{word}-{now}.left+{word}-{now}.right"
    if outputs.get("result") != expected:
        return f"output result is {outputs.get('result')!r}, and the chain gives {expected!r}"
    return ""
