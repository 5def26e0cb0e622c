"""The broker: what rabbitmqctl is asked, what its answers mean, and passwords that stay off every command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from builders import ScriptedRemote, host
from pydantic import SecretStr

from pipeline.edges.broker import Broker, Queue
from pipeline.environment import Role

ODD = SecretStr("it's $(touch x)")


@pytest.fixture
def broker(remote: ScriptedRemote) -> Broker:
    return Broker(remote, host(Role.MESSAGING))


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
        ODD.get_secret_value(),
        "-q delete_user guest",
    ]
    assert not (tmp_path / "x").exists()


def test_a_known_user_gets_the_password_again(broker: Broker, remote: ScriptedRemote, tmp_path: Path) -> None:
    asked = _sh(_user_script(broker, remote), tmp_path, '[{"user":"heat","tags":[]}]')
    assert asked[1:] == ["-q change_password heat", ODD.get_secret_value()]


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
    assert "grep -qx -- 'heat 25' || exit 0" in script
    assert script.endswith("rabbitmqctl -q delete_vhost 'heat 25'")


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
