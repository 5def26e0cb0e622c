"""What is probably wrong, in an operator's words. Pure: an answer goes in, a sentence comes out."""

from __future__ import annotations

import re

__all__ = ["NO_ENGINE", "NO_WORKER", "RESOURCE_SLOW", "of_answer", "of_reason", "of_signal"]

NO_ENGINE = (
    "heat-api answers and no engine does: is heat-engine running, and does its transport_url name the broker and "
    "vhost that heat-api's names?"
)
NO_WORKER = (
    "the stack was accepted and no engine began with a resource: are there consumers on queue engine_worker of this "
    "vhost, all of one worker RPC version?"
)
RESOURCE_SLOW = (
    "a resource was begun and did not end: the engine that had it was killed or lost its message "
    "(heat-manage service list), or the cloud is very slow"
)
_DOMAIN = (
    "Heat cannot make users in its own domain: stack_user_domain_id/name, stack_domain_admin and "
    "stack_domain_admin_password in heat.conf must name a domain and its admin in Keystone"
)
_BY_REASON: tuple[tuple[str, str], ...] = (
    (r"MessagingTimeout|[Tt]imed out waiting for a reply", NO_ENGINE),
    (r"stack_(user_)?domain|domain admin|stack domain", _DOMAIN),
    (r"\btrust", "trusts: the [trustee] section, and whether the user holds the roles of trusts_delegated_roles"),
    (r"maximum|[Qq]uota|RequestLimitExceeded", "a limit is reached: max_stacks_per_tenant, or stacks left behind"),
    (r"[Dd]ecrypt|InvalidEncryptionKey", "auth_encryption_key differs between hosts, or from what wrote the database"),
    (r"DBError|OperationalError|ProgrammingError|doesn't exist", "the database: is it up, and was db_sync run?"),
    (r"Worker went down|Engine went down", "an engine died in the middle of it: look at heat-engine's journal"),
    (r"[Aa]uthoriz|[Ff]orbidden|Unauthorized", "Heat may not act for the user: roles, trusts, [trustee] of heat.conf"),
)


def of_reason(reason: str) -> str:
    """Return what is probably wrong where a resource failed for `reason`."""
    for pattern, cause in _BY_REASON:
        if re.search(pattern, reason):
            return cause
    return "heat-engine's journal has the traceback behind this reason"


def of_answer(status: int, text: str, *, service: str, timed_out: bool = False) -> str:
    """Return what is probably wrong where `service` answered with `status` and `text`; status 0 is no answer."""
    if timed_out:
        return f"{service} takes the connection and says nothing: do all its workers hang?"
    if status == 0:
        return (
            f"nothing listens there: is {service} (or the load balancer before it) running, and does the endpoint in "
            "Keystone's catalog name the right address?"
        )
    if status in (502, 503, 504):
        return f"the load balancer has no {service} that passes its check: is it running on the API hosts?"
    if status == 401:
        return f"{service} and identity disagree about the token: [keystone_authtoken], and the clocks"
    if status == 403:
        return "the user lacks a role that Heat's policy asks for (member of the project, heat_stack_owner)"
    if status == 404:
        return f"something else than {service} answers there: does the endpoint in Keystone's catalog fit?"
    known = of_reason(text)
    return known if status < 500 or known in (NO_ENGINE, _DOMAIN) else f"{known}; {service}'s journal says more"


def of_signal(status: int, *, where: str, catalog: str, timed_out: bool = False) -> str:
    """Return what is probably wrong where a signal sent to `where` was answered with `status`; 0 is no answer.

    `catalog` is the cloudformation endpoint that Keystone tells; it and `where` come from different settings.
    """
    elsewhere = "" if where.startswith(catalog) or not catalog else f" (the catalog says {catalog})"
    if timed_out:
        return f"heat-api-cfn at {where}{elsewhere} takes the signal and says nothing: {NO_ENGINE}"
    if status == 0:
        return (
            f"heat-api-cfn does not answer at {where}{elsewhere}: is it running, and does "
            "heat_waitcondition_server_url point to it?"
        )
    if status in (502, 503, 504):
        return (
            f"the load balancer at {where} has no heat-api-cfn that passes its check: is it running on the API hosts?"
        )
    if status >= 500:
        return (
            "heat-api-cfn cannot ask Keystone about the signature: its [ec2authtoken] takes auth_uri up to Heat 26, "
            "and from 27 on auth_type, auth_url (without /v3), username, password, project_name and domains"
        )
    if status in (400, 401, 403):
        return (
            "the signature was refused: clocks that differ, a proxy that rewrites host or path, or [ec2authtoken] of "
            "heat-api-cfn, with another Keystone than the engines use or (from Heat 27 on) a user it does not know"
        )
    return f"something else than heat-api-cfn answers at {where}{elsewhere}: see heat_waitcondition_server_url"
