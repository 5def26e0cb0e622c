"""One command on many hosts: whatever happens to one, the others end, and every end is told for what it is."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from builders import SECRETS, ScriptedRemote, environment, region

from pipeline.edges.ssh import Result
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostKeyRefused, HostUnreachable, PipelineError
from pipeline.fanout import HostResult, Outcome, chosen, fan_out, script_of, unfinished
from pipeline.inventory import Host

HOSTS = region().inventory.hosts
ENGINES = chosen(region().inventory, ["engine"])
DONE, FAILED, UNREACHABLE = Outcome.DONE, Outcome.FAILED, Outcome.UNREACHABLE


class Ears:
    """A Listener that keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        self.ends: list[str] = []
        self.names: list[str] = []

    def begin(self, hosts: Sequence[Host]) -> None:
        self.names = [host.name for host in hosts]

    def heard(self, host: Host, stream: str, line: str) -> None:
        self.lines.append((host.name, stream, line))

    def ended(self, result: HostResult) -> None:
        self.ends.append(result.host)


@pytest.fixture
def remote(remote: ScriptedRemote) -> ScriptedRemote:
    remote.on("^:$")
    return remote


def _outcomes(results: Sequence[HostResult]) -> dict[str, Outcome]:
    return {result.host: result.outcome for result in results}


# --- the command


def test_one_word_is_a_line_of_shell_and_stays_as_it_is() -> None:
    assert script_of(["cd /tmp && ls | wc -l"]) == "cd /tmp && ls | wc -l"


@pytest.mark.parametrize("words", [["echo", "a  b"], ["printf", "%s", "$HOME; `id`"], ["echo", "it's", "*", ""]])
def test_several_words_reach_the_program_as_they_were_typed(words: list[str]) -> None:
    script = script_of(["printf", r"<%s>", *words])
    said = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, check=True).stdout
    assert said == "".join(f"<{word}>" for word in words)


@pytest.mark.parametrize("words", [[], [""], ["  "]])
def test_no_command_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigurationInvalid, match="no command"):
        script_of(words)


# --- the hosts


def test_without_a_choice_every_host_is_meant() -> None:
    assert chosen(region().inventory) == HOSTS


def test_hosts_are_chosen_by_role_and_by_name() -> None:
    assert [host.name for host in chosen(region().inventory, ["engine", "api"], ["engine-1", "database-0"])] == [
        "engine-1"
    ]


@pytest.mark.parametrize(
    ("roles", "names", "said"),
    [(["engin"], [], "no role 'engin'"), ([], ["engine-9"], "no host 'engine-9'"), (["api"], ["engine-0"], "is left")],
)
def test_what_there_is_not_is_refused(roles: list[str], names: list[str], said: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=said):
        chosen(region().inventory, roles, names)


# --- the ends


def test_every_host_runs_it_and_results_are_in_the_order_of_hosts(remote: ScriptedRemote) -> None:
    remote.on("^id$", lambda host, _: f"{host.name}\n")
    results = fan_out(remote, HOSTS, "id")
    assert [(one.host, one.status, one.stdout) for one in results] == [(h.name, 0, f"{h.name}\n") for h in HOSTS]
    assert set(_outcomes(results).values()) == {DONE}


def test_the_others_go_on_whatever_happens_to_one(remote: ScriptedRemote) -> None:
    remote.on("^id$", "ok\n")
    remote.on("^id$", Result(3, "", "no\n"), host="engine-0")
    remote.on("^:$", HostUnreachable("engine-1 is gone"), host="engine-1")
    remote.on("^:$", HostKeyRefused("api-0 shows another key"), host="api-0")
    remote.on("^id$", CommandFailed("api-1: no end within 5 s", status=-1), host="api-1")
    remote.on("^id$", ZeroDivisionError("ours"), host="database-0")
    found = {one.host: one for one in fan_out(remote, HOSTS, "id", timeout=5)}
    assert _outcomes(tuple(found.values())) == {
        "database-0": FAILED,
        "messaging-0": DONE,
        "api-0": UNREACHABLE,
        "api-1": FAILED,
        "engine-0": FAILED,
        "engine-1": UNREACHABLE,
        "loadbalancer-0": DONE,
    }
    assert (found["engine-0"].status, found["engine-0"].stderr) == (3, "no\n")
    assert (found["api-1"].status, found["api-1"].detail) == (None, "api-1: no end within 5 s")
    assert found["api-0"].detail == "api-0 shows another key"
    assert found["database-0"].detail == "internal error: ZeroDivisionError: ours"


class WithoutSudo(ScriptedRemote):
    """Hosts of which engine-0 lets nobody become root; `asked` tells as whom each script was to run."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, bool]] = []
        self.on("^:$")
        self.on("^id$", "ok\n")

    def run(self, host: Host, script: str, *, root: bool = True, **options: Any) -> Result:
        self.asked.append((host.name, script, root))
        if root and host.name == "engine-0":
            raise ConfigurationInvalid("engine-0 lets pipeline run nothing as root", hint="sudoers must have NOPASSWD")
        return super().run(host, script, root=root, **options)


def test_a_host_without_sudo_runs_nothing_and_says_what_it_lacks_and_the_others_end() -> None:
    remote = WithoutSudo()
    lacking, *others = fan_out(remote, (*ENGINES, *HOSTS[:2]), "id")
    assert (lacking.outcome, lacking.reached, lacking.status) == (UNREACHABLE, False, None)
    assert lacking.detail == "engine-0 lets pipeline run nothing as root; sudoers must have NOPASSWD"
    assert {(one.outcome, one.stdout) for one in others} == {(DONE, "ok\n")}
    assert "engine-0" not in {name for name, script, _ in remote.asked if script == "id"}


@pytest.mark.parametrize("root", [True, False])
def test_hello_is_said_as_whom_the_command_is_to_run(root: bool) -> None:
    remote = WithoutSudo()
    fan_out(remote, ENGINES, "id", root=root)
    assert {asked for _, _, asked in remote.asked} == {root}


@pytest.mark.parametrize("error", [ConfigurationInvalid, HostKeyRefused])
def test_a_host_that_refuses_us_says_what_to_do_and_the_others_end(
    remote: ScriptedRemote, error: type[PipelineError]
) -> None:
    remote.on("^id$", "ok\n")
    remote.on("^:$", error("api-0 refuses", hint="check ssh.user"), host="api-0")
    found = {one.host: one for one in fan_out(remote, HOSTS, "id")}
    refused = found.pop("api-0")
    assert (refused.outcome, refused.reached, refused.detail) == (UNREACHABLE, False, "api-0 refuses; check ssh.user")
    assert set(_outcomes(tuple(found.values())).values()) == {DONE}


def test_a_host_that_was_lost_before_is_told_from_one_that_may_have_run_it(remote: ScriptedRemote) -> None:
    remote.on("^:$", HostUnreachable("engine-0 is gone"), host="engine-0")
    remote.on("^id$", HostUnreachable("engine-1 is gone"), host="engine-1")
    before, amid = fan_out(remote, ENGINES, "id")
    assert (before.reached, before.detail) == (False, "engine-0 is gone")
    assert (amid.reached, amid.detail) == (True, "engine-1 is gone: the command may have run, or run still")
    assert amid.outcome is UNREACHABLE


def test_lines_are_heard_with_their_host_and_stream(remote: ScriptedRemote) -> None:
    remote.on("^id$", Result(0, "a\nb\n", "c\n"))
    ears = Ears()
    fan_out(remote, ENGINES[:1], "id", listener=ears)
    assert ears.lines == [("engine-0", "stdout", "a"), ("engine-0", "stdout", "b"), ("engine-0", "stderr", "c")]
    assert (ears.names, ears.ends) == (["engine-0"], ["engine-0"])


def test_secrets_of_the_region_are_heard_and_kept_as_stars(remote: ScriptedRemote) -> None:
    secrets = region().secrets
    assert set(secrets) == set(SECRETS.values())
    remote.on("^env$", Result(1, *(" ".join(secrets) for _ in range(2))), host="engine-0")
    remote.on("^env$", CommandFailed(f"no {secrets[0]}", status=-1, stdout=secrets[1]), host="engine-1")
    ears = Ears()
    results = fan_out(remote, ENGINES, "env", listener=ears, hidden=secrets)
    assert not [secret for secret in secrets if secret in f"{results} {ears.lines}"]
    assert results[0].stdout == " ".join(["***"] * len(secrets))


KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg
AwEHoUQDQgAE
short
-----END PRIVATE KEY-----
"""


def test_of_a_private_key_every_line_is_stars_wherever_it_is_said(remote: ScriptedRemote) -> None:
    remote.on("^cat ", Result(0, f"-----BEGIN CERTIFICATE-----\nMIIB\n{KEY}", "got   AwEHoUQDQgAE\r\n"))
    ears = Ears()
    results = fan_out(remote, ENGINES[:1], "cat heat.pem", listener=ears, hidden=[KEY])
    assert not [line for line in KEY.splitlines()[1:3] if line in f"{results} {ears.lines}"]
    assert [line for _, stream, line in ears.lines if stream == "stdout"] == [
        "-----BEGIN CERTIFICATE-----", "MIIB", "-----BEGIN PRIVATE KEY-----", "***", "***", "short",
        "-----END PRIVATE KEY-----",
    ]  # fmt: skip


def test_secrets_of_clusters_are_stars_too(remote: ScriptedRemote) -> None:
    secrets = region(environment(messaging=3)).secrets
    members = ",".join(f"heat:{SECRETS['messaging']}@10.0.0.{number}:5672" for number in range(3))
    remote.on("^cat ", f"transport_url = rabbit://{members}/heat-1\nerlang-cookie\n")
    ears = Ears()
    fan_out(remote, ENGINES[:1], "cat both", listener=ears, hidden=secrets)
    stars = ",".join(f"heat:***@10.0.0.{number}:5672" for number in range(3))
    assert [line for _, _, line in ears.lines] == [f"transport_url = rabbit://{stars}/heat-1", "***"]


def test_no_more_hosts_at_once_than_allowed(remote: ScriptedRemote) -> None:
    room, most, now = threading.Lock(), 0, 0

    class Slow(ScriptedRemote):
        def run(self, host: Host, script: str, **options: object) -> Result:
            nonlocal most, now
            with room:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.01)
            with room:
                now -= 1
            return Result(0, "", "")

    fan_out(Slow(), HOSTS, "id", at_once=2)
    assert most == 2


def test_an_interrupt_begins_with_no_other_host() -> None:
    class Interrupted(ScriptedRemote):
        def run(self, host: Host, script: str, **options: object) -> Result:
            self.ran.append((host.name, script))
            if script == "id":
                raise KeyboardInterrupt
            if host is not HOSTS[0]:
                time.sleep(0.2)  # it is being reached while the interrupt comes
            return Result(0, "", "")

    gone = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        fan_out(gone, HOSTS, "id", at_once=1)
    time.sleep(0.3)
    assert [name for name, script in gone.ran if script == "id"] == [HOSTS[0].name]


# --- what it comes to


def _result(host: str, outcome: Outcome, status: int | None = 0, *, reached: bool = True) -> HostResult:
    return HostResult(host, outcome, status, reached)


def _again(hosts: str) -> str:
    return f"inv ssh.run local --limit {hosts} -- id"


def test_all_done_is_no_error() -> None:
    assert unfinished([_result("engine-0", DONE)], _again) is None


def test_some_that_failed_end_in_7_with_everybody_named_and_the_next_command() -> None:
    results = [
        _result("engine-0", DONE),
        _result("engine-1", FAILED, 3),
        _result("api-0", FAILED, None),
        _result("api-1", UNREACHABLE, None, reached=False),
    ]
    error = unfinished(results, _again)
    assert error is not None
    assert error.exit_code == 7
    assert error.message == (
        "2 of 4 hosts failed, 1 unreachable; "
        "done: engine-0; failed: engine-1 (3), api-0 (no end seen); unreachable: api-1"
    )
    assert error.hint == "inv ssh.run local --limit engine-1,api-0,api-1 -- id"


def test_none_that_could_be_reached_ends_in_9() -> None:
    error = unfinished([_result(name, UNREACHABLE, None, reached=False) for name in ("api-0", "api-1")], _again)
    assert error is not None
    assert error.exit_code == 9
    assert error.message.startswith("no host could be reached, and nothing ran; ")


def test_hosts_that_were_lost_in_the_middle_do_not_count_as_untouched() -> None:
    error = unfinished([_result("api-0", UNREACHABLE, None)], _again)
    assert error is not None
    assert error.exit_code == 7
