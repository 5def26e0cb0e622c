"""What people and CI type. Each task parses, makes one call, and prints; the pipeline itself is in pipeline/.

Heavy libraries are imported where they are used, so that `inv --list` answers at once.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import task

if TYPE_CHECKING:
    from pipeline.errors import PipelineError
    from pipeline.validation import Problem
    from pipeline.verify import Selection
    from pipeline.workflow import Pipeline
    from pipeline.workspace import Workspace

ROOT = Path(__file__).resolve().parent
_OWN = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv  # what follows is for hosts
_HELP, _DEBUG = {"--help", "-h"}, {"--debug", "-d"}
DEBUG = not _DEBUG.isdisjoint(_OWN)


def command(*positional: str, taken: Sequence[str] = (), **options: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a task of a function; a PipelineError becomes one message and its exit code (../shared/rollout.md).

    What begins with - is refused in place of a positional value, unless it is `taken` for one.
    """

    def decorate(body: Callable[..., None]) -> Any:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> None:
            signal.signal(signal.SIGTERM, _terminated)
            try:
                _require_values({name: kwargs.get(name) for name in positional}, taken, run)
                _require_all(body, kwargs)
                body(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 (each is told, and ends the process)
                sys.exit(_told(error))
            except KeyboardInterrupt:
                print("interrupted: run the same command again to go on", file=sys.stderr)
                sys.exit(130)

        return task(run, positional=list(positional), auto_shortflags=False, **options)

    return decorate


def _told(error: Exception) -> int:
    """Tell what went wrong, with --debug where it came from too; return the exit code of that."""
    from traceback import format_exception

    from pipeline.errors import PipelineError
    from pipeline.terminal import end_unread, is_unread

    if isinstance(error, BrokenPipeError) and (is_unread(sys.stdout) or is_unread(sys.stderr)):
        end_unread()
    if DEBUG:
        _say("".join(format_exception(error)))
    if isinstance(error, PipelineError):
        _say(f"error: {error}")
        return error.exit_code
    _say(f"internal error: {type(error).__name__}: {error}" + ("" if DEBUG else "\n  next: the same with --debug"))
    return 1


def _say(text: str) -> None:
    """Tell `text`, some of which may be a host's own or Heat's, on stderr."""
    from pipeline.terminal import harmless_lines

    print(harmless_lines(text), file=sys.stderr)


def _tell(line: str) -> None:
    """Tell a line, some of which may be another's own."""
    from pipeline.terminal import harmless

    print(harmless(line))


def _require_values(given: dict[str, Any], taken: Sequence[str], body: Callable[..., None]) -> None:
    """Refuse an option where a value was to be: invoke takes whatever comes for it."""
    from pipeline.errors import ConfigurationInvalid

    for name, value in given.items():
        if isinstance(value, str) and value.startswith("-") and value not in taken:
            task_name = next(one for one in namespace.task_names if namespace[one].body is body)
            raise ConfigurationInvalid(
                f"{name}: expected a value before any option, found {value}", hint=f"inv --help {task_name}"
            )


def _require_all(body: Callable[..., None], given: dict[str, Any]) -> None:
    """Refuse a call without an option that has no default: invoke passes None for it."""
    from pipeline.errors import ConfigurationInvalid

    names = [name for name, one in inspect.signature(body).parameters.items() if one.default is one.empty]
    if missing := [f"--{name}" for name in names if name in given and given[name] is None]:
        raise ConfigurationInvalid(f"{' and '.join(missing)} must be given", hint="the same with --help")


def _is_number(text: str) -> bool:
    """Whether `text` is a number that int can read and somebody may mean: it refuses one of 5,000 digits."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def _number(option: str, text: str) -> int:
    """Read a number, 1 or more. Raises ConfigurationInvalid: invoke's own reading of an int ends in a traceback."""
    from pipeline.errors import ConfigurationInvalid

    if not _is_number(text) or not int(text):
        raise ConfigurationInvalid(f"{option}: expected a number, found {text!r}", hint="the same with --help")
    return int(text)


def _seconds(option: str, text: str) -> float:
    """Read a span of time as environments write it. Raises ConfigurationInvalid."""
    from pydantic import TypeAdapter, ValidationError

    from pipeline.errors import ConfigurationInvalid
    from pipeline.quantities import Seconds

    try:
        return float(TypeAdapter(Seconds).validate_python(text))
    except ValidationError as error:
        raise ConfigurationInvalid(
            f"{option}: expected a span of time, as 30s or 5m, found {text!r}", hint="the same with --help"
        ) from error


def _terminated(_signal: int, _frame: object) -> None:
    print("terminated: run the same command again to go on", file=sys.stderr)
    sys.exit(143)


def pipeline(workspace: Workspace | None = None, *, quiet: bool = False) -> Pipeline:
    """Return the pipeline of this checkout, in its usual workspace or in another; a `quiet` one tells on stderr."""
    from pipeline.edges.clock import SystemClock
    from pipeline.progress import Progress
    from pipeline.terminal import Screen
    from pipeline.workflow import Pipeline
    from pipeline.workspace import Workspace

    clock = SystemClock()
    # Where nobody watches, a log's lines are not to be folded at 80 columns.
    console = Screen(width=None if sys.stdout.isatty() else 160, stderr=quiet)
    usual = Workspace(ROOT, Path(os.environ.get("PIPELINE_STATE", ROOT / ".state")).resolve())
    return Pipeline(workspace or usual, clock, Progress(console, clock))


# local: the cloud on this machine


@command()
def up(_: Context) -> None:
    """Raise the local cloud: image, Keystone, a seed Heat, the machines service. Goes on where it was."""
    from pipeline import localcloud

    it = pipeline()
    with it.progress.stage("local cloud"):
        cloud = localcloud.up(it.workspace.cloud, report=it.progress.say)
    it.progress.say(f"OS_CLIENT_CONFIG_FILE={cloud.clouds_yaml} OS_CLOUD={cloud.cloud}")


@command()
def down(_: Context) -> None:
    """Take the local cloud down and leave nothing behind but the caches."""
    take_down(pipeline())


@command()
def status(_: Context) -> None:
    """Show the local cloud's services and hosts."""
    from pipeline import localcloud, show

    it = pipeline()
    show.cloud(localcloud.status(it.workspace.cloud), it.progress.console)


@command("host", help={"environment": "whose host", "run": "a command instead of a shell"})
def ssh(_: Context, host: str, environment: str = "local", run: str = "") -> None:
    """Log in to a host by its name (engine-0), with its pinned key."""
    from pipeline.access import ssh_command

    it = pipeline()
    arguments = ssh_command(it.workspace, it.environment(environment), host)
    os.execvp(arguments[0], [*arguments, *([run] if run else [])])  # noqa: S606 (ssh takes the terminal over)


@command("name", help={"name": "keystone, seed, mariadb, machines, or a machine (local-engine-0)", "lines": "how many"})
def logs(_: Context, name: str, lines: str = "50") -> None:
    """Print the last lines of a log of the local cloud."""
    from pipeline import localcloud
    from pipeline.errors import ConfigurationInvalid
    from pipeline.terminal import harmless

    if not _is_number(lines):
        raise ConfigurationInvalid(f"--lines: expected a number, found {lines!r}", hint=f"inv local.logs {name}")
    path = localcloud.logs(pipeline().workspace.cloud, name)
    written = path.read_text(encoding="utf-8", errors="replace").splitlines()
    print(*[harmless(line) for line in written if line.strip()][-int(lines) :], sep="\n")


# ssh: many hosts at once


@command(
    "environment",
    help={
        "role": "engine, api …, or several: engine,api",
        "limit": "only these hosts: engine-0,api-1",
        "timeout": "how long each host may take, as 30s or 5m",
        "json": "file for the results, as JSON",
        "root": "by sudo, or as the user that logs in",
    },
)
def run_on_hosts(
    context: Context,
    environment: str,
    role: str = "",
    limit: str = "",
    timeout: str = "5m",
    json: str = "",
    root: bool = True,
) -> None:
    """Run a command on many hosts at once: inv ssh.run ENVIRONMENT --role engine -- COMMAND."""
    from pipeline import show
    from pipeline.checks.selection import Selection
    from pipeline.fanout import script_of, unfinished
    from pipeline.hostlines import HostLines

    words = _typed_after_dashes(context)
    script, seconds, it = script_of(words), _seconds("--timeout", timeout), pipeline()
    show.require_writable(json)
    lines = HostLines(sys.stdout, sys.stderr, colour=it.progress.console.color_system is not None)
    of = Selection.of(role, limit)
    with lines:
        results = it.run_on_hosts(
            environment, script, lines, roles=of.roles, names=of.names, timeout=seconds, root=root
        )
    options = f"--timeout {timeout}{'' if root else ' --no-root'} -- {shlex.join(words)}"
    failed = unfinished(results, lambda hosts: f"inv ssh.run {environment} --limit {hosts} {options}")
    with show.ending_in(failed):
        if json:
            show.save_host_results(results, Path(json))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _typed_after_dashes(context: Context) -> list[str]:
    """Return the words after `--` as they were typed: invoke joins them, and a blank within a word is lost in that."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    return words if " ".join(words) == context.remainder else [context.remainder]


# env: the environments of this checkout


@command()
def list_environments(_: Context) -> None:
    """List the environments."""
    it = pipeline()
    for name in it.environments():
        print(f"{name:20} {it.environment(name).description}".rstrip())


@command("environment", help={"origin": "which file and line set each key", "json": "file for that, as JSON"})
def show_environment(_: Context, environment: str, origin: bool = False, json: str = "") -> None:
    """Print an environment as its defaults, its stage and its own file make it: every key, in JSON."""
    from pipeline import show
    from pipeline.errors import ConfigurationInvalid

    it = pipeline()
    if json and not origin:
        raise ConfigurationInvalid("--json goes with --origin", hint=f"inv env.show {environment} > {json}")
    show.require_writable(json)
    if not origin:
        print(it.environment(environment).model_dump_json(indent=2))
        return
    settings = it.origins(environment)
    show.origins(settings, it.progress.console)
    if json:
        show.save_origins(settings, Path(json))


@command(help={"check": "only say whether the file is as it should be"})
def write_schema(_: Context, check: bool = False) -> None:
    """Write the JSON Schema that editors check environments' files with: environments/schema.json."""
    print(pipeline().write_schema(check=check))


# release: what is rolled out


@command(help={"heat": "version of Heat, as 26.0.2"})
def build(_: Context, heat: str) -> None:
    """Resolve, lock and pack a release of Heat, unless it was built already; print its id, and nothing else."""
    print(pipeline(quiet=True).build(heat).release.id)


@command()
def list_releases(_: Context) -> None:
    """List the releases built on this machine."""
    from pipeline import show

    it = pipeline()
    show.releases(it.wheelhouse.list(), it.progress.console)


@command(help={"heat": "version of Heat, as 26.0.2"})
def write_schemas(_: Context, heat: str) -> None:
    """Write down what the resources of a release of Heat accept: inv validate checks against it."""
    print(pipeline().write_schemas(heat))


# the stories


@command(
    "environment",
    help={"environment": "whose stacks, or all", "out": "directory to write to; of all, a directory below it for each"},
)
def render(_: Context, environment: str, out: str) -> None:
    """Render an environment's stacks into files, or those of all; the same input gives the same bytes."""
    from pipeline import render as rendering
    from pipeline.environment import ALL
    from pipeline.errors import ConfigurationInvalid

    if not out.strip():
        raise ConfigurationInvalid("--out: expected a directory, found nothing", hint="the same with --out .")
    it = pipeline()
    directories = (
        {name: Path(out, name) for name in it.environments()} if environment == ALL else {environment: Path(out)}
    )
    # All of them before any is written: a mistake in one must not leave half of the others.
    for name, stacks in {name: it.render(name) for name in directories}.items():
        for path in rendering.write(stacks, directories[name]):
            print(path)


@command(
    "environment",
    taken=("--all",),
    help={
        "environment": "an environment, or --all",
        "releases": "only these releases of Heat, as 26,27",
        "json": "file for JSON",
    },
)
def validate(_: Context, environment: str, releases: str = "", json: str = "") -> None:
    """Check an environment's templates, or those of --all, against the resources of real Heats, without a cloud."""
    from pipeline import environment as environments
    from pipeline import show

    it = pipeline()
    # To invoke, --all is the value of `environment`: what is positional cannot be left out there.
    every = environment in ("--all", environments.ALL)
    names = environments.list_environments(it.workspace.environments) if every else (environment,)
    show.require_writable(json)
    problems = it.validate(names, _names(releases))
    show.problems(problems, it.progress.console)
    with show.ending_in(_invalid(problems)):
        if json:
            show.save_problems(problems, names, Path(json))
    print(f"{', '.join(names)}: valid")


def _invalid(problems: Sequence[Problem]) -> PipelineError | None:
    """Return the error that `problems` end in, None where there are warnings at most."""
    from pipeline.errors import ConfigurationInvalid

    wrong = sorted({problem.environment for problem in problems if problem.is_error})
    if not wrong:
        return None
    return ConfigurationInvalid(
        f"{sum(problem.is_error for problem in problems)} problems in {', '.join(wrong)}",
        hint=f"inv render {wrong[0]} --out DIR, to look at what was checked",
    )


LOCK_WAIT = "how long to wait for another run to end, as 5m"


ALLOW_REPLACE = "protected hosts or resources that may be replaced or deleted, as database-0"


@command(
    "environment", help={"release": "version, id or digest", "allow_replace": ALLOW_REPLACE, "lock_wait": LOCK_WAIT}
)
def deploy(_: Context, environment: str, release: str, allow_replace: str = "", lock_wait: str = "0s") -> None:
    """Launch an environment's stacks and bring its hosts up on a release. Again: changes nothing, and says so."""
    it, seconds = pipeline(), _seconds("--lock-wait", lock_wait)
    changed = it.deploy(environment, release, allowed=_listed(allow_replace), lock_wait=seconds)
    print(f"{environment}: {'deployed' if changed else 'nothing to change'}")


@command(
    "environment",
    help={
        "release": "bring hosts up on it too: version, id or digest",
        "out": "file to keep the plan in, for inv apply",
        "detailed_exitcode": "end with 2 where there is something to do",
        "json": "print the plan as JSON",
    },
)
def plan(
    _: Context,
    environment: str,
    release: str = "",
    out: str = "",
    detailed_exitcode: bool = False,
    json: bool = False,
) -> None:
    """Show what launching an environment's stacks would do to each, as Heat foresees it. Changes nothing."""
    from pipeline import plantext, show
    from pipeline.plan import to_json

    it = pipeline(quiet=json)
    show.require_writable(out)
    found = it.plan_stacks(environment, release)
    if out:
        plantext.save_plan(found, Path(out))
    if json:
        print(to_json(found), end="")
    else:
        plantext.show_plan(found, it.progress.console)
    if detailed_exitcode and not it.is_done(found):
        sys.exit(2)


@command("file", help={"file": "what inv plan --out wrote", "allow_replace": ALLOW_REPLACE, "lock_wait": LOCK_WAIT})
def apply(_: Context, file: str, allow_replace: str = "", lock_wait: str = "0s") -> None:
    """Do exactly what a plan says. Refuses, with 6, where the region, its settings or templates moved on since."""
    from pipeline import plantext

    it, found = pipeline(), plantext.read_plan(Path(file))
    changed = it.apply(found, allowed=_listed(allow_replace), lock_wait=_seconds("--lock-wait", lock_wait))
    print(f"{found.environment}: {'applied' if changed else 'nothing to change'}")


@command("left", "right", help={"left": "an environment or a release", "right": "another", "json": "print JSON"})
def diff(_: Context, left: str, right: str, json: bool = False) -> None:
    """Compare two environments, settings and rendered stacks, or two releases: packages, RPC, schema."""
    from json import dumps

    from pipeline import plantext

    it = pipeline()
    found = it.compare(left, right)
    if json:
        print(dumps(found.to_json(), indent=2))
    else:
        plantext.show_comparison(found, it.progress.console)


@command(
    "environment",
    help={"yes": "do not ask, as in CI", "allow_destroy": "protected stacks that may go too", "lock_wait": LOCK_WAIT},
)
def destroy(_: Context, environment: str, yes: bool = False, allow_destroy: str = "", lock_wait: str = "0s") -> None:
    """Destroy an environment's stacks, those first that need others. Asks for its name; refuses protected ones."""
    it, allowed, seconds = pipeline(), _listed(allow_destroy), _seconds("--lock-wait", lock_wait)
    doomed = it.doomed(environment, allowed)
    if doomed and not yes:
        _ask_for(environment, doomed)
    destroyed = it.destroy(environment, allowed=allowed, lock_wait=seconds)
    print(f"{environment}: {'destroyed' if destroyed else 'there is nothing to destroy'}")


def _ask_for(environment: str, doomed: tuple[str, ...]) -> None:
    """Have the environment's name typed. Raises ConfigurationInvalid where it is not, or nobody is there to type."""
    from pipeline.errors import ConfigurationInvalid

    refused = ConfigurationInvalid("nothing was destroyed", hint=f"inv destroy {environment} --yes asks nobody")
    if not sys.stdin.isatty():
        raise refused
    _tell(f"to be destroyed, with all that is on their hosts: {', '.join(doomed)}")
    try:
        if input(f"type {environment} to go on: ").strip() != environment:
            raise refused
    except EOFError as error:
        raise refused from error


@command("environment", help={"json": "print JSON", "lock_wait": LOCK_WAIT})
def drift(_: Context, environment: str, json: bool = False, lock_wait: str = "0s") -> None:
    """Tell what changed behind the pipeline's back: resources, by Heat's own check, templates, hosts' files."""
    from json import dumps

    from pipeline import plantext
    from pipeline.errors import PreflightUnreachable, VerificationFailed

    it = pipeline(quiet=json)
    found = it.drift(environment, lock_wait=_seconds("--lock-wait", lock_wait))
    if json:
        print(dumps(found.to_json(), indent=2))
    else:
        plantext.show_drift(found, it.progress.console)
    if found.found:
        raise VerificationFailed(
            f"{found.found} stacks or hosts of {environment} have drifted", hint=f"inv plan {environment}"
        )
    if found.unseen:
        raise PreflightUnreachable(
            f"no stack has drifted; hosts could not be looked at: {found.unseen}", hint=f"inv status {environment}"
        )


@command(
    "environment",
    help={"release": "version, id or digest", "plan": "only show what would be done", "lock_wait": LOCK_WAIT},
)
def upgrade(_: Context, environment: str, release: str, plan: bool = False, lock_wait: str = "0s") -> None:
    """Roll a release out host by host, under the canary's traffic, losing no stack. Goes on where it was."""
    from pipeline import show

    it, seconds = pipeline(), _seconds("--lock-wait", lock_wait)
    if plan:
        it.plan(environment, release)
        return
    report, _plan = it.upgrade(environment, release, lock_wait=seconds)
    show.traffic(report, it.progress.console)


@command("environment", help={"release": "where to, instead of the release before", "lock_wait": LOCK_WAIT})
def rollback(_: Context, environment: str, release: str = "", lock_wait: str = "0s") -> None:
    """Go back to the release before, by the same careful road: binaries and vhost move, the schema stays."""
    from pipeline import show

    it = pipeline()
    report, _plan = it.rollback(environment, release or None, lock_wait=_seconds("--lock-wait", lock_wait))
    show.traffic(report, it.progress.console)


@command("environment", help={"role": "engine or api", "count": "how many hosts to have", "lock_wait": LOCK_WAIT})
def scale(_: Context, environment: str, role: str, count: str, lock_wait: str = "0s") -> None:
    """Have so many hosts of a role. New ones come up on the region's release; those that go are drained with proof."""
    from pipeline.environment import Role
    from pipeline.errors import ConfigurationInvalid

    if role not in list(Role):
        raise ConfigurationInvalid(f"--role: there is no role {role!r}", hint=f"inv scale {environment} --role engine")
    if not _is_number(count) or not 1 <= int(count) <= 200:
        raise ConfigurationInvalid(f"--count: expected 1 to 200, found {count!r}", hint="inv --help scale")
    it = pipeline()
    scaling = it.scale(environment, Role(role), int(count), lock_wait=_seconds("--lock-wait", lock_wait))
    came, went = scaling.coming, len(scaling.leaving)
    print(f"{environment}: {scaling.count} hosts of role {role}: {came} came, {went} went")


@command("environment")
def promote_canary(_: Context, environment: str) -> None:
    """Vouch for the canary of a paused upgrade, and go on with the other batches."""
    from pipeline import show

    it = pipeline()
    report, _plan = it.promote_canary(environment)
    show.traffic(report, it.progress.console)


@command("environment")
def pause(_: Context, environment: str) -> None:
    """Let the run under way finish the hosts in flight and stop there; the same upgrade goes on later."""
    it = pipeline()
    holder = it.ask_run(environment, "pause")
    _tell(f"{environment}: {holder.operation} of {holder.owner} was asked to pause")


@command("environment")
def abort(_: Context, environment: str) -> None:
    """Let the run under way finish the hosts in flight and end; inv rollback goes back, inv upgrade goes on."""
    it = pipeline()
    holder = it.ask_run(environment, "abort")
    _tell(f"{environment}: {holder.operation} of {holder.owner} was asked to abort")


@command("environment", help={"json": "file for JSON"})
def region_status(_: Context, environment: str, json: str = "") -> None:
    """Show every host: release on disk, running, vhost, health, and the batch it waits for."""
    from pipeline import show

    it = pipeline()
    show.require_writable(json)
    hosts = it.status(environment)
    show.hosts(hosts, it.progress.console)
    if json:
        show.save_hosts(hosts, Path(json))
    if holder := it.locks(environment).status(environment):
        _tell(f"locked: {holder.operation} by {holder.owner}, run {holder.run_id}")


# bench: this project beside others


@command(
    help={
        "from_": "release to deploy first",
        "to": "release to upgrade to",
        "rounds": "how often; the table shows medians",
        "json": "file for the figures",
    }
)
def bench_upgrade(_: Context, from_: str = "25.0.2", to: str = "26.0.2", rounds: str = "1", json: str = "") -> None:
    """Upgrade beside kolla-ansible's and openstack-ansible's way, each on a fresh region under the same traffic."""
    from benchmarks.upgrade import measure
    from pipeline import show
    from pipeline.workspace import Workspace

    times = _number("--rounds", rounds)
    it = pipeline(Workspace(ROOT, ROOT / ".state" / "bench"))
    show.require_writable(json)
    figures = measure(it, from_, to, times)
    show.rollouts(figures, it.progress.console)
    if json:
        show.save_figures(figures, Path(json))


@command(
    help={
        "releases": "releases to go through, step by step, and back",
        "rounds": "how often",
        "clients": "customers at work all the time, beside two who hold WaitConditions open",
        "json": "file for the figures",
    }
)
def bench_soak(
    _: Context, releases: str = "25.0.2,26.0.2,27.0.1", rounds: str = "5", clients: str = "8", json: str = ""
) -> None:
    """Upgrade and roll back again and again under traffic; end with 10 where a customer lost a stack or a request."""
    from benchmarks.soak import Busy, failures, measure
    from pipeline import show
    from pipeline.errors import VerificationFailed
    from pipeline.workspace import Workspace

    times, customers = _number("--rounds", rounds), _number("--clients", clients)
    plain = pipeline(Workspace(ROOT, ROOT / ".state" / "bench"))
    it = Busy(plain.workspace, plain.clock, plain.progress, customers)
    show.require_writable(json)
    figures = measure(it, tuple(releases.split(",")), times)
    show.soak(figures, it.progress.console)
    told = failures(figures)
    failed = VerificationFailed(told, hint="read the last run's directory in .state/bench/runs/local") if told else None
    with show.ending_in(failed):
        if json:
            show.save_figures(figures, Path(json))


@command(
    help={
        "release": "what runs",
        "engines": "how many, one count after the other",
        "window": "seconds that are counted for each",
        "json": "file for the figures",
        "svg": "file for a plot",
    }
)
def bench_scale(
    _: Context, release: str = "26.0.2", engines: str = "1,2,4", window: str = "60s", json: str = "", svg: str = ""
) -> None:
    """Measure how many stacks a minute more engines give, on one region that is scaled out between the counts."""
    from benchmarks import scale as benchmark
    from pipeline import show
    from pipeline.workspace import Workspace

    counts, seconds = _numbers("--engines", engines), _seconds("--window", window)
    it = pipeline(Workspace(ROOT, ROOT / ".state" / "bench"))
    show.require_writable(json, svg)
    figures = benchmark.measure(it, release, counts, seconds)
    show.table("stacks per minute", benchmark.COLUMNS, list(benchmark.rows(figures)), it.progress.console)
    if json:
        show.save_figures(figures, Path(json))
    if svg:
        show.write(Path(svg), benchmark.svg(figures))


@command(
    help={
        "hosts": "how many, as 8,64,200",
        "commands": "how many on each host, as 1,10",
        "pushes": "files to copy to each host, in MB; none for no files",
        "push_hosts": "how many hosts get files",
        "rounds": "counted rounds, after one to warm up",
        "tools": "only some: pipeline,asyncssh",
        "json": "file for the figures",
        "svg": "file for a plot",
        "table": "file for the tables, in Markdown",
    }
)
def bench_ssh(
    _: Context, hosts: str = "8,64,200", commands: str = "1,10", pushes: str = "1,60", push_hosts: str = "8",
    rounds: str = "5", tools: str = "", json: str = "", svg: str = "", table: str = "",
) -> None:  # fmt: skip
    """Run commands on many hosts and copy files to them, beside Ansible, Mitogen, pyinfra, Fabric and others."""
    from benchmarks.figures import ssh_verdicts
    from benchmarks.ssh import Plan, failures, measure
    from pipeline import show

    plan = Plan(
        hosts=_numbers("--hosts", hosts),
        commands=_numbers("--commands", commands),
        pushes=() if pushes == "none" else _numbers("--pushes", pushes),
        push_hosts=_numbers("--push-hosts", push_hosts),
        rounds=_number("--rounds", rounds),
        tools=_names(tools),
    )
    show.require_writable(json, svg, table)
    it = pipeline()
    figures: dict[str, Any] = {"cases": []}
    for figures in measure(plan, it.progress.say):
        _write(figures, ssh_verdicts(figures["cases"]), json=json, svg=svg, table=table)
    _print(it, figures, ssh_verdicts(figures["cases"]))
    if failed := _failure(failures(figures)):
        raise failed


@command(
    help={
        "hosts": "how many",
        "rounds": "counted rounds, after one to warm up",
        "tools": "only some: pipeline,paramiko",
        "json": "file for the figures",
        "svg": "file for a plot",
        "table": "file for the tables, in Markdown",
    }
)
def bench_verify(
    _: Context, hosts: str = "8", rounds: str = "5", tools: str = "", json: str = "", svg: str = "", table: str = ""
) -> None:
    """Check hosts by the pipeline's backend of testinfra, beside testinfra's own over paramiko and ssh."""
    from benchmarks.figures import verify_verdicts
    from benchmarks.ssh import failures
    from benchmarks.verify import measure
    from pipeline import show

    many, times = _number("--hosts", hosts), _number("--rounds", rounds)
    show.require_writable(json, svg, table)
    it = pipeline()
    figures = measure(many, times, _names(tools), it.progress.say)
    verdicts, failed = verify_verdicts(figures["cases"]), _failure(failures(figures))
    _publish(it, figures, verdicts, failed, json=json, svg=svg, table=table)


@command(
    help={
        "environments": "how many",
        "rounds": "counted rounds, after one to warm up",
        "tools": "only some: pipeline,sceptre",
        "json": "file for the figures",
        "svg": "file for a plot",
        "table": "file for the tables, in Markdown",
    }
)
def bench_render(
    _: Context, environments: str = "200", rounds: str = "5", tools: str = "", json: str = "", svg: str = "",
    table: str = "",
) -> None:  # fmt: skip
    """Render and validate environments, beside sceptre generate and Ansible's template module."""
    from benchmarks.figures import render_verdicts
    from benchmarks.render import measure
    from pipeline import show

    many, times = _number("--environments", environments), _number("--rounds", rounds)
    show.require_writable(json, svg, table)
    it = pipeline()
    figures = measure(many, times, _names(tools), it.progress.say)
    failed = _failure(figures["cases"][0]["tools"].get("pipeline", {}).get("failed", ""))
    _publish(it, figures, render_verdicts(figures["cases"]), failed, json=json, svg=svg, table=table)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from pipeline.errors import ConfigurationInvalid

    numbers = text.split(",")
    if not all(_is_number(one) and int(one) for one in numbers):
        raise ConfigurationInvalid(f"{option}: expected numbers, as 8,64, found {text!r}", hint="the same with --help")
    return tuple(int(one) for one in numbers)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _publish(
    it: Pipeline, figures: Any, verdicts: Any, failed: PipelineError | None, *, json: str, svg: str, table: str
) -> None:
    """Print figures, write them to the files named, each only where it is, and raise what `failed`, if anything."""
    from pipeline import show

    _print(it, figures, verdicts)
    with show.ending_in(failed):
        _write(figures, verdicts, json=json, svg=svg, table=table)


def _print(it: Pipeline, figures: Any, verdicts: Any) -> None:
    from benchmarks import tables

    tables.show(figures, verdicts, it.progress.console)


def _write(figures: Any, verdicts: Any, *, json: str, svg: str, table: str) -> None:
    from benchmarks import plot, tables
    from pipeline import show

    if json:
        show.save_figures(figures, Path(json))
    if svg:
        show.write(Path(svg), plot.svg(figures))
    if table:
        show.write(Path(table), tables.markdown(figures, verdicts))


def _failure(told: str) -> PipelineError | None:
    from pipeline.errors import VerificationFailed

    if not told:
        return None
    return VerificationFailed(f"the pipeline failed: {told}", hint="the same again with --tools pipeline")


# lock: who changes an environment


@command("environment")
def lock_status(_: Context, environment: str) -> None:
    """Tell who holds an environment: owner, operation, since when."""
    from pipeline import show

    it = pipeline()
    show.lock(environment, it.locks(environment).status(environment), it.clock, it.progress.console)


@command("environment", help={"reason": "what others are told"})
def lock_hold(_: Context, environment: str, reason: str) -> None:
    """Hold an environment for yourself: no run changes it until lock.release, and nothing breaks it by itself."""
    from pipeline.errors import ConfigurationInvalid

    if not reason.strip():
        raise ConfigurationInvalid(
            "--reason: expected what others are told, found nothing", hint="the same with --reason TEXT"
        )
    it = pipeline()
    it.hold(environment, reason)
    print(f"{environment}: held; inv lock.release {environment} gives it back")


@command("environment")
def lock_release(_: Context, environment: str) -> None:
    """Give back an environment that you hold."""
    from pipeline.edges.store import who

    holder = pipeline().locks(environment).release(environment, who())
    print(f"{environment}: {'released' if holder else 'nobody held it'}")


@command("environment")
def lock_break(_: Context, environment: str) -> None:
    """Take away a hold that somebody else set, or what a dead run left; a run that lives keeps its lock."""
    holder = pipeline().locks(environment).break_(environment)
    _tell(f"{environment}: {f'the hold of {holder.owner} is broken' if holder else 'nothing held it'}")


@command(
    "environment",
    help={
        "role": "only hosts of these roles, as api,engine",
        "limit": "only hosts of these names, as engine-0,api-1",
        "k": "only checks that fit, as 'clock or disk': words of a check's name, role or host",
        "watch": "again every few seconds, until Ctrl-C",
        "junit": "file for JUnit XML",
        "json": "file for JSON",
    },
)
def verify(
    _: Context,
    environment: str,
    role: str = "",
    limit: str = "",
    k: str = "",
    watch: bool = False,
    junit: str = "",
    json: str = "",
) -> None:
    """Check every host against what it should be. Only a check of everything is evidence for a promotion."""
    from pipeline import checklist, show
    from pipeline.errors import VerificationFailed
    from pipeline.verify import Selection

    it = pipeline()
    selection = Selection.of(role, limit, k)
    show.require_writable(junit, json)
    if watch:
        watch_checks(it, environment, selection, junit=junit, json=json)
    report = it.verify(environment, selection)
    checklist.checks(report, it.progress.console)
    told, hint = f"{report.failed} checks failed in {environment}", f"inv local.ssh HOST --environment {environment}"
    failed = None if report.ok else VerificationFailed(told, hint=hint)
    with show.ending_in(failed):
        show.save(report, junit=junit, json_file=json)


@command(
    "name",
    help={
        "name": "an environment, or any entry of your own clouds.yaml",
        "region": "the region of that entry, where it does not say",
        "junit": "file for JUnit XML",
        "json": "file for JSON",
    },
)
def smoke(_: Context, name: str, region: str = "", junit: str = "", json: str = "") -> None:
    """Use a Heat as a customer would, rung by rung: an environment's, or any of your clouds.yaml."""
    from pipeline import environment, show
    from pipeline.errors import ConfigurationInvalid, VerificationFailed

    it = pipeline()
    show.require_writable(junit, json)
    known = name in environment.list_environments(it.workspace.environments)
    if known and region:
        raise ConfigurationInvalid("--region goes with an entry of your own clouds.yaml", hint=f"inv smoke {name}")
    report = it.smoke(name) if known else it.smoke_cloud(name, region or None)
    show.rungs(report, it.progress.console)
    told = f"{report.count('failed')} rungs failed in {name}"
    failed = None if report.ok else VerificationFailed(told, hint="read their likely causes")
    with show.ending_in(failed):
        show.save(report, junit=junit, json_file=json)


@command(help={"release": "version, id or digest", "to": "environment", "dry_run": "only the gate and the plan"})
def promote(_: Context, release: str, to: str, dry_run: bool = False) -> None:
    """Bring an environment to a release that the environment before it has evidence for."""
    pipeline().promote(to, release, dry_run=dry_run)
    print(f"{to}: {'may be promoted' if dry_run else 'promoted'} to {release}")


@command("environment", help={"timing": "where the time of each rollout went"})
def history(_: Context, environment: str, timing: bool = False) -> None:
    """List the evidence that runs left about an environment."""
    from pipeline import show

    it = pipeline()
    if timing:
        show.timing(it.runs.of(it.environment(environment).name), it.progress.console)
        return
    show.history(it.store.records(it.environment(environment).name), it.progress.console)


@command(
    help={
        "from_": "release to deploy first",
        "to": "release to upgrade to",
        "report": "file for the proof, as JSON",
        "down": "take the cloud down at the end",
    }
)
def demo(_: Context, from_: str = "25.0.2", to: str = "26.0.2", report: str = "", down: bool = False) -> None:
    """The whole story: raise a cloud, deploy Heat with Heat, upgrade it under load, prove that nothing was lost."""
    from pipeline import show
    from pipeline.demo import demonstrate, farewell

    show.require_writable(report)
    it = pipeline()
    demonstrate(it, "local", old=from_, new=to, report=Path(report) if report else None)
    if down:
        take_down(it)
    else:
        print(farewell(it.workspace, it.environment("local")))


@command(
    help={
        "unit": "only what needs no root, and no network but to install its tools once",
        "faults": "only faults, every one of them",
        "long": "only the integration tests that take too long for CI",
    }
)
def test(context: Context, unit: bool = False, faults: bool = False, long: bool = False) -> None:
    """Lint, types, layers, unit and integration tests, and the quick ones of the faults."""
    from pipeline.errors import ConfigurationInvalid

    if unit and (faults or long):
        raise ConfigurationInvalid(
            "--unit goes with neither --faults nor --long", hint="inv test --unit, then inv test --faults --long"
        )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    steps = [
        "ruff check .",
        "ruff format --check .",
        ".github/lint/actionlint",
        "mypy",
        "lint-imports",
        f"pytest tests/unit --numprocesses auto {'' if unit else '--cov --cov-report='}",
    ]
    slowest = "--durations=10"
    if faults or long:
        steps = [f"pytest tests/faults {slowest}"] * faults + [f"pytest tests/integration -m long {slowest}"] * long
    elif not unit:
        steps.append(f"pytest tests/faults -m quick {slowest} --cov --cov-append --cov-report=")
        coverage = "--cov --cov-append --cov-report=term:skip-covered --cov-fail-under=85"
        steps.append(f"pytest tests/integration -m 'not long' {slowest} {coverage}")
    for step in steps:
        print(f"▶ {step}", flush=True)
        with context.cd(str(ROOT)):
            result = context.run(step, env={"PATH": path}, warn=True, pty=False)
        if result is None or result.failed:
            print(f"error: {step.split()[0]} found something", file=sys.stderr)
            sys.exit(1)


def watch_checks(it: Pipeline, environment: str, selection: Selection, *, junit: str, json: str) -> NoReturn:
    """Show how an environment's hosts are, again and again; an interrupt ends it."""
    from pipeline import checklist, show
    from pipeline.verify import VerifyReport

    for found in it.watch(environment, selection):
        checklist.watched(found, it.clock, it.progress.console)
        if isinstance(found, VerifyReport):
            show.save(found, junit=junit, json_file=json)
    raise AssertionError("a watch has no end of its own")


def take_down(it: Pipeline) -> None:
    """Take the local cloud down, and forget the environments that lived on it.

    A mistake in any environment is told before anything is touched: which of them are to be forgotten must be known.
    """
    from pipeline import environment, localcloud
    from pipeline.access import forget
    from pipeline.environment import Provider

    names = environment.list_environments(it.workspace.environments)
    local = [name for name in names if it.environment(name).provider is Provider.LOCAL]
    localcloud.down(it.workspace.cloud, report=it.progress.say)
    for name in local:
        forget(it.workspace, name)


def _collection() -> Collection:
    root = Collection(render, validate, plan, apply, diff, drift, deploy, destroy, upgrade, rollback, scale)
    for one in (pause, abort, verify, smoke, promote, history, demo, test):
        root.add_task(one)
    root.add_task(region_status, name="status")
    canary, lock = Collection("canary"), Collection("lock")
    canary.add_task(promote_canary, name="promote")
    for name, one in (("status", lock_status), ("hold", lock_hold), ("release", lock_release), ("break", lock_break)):
        lock.add_task(one, name=name)
    bench = Collection("bench")
    bench.add_task(bench_upgrade, name="upgrade")
    bench.add_task(bench_soak, name="soak")
    bench.add_task(bench_scale, name="scale")
    bench.add_task(bench_ssh, name="ssh")
    bench.add_task(bench_verify, name="verify")
    bench.add_task(bench_render, name="render")
    root.add_collection(bench)
    root.add_collection(canary)
    root.add_collection(lock)
    root.add_collection(Collection("local", up, down, status, ssh, logs))
    hosts = Collection("ssh")
    hosts.add_task(run_on_hosts, name="run")
    root.add_collection(hosts)
    env = Collection("env")
    env.add_task(list_environments, name="list")
    env.add_task(show_environment, name="show")
    env.add_task(write_schema, name="schema")
    release = Collection("release")
    release.add_task(build)
    release.add_task(list_releases, name="list")
    release.add_task(write_schemas, name="schemas")
    root.add_collection(env)
    root.add_collection(release)
    return root


namespace = _collection()


class CommandLine(Program):  # type: ignore[misc]  # invoke has no types
    """What reads a command: as invoke does, but for help and --debug, which it heeds wherever they stand before `--`.

    What cannot be read ends as all that is invalid does: one line, the next command, and 3.
    """

    def parse_core(self, argv: list[str] | None) -> None:
        """Read what is before a task's name."""
        with _unreadable_told():
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        """Read a task's name and what is for it: invoke itself takes --help for an environment where one is to be."""
        words = self.core.unparsed
        if words and not _HELP.isdisjoint(words):
            self.args["help"].value, words = words[0], []
        self.core.unparsed = [word for word in words if word not in _DEBUG]  # DEBUG has heard it
        with _unreadable_told():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        """Show what was asked for instead of a run: help, or the list."""
        with _unreadable_told():
            super().parse_cleanup()


@contextmanager
def _unreadable_told() -> Iterator[None]:
    """Turn what invoke says of a command that it cannot read into an end with 3; --help and --list end as they do."""
    try:
        yield
    except Exit as end:
        if end.message:
            raise _unreadable(end.message) from end
        raise
    except (ParseError, ValueError) as error:
        raise _unreadable(str(error), getattr(error, "context", None)) from error


def _unreadable(said: str, context: Any = None) -> Exit:
    from pipeline.terminal import harmless

    name = context.name if context else None
    line = re.sub(r"<Argument: ([\w-]+)[^>]*>", lambda found: f"--{found[1].replace('_', '-')}", said).rstrip("!")
    return Exit(f"error: {harmless(line)}\n  next: inv {f'--help {name}' if name else '--list'}", 3)


def main() -> None:
    """Run what was typed; end as shells do where its reader went away before all was written, as `| head` does."""
    try:
        try:
            CommandLine(namespace=namespace, name="inv", binary="inv", binary_names=["inv"]).run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        from pipeline.terminal import end_unread

        end_unread()


if __name__ == "__main__":
    main()
