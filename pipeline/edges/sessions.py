"""Sessions with a cloud: from clouds.yaml to keystoneauth, and sessions that tell of every HTTP exchange."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import keystoneauth1.exceptions as ksa_exceptions
import requests
from keystoneauth1.session import Session

from pipeline.edges.sdkconfig import without_services
from pipeline.errors import ConfigurationInvalid
from pipeline.secrets import Secret

__all__ = ["Observer", "root_cause", "session_of", "watched"]

_WORDS = 200  # characters of an error that are told
_NAMED = ("orchestration", "cloudformation")
"""The types of services of which one region may have several: a cloud's own Heat, and those that it launched."""


class Observer(Protocol):
    """Whoever is told of the exchanges of a watched session."""

    def exchanged(self, method: str, url: str, status: int, error: str, said: str = "") -> None:
        """Take note that `method url` was answered with `status`, or not at all: status 0 and what went wrong.

        `said` is what a server's error says of itself, and after how long.
        """


class _WatchedRequests(requests.Session):
    """requests, telling of each exchange once its body has been read; nothing is tried again behind its back.

    keystoneauth follows redirects itself, so one call of `send` is one exchange on the wire. Requests to identity
    are left out: they buy tokens, and are not the service that is watched.
    """

    def __init__(self, observer: Observer, identity: re.Pattern[str]) -> None:
        super().__init__()
        self._observer = observer
        self._identity = identity

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        method, url = str(request.method), str(request.url)
        with self._unanswered(method, url):
            response = super().send(request, **kwargs)
        self._tell(method, url, response.status_code, "", _words_of(response) if response.status_code >= 500 else "")
        return response

    @contextmanager
    def _unanswered(self, method: str, url: str) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            self._tell(method, url, 0, root_cause(error))
            raise

    def _tell(self, method: str, url: str, status: int, error: str, said: str = "") -> None:
        if not self._identity.fullmatch(url):
            self._observer.exchanged(method, url, status, error, said)


def session_of(
    cloud: str,
    clouds_yaml: Path | None = None,
    *,
    region: str | None = None,
    timeout: float = 60,
    password: Secret | None = None,
) -> tuple[Session, str, Mapping[str, str]]:
    """Return a keystone session for entry `cloud` of a clouds.yaml, its region's name, and what it calls services.

    The last are the names that the entry gives (orchestration_service_name), by type.

    `clouds_yaml` None means the user's own, as the openstack command finds it. `timeout` seconds bound each request.
    `password` is the user's where the entry has none: one that is kept elsewhere is in no file.
    Raises ConfigurationInvalid where the entry is missing or incomplete.
    """
    without_services()
    from openstack.config import OpenStackConfig
    from openstack.exceptions import ConfigException

    try:
        config = OpenStackConfig(
            config_files=[str(clouds_yaml)] if clouds_yaml else None, load_envvars=clouds_yaml is None
        )
        known = {"auth": {"password": password.reveal()}} if password else {}
        found = config.get_one(cloud=cloud, region_name=region, **known)
        session = found.get_session()
    except (ConfigException, ksa_exceptions.ClientException) as error:
        where = clouds_yaml or "clouds.yaml"
        raise ConfigurationInvalid(
            f"{where}: cloud {cloud!r}: {error}", hint="inv local.up, or add the cloud"
        ) from error
    session.timeout = timeout
    names = {kind: name for kind in _NAMED if (name := found.get_service_name(kind))}
    return session, str(found.get_region_name() or ""), names


def watched(session: Session, observer: Observer) -> Session:
    """Return a session of the same user, sharing its token, with connections of its own that tell `observer`."""
    return Session(
        auth=session.auth,
        verify=session.verify,
        cert=session.cert,
        timeout=session.timeout,
        session=_WatchedRequests(observer, _identity_of(session)),
    )


def _identity_of(session: Session) -> re.Pattern[str]:
    """Return a pattern of identity's addresses: Heat's may begin alike, http://cloud:8004 or http://cloud/heat."""
    url = str(getattr(session.auth, "auth_url", None) or "no identity")
    return re.compile(re.escape(url.rstrip("/").removesuffix("/v3")) + r"(/|/v3(/.*)?)?")


def _words_of(response: requests.Response) -> str:
    """Return what an error of Heat's, or of whoever stands before it, says, in a line, and after how many seconds."""
    try:
        error = response.json()["error"]
        said = f"{error['type']}: {error['message']}"
    except (ValueError, LookupError, TypeError):
        said = re.sub(r"<[^>]*>", " ", response.text)
    return f"{' '.join(said.split())[:_WORDS]}, after {response.elapsed.total_seconds():.1f} s"


def root_cause(error: BaseException) -> str:
    """Return the innermost cause: "Connection refused" says more than three wrappers around it."""
    reason: BaseException = error
    while inner := (reason.__cause__ or reason.__context__):
        reason = inner
    return f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__
