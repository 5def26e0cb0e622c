"""Heat, as a client sees it: stacks, events, resources, outputs. The only importer of heatclient.

heatclient's `poll_for_events` never gives up and its `exc.BaseException` shadows the builtin: the waits are ours
(pipeline.deploy), and every error is translated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import keystoneauth1.exceptions as ksa_exceptions
from heatclient import exc
from heatclient.v1.client import Client
from keystoneauth1.session import Session

from pipeline.edges.heatanswers import changes_of, names_in, resources_of, stack_id_of, stack_of
from pipeline.edges.sessions import Observer, root_cause, session_of, watched
from pipeline.errors import PipelineError
from pipeline.secrets import Secret
from pipeline.stacks import Answer, Content, Event, Resource, ResourceChange, Service, Stack

__all__ = ["Answer", "Event", "Heat", "HeatRefused", "Resource", "Service", "Stack", "connect", "session_of"]

_TYPE = "orchestration"
# An address, from its first slash: urllib3 quotes them without scheme and host. Then its query, without what closes it.
_QUERY = re.compile(r"""(/[^\s?]*)\?\S*[^\s)\]>}"'.,:;]""")


class HeatRefused(PipelineError):
    """Heat answered a request with an error, or did not answer.

    `status` is the HTTP status, 0 for none; `timed_out` tells silence from a refused or broken connection. Whatever
    `message` quotes, the queries of its URLs are left out: a presigned URL is a password.
    """

    def __init__(self, message: str, *, status: int = 0, timed_out: bool = False, hint: str = "") -> None:
        super().__init__(_QUERY.sub(r"\1", message), hint=hint)
        self.status = status
        self.timed_out = timed_out


class Heat:
    """Heat of one region, as one user.

    `names` are the services' names by type, for a region that has several Heats; where it names none, any is meant but
    `other_than` the service of that name.
    """

    def __init__(
        self, session: Session, region: str, names: Mapping[str, str] | None = None, *, other_than: str = ""
    ) -> None:
        self.session = session
        self.region = region
        self._names = dict(names or {})
        self._other_than = other_than

    @cached_property
    def _client(self) -> Client:
        return Client(
            session=self.session,
            region_name=self.region,
            service_type=_TYPE,
            service_name=self._service_name(_TYPE),
            interface="public",
            endpoint_override=None,
        )

    def _service_name(self, kind: str) -> str | None:
        """Return the name of the service of type `kind`, None where there is but one to be meant."""
        if kind in self._names or not self._other_than or kind != _TYPE:
            return self._names.get(kind)
        catalog = self.session.auth.get_access(self.session).service_catalog
        found = catalog.get_endpoints_data(kind, interface="public", region_name=self.region)
        names = {endpoint.service_name for those in found.values() for endpoint in those}
        return min(names - {self._other_than, None}, default=None) if self._other_than in names else None

    def find(self, name: str, *, outputs: bool = True) -> Stack | None:
        """Return the stack called `name`, or None. Raises HeatRefused."""
        with _translated(f"looking for stack {name}"):
            try:
                return stack_of(self._client.stacks.get(name, resolve_outputs=outputs))
            except exc.HTTPNotFound:
                return None

    def list(self, **filters: str | Sequence[str]) -> tuple[Stack, ...]:
        """Return the project's stacks that `filters` fit, newest first, without outputs. Raises HeatRefused."""
        with _translated("listing stacks"):
            return tuple(stack_of(found) for found in self._client.stacks.list(filters=filters))

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

    def signal(self, stack_id: str, resource: str, details: Mapping[str, Any]) -> None:
        """Signal one resource of a stack, as the user. Raises HeatRefused where it takes no such signal."""
        with _translated(f"signalling {resource} of stack {stack_id}"):
            self._client.resources.signal(stack_id, resource, data=dict(details))

    def preview(self, name: str, **body: Any) -> tuple[str, ...]:
        """Return the names of the resources that creating `name` would make. Raises HeatRefused."""
        with _translated(f"previewing stack {name}"):
            found = self._client.stacks.preview(stack_name=name, **body)
            return tuple(names_in(found.resources))

    def preview_update(self, stack_id: str, **body: Any) -> tuple[ResourceChange, ...]:
        """Return what an update would do to each resource, to nested ones too, sorted by path. Raises HeatRefused."""
        with _translated(f"previewing an update of stack {stack_id}"):
            return changes_of(
                self._client.stacks.preview_update(stack_id, show_nested=True, **body)["resource_changes"]
            )

    def content(self, stack_id: str) -> Content:
        """Return what a stack was last sent; values of hidden parameters are masked by Heat. Raises HeatRefused."""
        with _translated(f"reading the template of stack {stack_id}"):
            stacks = self._client.stacks
            return Content(stacks.template(stack_id), stacks.files(stack_id) or {}, stacks.environment(stack_id))

    def check(self, stack_id: str) -> None:
        """Start to compare a stack's resources with what there really is. Raises HeatRefused."""
        with _translated(f"checking stack {stack_id}"):
            self._client.actions.check(stack_id)

    def disable_domain(self, domain_id: str) -> None:
        """Disable a domain of Keystone's; one that is gone already is fine. Raises HeatRefused."""
        with _translated(f"disabling domain {domain_id}"):
            found = self.session.patch(
                f"/domains/{domain_id}",
                endpoint_filter={"service_type": "identity", "interface": "public"},
                json={"domain": {"enabled": False}},
                raise_exc=False,
            )
            if found.status_code not in (200, 404):
                raise HeatRefused(
                    f"disabling domain {domain_id}: HTTP {found.status_code}: {found.text}", status=found.status_code
                )

    def validate(self, **body: Any) -> Mapping[str, Any]:
        """Return Heat's reading of a template. Raises HeatRefused where it is not valid."""
        with _translated("validating a template"):
            answer: Mapping[str, Any] = self._client.stacks.validate(**body)
            return answer

    def events(self, stack_id: str, *, depth: int = 3) -> tuple[Event, ...]:
        """Return the events of a stack and of those nested in it, oldest first. Raises HeatRefused.

        Heat looks for nested stacks by the resources they have (`list_events` in heat/engine/service.py), and so finds
        not even the stack itself once a rollback took its last resource: then that one alone is asked for.
        """
        with _translated(f"reading events of stack {stack_id}"):
            found = self._client.events.list(stack_id, nested_depth=depth, sort_dir="asc")
            return tuple(
                Event(
                    e.id,
                    stack_id_of(e),
                    e.resource_name,
                    e.resource_status,
                    e.resource_status_reason or "",
                    e.event_time,
                )
                for e in found or self._client.events.list(stack_id, sort_dir="asc")
            )

    def resources(self, stack_id: str, *, depth: int = 3) -> tuple[Resource, ...]:
        """Return the resources of a stack and of those nested in it. Raises HeatRefused."""
        with _translated(f"reading resources of stack {stack_id}"):
            found = self._client.resources.list(stack_id, nested_depth=depth)
            return resources_of(found)

    def build_info(self) -> Mapping[str, Any]:
        """Return {"api": {"revision"}, "engine": {"revision"}} as one API and one engine answer it."""
        with _translated("asking build_info"):
            answer: Mapping[str, Any] = self._client.build_info.build_info()
            return answer

    def services(self) -> tuple[Service, ...]:
        """Return every engine worker that Heat knows. Raises HeatRefused, status 403 for those who are no admin."""
        with _translated("listing engines"):
            found = self._client.services.list()
            return tuple(Service(one.engine_id, one.host, one.status) for one in found)

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        token: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send one plain request, with the user's token only if told so, and return whatever status it is answered.

        `timeout` seconds, or the session's own. Raises HeatRefused, with status 0, where no answer came.
        """
        with _translated(f"{method} {url.partition('?')[0]}"):
            found = self.session.request(
                url,
                method,
                data=body,
                headers=dict(headers or {}),
                authenticated=token,
                raise_exc=False,
                redirect=False,
                **({"timeout": timeout} if timeout else {}),
            )
            return Answer(found.status_code, found.text)

    def watched(self, observer: Observer) -> Heat:
        """Return Heat for the same user and token, on connections of its own, telling `observer` of each exchange."""
        return Heat(watched(self.session, observer), self.region, self._names, other_than=self._other_than)

    def hang_up(self) -> None:
        """Close the connections kept alive, so that the next request opens a new one."""
        self.session.session.close()

    def credentials(self) -> tuple[str, str]:
        """Return a token of the session's user, and the id of the project it is for. Raises HeatRefused."""
        with _translated("asking Keystone for a token"):
            return str(self.session.get_token()), str(self.session.get_project_id())

    def token_seconds(self) -> float:
        """Return for how many seconds Keystone makes a token of the session's user good. Raises HeatRefused."""
        with _translated("asking Keystone for a token"):
            access = self.session.auth.get_access(self.session)
            return float((access.expires - access.issued).total_seconds())

    def endpoint(self, service_type: str = "orchestration") -> str:
        """Return the public URL that the catalog gives for `service_type` in this region. Raises HeatRefused."""
        with _translated(f"reading the catalog for {service_type}"):
            url = self.session.get_endpoint(
                service_type=service_type,
                service_name=self._service_name(service_type),
                region_name=self.region,
                interface="public",
            )
        if not url:
            raise HeatRefused(f"the catalog has no {service_type} endpoint in region {self.region}")
        return str(url)

    def root(self, service_type: str = "orchestration") -> str:
        """Return the address of an API's version document: what stands before /v1, with a slash. Raises HeatRefused."""
        return self.endpoint(service_type).split("/v1")[0].rstrip("/") + "/"


def connect(
    cloud: str,
    clouds_yaml: Path | None = None,
    *,
    region: str | None = None,
    password: Secret | None = None,
    other_than: str = "",
) -> Heat:
    """Return Heat for entry `cloud` of a clouds.yaml, in its region or in `region`, with `password` where it has none.

    Of several Heats in the region, the one that the entry names, else any `other_than` the service of that name.
    Raises ConfigurationInvalid.
    """
    session, named, names = session_of(cloud, clouds_yaml, region=region, password=password)
    return Heat(session, region or named, names, other_than=other_than)


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
    except (ksa_exceptions.ConnectFailure, ksa_exceptions.ConnectTimeout) as error:
        silent = isinstance(error, ksa_exceptions.ConnectTimeout)
        address = _address(str(error))
        asked = doing if address in doing else f"{doing}: {address}"
        raise HeatRefused(
            f"{asked}: {'no answer in time' if silent else root_cause(error)}",
            timed_out=silent,
            hint="inv local.status, or look at the cloud's endpoints",
        ) from error
    except (ksa_exceptions.ClientException, exc.BaseException, ValueError) as error:  # the last: an address is no URL
        raise HeatRefused(f"{doing}: {error}", hint="inv local.status, or look at the cloud's endpoints") from error
    except (AttributeError, KeyError, TypeError) as error:  # heatclient takes any answer for one of Heat's
        raise HeatRefused(
            f"{doing}: what answered is not Heat, or not in order ({root_cause(error)})",
            hint="look at the orchestration endpoint in the cloud's catalog",
        ) from error


def _address(text: str) -> str:
    """Return the address in keystoneauth's message, without its query."""
    found = re.search(r"https?://[^\s?]+", text)
    return found.group().rstrip(":") if found else "no address"
