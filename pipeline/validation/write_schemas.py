"""What the resources of a Heat accept, as JSON on standard output: run by `inv release.schemas` inside that Heat.

    PYTHON write_schemas.py [DIRECTORY OF PLUGINS]...

PYTHON is one that has openstack-heat. A type a line, sorted, so that a review of two Heats shows what differs.
schemas.py tells what is in it. Nothing here asks a cloud: Heat's client plugins are those of one without a catalog, and
a constraint that would look up a name there is content with any.

Which properties exclude each other stands in no schema, only in the code of validate(). It is found by trying each two.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from importlib.metadata import version
from itertools import combinations
from typing import Any

from heat.common import config as heat_config  # noqa: F401  registers the options that Heat reads
from heat.common import context, exception
from heat.engine import clients, constraints, environment, resources, rsrc_defn, stack, support, template
from heat.engine.hot import functions
from heat.engine.resources.stack_resource import StackResource
from oslo_config import cfg

_SAMPLES = {"String": "198.18.0.0", "Integer": 1, "Number": 1, "Boolean": True, "Map": {}, "List": []}


class NoCloud(clients.OpenStackClients):  # type: ignore[misc]
    """Heat's own client plugins, of a cloud that has no catalog to ask whether a service is there."""

    def client_plugin(self, name: str) -> Any:
        """Return Heat's plugin for client `name`, None where Heat has none."""
        plugin = super().client_plugin(name)
        if plugin is not None:
            plugin.service_types = []
        return plugin


class Named(constraints.BaseCustomConstraint):  # type: ignore[misc]
    """A constraint that takes anything."""

    def validate(self, value: object, context: object) -> bool:  # noqa: ARG002
        """Return that it is well."""
        return True


def main(plugins: list[str]) -> int:
    """Print the schemas of this Heat, and of the types in directories `plugins`."""
    logging.disable(logging.CRITICAL)
    cfg.CONF([], project="heat", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("cloud_backend", f"{__name__}.NoCloud")
    cfg.CONF.set_override("plugin_dirs", plugins)
    known = resources.global_env()
    for name in tuple(known.constraints):
        known.register_constraint(name, Named)
    registry = known.registry._registry
    classes = {name: one.value for name, one in registry.items() if isinstance(one, environment.ClassResourceInfo)}
    with redirect_stdout(sys.stderr):
        lines = [f"{_text(name)}: {_text(_type(name, made))}" for name, made in sorted(classes.items())]
    print(f'{{"heat": {_text(version("openstack-heat"))},\n"versions": {_text(dict(sorted(_versions())))},')
    print('"types": {\n' + ",\n".join(lines) + "\n}}")
    return 0


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _versions() -> Iterator[tuple[str, Any]]:
    """Yield each version of HOT with the names of its functions, and of those that conditions know."""
    manager = template._get_template_extension_manager()
    for entry in manager.names():
        key, _, name = entry.partition(".")
        if key == "heat_template_version":
            made = manager[entry].plugin
            conditions = _usable(getattr(made, "condition_functions", {}))
            yield name, {"conditions": conditions, "functions": _usable(made.functions)}


def _usable(known: Mapping[str, Any]) -> list[str]:
    return sorted(name for name, one in known.items() if one is not functions.Removed)


def _type(name: str, made: Any) -> dict[str, Any]:
    attributes = {**made.base_attributes_schema, **made.attributes_schema}
    return _without_empty(
        {
            "properties": {key: _property(one) for key, one in made.properties_schema.items()},
            "attributes": {key: _status(one.support_status) for key, one in attributes.items()},
            "status": _status(made.support_status),
            "open": issubclass(made, StackResource),
            "exclusive": [] if issubclass(made, StackResource) else sorted(_exclusive(name, made)),
        }
    )


def _exclusive(name: str, made: Any) -> Iterator[list[str]]:
    """Yield the pairs of properties that Heat refuses at the same time, where it says so of just these."""
    usable = {key: one for key, one in made.properties_schema.items() if one.support_status.status != support.HIDDEN}
    required = {key: _sample(one) for key, one in usable.items() if one.required}
    for pair in combinations(sorted(usable), 2):
        properties = {**required, **{key: _sample(usable[key]) for key in pair}}
        if _conflict(name, made, properties) == set(pair):
            yield list(pair)


def _conflict(name: str, made: Any, properties: Mapping[str, Any]) -> set[str]:
    nobody = context.RequestContext(username="nobody", project_id="none", is_admin=False, roles=[])
    whole = template.Template({"heat_template_version": "2021-04-16", "resources": {}})
    owner = stack.Stack(nobody, "tried", whole)
    try:
        made("tried", rsrc_defn.ResourceDefinition("tried", name, properties), owner).validate()
    except exception.ResourcePropertyConflict as error:
        return set(str(error).rpartition(": ")[2].rstrip(".").split(", "))
    except Exception:  # noqa: BLE001  samples that a type refuses, and clouds that it asks for, tell nothing
        return set()
    return set()


def _sample(schema: Any) -> Any:
    for given in schema.constraints:
        if isinstance(given, constraints.AllowedValues):
            return given.allowed[0]
        if isinstance(given, constraints.Range) and not isinstance(given, constraints.Length):
            return given.min if given.min is not None else given.max
    if schema.type == schema.LIST and schema.schema is not None:
        return [_sample(schema.schema[0])]
    if schema.type == schema.MAP and schema.schema is not None:
        return {key: _sample(one) for key, one in schema.schema.items() if one.required}
    return _SAMPLES.get(schema.type, "x")


def _property(schema: Any) -> dict[str, Any]:
    inner = schema.schema
    single = schema.type == schema.LIST and inner is not None
    return _without_empty(
        {
            "type": schema.type,
            "required": schema.required,
            "default": schema.default is not None,
            "update": schema.update_allowed,
            "constraints": [one for given in schema.constraints for one in _constraint(given)],
            "status": _status(schema.support_status),
            "items": _property(inner[0]) if single else None,
            "keys": {key: _property(one) for key, one in inner.items()} if inner is not None and not single else None,
        }
    )


def _constraint(given: Any) -> Iterator[list[Any]]:
    if isinstance(given, constraints.AllowedValues):
        yield ["allowed", list(given.allowed)]
    elif isinstance(given, constraints.AllowedPattern):
        yield ["pattern", given.pattern]
    elif isinstance(given, constraints.Length):  # to Heat, a kind of Range
        yield ["length", given.min, given.max]
    elif isinstance(given, constraints.Range):
        yield ["range", given.min, given.max]
    elif isinstance(given, constraints.Modulo):
        yield ["modulo", given.step, given.offset]
    elif isinstance(given, constraints.CustomConstraint):
        yield ["custom", given.name]


def _status(status: Any) -> list[str] | None:
    """Return [status, the version since which, message] of what Heat advises against, deepest reason first."""
    if status is None or status.status == support.SUPPORTED:
        return None
    return [status.status.lower(), status.version or "", status.message or ""]


def _without_empty(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value not in (None, False, [], {})}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
