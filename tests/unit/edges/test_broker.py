"""The broker: what rabbitmqctl is asked, what its answers mean, and passwords that stay off every command line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import ScriptedRemote, host

from pipeline.edges.broker import Broker, Queue
from pipeline.edges.members import Members
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import HostUnreachable, Unanswered
from pipeline.inventory import Host
from pipeline.secrets import Secret

ODD = Secret("it's $(touch x)")


@pytest.fixture
def broker(remote: ScriptedRemote) -> Broker:
    return Broker(remote, Members([host(Role.MESSAGING)]))


def _sh(script: str, root: Path, users: str) -> list[str]:
    """Run a script with a rabbitmqctl that knows `users`; return what that was asked and told."""
    tool = root / "rabbitmqctl"
    lines = ["#!/bin/sh", f"echo \"$*\" >>'{root}/log'"]
    lines += [f"case \"$*\" in *list_users*) echo '{users}';; *_user*|*password*) cat >>'{root}/log';; esac"]
    tool.write_text("\n".join(lines), "utf-8")
    tool.chmod(0o755)
    path = f"{root}:{os.environ['PATH']}"
    subprocess.run(
        ["/bin/sh"], input=f"{{\n{script}\n}} </dev/null\n", text=True, check=True, cwd=root, env={"PATH": path}
    )
    return (root / "log").read_text("utf-8").splitlines()


def _user_script(broker: Broker, remote: ScriptedRemote) -> str:
    remote.on("list_users")
    broker.create_user(ODD)
    return remote.ran[0][1]


def test_a_new_user_gets_its_password_on_standard_input(broker: Broker, remote: ScriptedRemote, tmp_path: Path) -> None:
    asked = _sh(_user_script(broker, remote), tmp_path, '[{"user":"guest","tags":["administrator"]}]')
    assert asked == [
        "-q list_users --formatter json",
        "-q add_user heat",
        ODD.reveal(),
        "-q delete_user guest",
    ]
    assert not (tmp_path / "x").exists()


def test_a_known_user_gets_the_password_again(broker: Broker, remote: ScriptedRemote, tmp_path: Path) -> None:
    asked = _sh(_user_script(broker, remote), tmp_path, '[{"user":"heat","tags":[]}]')
    assert asked[1:] == ["-q change_password heat", ODD.reveal()]


def test_vhosts_come_sorted_and_without_the_default_one(broker: Broker, remote: ScriptedRemote) -> None:
    remote.on("^rabbitmqctl -q --formatter json list_vhosts name$", '[{"name":"/"},{"name":"b"},{"name":"a"}]')
    assert broker.vhosts() == ("a", "b")


def test_a_vhost_is_made_with_every_right_for_heat(broker: Broker, remote: ScriptedRemote) -> None:
    remote.on("add_vhost")
    broker.create_vhost("heat 26")
    ((_, script),) = remote.ran
    assert "add_vhost 'heat 26'" in script
    assert "set_permissions -p 'heat 26' heat '.*' '.*' '.*'" in script


def test_a_vhost_is_deleted_by_its_whole_name(broker: Broker, remote: ScriptedRemote) -> None:
    remote.on("delete_vhost")
    broker.delete_vhost("heat 25")
    (script,) = remote.scripts("delete_vhost")
    assert "grep -Fqx -- 'heat 25' || exit 0" in script
    assert script.endswith("rabbitmqctl -q delete_vhost 'heat 25'")


def _vhosts(remote: ScriptedRemote, root: Path, lists: str) -> list[str]:
    """Run what deletes a vhost for real, with a rabbitmqctl that does `lists`; return what it deletes, as it does."""
    tool, log = root / "rabbitmqctl", root / "deleted"
    deleted: list[str] = []
    deletes = f"*delete_vhost*) shift 2; printf '%s' \"$1\" >'{log}';;"
    tool.write_text(f'#!/bin/sh\ncase "$*" in *list_vhosts) {lists};; {deletes} *) exit 64;; esac\n', "utf-8")
    tool.chmod(0o755)

    def run(host: Host, script: str) -> Result:
        environment = {"PATH": f"{root}:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, env=environment)
        deleted.extend([log.read_text("utf-8")] if log.exists() else [])
        return Result(done.returncode, done.stdout, done.stderr)

    remote.on("delete_vhost", run)
    return deleted


def test_a_vhost_that_is_there_is_deleted(broker: Broker, remote: ScriptedRemote, tmp_path: Path) -> None:
    deleted = _vhosts(remote, tmp_path, "printf 'name\\n/\\nheat 25\\nheat 26\\n'")
    broker.delete_vhost("heat 25")
    assert deleted == ["heat 25"]


@pytest.mark.parametrize("lists", ["printf 'name\\n/\\n'", "printf 'heat-250\\nan-heat-25\\n'", "true"])
def test_a_vhost_that_is_gone_is_no_error_and_no_other_goes_for_it(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path, lists: str
) -> None:
    deleted = _vhosts(remote, tmp_path, lists)
    broker.delete_vhost("heat-25")
    assert deleted == []


@pytest.mark.parametrize("lists", ["exit 69", "echo heat-25; exit 69"])
def test_a_vhost_is_not_taken_for_gone_where_the_vhosts_cannot_be_listed(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path, lists: str
) -> None:
    deleted = _vhosts(remote, tmp_path, lists)
    with pytest.raises(Unanswered, match="status 69"):
        broker.delete_vhost("heat-25")
    assert deleted == []


def test_queues_are_read_with_their_messages_and_consumers(broker: Broker, remote: ScriptedRemote) -> None:
    answer = '[{"name":"engine","messages_ready":2,"consumers":4},{"name":"reply_1","messages_ready":0,"consumers":1}]'
    remote.on("list_queues -p heat-25 name messages_ready consumers$", answer)
    assert broker.queues("heat-25") == (Queue("engine", 2, 4), Queue("reply_1", 0, 1))


@pytest.mark.parametrize(
    "name", ["engine", "engine.engine-0", "engine_worker", "engine_worker.5f0c", "engine_worker.h"]
)
def test_engines_work_from_these_queues(name: str) -> None:
    assert Queue(name, 0, 1).of_engines


@pytest.mark.parametrize("name", ["engine", "engine_worker"])
def test_what_any_engine_may_take_is_work_though_nobody_takes_it_now(name: str) -> None:
    assert Queue(name, 1, 0).of_engines


@pytest.mark.parametrize("name", ["engine.engine-0", "engine_worker.5f0c"])
def test_what_only_an_ended_engine_would_take_is_no_work(name: str) -> None:
    assert not Queue(name, 1, 0).of_engines


@pytest.mark.parametrize(
    "name", ["reply_1", "heat-engine-listener", "heat-engine-listener.5f", "engine_worker_fanout_5f"]
)
def test_engines_do_not_work_from_these_queues(name: str) -> None:
    assert not Queue(name, 0, 1).of_engines


def test_only_policies_that_let_messages_expire_are_named(broker: Broker, remote: ScriptedRemote) -> None:
    policies = '[{"name":"ttl","definition":{"message-ttl":9}},{"name":"ha","definition":{"ha-mode":"all"}}]'
    remote.on("list_policies -p heat-26$", policies)
    assert broker.expiring("heat-26") == ("ttl",)


# --- a broker that is away

DOWN = "Error: unable to perform an operation on node 'rabbit@messaging-0'"
BROKER_ASKS: dict[str, Callable[[Broker], object]] = {
    "create_user": lambda broker: broker.create_user(ODD),
    "vhosts": Broker.vhosts,
    "create_vhost": lambda broker: broker.create_vhost("heat-26"),
    "delete_vhost": lambda broker: broker.delete_vhost("heat-25"),
    "queues": lambda broker: broker.queues("heat-25"),
    "taken": lambda broker: broker.taken("198.18.7.15"),
    "close": lambda broker: broker.close(frozenset({"<a>"})),
    "expiring": lambda broker: broker.expiring("heat-26"),
}


@pytest.mark.parametrize("ask", BROKER_ASKS)
def test_whatever_a_broker_that_is_away_is_asked_it_did_not_answer(
    broker: Broker, remote: ScriptedRemote, ask: str
) -> None:
    remote.on("rabbitmqctl", Result(69, "", f"{DOWN}\n"))
    with pytest.raises(Unanswered) as caught:
        BROKER_ASKS[ask](broker)
    assert caught.value.message == f"the broker did not answer: messaging-0: status 69: {DOWN}"
    assert (caught.value.exit_code, caught.value.hint) == (11, "systemctl status rabbitmq-server on messaging-0")


@pytest.mark.parametrize(
    ("answer", "told"),
    [("Starting node\n", "Starting node"), ('[{"name":', '[{"name":'), ("\n", "nothing"), ("", "nothing")],
)
@pytest.mark.parametrize("ask", ["vhosts", "queues", "expiring"])
def test_words_in_place_of_an_answer_are_none_and_are_told(
    broker: Broker, remote: ScriptedRemote, ask: str, answer: str, told: str
) -> None:
    remote.on("rabbitmqctl", answer)
    with pytest.raises(Unanswered) as caught:
        BROKER_ASKS[ask](broker)
    assert caught.value.message == f"the broker did not answer: {told}"


def test_a_host_that_is_lost_is_not_taken_for_a_broker_that_is_away(broker: Broker, remote: ScriptedRemote) -> None:
    remote.on("rabbitmqctl", HostUnreachable("messaging-0 is gone"))
    with pytest.raises(HostUnreachable, match=r"^messaging-0 is gone$"):
        broker.vhosts()


# --- messages that an engine took and does not work on

CONNECTIONS = "\\n".join(
    ["<rabbit@m.1.10.0>\\t198.18.7.15", "<rabbit@m.1.20.0>\\t198.18.7.1", "<rabbit@m.1.30.0>\\t198.18.7.15"]
)
ENGINE = "198.18.7.15"


def _rabbit(script: str, root: Path, channels: str, connections: str = CONNECTIONS) -> subprocess.CompletedProcess[str]:
    """Run a script with a rabbitmqctl that lists these channels and connections, and notes what it closes."""
    tool = root / "rabbitmqctl"
    lists = f"*list_channels*) printf '{channels}';; *list_connections*) printf '{connections}';;"
    closes = f"""*close_connection*) printf '%s|' "$@" >>'{root}/log'; case "$3" in *gone*) exit 69;; esac;;"""
    tool.write_text(f'#!/bin/sh\ncase "$*" in {lists} {closes} *) exit 64;; esac\n', "utf-8")
    tool.chmod(0o755)
    environment = {"PATH": f"{root}:{os.environ['PATH']}", "TMPDIR": str(root)}
    return subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, cwd=root, env=environment)


def _taken(broker: Broker, remote: ScriptedRemote, address: str = ENGINE) -> str:
    remote.on("list_channels")
    broker.taken(address)
    return remote.ran[-1][1]


@pytest.mark.parametrize(
    ("channels", "taken"),
    [
        ("<rabbit@m.1.10.0>\\t1\\n<rabbit@m.1.30.0>\\t0\\n", ["<rabbit@m.1.10.0>"]),
        ("<rabbit@m.1.10.0>\\t0\\n<rabbit@m.1.10.0>\\t2\\n", ["<rabbit@m.1.10.0>"]),
        ("<rabbit@m.1.10.0>\\t1\\n<rabbit@m.1.30.0>\\t1\\n", ["<rabbit@m.1.10.0>", "<rabbit@m.1.30.0>"]),
        ("<rabbit@m.1.20.0>\\t1\\n", []),
        ("<rabbit@m.1.10.0>\\t0\\n", []),
        ("", []),
    ],
    ids=["one", "on its second channel", "two", "another host's", "nothing taken", "no channels"],
)
def test_connections_of_a_host_that_took_messages_are_named(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path, channels: str, taken: list[str]
) -> None:
    done = _rabbit(_taken(broker, remote), tmp_path, channels)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, taken, "")
    assert [path.name for path in tmp_path.iterdir()] == ["rabbitmqctl"]


def test_a_host_whose_address_begins_like_anothers_is_not_taken_for_it(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path
) -> None:
    channels = "<rabbit@m.1.10.0>\\t1\\n<rabbit@m.1.20.0>\\t1\\n"
    assert _rabbit(_taken(broker, remote, "198.18.7.1"), tmp_path, channels).stdout.split() == ["<rabbit@m.1.20.0>"]


def test_a_broker_without_connections_has_given_nothing_away(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path
) -> None:
    assert _rabbit(_taken(broker, remote), tmp_path, "<rabbit@m.1.10.0>\\t1\\n", "").stdout == ""


@pytest.mark.parametrize("fails", ["list_channels", "list_connections"])
def test_a_broker_that_cannot_be_asked_is_an_error_and_not_nothing(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path, fails: str
) -> None:
    script = _taken(broker, remote).replace(f"--no-table-headers {fails}", "--no-table-headers nothing")
    done = _rabbit(script, tmp_path, "")
    assert done.returncode != 0


def test_what_was_taken_is_read_as_connections(broker: Broker, remote: ScriptedRemote) -> None:
    remote.on("list_channels", "<rabbit@m.1.10.0>\n<rabbit@m.1.10.0>\n<rabbit@m.1.30.0>\n")
    assert broker.taken(ENGINE) == {"<rabbit@m.1.10.0>", "<rabbit@m.1.30.0>"}


def test_connections_are_closed_one_by_one_and_one_that_has_ended_is_no_error(
    broker: Broker, remote: ScriptedRemote, tmp_path: Path
) -> None:
    remote.on("close_connection")
    broker.close(frozenset({"<rabbit@m.1.30.0>", "<rabbit@m.gone.10.0>"}))
    done = _rabbit(remote.ran[-1][1], tmp_path, "")
    assert done.returncode == 0
    assert (tmp_path / "log").read_text("utf-8").split("|")[:-1] == [
        *("-q", "close_connection", "<rabbit@m.1.30.0>", "drained"),
        *("-q", "close_connection", "<rabbit@m.gone.10.0>", "drained"),
    ]
