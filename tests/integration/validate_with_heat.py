"""Check HOT templates against the code of a real Heat, without a cloud.

    PYTHON validate_with_heat.py [--plugins DIR] PATH...

PYTHON belongs to a venv with openstack-heat in it. PATH is a template or a directory of them. NAME.yaml is checked with
the heat environment NAME.env.yaml beside it, or else with all beside it (YAML that is no template). A resource_registry
may name further templates, relative to the environment's own file.

Heat's strictest check is `Stack(strict_validate=True).validate()`: every property of every type, and every value. What
it would ask a cloud is left out by Heat's own extension points: `cloud_backend` hands out the client plugins of a cloud
that has no catalog, and constraints that look up a name (nova.flavor, neutron.network, ...) want any name. `validate()`
of a resource class runs until it needs a client; what Nova's Server would say after asking for its image is not seen.

Parameters without a value get a sample. A template is checked with its optional parameters left out, with all of them,
and with each alone, so that conditions have been both ways.

Prints one line per problem. Exits 0 when there is none, 1 otherwise.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from heat.common import config as heat_config  # noqa: F401  registers the options that Heat reads
from heat.common import context, exception, template_format
from heat.engine import clients, environment, resources, stack, support, template
from heat.engine.attributes import ALL_ATTRIBUTES
from heat.engine.constraints import AllowedValues, BaseCustomConstraint
from heat.engine.resources.stack_resource import StackResource
from heat.engine.resources.template_resource import TemplateResource
from oslo_config import cfg

SAMPLES = {
    "cidr": "198.18.0.0/24",
    "address": "198.18.0.9",
    "dns": "198.18.0.53",
}
SAMPLES_BY_TYPE = {"string": "sample", "number": 1, "boolean": True, "json": {}, "comma_delimited_list": "sample"}
_REFUSALS = (exception.HeatException, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError)


class NoCloud(clients.OpenStackClients):  # type: ignore[misc]
    """Heat's own client plugins, of a cloud that has no catalog to ask whether a service is there."""

    def client_plugin(self, name: str) -> Any:
        """Return Heat's plugin for client `name`, None where Heat has none."""
        plugin = super().client_plugin(name)
        if plugin is not None:
            plugin.service_types = []
        return plugin


class Named(BaseCustomConstraint):  # type: ignore[misc]
    """A constraint that a cloud would look up: here any name will do, but no empty one."""

    def validate(self, value: object, context: object) -> bool:
        """Return whether `value` is a name."""
        self._error_message = "expected a name or an id"
        return isinstance(value, str | int) and value != ""


@dataclass(frozen=True)
class HeatEnvironment:
    """What a heat environment says: types, templates they are made of (path -> text), values of parameters."""

    registry: Mapping[str, str]
    files: Mapping[str, str]
    parameters: Mapping[str, Any]


def main(arguments: list[str]) -> int:
    """Check what the command line names and return the exit status."""
    parser = argparse.ArgumentParser(description="Check HOT templates against the code of a real Heat.")
    parser.add_argument("--plugins", type=Path, action="append", default=[], help="a directory of resource plugins")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    options = parser.parse_args(arguments)
    for path in options.paths:
        if not path.exists():
            parser.error(f"{path}: no such template or directory")
    start_heat(options.plugins)
    templates = [template for path in options.paths for template in templates_at(path)]
    found = [f"{path}: {problem}" for path in templates for problem in problems_of(path, heat_environment_of(path))]
    print("\n".join([*found, f"{len(templates)} templates, {len(found)} problems, Heat {version('openstack-heat')}"]))
    return 1 if found or not templates else 0


def start_heat(plugins: list[Path]) -> None:
    """Load Heat's resource types and constraints, its own and those of `plugins`, for work without a cloud."""
    logging.getLogger().addHandler(logging.NullHandler())
    cfg.CONF([], project="heat", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("cloud_backend", f"{__name__}.NoCloud")
    cfg.CONF.set_override("max_resources_per_stack", -1)
    cfg.CONF.set_override("plugin_dirs", [str(path) for path in plugins])
    known = resources.global_env()
    for name, constraint in tuple(known.constraints.items()):
        if constraint.__module__.startswith("heat.engine.clients"):
            known.register_constraint(name, Named)


def templates_at(path: Path) -> list[Path]:
    """Return the template at `path`, or the templates in directory `path`."""
    return sorted(one for one in path.glob("*.yaml") if _is_template(one)) if path.is_dir() else [path]


def heat_environment_of(path: Path) -> HeatEnvironment:
    """Return what NAME.env.yaml beside template NAME.yaml says, or else the heat environments beside it together."""
    own = path.with_suffix(".env.yaml")
    shared = (one for one in path.parent.glob("*.yaml") if not one.name.endswith(".env.yaml") and not _is_template(one))
    registry: dict[str, str] = {}
    parameters: dict[str, Any] = {}
    for one in [own] if own.is_file() else sorted(shared):
        content = yaml.safe_load(one.read_text(encoding="utf-8")) or {}
        for kind, target in content.get("resource_registry", {}).items():
            local = isinstance(target, str) and target.endswith((".yaml", ".template"))
            registry[kind] = str((one.parent / target.removeprefix("file://")).resolve()) if local else target
        parameters |= content.get("parameter_defaults", {}) | content.get("parameters", {})
    files = {name: Path(name).read_text(encoding="utf-8") for name in registry.values() if Path(name).is_file()}
    return HeatEnvironment(registry, files, parameters)


def _is_template(path: Path) -> bool:
    return "heat_template_version" in path.read_text(encoding="utf-8")


def problems_of(path: Path, given: HeatEnvironment) -> Iterator[str]:
    """Yield what is wrong with the template at `path`, each problem once."""
    seen: set[str] = set()
    try:
        parsed = template_format.parse(path.read_text(encoding="utf-8"), str(path))
        hot = template.Template(parsed, files=dict(given.files))
        cases = list(cases_of(hot.param_schemata({}), given.parameters))
    except _REFUSALS as error:
        yield _one_line(error)
        return
    for values in cases:
        env = environment.Environment({"parameters": values, "resource_registry": dict(given.registry)})
        whole = template.Template(parsed, files=dict(given.files), env=env)
        for problem in problems_of_stack(stack.Stack(_nobody(), "validated", whole)):
            if problem not in seen:
                seen.add(problem)
                yield problem


def cases_of(schemata: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield sets of parameters: the required ones, all, and the required ones with each optional one alone."""
    known = {name: value for name, value in given.items() if name in schemata}
    required = {n: sample_of(n, s) for n, s in schemata.items() if s.required and n not in known} | known
    optional = {n: sample_of(n, s) for n, s in schemata.items() if not s.default and n not in required}
    yield required
    if optional:
        yield required | optional
    for name, value in optional.items() if len(optional) > 1 else ():
        yield {**required, name: value}


def sample_of(name: str, schema: Any) -> Any:
    """Return a value for parameter `name`: an allowed one, or one by the last word of its name, or by its type."""
    for constraint in schema.constraints:
        if isinstance(constraint, AllowedValues):
            return constraint.allowed[0]
    return SAMPLES.get(name.rsplit("_", 1)[-1], SAMPLES_BY_TYPE[schema.type])


def problems_of_stack(whole: stack.Stack) -> Iterator[str]:
    """Yield what Heat refuses in a stack and in those nested in it, then what it is about to drop."""
    try:
        whole.validate(validate_res_tmpl_only=True)
        members = tuple(whole.resources.values())
    except _REFUSALS as error:
        yield _one_line(error)
        return
    for member in members:
        try:
            yield from problems_of_resource(member)
        except exception.AuthorizationFailure:
            continue  # from here on Heat asks the cloud
        except _REFUSALS as error:
            yield f"{member.name}: {_one_line(error)}"


def problems_of_resource(member: Any) -> Iterator[str]:
    """Yield what is wrong with one resource beyond its properties. Raises what Heat raises."""
    yield from outdated(member)
    yield from unknown_attributes(member)
    if isinstance(member, StackResource):
        name = f"{member.stack.name}-{member.name}"
        nested = member._parse_nested_stack(name, member.child_template(), member.child_params())
        nested.strict_validate = False  # its parameters are outputs of resources that do not exist yet
        yield from (f"{member.name} > {problem}" for problem in problems_of_stack(nested))
    elif refused := member.validate():
        yield f"{member.name}: {refused}"


def outdated(member: Any) -> Iterator[str]:
    """Yield the type, properties and attributes in use that Heat has marked deprecated, hidden or unsupported."""
    used = [(f"type {member.t.resource_type}", member.support_status)]
    used += list(_properties_used(member.properties_schema, member.properties.data, "property "))
    for attribute, *_ in attributes_used(member):
        if attribute in member.attributes_schema:
            used.append((f"attribute {attribute}", member.attributes_schema[attribute].support_status))
    for what, status in used:
        if status.status != support.SUPPORTED:
            yield f"{member.name}: {what} is {status.status.lower()}: {status.message or status.version or ''}"


def _properties_used(schemata: Any, data: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        schema = schemata[key]
        yield f"{prefix}{key}", schema.support_status
        entries = value if isinstance(value, list) else [value]
        inner = schema.schema[0].schema if schema.schema and schema.type == schema.LIST else schema.schema
        for entry in entries if inner else ():
            if isinstance(entry, Mapping):
                yield from _properties_used(inner, entry, f"{prefix}{key}.")


def unknown_attributes(member: Any) -> Iterator[str]:
    """Yield attributes that a resource does not have, and keys that an output of our own templates does not have.

    Heat passes both by in nested stacks, whose attributes may be dynamic; after the launch they would be null.
    """
    if isinstance(member, StackResource) and not isinstance(member, TemplateResource):
        return
    ours = member.child_template().get("outputs", {}) if isinstance(member, TemplateResource) else {}
    for attribute, *path in attributes_used(member):
        if attribute not in member.attributes_schema and not attribute.startswith("resource."):
            yield f"{member.name}: has no attribute {attribute} (it has {', '.join(sorted(member.attributes_schema))})"
        value = ours.get(attribute, {}).get("value")
        literal = isinstance(value, Mapping) and not any(_is_function(key) for key in value)
        if path and literal and path[0] not in value:
            yield f"{member.name}: attribute {attribute} has no key {path[0]!r} (it has {', '.join(value)})"


def _is_function(key: str) -> bool:
    """Return whether a key of a mapping makes it a call of a HOT function."""
    return key in template.Template({"heat_template_version": "2021-04-16"}).functions


def attributes_used(member: Any) -> set[tuple[Any, ...]]:
    """Return the attributes of `member` that the rest of its stack asks for, each with its path."""
    whole = member.stack
    users = [*(other.t for other in whole.resources.values()), *whole.outputs.values()]
    found = {name for user in users for name in user.dep_attrs(member.name)}
    return {name if isinstance(name, tuple) else (name,) for name in found if name != ALL_ATTRIBUTES}


def _nobody() -> Any:
    return context.RequestContext(username="nobody", project_id="none", is_admin=False, roles=[])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
