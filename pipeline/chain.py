"""Stacks that need no other service than Heat, so that a failure is Heat's own, and whose outputs prove what it did.

The chain is nothing but dependencies: cheap to make, and its outputs prove that Heat went through it in order.

    secret → first → left  → joined → last → outputs
                   → right ↗

It can be nested in another stack, with the same outputs, and there is a stack that waits for a signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["CONDITION", "HANDLE", "RESOURCES", "body", "explain", "nested", "waiting"]

HANDLE, CONDITION = "handle", "condition"  # the resources of the waiting stack: what is signalled, and what waits
_CHILD = "chain.yaml"

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
_PARENT = f"""
heat_template_version: 2018-08-31
parameters:
  word: {{type: string}}
  wait: {{type: number, default: 0}}
resources:
  inner:
    type: {_CHILD}
    properties: {{word: {{get_param: word}}, wait: {{get_param: wait}}}}
  after:
    type: OS::Heat::TestResource
    properties: {{value: {{get_attr: [inner, result]}}, wait_secs: 0}}
outputs:
  secret: {{value: {{get_attr: [inner, secret]}}}}
  result: {{value: {{get_attr: [after, output]}}}}
"""
_WAITING = f"""
heat_template_version: 2018-08-31
parameters:
  timeout: {{type: number}}
resources:
  {HANDLE}:
    type: AWS::CloudFormation::WaitConditionHandle
  {CONDITION}:
    type: AWS::CloudFormation::WaitCondition
    properties: {{Handle: {{get_resource: {HANDLE}}}, Count: 1, Timeout: {{get_param: timeout}}}}
outputs:
  url: {{value: {{get_resource: {HANDLE}}}}}
  data: {{value: {{get_attr: [{CONDITION}, Data]}}}}
"""
_TEMPLATE: Mapping[str, Any] = yaml.safe_load(_HOT)

RESOURCES: frozenset[str] = frozenset(_TEMPLATE["resources"])


def body(word: str, *, wait: float = 0) -> dict[str, Any]:
    """Return what Heat wants to create or update the chain: `word` goes through it, `wait` seconds are spent in it."""
    return {"template": _TEMPLATE, "parameters": {"word": word, "wait": wait}}


def nested(word: str, *, wait: float = 0) -> dict[str, Any]:
    """Return the same for a stack whose resource is the chain: values go down to it, and its outputs come back."""
    parameters = {"word": word, "wait": wait}
    return {"template": yaml.safe_load(_PARENT), "files": {_CHILD: _HOT}, "parameters": parameters}


def waiting(timeout: float) -> dict[str, Any]:
    """Return a stack that waits `timeout` seconds for one signal; outputs `url` to signal to, and `data` it got.

    The address is a password: whoever has it may signal. Until the handle is made, `url` is but the handle's name.
    """
    return {"template": yaml.safe_load(_WAITING), "parameters": {"timeout": int(timeout)}}


def explain(outputs: Mapping[str, Any], word: str, *, secret: str | None = None) -> str:
    """Return what is wrong with the outputs of the chain, nested or not, for `word`, or "" where they are right.

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
