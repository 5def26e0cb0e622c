"""The rungs: each tries one thing on the ground and returns what it saw, or raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from functools import partial
from urllib.parse import urlsplit

from pipeline import chain
from pipeline.edges.clock import wait_until
from pipeline.edges.heat import HeatRefused
from pipeline.edges.sessions import root_cause
from pipeline.errors import Inconclusive
from pipeline.smoke import causes, templates
from pipeline.smoke.ground import Ground, RungFailed, RungSkipped
from pipeline.stacks import Answer, Stack

__all__ = [
    "clean",
    "cloudformation",
    "create",
    "delete",
    "engines",
    "nested",
    "orchestration",
    "preview",
    "token",
    "update",
    "versions",
    "wait_condition",
]

_QUICK = 15  # seconds for what needs no engine
_SIGNAL = 30  # seconds for a signal, which an engine must take
_CROWD = 8  # resources that need nothing of each other: twice as many keep Heat busy with its own locks
_CROWD_SECONDS = 2
_TURNS = 2  # crowds for each engine that is expected: the broker hands resources to workers in turn
_WITNESSED = 12  # engines of a larger region need not all be seen at work here: verify asks each


def orchestration(ground: Ground) -> str:
    """The catalog has an orchestration endpoint, and heat-api answers there."""
    return _endpoint_answers(ground, "orchestration", "heat-api")


def cloudformation(ground: Ground) -> str:
    """The catalog has a cloudformation endpoint, and heat-api-cfn answers there: it misses a signature."""
    endpoint = _endpoint_answers(ground, "cloudformation", "heat-api-cfn")
    answer = ground.heat.send("GET", f"{endpoint.rstrip('/')}/?Action=ListStacks", timeout=_QUICK)
    if answer.status >= 500:
        raise _wrong_answer(answer, "a question without a signature", "heat-api-cfn")
    if "Signature" not in answer.text:
        said = f"a question without a signature was answered HTTP {answer.status}, and not for the want of it"
        raise RungFailed(said, "another service answers at this endpoint: look at the catalog and the load balancer")
    return endpoint


def token(ground: Ground) -> str:
    """heat-api knows our token, and does not know a made-up one."""
    # A path that does not exist: heat-api alone answers it, once the token is looked at.
    url = f"{ground.heat.endpoint()}/smoke-asks-for-nothing"
    true = ground.heat.send("GET", url, token=True, timeout=_QUICK)
    if true.status == 401 or true.status >= 500:
        raise _wrong_answer(true, "our token", "heat-api")
    false = ground.heat.send("GET", url, headers={"X-Auth-Token": "made-up"}, timeout=_QUICK)
    if false.status != 401:
        cause = "heat-api runs without the authtoken filter (paste.ini), or cannot reach Keystone"
        raise RungFailed(f"a made-up token was answered HTTP {false.status}, not 401", cause)
    return "ours is known, a made-up one is refused"


def versions(ground: Ground) -> str:
    """The version document offers v1.0, and build_info tells the revisions of an API and of an engine."""
    answer = ground.heat.send("GET", ground.heat.root(), timeout=_QUICK)
    try:
        offered = [version["id"] for version in json.loads(answer.text)["versions"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _wrong_answer(answer, "the version document", "heat-api") from error
    if "v1.0" not in offered:
        raise RungFailed(f"v1.0 is not among the versions {offered}", "another service answers at this endpoint")
    info = ground.heat.build_info()
    return f"{', '.join(offered)}; api {info['api']['revision']}, engine {info['engine']['revision']}"


def create(ground: Ground) -> str:
    """A chain of dependencies is created, and its outputs show that the order was kept."""
    ground.chain = ground.begin("chain", **chain.body("created", wait=1))
    stack = ground.settled(ground.chain, "CREATE")
    _chain_right(stack, "created")
    ground.secret = str(stack.outputs["secret"])
    return f"{len(chain.RESOURCES)} resources in order"


def update(ground: Ground) -> str:
    """The chain takes a new value, and keeps what the value does not touch."""
    ground.heat.update(ground.chain, **chain.body("updated", wait=1))
    _chain_right(ground.settled(ground.chain, "UPDATE"), "updated", secret=ground.secret)
    return "the new value went through, the random string stayed"


def delete(ground: Ground) -> str:
    """The chain can be deleted."""
    ground.gone(ground.chain)
    return "gone"


def nested(ground: Ground) -> str:
    """A template can be a resource of another."""
    stack = ground.make("nested", **templates.nested())
    if stack.outputs.get("word") != templates.NESTED_WORD:
        raise RungFailed(f"output of the nested stack is {stack.outputs.get('word')!r}", causes.of_reason(""))
    inner = [found.name for found in ground.heat.resources(stack.identity) if found.depth > 0]
    if inner != ["inner"]:
        raise RungFailed(f"resources of the nested stack are {inner}", "engines cannot read each other's stacks")
    ground.release(stack.identity)
    return "a value went down to the nested stack and came back"


def preview(ground: Ground) -> str:
    """A preview names what would be made, and makes nothing."""
    name = ground.name("preview")
    names = frozenset(ground.heat.preview(name, **chain.body("previewed")))
    if names != chain.RESOURCES:
        raise RungFailed(f"preview names {sorted(names)}", "heat-api and heat-engine of different releases")
    if ground.heat.find(name, outputs=False):
        raise RungFailed("the preview made a stack", "heat-engine's journal has more")
    return f"{len(names)} resources named, nothing made"


def wait_condition(ground: Ground) -> str:
    """A stack waits for a server; the signal comes through heat-api-cfn, signed as a server would send it."""
    identity = ground.begin("waiting", **templates.waiting(3 * ground.timeout))
    _signal(ground, _presigned_url(ground, identity))
    data = json.loads(ground.settled(identity, "CREATE").outputs.get("data") or "{}")
    if data != {"smoke": "signalled"}:
        raise RungFailed(f"the wait condition holds {data}", "another signal came first, or the metadata was lost")
    ground.release(identity)
    return "signalled, complete, and the data arrived"


def engines(ground: Ground) -> str:
    """More than one engine took part; a plain user is not told who did, so others must testify."""
    if ground.engines is None:
        return _engines_up(ground)
    expected = ground.expect_engines and min(ground.expect_engines, _WITNESSED)
    seen = _engines_seen(ground, ground.engines, expected or 2)
    _enough(seen, expected, f"worked on {_CROWD} resources at once")
    return f"at work on {_CROWD} resources: {', '.join(sorted(seen))}"


def clean(ground: Ground) -> str:
    """Nothing of this run is left, nor of runs that were killed."""
    sweep = _Sweep(ground)
    try:
        wait_until(sweep.done, ground.clock, timeout=ground.timeout, what="stacks to be deleted")
    except Inconclusive as error:
        cause = f"{causes.RESOURCE_SLOW}; then: openstack stack delete NAME"
        names = ", ".join(sorted(stack.name for stack in sweep.left)) or "nobody knows what"
        raise RungFailed(f"still there: {names}{sweep.refusal and f' ({sweep.refusal})'}", cause) from error
    return f"the last {len(sweep.seen)} stacks are gone" if sweep.seen else "nothing was left"


class _Sweep:
    """Stacks that are to go. A Heat that is away for a moment is asked again, and one stack's refusal spares no other.

    `left` are those of the last look, `seen` the ids of all, `refusal` is what Heat said last against it.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._told: set[str] = set()
        self.left: tuple[Stack, ...] = ()
        self.seen: set[str] = set()
        self.refusal = ""

    def done(self) -> bool:
        """Whether all are gone; those that Heat was not told to delete yet are asked to go."""
        try:
            self.left = self._ground.mine()
        except HeatRefused as refused:
            if 0 < refused.status < 500:
                raise
            self.refusal = refused.message
            return False
        for stack in self.left:
            self.seen.add(stack.id)
            if stack.id not in self._told and stack.status != "DELETE_IN_PROGRESS":
                self._tell(stack)
        return not self.left

    def _tell(self, stack: Stack) -> None:
        try:
            self._ground.release(stack.identity)
        except HeatRefused as refused:
            self.refusal = refused.message
        else:
            self._told.add(stack.id)


def _endpoint_answers(ground: Ground, service_type: str, service: str) -> str:
    endpoint = ground.heat.endpoint(service_type)
    root = ground.heat.root(service_type)
    answer = ground.heat.send("GET", root, timeout=_QUICK)
    if answer.status not in (200, 300):
        raise _wrong_answer(answer, root, service)
    return endpoint


def _presigned_url(ground: Ground, identity: str) -> str:
    def look() -> str | None:
        found = ground.heat.find(identity, outputs=False)
        if found and not found.in_progress:
            ground.settled(identity, "CREATE")  # says why it failed
            raise RungFailed(f"stack {found.name} is {found.status} before any signal", "someone else signalled")
        # Outputs are not asked for before the handle is made: Heat would sign its address with a second pair of keys.
        made = {one.name: one.status for one in ground.heat.resources(identity)} if found else {}
        if made.get(chain.CONDITION) != "CREATE_IN_PROGRESS":
            return None
        whole = ground.heat.find(identity)
        return str(whole.outputs.get("url") or "") or None if whole else None

    try:
        return wait_until(look, ground.clock, timeout=ground.timeout, what="the handle's address")
    except Inconclusive as error:
        raise RungFailed("the handle got no address to signal to", causes.NO_WORKER) from error


def _signal(ground: Ground, url: str) -> None:
    body = {"Status": "SUCCESS", "UniqueId": "smoke", "Reason": "smoke test", "Data": "signalled"}
    parts = urlsplit(url)
    where, catalog = f"{parts.scheme}://{parts.netloc}", ground.heat.endpoint("cloudformation")
    catalog = "{0.scheme}://{0.netloc}".format(urlsplit(catalog))
    try:
        answer = ground.heat.send("PUT", url, body=json.dumps(body).encode(), timeout=_SIGNAL)
    except HeatRefused as error:
        cause = causes.of_signal(0, where=where, catalog=catalog, timed_out=error.timed_out)
        raise RungFailed(f"the signal to {where} got no answer: {root_cause(error)}", cause) from error
    if answer.status != 200:
        cause = causes.of_signal(answer.status, where=where, catalog=catalog)
        raise RungFailed(f"the signal to {where} was answered HTTP {answer.status}", cause)


def _engines_up(ground: Ground) -> str:
    try:
        up = frozenset(found.host for found in ground.heat.services() if found.status == "up")
    except HeatRefused as error:
        if error.status == 403:
            raise RungSkipped("only an admin may list engines, and Heat tells nobody else who did the work") from error
        raise
    _enough(up, ground.expect_engines, "are up")
    return f"up: {', '.join(sorted(up))} (Heat does not tell a client which of them did the work)"


def _engines_seen(ground: Ground, witness: Callable[[str], Set[str]], wanted: int) -> frozenset[str]:
    """Return the hosts seen at work on crowds, one after the other until `wanted` were seen or all had their turn."""
    seen: set[str] = set()
    for turn in range(_TURNS * wanted):
        identity = ground.begin(f"crowd-{turn}", **templates.crowd(_CROWD, _CROWD_SECONDS))
        ground.settled(identity, "CREATE", meanwhile=partial(_testify, seen, witness, identity.partition("/")[2]))
        ground.release(identity)
        if len(seen) >= wanted:
            break
    return frozenset(seen)


def _testify(seen: set[str], witness: Callable[[str], Set[str]], stack_id: str) -> None:
    seen.update(witness(stack_id))


def _enough(hosts: frozenset[str], expected: int | None, did: str) -> None:
    if expected is None and len(hosts) == 1:
        raise RungSkipped(f"this Heat has one engine: {next(iter(hosts))}")
    wanted = 2 if expected is None else expected
    if len(hosts) < wanted:
        raise RungFailed(
            f"{len(hosts)} engines {did} ({', '.join(sorted(hosts)) or 'none'}), {wanted} expected",
            "an engine is down, or listens on another vhost: heat-manage service list, rabbitmqctl list_consumers",
        )


def _chain_right(stack: Stack, word: str, *, secret: str | None = None) -> None:
    if wrong := chain.explain(stack.outputs, word, secret=secret):
        raise RungFailed(f"stack {stack.name}: {wrong}", "engines of different releases, or a stale cache between them")


def _wrong_answer(answer: Answer, asked: str, service: str) -> RungFailed:
    cause = causes.of_answer(answer.status, answer.text, service=service)
    return RungFailed(f"{asked} was answered HTTP {answer.status}", cause)
