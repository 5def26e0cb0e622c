"""Rendering: an environment becomes the stacks of its region, as HOT text and parameters.

Jinja decides structure, Heat parameters carry values. The same environment always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pipeline.environment import CONTROL, CONTROLLING, Environment, Provider, Role
from pipeline.errors import ConfigurationInvalid
from pipeline.hot import parse
from pipeline.layers import Place
from pipeline.secrets import Secret

__all__ = ["GIVEN", "RenderedStack", "launch_order", "render", "render_text", "write"]

GIVEN = "given"
"""What stands for a stack among inputs, but is what the pipeline knows: ssh_public_key, identity_url."""

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same bytes, ten times as fast
_PROVIDED = ("network", "address", "host")
_LISTING = "stacks.yaml.j2"
_QUOTED = 100  # characters of a rendered line that an error quotes
_PAIR = re.compile(r"\\ud[89ab]..\\ud[c-f]..")
_RAISED = (  # by what a template says; SyntaxError is Python's, of more loops in one another than it takes
    jinja2.TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, OSError, RuntimeError,
    SyntaxError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RenderedStack:
    """One stack, ready to launch but for what it takes from others.

    `inputs` maps a parameter to (stack, output key, …): the path of the value in the outputs of another stack.
    """

    name: str
    stack_name: str
    template: str
    files: Mapping[str, str]
    registry: Mapping[str, str]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, ...]]

    @property
    def needs(self) -> frozenset[str]:
        """Names of the stacks whose outputs this one takes."""
        return frozenset(path[0] for path in self.inputs.values()) - {GIVEN}

    def heat_environment(self, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return Heat's environment: the registry, and `parameters` (as rendered where None)."""
        values = self.parameters if parameters is None else parameters
        return {"resource_registry": dict(self.registry), "parameters": dict(values)}

    def body(
        self, parameters: Mapping[str, Any], *, timeout: float, rollback: bool = False, labels: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Return what Heat is sent to create, update or preview the stack with `parameters`.

        It is for Heat alone: here, and nowhere else, secrets among the parameters are revealed. An action may take
        `timeout` seconds; one that fails is rolled back if told so. Its tags name its content, and carry `labels`,
        which are no content: other ones are no reason to update it.
        """
        revealed = {key: value.reveal() if isinstance(value, Secret) else value for key, value in parameters.items()}
        return {
            "template": self.template,
            "files": dict(self.files),
            "environment": self.heat_environment(revealed),
            "tags": ",".join(("heat-deploys-heat", self.tag(parameters), *labels)),
            "timeout_mins": max(1, round(timeout / 60)),
            "disable_rollback": not rollback,
        }

    def tag(self, parameters: Mapping[str, Any]) -> str:
        """Return the tag that a stack of this content has."""
        return f"content-{self.digest(parameters)}"

    def digest(self, parameters: Mapping[str, Any]) -> str:
        """Return 16 hex digits that change with the template, its files or the values it is launched with.

        They are a tag of the stack, so of a secret among the values only its fingerprint goes in.
        """

        def plain(value: object) -> str:
            if isinstance(value, Secret):
                return value.fingerprint(self.stack_name)
            raise TypeError(f"{type(value).__name__} is no value of a stack")

        content = [self.template, dict(self.files), dict(self.registry), dict(parameters)]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=plain).encode()).hexdigest()[:16]


def render(environment: Environment, templates: Path) -> tuple[RenderedStack, ...]:
    """Return the stacks of `environment`, those first that others need.

    Raises ConfigurationInvalid naming template and line: an undefined variable, bad YAML, an unknown stack, a cycle;
    and where the environment has rules for a stack that there is not.
    """
    facts = {"environment": environment, "roles": list(Role)}
    listing = Place(templates / _LISTING)
    entries = _yaml(render_text(templates, _LISTING, facts), listing)
    registry, files = _provider(templates, environment.provider)
    stacks = []
    for name, given in entries.items():
        parameters, inputs = _entry(listing, name, given)
        text = render_text(templates, f"{name}.yaml.j2", facts, asked_by=listing)
        _yaml(text, Place(templates / f"{name}.yaml.j2"))
        stacks.append(RenderedStack(name, f"{environment.name}-{name}", text, files, registry, parameters, inputs))
    _require_known(environment, stacks)
    return launch_order(stacks, listing)


def _entry(listing: Place, name: object, given: object) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    """Return parameters and inputs of an entry of the listing. Raises ConfigurationInvalid for one of another shape."""

    def mapping(value: object, key: str) -> dict[str, Any]:
        if value is not None and not (isinstance(value, dict) and all(isinstance(one, str) for one in value)):
            raise _wrong(listing, f"{name}{key}: expected a mapping by name, found {value!r:.60}")
        return value or {}

    if not isinstance(name, str):
        raise _wrong(listing, f"{name}: expected the name of a stack, as text")
    entry = mapping(given, "")
    parameters, inputs = (mapping(entry.get(key), f": {key}") for key in ("parameters", "from"))
    for key, path in inputs.items():
        if not isinstance(path, str):
            raise _wrong(listing, f"{name}: from: {key}: expected STACK.OUTPUT, found {path!r:.60}")
    try:
        json.dumps(parameters, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _wrong(listing, f"{name}: parameters: not what Heat can be sent: {error}") from error
    return parameters, {key: tuple(path.split(".")) for key, path in inputs.items()}


def _require_known(environment: Environment, stacks: Sequence[RenderedStack]) -> None:
    names = [stack.name for stack in stacks]
    # What defaults say of a role's stack is no mistake where the role shares a machine, nor the other way round.
    for unknown in sorted(set(environment.stacks.each) - {*names, *CONTROLLING, CONTROL}):
        raise ConfigurationInvalid(
            f"{environment.name}: stacks.each: there is no stack {unknown!r} (there are: {', '.join(names)})",
            hint=f"inv env.show {environment.name}",
        )


def launch_order(stacks: list[RenderedStack], listing: Place) -> tuple[RenderedStack, ...]:
    """Return `stacks`, each after those it needs. Raises ConfigurationInvalid for a cycle or an unknown stack."""
    known = {stack.name: stack for stack in stacks}
    for stack in stacks:
        for missing in sorted(stack.needs - set(known)):
            raise _wrong(listing, f"{stack.name}: from: there is no stack {missing!r}")
    try:
        order = tuple(TopologicalSorter({stack.name: sorted(stack.needs) for stack in stacks}).static_order())
    except CycleError as error:
        raise _wrong(listing, f"a cycle: {' → '.join(error.args[1])}") from error
    return tuple(known[name] for name in order)


def render_text(templates: Path, name: str, facts: Mapping[str, Any], *, asked_by: Place | None = None) -> str:
    """Return template `name` of directory `templates` rendered with `facts`; `asked_by` says where its name stands.

    Raises ConfigurationInvalid with file and line for an undefined variable, bad syntax, a missing template or a loop.
    """
    try:
        return _jinja(templates).get_template(name).render(**facts)
    except jinja2.TemplateNotFound as error:
        raise _missing(templates / (error.name or name), _place(error, templates) or asked_by) from error
    except jinja2.TemplateSyntaxError as error:
        raise _wrong(Place(templates / (error.name or name), error.lineno), error.message) from error
    except RecursionError as error:
        place = _place(error, templates) or Place(templates / name)
        raise _wrong(place, "it includes itself, or goes too deep") from error
    except _RAISED as error:
        raise _wrong(_place(error, templates) or Place(templates / name), error) from error


def _wrong(place: Place, what: object) -> ConfigurationInvalid:
    """Return the error that says what is wrong at a place of a template, and which file to edit."""
    return ConfigurationInvalid(f"{place}: {what}", hint=f"edit {place.path}")


def _missing(template: Path, asked_by: Place | None) -> ConfigurationInvalid:
    """Return the error for a template that is not there: who asked for it is as likely to be wrong."""
    if asked_by:
        return _wrong(asked_by, f"there is no {template}")
    return ConfigurationInvalid(f"{template}: no such template", hint=f"restore {template}")


def write(stacks: tuple[RenderedStack, ...], directory: Path) -> tuple[Path, ...]:
    """Write every stack as NAME.yaml and NAME.env.yaml, provider files beside them; return the paths, sorted.

    Raises ConfigurationInvalid naming what cannot be written.
    """
    written = {}
    for stack in stacks:
        written[directory / f"{stack.name}.yaml"] = stack.template
        written[directory / f"{stack.name}.env.yaml"] = yaml.dump(stack.heat_environment(), Dumper=_DUMPER)
        written.update({directory / name: text for name, text in stack.files.items()})
    try:
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(
            f"{error.filename}: cannot be written: {error.strerror}", hint="name another directory"
        ) from error
    return tuple(sorted(written))


class _Files(jinja2.FileSystemLoader):
    """Templates of a directory; text that is not UTF-8 is bad syntax of the file it is in, whoever includes that."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        try:
            return super().get_source(environment, template)
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise jinja2.TemplateSyntaxError("is not UTF-8", line, template) from error


@cache
def _jinja(templates: Path) -> jinja2.Environment:
    # These are YAML and configuration files, not HTML: escaping would damage them.
    made = jinja2.Environment(  # noqa: S701
        loader=_Files(templates),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_function"] = _quoted
    return made


def _quoted(value: object, **options: Any) -> str:
    """Return JSON that is YAML too, which has no pairs of \\u for one character."""
    return _PAIR.sub(lambda pair: str(json.loads(f'"{pair[0]}"')), json.dumps(value, **options))


def _provider(templates: Path, provider: Provider) -> tuple[dict[str, str], dict[str, str]]:
    names = {kind: f"providers/{provider.value}/{kind}.yaml" for kind in _PROVIDED}
    registry = {f"Region::{kind.capitalize()}": name for kind, name in names.items()}
    return registry, {name: _text(templates / name) for name in names.values()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error.strerror}", hint=f"restore {path}") from error
    except UnicodeDecodeError as error:
        raise _wrong(Place(path), "cannot be read: it is not UTF-8") from error


def _yaml(text: str, template: Place) -> dict[str, Any]:
    """Return what the rendered `text` says; what is wrong is quoted, for no file holds what a template renders to."""
    try:
        document = parse(text)
    except yaml.MarkedYAMLError as error:
        if not error.problem_mark:
            raise _wrong(template, f"rendered: {error.problem}") from error
        line = error.problem_mark.line + 1
        raise _wrong(template, f"rendered line {line}: {error.problem}{_near(text, line)}") from error
    if not isinstance(document, dict):
        raise _wrong(template, "expected a mapping when rendered")
    return document


def _near(text: str, line: int) -> str:
    """Return rendered line `line`, or where that is blank the last before it that is not, quoted."""
    said = [one.strip() for one in text.split("\n")[:line] if one.strip()]
    return f", near {said[-1][:_QUOTED]!r}" if said else ""


def _place(error: BaseException, templates: Path) -> Place | None:
    """Return file and line of the innermost template frame in the error's traceback, None where no template ran."""
    place, trace = None, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(str(templates)):
            place = Place(Path(file), trace.tb_lineno)
        trace = trace.tb_next
    return place
