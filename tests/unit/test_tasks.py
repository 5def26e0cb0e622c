"""What people type: for every mistake one line, the next command and an exit code for scripts, and no traceback."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from builders import R25, R26, SECRETS, ScriptedRemote, site
from invoke.collection import Collection
from kept_releases import build_nothing, keep
from typed_commands import ROOT, collection, fresh_tasks_module, tasks_module

from pipeline import deploy, regionstacks, workflow
from pipeline.checks.result import CheckResult
from pipeline.edges.index import Index
from pipeline.edges.lock import Holder
from pipeline.edges.ssh import Result
from pipeline.edges.store import who
from pipeline.edges.wheelhouse import Built
from pipeline.errors import ConfigurationInvalid, HostUnreachable, PipelineError
from pipeline.plan import Act, Live, Parameter, ParameterChange, Plan, StackPlan
from pipeline.smoke import RungResult, SmokeReport
from pipeline.stackdrift import Drift, StackDrift
from pipeline.verify import VerifyReport

HEAVY = (
    "paramiko", "heatclient", "openstack", "keystoneauth1", "pytest", "rich", "pydantic", "jinja2", "testinfra",
    "hvac", "keyring",
)  # fmt: skip
BOMB = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]" for n in range(30))
PROOF_OPTIONS = {"from", "to", "report", "down"}
ADA = Holder("ada@laptop", "upgrade", "20260101T000000Z-upgrade-0a1b", "laptop", 4711, datetime(2026, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Typed:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of the error; fails the test where there is more than that and a `next:`."""
        line, following = self.err.splitlines()
        assert line.startswith("error: ")
        assert following.startswith("  next: ")
        assert "Traceback" not in self.err
        return line.removeprefix("error: ")

    @property
    def next(self) -> str:
        return self.err.splitlines()[-1].removeprefix("  next: ")


Type = Callable[[str], Typed]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with this one's environments and templates, whose state and caches are its own."""
    here = tmp_path / "checkout"
    here.mkdir()
    shutil.copy(ROOT / "tasks.py", here)
    shutil.copytree(ROOT / "environments", here / "environments")
    (here / "templates").symlink_to(ROOT / "templates")
    return here


@pytest.fixture
def inv(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Type]:
    """Return what types a command ("deploy local --release 25.0.2") in this process, in the checkout."""
    build_nothing(monkeypatch)
    monkeypatch.setattr(tasks_module(), "ROOT", checkout)
    for name, folder in {"PIPELINE_STATE": "state", "XDG_CACHE_HOME": "cache", "HOME": "home"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    before = signal.getsignal(signal.SIGTERM)

    def run(command: str) -> Typed:
        status: int | str | None = 0
        typed = ["inv", *shlex.split(command)]
        monkeypatch.setattr(sys, "argv", typed)
        try:
            tasks_module().CommandLine(namespace=collection(), name="inv", binary="inv").run(typed)
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        return Typed(int(status or 0), said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, before)


def _cloud_is_up(tmp_path: Path) -> None:
    """Leave what a local cloud leaves for its users, at an address where nobody answers."""
    auth = {"auth_url": "http://127.0.0.1:9/v3", "username": "a", "password": "b", "project_name": "p"}
    (tmp_path / "state" / "cloud").mkdir(parents=True)
    (tmp_path / "state/cloud/clouds.yaml").write_text(yaml.safe_dump({"clouds": {"seed": {"auth": auth}}}))


# --- the list


def test_the_list_is_shown_and_the_tasks_import_nothing_heavy(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from invoke.collection import Collection
from invoke.program import Program
Program().run(["inv", "--search-root", {str(ROOT)!r}, "--list"], exit=False)
print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines() if re.match(r"  \S", line)}
    assert listed == set(collection().task_names)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.fixture(scope="module")
def unread() -> Collection:
    """Return the tasks, whose options nobody has read yet."""
    return Collection.from_module(fresh_tasks_module())


@pytest.mark.parametrize("name", sorted(collection().task_names))
def test_every_task_says_what_it_does_and_what_its_options_mean(unread: Collection, name: str) -> None:
    task = unread[name]
    assert task.__doc__
    assert task.__doc__.splitlines()[0].endswith((".", "?"))
    positional = set(task.positional)
    unexplained = {one.name for one in task.get_arguments() if not one.help} - positional
    assert unexplained - {"environment", "host"} == set()


def test_the_demo_has_the_options_that_are_promised() -> None:
    assert {name.rstrip("_") for one in collection()["demo"].get_arguments() for name in one.names} == PROOF_OPTIONS


# --- environments


def test_environments_are_listed_and_shown(inv: Type) -> None:
    listed = inv("env.list")
    assert (listed.status, listed.err) == (0, "")
    assert "The local cloud on this machine" in listed.out
    shown = inv("env.show local")
    assert shown.status == 0
    assert yaml.safe_load(shown.out)["heat"]["region"] == "local"


@pytest.mark.parametrize(
    "command",
    [
        "env.show nope",
        "env.show nope --origin",
        "render nope --out out",
        "plan nope",
        "destroy nope",
        "drift nope",
        "deploy nope --release 25.0.2",
        "upgrade nope --release 26.0.2",
        "upgrade nope --release 26.0.2 --plan",
        "rollback nope",
        "rollback nope --release 25.0.2",
        "canary.promote nope",
        "pause nope",
        "abort nope",
        "status nope",
        "lock.status nope",
        "lock.hold nope --reason disk",
        "lock.release nope",
        "lock.break nope",
        "verify nope",
        "promote --release 26.0.2 --to nope",
        "history nope",
        "history ../records",
        "history nope --timing",
    ],
)
def test_an_unknown_environment_is_refused_with_those_there_are(inv: Type, command: str) -> None:
    typed = inv(command)
    assert typed.status == 3
    assert "no such environment (there are: dev, local, " in typed.error
    assert typed.next == "inv env.list"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("colour: blue", "bad.yaml:3: colour: unknown key"),
        ("ssh: {port: many}", "bad.yaml:3: ssh.port: expected a valid integer"),
        ("network: {cidr: 10.0.0.0/99}", "bad.yaml:3: network.cidr: "),
        ("cloud: other", "bad.yaml:3: key 'cloud' is given twice"),
        ("topology: [", "bad.yaml:"),
        ("stage: moon", "bad.yaml:3: stage: there is no "),
        ("promotes_from: bad", "bad.yaml:3: promotes_from: a cycle: bad from bad"),
        ("topology: 7", "bad.yaml:3: topology: expected a mapping of keys to values, as in "),
        ("secrets: {canary_password: hunter2}", "bad.yaml:3: secrets.canary_password: expected a reference"),
        (BOMB, "bad.yaml:6: a3: its aliases write out more than 10000 values"),
    ],
    ids=lambda text: text[:30],
)
@pytest.mark.parametrize("command", ["env.show bad", "env.list", "deploy bad --release 25.0.2", "verify bad"])
def test_a_mistake_in_an_environment_is_named_with_file_line_and_key(
    inv: Type, checkout: Path, command: str, line: str, expected: str
) -> None:
    (checkout / "environments/bad.yaml").write_text(f"cloud: seed\nheat: {{region: here}}\n{line}\n")
    typed = inv(command)
    assert typed.status == 3
    assert typed.error.startswith(f"{checkout}/environments/{expected}")


# --- local


@pytest.fixture
def taken_down(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the directories of the clouds that were taken down."""
    gone: list[Path] = []
    monkeypatch.setattr("pipeline.localcloud.down", lambda directory, **_: gone.append(directory))
    return gone


def test_with_the_local_cloud_go_the_keys_of_the_regions_on_it_and_no_others(
    inv: Type, taken_down: list[Path], tmp_path: Path
) -> None:
    kept = tmp_path / "state/environments"
    for name in ("local", "example"):
        (kept / name).mkdir(parents=True)
        (kept / name / "id_ed25519").touch()
    assert inv("local.down").status == 0
    assert taken_down == [tmp_path / "state/cloud"]
    assert [path.name for path in kept.iterdir()] == ["example"]


def test_a_mistake_in_any_environment_is_told_before_the_cloud_is_taken_down(
    inv: Type, taken_down: list[Path], checkout: Path
) -> None:
    (checkout / "environments/bad.yaml").write_text("cloud: [seed\n")
    typed = inv("local.down")
    assert (typed.status, taken_down) == (3, [])
    assert typed.error.startswith(f"{checkout}/environments/bad.yaml")


# --- render


def test_rendering_twice_gives_the_same_bytes(inv: Type, tmp_path: Path) -> None:
    for out in ("a", "b"):
        assert inv(f"render local --out {tmp_path / out}").status == 0
    first, second = (
        {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("*.yaml")}
        for out in ("a", "b")
    )
    assert first == second
    assert Path("network.yaml") in first


def test_a_directory_that_cannot_be_written_to_is_told(inv: Type, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    typed = inv(f"render local --out {tmp_path / 'file'}")
    assert typed.status == 3
    assert "cannot be written" in typed.err


# --- deploy, upgrade, promote


@pytest.mark.parametrize(
    "command",
    [
        "deploy local --release 25.0.2",
        "plan local",
        "plan local --release 25.0.2",
        "destroy local --yes",
        "drift local",
        "upgrade local --release 26.0.2",
        "upgrade local --release 26.0.2 --plan",
        "rollback local",
        "rollback local --release 25.0.2",
        "canary.promote local",
        "status local",
        "verify local",
        "smoke local",
        "local.ssh engine-0",
    ],
)
def test_without_a_cloud_the_next_command_is_to_raise_one(inv: Type, command: str, tmp_path: Path) -> None:
    typed = inv(command)
    assert typed.status == 3
    assert typed.error == "the local cloud is not up"
    assert typed.next == "inv local.up"
    assert not (tmp_path / "state").exists()


def test_a_release_that_does_not_exist_is_refused_and_nothing_is_launched(
    inv: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_such_version(self: Index, wanted: tuple[str, ...], *, exclude_newer: str = "") -> None:
        raise ConfigurationInvalid(f"there is no version of openstack-heat for {wanted[0]}")

    _cloud_is_up(tmp_path)
    monkeypatch.setattr(Index, "resolve", no_such_version)
    monkeypatch.setattr(Index, "neighbours", lambda *_: ("27.0.1",))
    monkeypatch.setattr(deploy.Launcher, "launch", lambda *_: pytest.fail("a stack was launched"))
    typed = inv("deploy local --release 99.0.0")
    assert typed.status == 3
    assert typed.error == "there is no Heat 99.0.0 on the package index; near it are 27.0.1"
    assert typed.next == "inv release.build --heat 27.0.1"


@pytest.mark.parametrize("name", ["newest", "26", "26.0.2-nowhere", "deadbeef", "'[/]'", "'; rm -rf /'", "../..", "''"])
def test_what_is_no_release_is_refused(inv: Type, tmp_path: Path, name: str) -> None:
    _cloud_is_up(tmp_path)
    typed = inv(f"deploy local --release {name}")
    assert typed.status == 3
    assert typed.error.startswith("there is no release ")
    assert typed.next.startswith("inv release.build --heat ")


def test_a_cloud_that_does_not_answer_is_told(inv: Type, tmp_path: Path) -> None:
    _cloud_is_up(tmp_path)
    typed = inv("verify local")
    assert typed.status != 0
    assert "http://127.0.0.1:9" in typed.error
    assert "inv local.status" in typed.next


# --- plan, apply, diff, destroy, drift


@pytest.fixture
def planned(inv: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Act], None]:
    """Return what decides whether there is something to do to the engines; the cloud is up, and launches nothing."""
    _cloud_is_up(tmp_path)

    def foresee(act: Act) -> None:
        live = Live("id-1", "CREATE_COMPLETE", "", "", "")
        parameters = (Parameter("flavor", ParameterChange.CHANGED, "[red]small", "big"),)
        made = StackPlan(
            "engine", "local-engine", act, False, live, "", "", (), parameters if act is Act.UPDATE else (), ()
        )
        monkeypatch.setattr(regionstacks, "survey", lambda *_, **__: Plan("local", "", "", "", (made,)))

    foresee(Act.NONE)
    monkeypatch.setattr(regionstacks, "launch_all", lambda *_: {})
    return foresee


def test_a_plan_ends_with_2_where_something_is_to_be_done_only_if_asked(
    inv: Type, planned: Callable[[Act], None]
) -> None:
    assert inv("plan local --detailed-exitcode").status == 0
    planned(Act.UPDATE)
    assert inv("plan local").status == 0
    typed = inv("plan local --detailed-exitcode")
    assert (typed.status, typed.err) == (2, "")
    assert "~ local-engine: to be updated" in typed.out
    assert "parameter flavor: [red]small → big" in typed.out


def test_a_plan_may_be_printed_as_json_and_nothing_else(inv: Type, planned: Callable[[Act], None]) -> None:
    planned(Act.UPDATE)
    assert json.loads(inv("plan local --json").out)["stacks"][0]["act"] == "update"


def test_what_is_said_meanwhile_is_no_part_of_a_plan_in_json(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def plans(self: workflow.Pipeline, *_: str) -> Plan:
        self.progress.say("a note of the lock is damaged")
        return Plan("local", "", "", "", ())

    monkeypatch.setattr(workflow.Pipeline, "plan_stacks", plans)
    typed = inv("plan local --json")
    assert json.loads(typed.out)["environment"] == "local"
    assert "a note of the lock is damaged" in typed.err


def test_building_a_release_prints_its_id_and_nothing_else(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def builds(self: workflow.Pipeline, _: str) -> Built:
        with self.progress.stage("release 26.0.2"):
            return Built(R26, Path("b.tar"))

    monkeypatch.setattr(workflow.Pipeline, "build", builds)
    typed = inv("release.build --heat 26.0.2")
    assert (typed.status, typed.out) == (0, f"{R26.id}\n")
    assert "release 26.0.2" in typed.err


def test_a_plan_is_kept_for_its_owner_alone_and_applied(
    inv: Type, planned: Callable[[Act], None], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    assert inv(f"plan local --out {path}").status == 0
    assert path.stat().st_mode & 0o777 == 0o600
    typed = inv(f"apply {path}")
    assert (typed.status, typed.err) == (0, "")
    assert typed.out.splitlines()[-1] == "local: nothing to change"
    planned(Act.UPDATE)
    stale = inv(f"apply {path}")
    assert (stale.status, stale.next.split(",")[0]) == (6, "inv plan local --out FILE")
    assert stale.error == "the plan is stale: stack local-engine would be launched with other values now"


@pytest.mark.parametrize("text", [None, "", "{}", "\x00"])
def test_what_is_no_plan_is_not_applied(inv: Type, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    typed = inv(f"apply {path}")
    assert typed.status == 3
    assert typed.error.startswith(f"{path}: ")


def test_a_plan_that_cannot_be_kept_is_told(inv: Type, planned: Callable[[Act], None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    typed = inv(f"plan local --out {tmp_path}/file/plan.json")
    assert typed.status == 3
    assert "cannot be written" in typed.error


def test_a_plan_that_can_no_longer_be_kept_is_told(
    inv: Type, planned: Callable[[Act], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    monkeypatch.setattr(workflow.Pipeline, "plan_stacks", lambda *_: path.mkdir() or Plan("local", "", "", "", ()))
    typed = inv(f"plan local --out {path}")
    assert typed.status == 1
    assert "cannot be written" in typed.error


def test_two_environments_and_two_releases_are_compared(inv: Type, tmp_path: Path) -> None:
    for release in (R25, R26):
        keep(tmp_path / "cache" / "heat-deploys-heat", release)
    typed = inv("diff local local-production")
    assert (typed.status, typed.err) == (0, "")
    assert "promotes_from" in typed.out
    found = json.loads(inv("diff 25.0.2 26.0.2 --json").out)
    assert {one["key"] for one in found["differences"]} >= {"worker RPC", "schema (Alembic head)"}


@pytest.mark.parametrize("command", ["diff local nope", "diff nope local", "diff 26.0.2 nope", "diff local 26.0.2"])
def test_what_cannot_be_compared_is_told(inv: Type, command: str) -> None:
    typed = inv(command)
    assert typed.status == 3
    assert typed.next


@pytest.fixture
def doomed(planned: object, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the environments that were destroyed."""
    gone: list[str] = []
    monkeypatch.setattr(workflow.Pipeline, "doomed", lambda *_: ("local-engine",))
    monkeypatch.setattr(workflow.Pipeline, "destroy", lambda self, name, **_: bool(gone.append(name)) or True)
    return gone


def test_nothing_is_destroyed_where_nobody_can_be_asked(
    inv: Type, doomed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("local\n"))
    typed = inv("destroy local")
    assert (typed.status, typed.error, doomed) == (3, "nothing was destroyed", [])
    assert typed.next == "inv destroy local --yes asks nobody"
    assert inv("destroy local --yes").out == "local: destroyed\n"
    assert doomed == ["local"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "gone"), [("local\n", ["local"]), ("yes\n", []), ("\n", []), ("", [])])
def test_destroying_asks_for_the_environments_name(
    inv: Type, doomed: list[str], monkeypatch: pytest.MonkeyPatch, typed: str, gone: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert inv("destroy local").status == (0 if gone else 3)
    assert doomed == gone


@pytest.mark.parametrize("found", [True, False])
def test_drift_ends_with_10_and_json_stands_alone(inv: Type, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    stack = StackDrift("local-engine", "CHECK_COMPLETE", ("it is off",) if found else (), "", ())
    monkeypatch.setattr(workflow.Pipeline, "drift", lambda *_, **__: Drift("local", (stack,)))
    typed = inv("drift local --json")
    assert (typed.status, json.loads(typed.out)["found"]) == ((10, 1) if found else (0, 0))
    assert ("! local-engine" if found else "= local-engine") in inv("drift local").out


def test_hosts_that_could_not_be_looked_at_are_no_sign_of_no_drift(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = StackDrift("local-engine", "CHECK_COMPLETE", (), "", ())
    monkeypatch.setattr(workflow.Pipeline, "drift", lambda *_, **__: Drift("local", (stack,), (), "api-0 is away"))
    typed = inv("drift local")
    assert (typed.status, typed.err.splitlines()[-2:]) == (
        9,
        ["error: no stack has drifted; hosts could not be looked at: api-0 is away", "  next: inv status local"],
    )


# --- verify


def test_a_role_that_there_is_not_is_told_before_anything_is_asked(inv: Type) -> None:
    typed = inv("verify local --role queen")
    assert typed.status == 3
    assert typed.error == ("there is no role 'queen' (there are: database, messaging, api, engine, loadbalancer)")


def test_an_interrupt_ends_a_watch(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(*_: object) -> Iterator[PipelineError]:
        yield PipelineError("not yet")
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.workflow.Pipeline.watch", watch)
    typed = inv("verify local --watch -k 'clock or disk'")
    assert typed.status == 130
    assert "cannot be checked: not yet" in typed.out


@pytest.mark.parametrize("dry_run", ["", " --dry-run"])
def test_a_promotion_without_evidence_is_refused(inv: Type, tmp_path: Path, dry_run: str) -> None:
    keep(tmp_path / "cache/heat-deploys-heat", R26)
    typed = inv(f"promote --release 26.0.2 --to local-production{dry_run}")
    assert typed.status == 4
    assert typed.error.startswith(f"{R26.id} may not go from local to local-production: ")
    assert "inv " in typed.next
    assert not (tmp_path / "state").exists()


def test_releases_are_listed(inv: Type, tmp_path: Path) -> None:
    keep(tmp_path / "cache/heat-deploys-heat", R26)
    typed = inv("release.list")
    assert typed.status == 0
    assert R26.id in typed.out


@pytest.mark.parametrize("option", ["", " --timing"])
def test_without_records_the_history_is_empty(inv: Type, option: str) -> None:
    typed = inv(f"history local{option}")
    assert (typed.status, typed.err) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "deploy local --release 25.0.2",
        "upgrade local --release 26.0.2",
        "upgrade local --release 26.0.2 --plan",
        "rollback local",
        "destroy local",
        "destroy local --yes",
        "drift local",
        "scale local --role engine --count 2",
    ],
)
@pytest.mark.parametrize("wait", ["soon", "''", "-5s", "'5 minutes'"])
def test_a_wait_that_is_no_span_of_time_is_refused(inv: Type, command: str, wait: str) -> None:
    typed = inv(f"{command} --lock-wait={wait}")
    assert (typed.status, typed.error.partition(",")[0]) == (3, "--lock-wait: expected a span of time")


# --- many hosts at once


@pytest.fixture
def hosts(inv: Type, monkeypatch: pytest.MonkeyPatch) -> ScriptedRemote:
    """Return the hosts of the local environment, deployed; each says ok to `id`."""
    remote = ScriptedRemote()
    remote.on("^:$")
    remote.on("^id$", "ok\n")
    monkeypatch.setattr(workflow, "open_site", lambda *_, **__: nullcontext(site(remote)))
    return remote


def test_a_command_runs_on_the_hosts_of_a_role_and_each_is_told(inv: Type, hosts: ScriptedRemote) -> None:
    typed = inv("ssh.run local --role engine -- id")
    assert (typed.status, typed.err) == (0, "")
    said = [re.sub(r"[\d.]+ s$", "N s", line) for line in typed.out.splitlines()]
    assert sorted(said[:2]) == ["engine-0 | ok", "engine-1 | ok"]
    assert said[2:] == ["engine-0   done, N s", "engine-1   done, N s"]


@pytest.mark.parametrize(
    ("typed", "script"),
    [
        ("""-- "cd /tmp && ls | wc -l" """, "cd /tmp && ls | wc -l"),
        ("""-- printf '%s  %s' "a  b" '$HOME'""", "printf '%s  %s' 'a  b' '$HOME'"),
        ("-- sh -c 'echo --role' -- --debug -d --limit x", "sh -c 'echo --role' -- --debug -d --limit x"),
    ],
)
def test_what_follows_the_dashes_reaches_the_hosts_as_typed(
    inv: Type, hosts: ScriptedRemote, typed: str, script: str
) -> None:
    hosts.on(".", "")
    assert inv(f"ssh.run local --limit engine-0,api-1 {typed}").status == 0
    assert sorted(hosts.ran) == sorted((name, one) for name in ("api-1", "engine-0") for one in (":", script))


def test_hosts_that_failed_and_hosts_that_are_gone_end_in_7_and_the_next_command_is_theirs(
    inv: Type, hosts: ScriptedRemote, tmp_path: Path
) -> None:
    hosts.on("^id -u$", "0\n")
    hosts.on("^id -u$", Result(3, "", "no\n"), host="engine-1")
    hosts.on("^:$", HostUnreachable("api-0 is gone"), host="api-0")
    typed = inv(f"ssh.run local --role api,engine --no-root --timeout 9s --json {tmp_path}/seen.json -- id -u")
    assert typed.status == 7
    assert "engine-1 | no\n" in typed.err
    assert typed.err.splitlines()[-2] == (
        "error: 1 of 4 hosts failed, 1 unreachable; done: api-1, engine-0; failed: engine-1 (3); unreachable: api-0"
    )
    assert typed.next == "inv ssh.run local --limit api-0,engine-1 --timeout 9s --no-root -- id -u"
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert [(one["host"], one["outcome"], one["status"]) for one in seen] == [
        ("api-0", "unreachable", None),
        ("api-1", "done", 0),
        ("engine-0", "done", 0),
        ("engine-1", "failed", 3),
    ]


def test_a_region_that_is_gone_ends_in_9(inv: Type, hosts: ScriptedRemote) -> None:
    hosts.on("^:$", HostUnreachable("it is gone"))
    typed = inv("ssh.run local -- id")
    assert (typed.status, typed.error.partition(";")[0]) == (9, "no host could be reached, and nothing ran")


def test_no_secret_of_the_region_is_shown(inv: Type, hosts: ScriptedRemote, tmp_path: Path) -> None:
    hosts.on("^cat ", " ".join(SECRETS.values()))
    typed = inv(f"ssh.run local --json {tmp_path}/seen.json -- cat /opt/heat/current/etc/heat.conf")
    shown = typed.out + typed.err + (tmp_path / "seen.json").read_text()
    assert typed.status == 0
    assert "***" in typed.out
    assert not [secret for secret in SECRETS.values() if secret in shown]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ssh.run local", "there is no command"),
        ("ssh.run local --role engines -- id", "there is no role 'engines'"),
        ("ssh.run local --limit engine-7 -- id", "environment local has no host 'engine-7'"),
        ("ssh.run local --timeout soon -- id", "--timeout: expected a span of time"),
    ],
)
def test_a_mistake_runs_nothing(inv: Type, hosts: ScriptedRemote, command: str, said: str) -> None:
    typed = inv(command)
    assert typed.status == 3
    assert said in typed.err
    assert hosts.ran == []


# --- files for machines


@pytest.mark.parametrize(
    "command",
    [
        "verify local --json {}",
        "verify local --junit {}",
        "verify local --watch --json {}",
        "smoke local --junit {}",
        "smoke mycloud --json {}",
        "status local --json {}",
        "env.show local --origin --json {}",
        "plan local --out {}",
        "validate local --json {}",
        "ssh.run local --json {} -- id",
        "demo --report {}",
        "bench.upgrade --json {}",
        "bench.soak --json {}",
        "bench.scale --json {}",
        "bench.scale --svg {}",
        "bench.ssh --table {}",
        "bench.verify --svg {}",
        "bench.render --json {}",
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_done(
    inv: Type, hosts: ScriptedRemote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    for name in ("upgrade", "soak", "scale", "ssh", "verify", "render"):
        monkeypatch.setattr(f"benchmarks.{name}.measure", lambda *_: pytest.fail("it was measured"))
    for name in ("verify", "watch", "smoke", "smoke_cloud", "status", "validate", "origins", "plan_stacks"):
        monkeypatch.setattr(workflow.Pipeline, name, lambda *_: pytest.fail("it was done"))
    monkeypatch.setattr("pipeline.demo.demonstrate", lambda *_, **__: pytest.fail("it was shown"))
    (tmp_path / "file").write_text("")
    typed = inv(command.format(tmp_path / "file" / "seen"))
    assert (typed.status, typed.error) == (3, f"{tmp_path}/file/seen: cannot be written: Not a directory")
    assert typed.next == "name another file"
    assert hosts.ran == []


CHECK = CheckResult("clock_is_right", "api-0", "api", "local", "failed", 0.1, "expected a; found b\nlikely: c")
CHECKS = VerifyReport("local", R26.id, (CHECK,), 1.0)
RUNGS = SmokeReport("local", (RungResult("token", "failed", 0.1, "401"),))


@pytest.mark.parametrize(
    ("command", "status", "shown"),
    [
        ("verify local --json {}", 10, "clock_is_right"),
        ("smoke local --junit {}", 10, "failed   token"),
        ("ssh.run local --limit engine-0 --json {} -- id", 7, "engine-0   failed (3)"),
    ],
)
def test_a_file_that_can_no_longer_be_written_costs_no_report_and_hides_no_failure(
    inv: Type, hosts: ScriptedRemote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    command: str, status: int, shown: str,
) -> None:  # fmt: skip
    path = tmp_path / "seen"

    def ends_as(result: object) -> Callable[..., object]:
        return lambda *_: path.mkdir() or result

    monkeypatch.setattr(workflow.Pipeline, "verify", ends_as(CHECKS))
    monkeypatch.setattr(workflow.Pipeline, "smoke", ends_as(RUNGS))
    hosts.on("^id$", ends_as(Result(3, "", "")))
    typed = inv(command.format(path))
    assert typed.status == status
    assert shown in typed.out
    assert typed.error.endswith(f" ({path}: cannot be written: Is a directory)")


@pytest.mark.parametrize(("command", "name"), [("verify local", "verify"), ("smoke local", "smoke")])
def test_where_all_is_well_a_file_that_can_no_longer_be_written_is_told_after_the_report(
    inv: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, name: str
) -> None:
    path, passed = (
        tmp_path / "seen",
        {
            "verify": replace(CHECKS, results=(replace(CHECK, outcome="passed"),)),
            "smoke": SmokeReport("local", (RungResult("token", "passed", 0.1, ""),)),
        },
    )
    monkeypatch.setattr(workflow.Pipeline, name, lambda *_: path.mkdir() or passed[name])
    typed = inv(f"{command} --json {path}")
    assert (typed.status, typed.error) == (1, f"{path}: cannot be written: Is a directory")
    assert "passed" in typed.out


# --- environments


def test_the_origin_of_every_key_is_shown_and_saved(inv: Type, tmp_path: Path) -> None:
    typed = inv(f"env.show local-small --origin --json {tmp_path}/origins.json")
    (line,) = (line for line in typed.out.splitlines() if "topology.api.count" in line)
    assert "environments/local-small.yaml:7" in line
    saved = {one["key"]: one for one in json.loads((tmp_path / "origins.json").read_text())}
    assert saved["cloud"]["file"] == "environments/stages/local.yaml"
    assert saved["heat.api_port"] == {"key": "heat.api_port", "value": 8004, "file": None, "line": None}


def test_json_of_an_environment_needs_no_file(inv: Type) -> None:
    typed = inv("env.show local --json origins.json")
    assert (typed.status, typed.error) == (3, "--json goes with --origin")
    assert json.loads(inv("env.show local").out)["stage"] == "local"


def test_the_schema_is_written_and_checked(inv: Type, checkout: Path) -> None:
    path = checkout / "environments/schema.json"
    assert inv("env.schema --check").status == 0
    path.write_text("{}")
    typed = inv("env.schema --check")
    assert (typed.status, typed.error, typed.next) == (3, f"{path}: is not what the models say", "inv env.schema")
    assert inv("env.schema").out == f"{path}\n"
    assert inv("env.schema --check").status == 0


def test_all_environments_are_rendered_each_to_a_directory_of_its_own(
    inv: Type, checkout: Path, tmp_path: Path
) -> None:
    for path in (checkout / "environments").glob("[ps]*.yaml"):
        path.unlink()
    typed = inv(f"render all --out {tmp_path}/out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"dev", "local", "local-cluster", "local-production", "local-small"}
    assert len(typed.out.splitlines()) == len(list((tmp_path / "out").rglob("*.yaml")))


def test_a_mistake_in_one_environment_leaves_none_rendered(inv: Type, checkout: Path, tmp_path: Path) -> None:
    (checkout / "environments" / "zone.yaml").write_text("stage: nowhere\n")
    assert inv(f"render all --out {tmp_path}/out").status == 3
    assert not (tmp_path / "out").exists()


def test_nothing_is_rendered_into_no_directory(inv: Type) -> None:
    typed = inv("render local --out=")
    assert (typed.status, typed.error) == (3, "--out: expected a directory, found nothing")


# --- the lock, and runs under way


@pytest.mark.parametrize("request_", ["pause", "abort"])
def test_what_is_asked_of_no_run_is_refused(inv: Type, request_: str) -> None:
    typed = inv(f"{request_} local")
    assert (typed.status, typed.error, typed.next) == (3, "no run is under way in local", "inv status local")


@pytest.mark.parametrize("request_", ["pause", "abort"])
def test_a_run_under_way_is_asked_and_its_owner_named(inv: Type, request_: str) -> None:
    pipeline = tasks_module().pipeline()
    pipeline.runs.begin("local", ADA.run_id)
    with pipeline.locks("local").held("local", ADA):
        typed = inv(f"{request_} local")
    assert (typed.status, typed.out) == (0, f"local: upgrade of ada@laptop was asked to {request_}\n")
    assert pipeline.runs.asked("local") == (request_, who())


def test_a_lock_that_nobody_has_is_told(inv: Type) -> None:
    typed = inv("lock.status local")
    assert (typed.status, typed.out) == (0, "local: nobody holds it\n")


def test_a_lock_is_held_shown_and_given_back(inv: Type) -> None:
    held = inv("lock.hold local --reason 'a disk is being replaced'")
    assert (held.status, held.out) == (0, "local: held; inv lock.release local gives it back\n")
    shown = inv("lock.status local")
    assert shown.status == 0
    assert all(word in shown.out for word in (who(), "hold", "a disk is being replaced"))
    assert inv("lock.release local").out == "local: released\n"
    assert inv("lock.status local").out == "local: nobody holds it\n"


@pytest.mark.parametrize("reason", ["''", "' '"])
def test_nothing_is_held_for_no_reason(inv: Type, reason: str) -> None:
    typed = inv(f"lock.hold local --reason {reason}")
    assert (typed.status, typed.error.partition(":")[0]) == (3, "--reason")
    assert inv("lock.status local").out == "local: nobody holds it\n"


def test_what_nobody_held_is_not_said_to_be_released(inv: Type) -> None:
    typed = inv("lock.release local")
    assert (typed.status, typed.out) == (0, "local: nobody held it\n")


def test_what_a_person_holds_is_changed_by_no_run(inv: Type, tmp_path: Path) -> None:
    _cloud_is_up(tmp_path)
    keep(tmp_path / "cache/heat-deploys-heat", R26)
    inv("lock.hold local --reason 'a disk is being replaced'")
    typed = inv("upgrade local --release 26.0.2")
    assert typed.status == 5
    assert f"local has been held by {who()}" in typed.error
    assert typed.error.endswith("a disk is being replaced")
    assert typed.next == "inv lock.status local"


def test_what_another_holds_is_broken_and_not_given_back(inv: Type) -> None:
    tasks_module().pipeline().locks("local").hold("local", ADA)
    refused = inv("lock.release local")
    assert (refused.status, refused.next) == (5, "inv lock.break local")
    assert "ada@laptop" in refused.error
    assert inv("lock.break local").out == "local: the hold of ada@laptop is broken\n"
    assert inv("lock.break local").out == "local: nothing held it\n"


def test_the_lock_of_a_run_that_lives_cannot_be_broken(inv: Type) -> None:
    with tasks_module().pipeline().locks("local").held("local", ADA):
        typed = inv("lock.break local")
    assert typed.status == 5
    assert "that run lives" in typed.error


# --- mistakes in typing


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("deploy local", "--release must be given"),
        ("upgrade local", "--release must be given"),
        ("render local", "--out must be given"),
        ("release.build", "--heat must be given"),
        ("promote", "--release and --to must be given"),
        ("lock.hold local", "--reason must be given"),
    ],
)
def test_an_option_that_is_needed_is_asked_for(inv: Type, command: str, missing: str) -> None:
    typed = inv(command)
    assert (typed.status, typed.error) == (3, missing)


@pytest.mark.parametrize(
    "command", ["nope", "deploy", "verify", "local.logs", "local.ssh", "deploy local --colour blue", "env.show a b"]
)
def test_what_cannot_be_parsed_fails_in_one_line(inv: Type, command: str) -> None:
    typed = inv(command)
    assert typed.status == 3
    assert typed.error
    assert typed.next == ("inv --list" if command == "nope" else f"inv --help {command.split()[0]}")


def test_an_option_without_its_value_is_named_as_it_is_typed(inv: Type) -> None:
    typed = inv("deploy local --lock-wait")
    assert (typed.status, typed.error) == (3, "Flag --lock-wait needed value and was not given one")


@pytest.mark.parametrize("command", ["--list nope", "--command-timeout soon env.list", "nope --help"])
def test_a_mistake_in_what_is_of_no_task_is_one_line_too(inv: Type, command: str) -> None:
    typed = inv(command)
    assert (typed.status, typed.next) == (3, "inv --list")
    assert typed.error


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("name", sorted(collection().task_names))
def test_help_is_given_in_place_of_what_a_task_needs(inv: Type, name: str, option: str) -> None:
    typed = inv(f"{name} {option}")
    assert (typed.status, typed.err) == (0, "")
    assert typed.out.startswith(f"Usage: inv [--core-opts] {name} ")


@pytest.mark.parametrize("command", ["--help verify", "verify local --help", "verify --help local --role engine"])
def test_help_is_given_wherever_it_is_asked_for(inv: Type, command: str) -> None:
    typed = inv(command)
    assert (typed.status, typed.err) == (0, "")
    assert typed.out.startswith("Usage: inv [--core-opts] verify ")


def test_help_that_a_host_is_asked_for_is_the_hosts(inv: Type, hosts: ScriptedRemote) -> None:
    hosts.on("^id --help$", "Usage: id\n")
    typed = inv("ssh.run local --limit engine-0 -- id --help")
    assert (typed.status, typed.out.splitlines()[0]) == (0, "engine-0 | Usage: id")


@pytest.mark.parametrize("command", ["env.show --debug local", "env.show -d local", "env.show local --debug"])
def test_debug_is_no_value(inv: Type, command: str) -> None:
    typed = inv(command)
    assert (typed.status, json.loads(typed.out)["stage"]) == (0, "local")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("verify --wat", "environment"),
        ("smoke --jsonn", "name"),
        ("diff local --wat", "right"),
        ("lock.hold --reazon", "environment"),
        ("plan --all", "environment"),
        ("local.logs -n", "name"),
        ("apply --out", "file"),
    ],
)
def test_an_option_is_taken_for_no_value(inv: Type, command: str, name: str) -> None:
    typed = inv(command)
    assert (typed.status, typed.next) == (3, f"inv --help {command.split()[0]}")
    assert typed.error == f"{name}: expected a value before any option, found {command.split()[-1]}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("smoke local --region here", "--region goes with an entry of your own clouds.yaml"),
        ("test --unit --faults", "--unit goes with neither --faults nor --long"),
        ("test --unit --long", "--unit goes with neither --faults nor --long"),
        ("ssh.run local --role queen -- id", "there is no role 'queen' (there are: database, messaging, api, engine, "),
    ],
)
def test_an_option_that_is_of_no_use_is_refused_before_anything_is_done(
    inv: Type, monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    for name in ("smoke", "run_on_hosts"):
        monkeypatch.setattr(workflow.Pipeline, name, lambda *_, **__: pytest.fail("it was done"))
    monkeypatch.setattr("invoke.context.Context.run", lambda *_, **__: pytest.fail("it was tested"))
    typed = inv(command)
    assert typed.status == 3
    assert typed.error.startswith(said)


@pytest.mark.parametrize("lines", ["abc", "-5", "1.5", "''"])
def test_a_number_that_is_none_is_refused(inv: Type, lines: str) -> None:
    typed = inv(f"local.logs keystone --lines={lines}")
    assert (typed.status, typed.error.partition(",")[0]) == (3, "--lines: expected a number")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("bench.upgrade --rounds x", "--rounds"),
        ("bench.soak --rounds 0", "--rounds"),
        ("bench.soak --clients=-1", "--clients"),
        ("bench.ssh --rounds 1.5", "--rounds"),
        ("bench.verify --hosts x", "--hosts"),
        ("bench.verify --rounds ''", "--rounds"),
        ("bench.render --rounds x", "--rounds"),
        ("bench.render --environments x", "--environments"),
    ],
)
def test_a_number_that_is_none_is_refused_before_anything_is_measured(
    inv: Type, monkeypatch: pytest.MonkeyPatch, command: str, option: str
) -> None:
    for name in ("upgrade", "soak", "ssh", "verify", "render"):
        monkeypatch.setattr(f"benchmarks.{name}.measure", lambda *_: pytest.fail("it was measured"))
    typed = inv(command)
    assert (typed.status, typed.error.partition(",")[0]) == (3, f"{option}: expected a number")


@pytest.mark.parametrize(
    "command", ["scale local --role engine --count {}", "local.logs keystone --lines {}", "bench.ssh --hosts {}"]
)
def test_a_number_of_5000_digits_is_refused_as_any_other(inv: Type, command: str) -> None:
    typed = inv(command.format("9" * 5000))
    assert typed.status == 3
    assert typed.error.startswith(f"{command.split()[-2]}: expected ")


def test_a_log_that_is_not_there_is_refused(inv: Type) -> None:
    typed = inv("local.logs keystone")
    assert typed.status == 3
    assert "'keystone'" in typed.error


# --- errors that nobody expected, and ends from outside


def _instead_of_the_pipeline(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(tasks_module(), "pipeline", fails)


def test_an_error_of_our_own_is_one_line_too(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    _instead_of_the_pipeline(monkeypatch, ZeroDivisionError("division by zero"))
    typed = inv("env.list")
    assert typed.status == 1
    assert typed.err == "internal error: ZeroDivisionError: division by zero\n  next: the same with --debug\n"


def test_an_interrupt_says_how_to_go_on(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    _instead_of_the_pipeline(monkeypatch, KeyboardInterrupt())
    assert inv("env.list") == Typed(130, "", "interrupted: run the same command again to go on\n")


def test_a_term_signal_says_how_to_go_on(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module(), "pipeline", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert inv("env.list") == Typed(143, "", "terminated: run the same command again to go on\n")


def test_debug_shows_what_happened_and_ends_as_without(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks_module(), "DEBUG", True)
    typed = inv("env.show nope")
    assert (typed.status, typed.next) == (3, "inv env.list")
    assert typed.err.startswith("Traceback (most recent call last):\n")
    assert "pipeline.errors.ConfigurationInvalid: " in typed.err
    _instead_of_the_pipeline(monkeypatch, ZeroDivisionError("no"))
    typed = inv("env.list")
    assert typed.status == 1
    assert typed.err.startswith("Traceback (most recent call last):\n")
    assert typed.err.endswith("internal error: ZeroDivisionError: no\n")


def test_what_a_host_wrote_into_an_error_is_shown_and_not_obeyed(inv: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    _instead_of_the_pipeline(monkeypatch, PipelineError("a\x1b[2J", hint="b\x1b]0;c\x07"))
    assert inv("env.list").err == "error: a\\x1b[2J\n  next: b\\x1b]0;c\\x07\n"
    _instead_of_the_pipeline(monkeypatch, ZeroDivisionError("a\x1b[2J"))
    assert "a\\x1b[2J" in inv("env.list").err
    monkeypatch.setattr(tasks_module(), "DEBUG", True)
    assert "\x1b" not in inv("env.list").err


def test_what_another_wrote_into_the_lock_is_shown_and_not_obeyed(inv: Type) -> None:
    tasks_module().pipeline().locks("local").hold("local", replace(ADA, owner="ada\x1b[2J"))
    assert inv("lock.break local").out == "local: the hold of ada\\x1b[2J is broken\n"


def test_a_log_is_shown_and_not_obeyed(inv: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("one\n\x1b[2Jtwo\n")
    monkeypatch.setattr("pipeline.localcloud.logs", lambda *_: tmp_path / "log")
    assert inv("local.logs local-engine-0").out == "one\n\\x1b[2Jtwo\n"


# --- as a process of its own


def _invoke(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run invoke on a checkout, from a directory that is none."""
    command = [sys.executable, "-m", "invoke", "--search-root", str(checkout), *arguments]
    environment = {**os.environ, "PIPELINE_STATE": str(checkout / "state")}
    return subprocess.run(command, cwd=checkout.parent, env=environment, capture_output=True, text=True, check=False)


def test_debug_shows_where_an_error_came_from_and_nothing_else_does(checkout: Path) -> None:
    plain, debug = _invoke(checkout, "env.show", "nope"), _invoke(checkout, "env.show", "nope", "--debug")
    assert (plain.returncode, "Traceback" in plain.stderr) == (3, False)
    assert debug.returncode == 3
    assert "Traceback" in debug.stderr
    assert "no such environment" in debug.stderr


def test_it_works_from_another_directory_and_leaves_nothing(checkout: Path) -> None:
    done = _invoke(checkout, "env.list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dev ")
    assert not (checkout / "state").exists()


@pytest.mark.parametrize(
    "command", ["env.show local", "env.show local --origin", "env.list", "--list", "env.show nope"]
)
def test_where_the_reader_went_away_a_command_ends_quietly_as_shells_do(checkout: Path, command: str) -> None:
    to_read, to_write = os.pipe()
    os.close(to_read)
    with os.fdopen(to_write, "w") as unread:
        words = [sys.executable, str(checkout / "tasks.py"), *command.split()]
        stderr = subprocess.STDOUT if command.endswith("nope") else subprocess.PIPE
        done = subprocess.run(words, stdout=unread, stderr=stderr, text=True, check=False)
    assert (done.returncode, done.stderr or "") == (141, "")


def test_the_wrapper_installs_once_and_runs_the_tasks_of_its_own_checkout(tmp_path: Path) -> None:
    for name in ("inv", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    for tool in ("python", "uv"):
        (tools / tool).write_text(f'#!/bin/sh\necho "{tool} $@" >>"{tmp_path}/ran"\n')
        (tools / tool).chmod(0o755)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    for _ in range(2):
        subprocess.run(["../inv", "deploy", "a b"], cwd=elsewhere, check=True, capture_output=True)
    ran = (tmp_path / "ran").read_text().splitlines()
    assert [line.split()[0] for line in ran] == ["uv", "uv", "python", "python"]
    assert ran[-1] == f"python {tmp_path}/tasks.py deploy a b"
