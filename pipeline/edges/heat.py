"""Heat, as a client sees it: stacks, events, resources, outputs. The only importer of heatclient.

heatclient's `poll_for_events` never gives up and its `exc.BaseException` shadows the builtin: the waits are ours
(pipeline.deploy), and every error is translated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keystoneauth1.exceptions as ksa_exceptions
from heatclient import exc
from heatclient.v1.client import Client
from keystoneauth1.session import Session

from pipeline.errors import ConfigurationInvalid, PipelineError

__all__ = ["Event", "Heat", "HeatRefused", "Resource", "Stack", "connect", "session_of"]


class HeatRefused(PipelineError):
    """Heat answered a request with an error, or did not answer. `status` is the HTTP status, 0 for none."""

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack: `status` is Heat's stack_status, for instance CREATE_COMPLETE."""

    id: str
    name: str
    status: str
    reason: str
    updated: str
    outputs: Mapping[str, Any]
    tags: tuple[str, ...] = ()

    @property
    def in_progress(self) -> bool:
        """Whether an action is under way."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def complete(self) -> bool:
        """Whether the last action ended well."""
        return self.status.endswith("_COMPLETE")


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stack or of a stack nested in it."""

    id: str
    stack: str
    resource: str
    status: str
    reason: str
    time: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource; `depth` counts how many stacks it is nested in below the one asked for."""

    name: str
    kind: str
    status: str
    reason: str
    physical_id: str
    stack: str
    depth: int


class Heat:
    """Heat of one region, as one user."""

    def __init__(self, session: Session, region: str) -> None:
        self.session = session
        self.region = region
        self._client = Client(
            session=session,
            region_name=region,
            service_type="orchestration",
            interface="public",
            endpoint_override=None,
        )

    def find(self, name: str, *, outputs: bool = True) -> Stack | None:
        """Return the stack called `name`, or None. Raises HeatRefused."""
        with _translated(f"looking for stack {name}"):
            try:
                return _stack(self._client.stacks.get(name, resolve_outputs=outputs))
            except exc.HTTPNotFound:
                return None

    def list(self, **filters: str) -> tuple[Stack, ...]:
        """Return the project's stacks, newest first, without outputs. Raises HeatRefused."""
        with _translated("listing stacks"):
            return tuple(_stack(found) for found in self._client.stacks.list(filters=filters))

    def create(self, name: str, **body: Any) -> str:
        """Start to create stack `name` and return its id.

        `body` is Heat's own: template, files, environment, parameters, tags, timeout_mins. Raises HeatRefused.
        """
        with _translated(f"creating stack {name}"):
            answer = self._client.stacks.create(stack_name=name, **body)
            return str(answer["stack"]["id"])

    def update(self, stack_id: str, **body: Any) -> None:
        """Start to update a stack; `body` as in create. Raises HeatRefused."""
        with _translated(f"updating stack {stack_id}"):
            self._client.stacks.update(stack_id, **body)

    def delete(self, stack_id: str) -> None:
        """Start to delete a stack; one that is gone already is fine. Raises HeatRefused."""
        with _translated(f"deleting stack {stack_id}"):
            try:
                self._client.stacks.delete(stack_id)
            except exc.HTTPNotFound:
                return

    def preview(self, name: str, **body: Any) -> tuple[str, ...]:
        """Return the names of the resources that creating `name` would make. Raises HeatRefused."""
        with _translated(f"previewing stack {name}"):
            found = self._client.stacks.preview(stack_name=name, **body)
            return tuple(resource["resource_name"] for resource in found.resources)

    def preview_update(self, stack_id: str, **body: Any) -> dict[str, tuple[str, ...]]:
        """Return what an update would do: {added, updated, replaced, deleted, unchanged: resource names}."""
        with _translated(f"previewing an update of stack {stack_id}"):
            changes = self._client.stacks.preview_update(stack_id, **body)["resource_changes"]
            return {kind: tuple(_resource_name(found) for found in changes.get(kind, ())) for kind in _CHANGES}

    def validate(self, **body: Any) -> Mapping[str, Any]:
        """Return Heat's reading of a template. Raises HeatRefused where it is not valid."""
        with _translated("validating a template"):
            answer: Mapping[str, Any] = self._client.stacks.validate(**body)
            return answer

    def events(self, stack_id: str, *, depth: int = 3) -> tuple[Event, ...]:
        """Return the events of a stack and of those nested in it, oldest first. Raises HeatRefused."""
        with _translated(f"reading events of stack {stack_id}"):
            found = self._client.events.list(stack_id, nested_depth=depth, sort_dir="asc")
            return tuple(
                Event(
                    e.id,
                    _link_stack(e),
                    e.resource_name,
                    e.resource_status,
                    e.resource_status_reason or "",
                    e.event_time,
                )
                for e in found
            )

    def resources(self, stack_id: str, *, depth: int = 3) -> tuple[Resource, ...]:
        """Return the resources of a stack and of those nested in it. Raises HeatRefused."""
        with _translated(f"reading resources of stack {stack_id}"):
            found = self._client.resources.list(stack_id, nested_depth=depth)
            return _resources(found)

    def build_info(self) -> Mapping[str, Any]:
        """Return {"api": {"revision"}, "engine": {"revision"}} as one API and one engine answer it."""
        with _translated("asking build_info"):
            answer: Mapping[str, Any] = self._client.build_info.build_info()
            return answer

    def endpoint(self, service_type: str = "orchestration") -> str:
        """Return the public URL that the catalog gives for `service_type` in this region. Raises HeatRefused."""
        with _translated(f"reading the catalog for {service_type}"):
            url = self.session.get_endpoint(service_type=service_type, region_name=self.region, interface="public")
        if not url:
            raise HeatRefused(f"the catalog has no {service_type} endpoint in region {self.region}")
        return str(url)


_CHANGES = ("added", "updated", "replaced", "deleted", "unchanged")


def session_of(
    cloud: str, clouds_yaml: Path | None = None, *, region: str | None = None, timeout: float = 60
) -> tuple[Session, str]:
    """Return a keystone session for entry `cloud` of a clouds.yaml, and its region's name.

    `clouds_yaml` None means the user's own, as the openstack command finds it. `timeout` seconds bound each request.
    Raises ConfigurationInvalid where the entry is missing or incomplete.
    """
    from openstack.config import OpenStackConfig
    from openstack.exceptions import ConfigException

    try:
        config = OpenStackConfig(
            config_files=[str(clouds_yaml)] if clouds_yaml else None, load_envvars=clouds_yaml is None
        )
        found = config.get_one(cloud=cloud, region_name=region)
        session = found.get_session()
    except (ConfigException, ksa_exceptions.ClientException) as error:
        where = clouds_yaml or "clouds.yaml"
        raise ConfigurationInvalid(
            f"{where}: cloud {cloud!r}: {error}", hint="inv local.up, or add the cloud"
        ) from error
    session.timeout = timeout
    return session, str(found.get_region_name() or "")


def connect(cloud: str, clouds_yaml: Path | None = None, *, region: str | None = None) -> Heat:
    """Return Heat for entry `cloud` of a clouds.yaml, in its region or in `region`. Raises ConfigurationInvalid."""
    session, named = session_of(cloud, clouds_yaml, region=region)
    return Heat(session, region or named)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except exc.HTTPException as error:
        message = str(error).removeprefix("ERROR: ").strip().splitlines()
        raise HeatRefused(
            f"{doing}: Heat answered {error.code}: {message[0] if message else ''}", status=error.code
        ) from error
    except ksa_exceptions.HttpError as error:
        raise HeatRefused(
            f"{doing}: HTTP {error.http_status}: {error.message}", status=error.http_status or 0
        ) from error
    except (ksa_exceptions.ClientException, exc.BaseException) as error:
        raise HeatRefused(f"{doing}: {error}", hint="inv local.status, or look at the cloud's endpoints") from error


def _stack(found: Any) -> Stack:
    outputs = {one["output_key"]: one.get("output_value") for one in getattr(found, "outputs", None) or ()}
    return Stack(
        found.id,
        found.stack_name,
        found.stack_status,
        found.stack_status_reason or "",
        found.updated_time or "",
        outputs,
        tuple(getattr(found, "tags", None) or ()),
    )


def _resources(found: Iterable[Any]) -> tuple[Resource, ...]:
    """Return resources with their depth: Heat lists nested ones flat, tied to the outer one by its physical id."""
    listed = list(found)
    outer = {one.physical_resource_id: _link_stack(one) for one in listed if one.physical_resource_id}
    return tuple(
        Resource(
            one.resource_name,
            one.resource_type,
            one.resource_status,
            one.resource_status_reason or "",
            one.physical_resource_id or "",
            _link_stack(one),
            _depth(_link_stack(one), outer),
        )
        for one in listed
    )


def _depth(stack: str, outer: Mapping[str, str]) -> int:
    depth = 0
    while (stack := outer.get(stack, "")) != "":
        depth += 1
    return depth


def _resource_name(change: Mapping[str, Any]) -> str:
    return str(change["resource_name"])


def _link_stack(found: Any) -> str:
    """Return the id of the stack that a resource or event belongs to; its link ends in /stacks/NAME/ID."""
    href = next((link["href"] for link in found.links if link["rel"] == "stack"), "")
    return str(href.rpartition("/")[2])
