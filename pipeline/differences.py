"""Differences between a stack as it is and as it is rendered: templates line by line, and parameters one by one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from difflib import unified_diff
from typing import Any

import yaml

from pipeline.plan import Parameter, ParameterChange
from pipeline.render import RenderedStack
from pipeline.secrets import MASK, Secret
from pipeline.stacks import Content

__all__ = ["MASK", "Mask", "diff_of_texts", "digest_of", "parameter_changes", "parsed", "template_diff", "text_of"]

_SECRET = re.compile(r"password|secret|token|credential|(private|encryption|api)_key", re.IGNORECASE)
_NONE = Content({}, {}, {})
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
_SHORTEST = 4  # letters of a secret that is looked for within other text


class Mask:
    """Masks what templates declare hidden, and what is called a secret, wherever its value turns up."""

    def __init__(self, template: Mapping[str, Any], live: Content | None, parameters: Mapping[str, Any]) -> None:
        declared = [one.get("parameters") for one in (template, (live or _NONE).template)]
        known = [parameters for parameters in declared if isinstance(parameters, Mapping)]
        self.names = frozenset(
            name for parameters in known for name, schema in parameters.items() if _is_hidden(name, schema)
        ) | frozenset(name for name, value in parameters.items() if isinstance(value, Secret) or _SECRET.search(name))
        defaults = [
            text_of(schema["default"])
            for one in known
            for name, schema in one.items()
            if name in self.names and isinstance(schema, Mapping) and "default" in schema
        ]
        values = [_revealed(value) for name, value in parameters.items() if name in self.names]
        self._texts = sorted({*values, *defaults} - {""}, key=len, reverse=True)

    def of(self, name: str, value: Any) -> str:
        """Return the value of parameter `name` as it may be shown."""
        return MASK if name in self.names or isinstance(value, Secret) else self.text(text_of(value))

    def text(self, text: str) -> str:
        """Return `text` without the value of any hidden parameter; one of a few letters is masked where it is all."""
        for secret in self._texts:
            text = MASK if text == secret else text.replace(secret, MASK) if len(secret) >= _SHORTEST else text
        return text

    def document(self, value: Any) -> Any:
        """Return plain data with the same done to every text in it, and without the defaults of hidden parameters."""
        if isinstance(value, Mapping):
            return {self.text(key): self._default(key, inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.document(inner) for inner in value]
        return value if value is None else MASK if self.text(text_of(value)) == MASK else self._leaf(value)

    def _default(self, key: str, value: Any) -> Any:
        if key in self.names and isinstance(value, Mapping) and "default" in value:
            value = {**value, "default": MASK}
        return self.document(value)

    def _leaf(self, value: Any) -> Any:
        return self.text(value) if isinstance(value, str) else value


def parsed(text: str) -> dict[str, Any]:
    """Return a rendered template as Heat has it once it parsed it: dates are text."""
    plain = _plain(yaml.load(text, Loader=_LOADER))  # noqa: S506 (a SafeLoader)
    return plain if isinstance(plain, dict) else {}


def digest_of(value: Any) -> str:
    """Return 16 hex digits that change with a value of plain data."""
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def text_of(value: Any) -> str:
    """Return a parameter's value as text: what Heat compares, so that 300 and "300" are the same."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def template_diff(
    live: Content | None, stack: RenderedStack, template: Mapping[str, Any], mask: Mask
) -> tuple[str, ...]:
    """Return a unified diff of all that a stack was sent but its values: template, types, files."""
    if live is None:
        return ()
    registry = {kind: name for kind, name in (live.environment.get("resource_registry") or {}).items() if name}
    documents = [(f"{stack.name}.yaml", live.template, template), ("resource_registry", registry, stack.registry)]
    files = [
        (name, live.files.get(name, ""), stack.files.get(name, "")) for name in sorted({*live.files, *stack.files})
    ]
    lines: list[str] = []
    for name, was, now in ((name, _plain(was), _plain(now)) for name, was, now in documents):
        if was != now:  # dumping YAML takes longer than all else of a plan
            lines += diff_of_texts(name, _yaml(mask.document(was)), _yaml(mask.document(now)), differs=True)
    for name, before, after in files:
        lines += diff_of_texts(name, mask.text(before), mask.text(after), differs=before != after)
    return tuple(lines)


def diff_of_texts(name: str, before: str, after: str, *, differs: bool = False) -> Iterator[str]:
    """Yield the lines of a unified diff; what `differs` in nothing that may be shown is told in one line."""
    lines = list(unified_diff(before.splitlines(), after.splitlines(), f"{name} (live)", name, lineterm="", n=2))
    yield from lines or ([f"{name}: only what is hidden differs, or the end of a line"] if differs else [])


def parameter_changes(
    live: Content | None,
    template: Mapping[str, Any],
    parameters: Mapping[str, Any],
    unknown: Mapping[str, str],
    mask: Mask,
    *,
    same_content: bool,
) -> tuple[Parameter, ...]:
    """Return every parameter that does not stay as it is, by name.

    `unknown` maps those whose values are known later to the stack they come from. Heat tells no hidden value: each of
    them may have changed, unless the stack's tag says that all it was sent is the `same_content`.
    """
    known = live or _NONE
    before = {**(known.environment.get("parameter_defaults") or {}), **(known.environment.get("parameters") or {})}
    found = []
    for name in sorted({*before, *parameters, *unknown}):
        was, default = before.get(name), _default(known.template, name)
        shown = mask.of(name, was if name in before else default)
        if name in unknown:
            after = mask.of(name, parameters[name]) if name in parameters else ""
            found.append(Parameter(name, ParameterChange.UNKNOWN, shown, after, unknown[name]))
        elif name not in parameters:
            there = name in (template.get("parameters") or {})
            kind = ParameterChange.DEFAULT if there else ParameterChange.DROPPED
            found.append(Parameter(name, kind, shown, mask.of(name, _default(template, name)) if there else ""))
        elif name not in before:
            found.append(Parameter(name, ParameterChange.ADDED, shown, mask.of(name, parameters[name])))
        elif _differs(name, was, parameters[name], mask.names, same_content=same_content):
            found.append(Parameter(name, ParameterChange.CHANGED, shown, mask.of(name, parameters[name])))
    return tuple(found)


def _differs(name: str, was: Any, now: Any, hidden: Collection[str], *, same_content: bool) -> bool:
    if name in hidden and re.fullmatch(r"\*+", text_of(was)):
        return not same_content
    return _revealed(was) != _revealed(now)


def _revealed(value: Any) -> str:
    """Return a parameter's value as text, to be compared or looked for, and never to be shown."""
    return value.reveal() if isinstance(value, Secret) else text_of(value)


def _default(template: Mapping[str, Any], name: str) -> Any:
    schema = (template.get("parameters") or {}).get(name)
    return schema.get("default") if isinstance(schema, Mapping) else None


def _is_hidden(name: str, schema: Any) -> bool:
    told = schema.get("hidden", schema.get("NoEcho")) if isinstance(schema, Mapping) else False
    return str(told).lower() in ("true", "1", "yes", "on") or bool(_SECRET.search(name))


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=True, width=120))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value
