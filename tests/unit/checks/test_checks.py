"""Checks one by one, against hosts that give canned answers: each turns red for its own reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from builders import LOCAL, R25, R26, ScriptedRemote, host, site

from pipeline.checks import check_common, check_database, check_engine, check_heat, check_loadbalancer, check_messaging
from pipeline.checks.brokerfacts import BrokerFacts
from pipeline.checks.drift import expected_files, service_settings
from pipeline.checks.expectation import Unexpected
from pipeline.edges.balancer import Server
from pipeline.edges.broker import Queue
from pipeline.environment import InternalTls, Role, Tls
from pipeline.errors import HostUnreachable
from pipeline.hostfiles import role_files
from pipeline.inventory import Host
from pipeline.promotion import Verification
from pipeline.release import Release

APIS = (Host("api-0", Role.API, "198.18.1.5", ()), Host("api-1", Role.API, "198.18.1.6", ()))
ENGINES = (Host("engine-0", Role.ENGINE, "198.18.1.7", ()), Host("engine-1", Role.ENGINE, "198.18.1.8", ()))
BROKER = Host("messaging-1", Role.MESSAGING, "198.18.1.4", ())
RELEASE: Any = SimpleNamespace(id="26.0.2-abc")


class Answers:
    """A testinfra host that answers every command with one text."""

    def __init__(self, text: str, rc: int = 0) -> None:
        self._result = SimpleNamespace(rc=rc, stdout=text, stderr="")

    def run(self, command: str, *args: str) -> Any:
        return self._result


class Says(Answers):
    """A testinfra host that answers by a word of the command, and a command without such a word with nothing."""

    def __init__(self, **texts: str) -> None:
        self._texts = texts

    def run(self, command: str, *args: str) -> Any:
        said = next((text for word, text in self._texts.items() if word in " ".join((command, *args))), "")
        return SimpleNamespace(rc=0, stdout=said, stderr="")


def _site() -> Any:
    inventory = SimpleNamespace(of=lambda role: APIS if role is Role.API else ENGINES)
    heat = SimpleNamespace(engine_workers=2)
    return SimpleNamespace(region=SimpleNamespace(inventory=inventory), environment=SimpleNamespace(heat=heat))


def _broker(**facts: Any) -> Any:
    queues = {name: Queue(name, 0, 4) for name in ("engine", "engine_worker")}
    every = "configure '.*', write '.*', read '.*'"
    well: dict[str, Any] = {
        "vhosts": frozenset({"/", "heat-1"}),
        "users": frozenset({"heat"}),
        "permissions": (every,),
        "queues": queues,
        "expiring": (),
        "dropping": (),
        "alarm": "",
    }
    return SimpleNamespace(broker=lambda _: BrokerFacts(**{**well, **facts}))


def _servers(*statuses: str) -> Any:
    names = [(backend, api.name) for backend in ("heat-api", "heat-api-cfn") for api in APIS]
    found = tuple(Server(backend, api, status, 0) for (backend, api), status in zip(names, statuses, strict=False))
    return SimpleNamespace(servers=lambda: found)


def _schema(found: str, *on_disk: Release) -> None:
    survey: Any = SimpleNamespace(releases=lambda: on_disk)
    check_database.check_schema_is_the_releases(Answers(f"{found}\n"), R25, survey)


def test_a_schema_of_another_release_is_named() -> None:
    _schema(R25.alembic_head, R25)
    with pytest.raises(Unexpected, match=f"expected schema {R25.alembic_head}; found older"):
        _schema("older", R25, R26)


def test_after_a_rollback_the_schema_of_the_newer_release_is_right_as_long_as_that_is_on_disk() -> None:
    _schema(R26.alembic_head, R25, R26)
    with pytest.raises(Unexpected, match="no longer on any host's disk"):
        _schema(R26.alembic_head, R25)


def test_where_the_schema_is_the_releases_no_engine_is_asked_for_another() -> None:
    def gone() -> Any:
        raise HostUnreachable("every engine is gone")

    survey: Any = SimpleNamespace(releases=gone)
    check_database.check_schema_is_the_releases(Answers(f"{R25.alembic_head}\n"), R25, survey)
    with pytest.raises(HostUnreachable):
        check_database.check_schema_is_the_releases(Answers("older\n"), R25, survey)


def test_rights_beyond_the_own_database_are_named() -> None:
    check_database.check_user_heat_sees_only_its_database(Answers("database heat\n"))
    with pytest.raises(Unexpected, match="found database heat, database mysql"):
        check_database.check_user_heat_sees_only_its_database(Answers("database heat\ndatabase mysql\n"))


def test_another_account_from_outside_is_named() -> None:
    check_database.check_no_one_else_logs_in_from_outside(Answers("heat@%\n"))
    with pytest.raises(Unexpected, match="found eve@%, heat@%"):
        check_database.check_no_one_else_logs_in_from_outside(Answers("eve@%\nheat@%\n"))


def test_a_database_that_does_not_answer_is_no_success() -> None:
    with pytest.raises(Unexpected, match="expected mariadb to answer"):
        check_database.check_no_one_else_logs_in_from_outside(Answers("", rc=1))


def test_a_broker_in_order_passes() -> None:
    survey = _broker()
    check_messaging.check_vhost_is_there(BROKER, survey, "heat-1")
    check_messaging.check_user_heat_may_use_the_vhost(BROKER, survey, "heat-1")
    check_messaging.check_no_user_but_heat(BROKER, survey)
    check_messaging.check_every_worker_consumes(BROKER, survey, _site())
    check_messaging.check_no_message_expires(BROKER, survey)
    check_messaging.check_no_policy_drops_messages(BROKER, survey)
    check_messaging.check_no_alarm(BROKER, survey)


def _asked_over(level: InternalTls | None) -> Any:
    return SimpleNamespace(environment=LOCAL.model_copy(update={"tls": Tls(internal=level)}))


@pytest.mark.parametrize("level", ["used", "required"])
def test_whoever_talks_to_the_broker_without_tls_is_named(level: str) -> None:
    secured = _asked_over(InternalTls(level))
    check_messaging.check_every_connection_is_encrypted(Answers("true\t198.18.7.14\ntrue\t198.18.7.13\n"), secured)
    with pytest.raises(Unexpected, match=r"expected TLS on every connection; found none from 198\.18\.7\.13"):
        check_messaging.check_every_connection_is_encrypted(Answers("true\t198.18.7.14\nfalse\t198.18.7.13\n"), secured)
    with pytest.raises(Unexpected, match="expected rabbitmqctl to answer"):
        check_messaging.check_every_connection_is_encrypted(Answers("", rc=69), secured)


def test_without_tls_the_brokers_connections_are_not_looked_at() -> None:
    check_messaging.check_every_connection_is_encrypted(Answers("", rc=69), _asked_over(None))
    check_messaging.check_every_connection_is_encrypted(Answers("", rc=69), _asked_over(InternalTls.OFFERED))


def test_a_vhost_that_is_gone_is_missed() -> None:
    with pytest.raises(Unexpected, match="expected vhost heat-2; found /, heat-1"):
        check_messaging.check_vhost_is_there(BROKER, _broker(), "heat-2")


def test_a_worker_that_does_not_listen_is_missed() -> None:
    queues = {"engine": Queue("engine", 0, 4), "engine_worker": Queue("engine_worker", 0, 2)}
    with pytest.raises(Unexpected, match=r"expected 4 consumers .* found engine 4, engine_worker 2"):
        check_messaging.check_every_worker_consumes(BROKER, _broker(queues=queues), _site())


def test_a_queue_that_is_gone_has_no_consumers() -> None:
    with pytest.raises(Unexpected, match="found engine 0, engine_worker 0"):
        check_messaging.check_every_worker_consumes(BROKER, _broker(queues={}), _site())


def test_an_alarm_is_told() -> None:
    with pytest.raises(Unexpected, match="found memory alarm"):
        check_messaging.check_no_alarm(BROKER, _broker(alarm="memory alarm"))


@pytest.mark.parametrize("status", ["UP", "UP 2/3"])
def test_every_server_up_passes_also_one_that_missed_a_health_check(status: str) -> None:
    check_loadbalancer.check_every_backend_is_up(_servers("UP", "UP", status, "UP"), _site())


@pytest.mark.parametrize(
    ("status", "cause"), [("DRAIN", "interrupted"), ("MAINT", "by hand"), ("DOWN 1/2", "/healthcheck fails")]
)
def test_a_server_out_of_rotation_is_named_with_its_cause(status: str, cause: str) -> None:
    with pytest.raises(Unexpected, match=f"found heat-api-cfn/api-0 {status}\nlikely: .*{cause}"):
        check_loadbalancer.check_every_backend_is_up(_servers("UP", "UP", status, "UP"), _site())


def test_a_server_that_is_absent_is_named() -> None:
    with pytest.raises(Unexpected, match="found heat-api-cfn/api-1 absent"):
        check_loadbalancer.check_every_backend_is_up(_servers("UP", "UP", "UP"), _site())


def test_a_link_to_another_release_is_named() -> None:
    check_heat.check_current_names_the_release(Answers("26.0.2-abc\n"), RELEASE)
    with pytest.raises(Unexpected, match=r"-> 26\.0\.2-abc; found 25\.0\.2-def"):
        check_heat.check_current_names_the_release(Answers("25.0.2-def\n"), RELEASE)


@pytest.mark.parametrize(
    ("digests", "reds"),
    [
        ({"engine-0": "a", "engine-1": "a"}, []),
        ({"engine-0": "a", "engine-1": "b"}, ["engine-0", "engine-1"]),  # who is right cannot be told
        ({"engine-0": "a", "engine-1": "b", "engine-2": "a"}, ["engine-1"]),
        ({"engine-1": "a"}, ["engine-0"]),  # it gave no answer
    ],
)
def test_whoever_is_not_like_the_majority_is_red(digests: dict[str, str], reds: list[str]) -> None:
    survey: Any = SimpleNamespace(common_configuration=lambda role: digests)
    found = []
    for target in ENGINES if len(digests) < 3 else (*ENGINES, Host("engine-2", Role.ENGINE, "198.18.1.9", ())):
        try:
            check_heat.check_configured_like_its_peers(target, survey)
        except Unexpected:
            found.append(target.name)
    assert found == reds


# --- every host

DISKS = "Avail IUse% Mounted on\n 9000   10% /\n 9000    - /opt\n 9000   10% /var/lib\n"


def test_a_disk_with_room_passes_also_one_that_makes_inodes_as_it_needs_them() -> None:
    check_common.check_disk_has_room(Answers(DISKS), host(), site(ScriptedRemote()))


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [("9000    -", "100 -", "100 MiB on /opt"), ("10% /v", "96% /v", "96% of inodes used on /v")],
)
def test_a_disk_that_is_full_is_named(was: str, now: str, found: str) -> None:
    with pytest.raises(Unexpected, match=f"found {found}"):
        check_common.check_disk_has_room(Answers(DISKS.replace(was, now)), host(), site(ScriptedRemote()))


@pytest.mark.parametrize(("role", "volume"), [(Role.DATABASE, "/var/lib/mysql"), (Role.MESSAGING, "/var/lib/rabbitmq")])
def test_a_volume_of_data_that_is_full_is_named(role: Role, volume: str) -> None:
    asked = Says(**{volume: f"{DISKS} 10 1% {volume}\n"})
    with pytest.raises(Unexpected, match=f"found 10 MiB on {volume}"):
        check_common.check_disk_has_room(asked, host(role), site(ScriptedRemote()))


def test_an_environment_says_how_much_room_clocks_and_certificates_must_leave() -> None:
    here = _strict(_over_tls(), free_mib=9001, certificate="20d", clock_skew="0.5s")
    soon = here.clock.now().timestamp() + 15 * 86400
    survey: Any = SimpleNamespace(clock_offsets=lambda: {"engine-0": 0.6, "engine-1": 0.6})
    with pytest.raises(Unexpected, match="expected 9001 MiB free"):
        check_common.check_disk_has_room(Answers(DISKS), host(), here)
    with pytest.raises(Unexpected, match="expected 20 days left"):
        check_heat.check_certificate_of_keystone_lasts(Answers(f"{soon:.0f}\n"), here)
    with pytest.raises(Unexpected, match=r"a clock within 0\.5 s of the controller .*found \+0\.6 s"):
        check_common.check_clock_is_right(ENGINES[0], here, survey)
    check_common.check_clock_is_right(ENGINES[0], site(ScriptedRemote()), survey)


def _strict(here: Any, **verification: Any) -> Any:
    return replace(here, environment=here.environment.model_copy(update={"verification": Verification(**verification)}))


def test_a_process_near_its_limit_of_open_files_is_named() -> None:
    process = "26.0.2-abc\nheat\n1\n70 1000\n{} 100\n12 unlimited\n"
    check_common.check_open_files_are_far_from_their_limit(Answers(process.format(79)), ENGINES[0])
    with pytest.raises(Unexpected, match=r"fewer than 80% of its 100 files open; found 80 open"):
        check_common.check_open_files_are_far_from_their_limit(Answers(process.format(80)), ENGINES[0])


def test_a_unit_that_does_not_run_opens_no_file() -> None:
    check_common.check_open_files_are_far_from_their_limit(Answers(""), ENGINES[0])


def test_whoever_logs_in_as_root_is_named() -> None:
    here: Any = SimpleNamespace(environment=LOCAL)
    check_common.check_login_is_not_root_and_may_become_it(Answers(f"{LOCAL.ssh.user}\nroot\n"), here)
    with pytest.raises(Unexpected, match=f"login as {LOCAL.ssh.user}, who becomes root by sudo; found root"):
        check_common.check_login_is_not_root_and_may_become_it(Answers("\nroot\n"), here)


def test_a_file_that_was_edited_is_shown_without_its_secrets() -> None:
    here, target = site(ScriptedRemote()), host(Role.ENGINE)
    files = expected_files(target, here, R26, "heat-1")
    conf = next(file for file in files if file.path.endswith("heat.conf"))
    lines = [f"{file.path} {file.mode} {file.owner} {file.digest}" for file in files]
    well = "\n".join(lines)
    check_common.check_files_are_as_rendered(Says(sha256sum=well), target, here, R26, "heat-1")
    edited = conf.content.replace("num_engine_workers = 2", "num_engine_workers = 9")
    seen = Says(sha256sum=well.replace(conf.digest, 64 * "0"), cat=edited)
    with pytest.raises(Unexpected) as caught:
        check_common.check_files_are_as_rendered(seen, target, here, R26, "heat-1")
    assert caught.value.found == f"{conf.path} has another content"
    assert {"-num_engine_workers = 9", "+num_engine_workers = 2"} <= set(caught.value.detail.splitlines())
    assert "s3cret" not in str(caught.value)


# --- hosts with Heat


def test_a_drop_in_that_weakens_a_unit_is_named() -> None:
    here, target = site(ScriptedRemote()), host(Role.ENGINE)
    (file,) = role_files(target, here.environment, here.region, here.templates)
    shown = "\n".join(f"{key}={value}" for key, value in service_settings(file).items())
    check_heat.check_units_have_the_right_settings(Answers(shown), target, here)
    with pytest.raises(Unexpected, match="with ProtectSystem=strict; found ProtectSystem=no"):
        check_heat.check_units_have_the_right_settings(Answers(shown.replace("=strict", "=no")), target, here)


def test_an_error_in_the_log_is_shown() -> None:
    check_heat.check_log_has_no_error_since_the_start(Answers(""), ENGINES[0])
    with pytest.raises(Unexpected, match=r"found 1, the last: 2026-01-01 10:00:00.1 heat.engine it broke"):
        check_heat.check_log_has_no_error_since_the_start(
            Answers("2026-01-01 10:00:00.1 42 ERROR heat.engine it broke\n"), ENGINES[0]
        )


def _over_tls() -> Any:
    here = site(ScriptedRemote())
    identity = replace(here.region.identity, auth_url="https://keystone.example:5000/v3")
    return replace(here, region=replace(here.region, identity=identity))


def test_a_certificate_that_soon_ends_is_named_with_its_days() -> None:
    here = _over_tls()
    now = here.clock.now().timestamp()
    check_heat.check_certificate_of_keystone_lasts(Answers(f"{now + 15 * 86400:.0f}\n"), here)
    expected = "expected 14 days left for keystone.example:5000; found 3 days, until 2026-01-04"
    with pytest.raises(Unexpected, match=expected):
        check_heat.check_certificate_of_keystone_lasts(Answers(f"{now + 3 * 86400:.0f}\n"), here)


def test_the_endpoints_certificate_must_last_as_long_as_the_environment_says() -> None:
    here = site(ScriptedRemote())
    shown: Any = SimpleNamespace(ends=here.clock.now() + timedelta(days=15))
    here = replace(here, region=replace(here.region, certificate=shown))
    check_loadbalancer.check_certificate_of_the_endpoints_lasts(here)
    check_loadbalancer.check_certificate_of_the_endpoints_lasts(_strict(here, certificate="15d"))
    expected = "expected 20 days left for the endpoints' certificate; found 15 days, until 2026-01-16"
    with pytest.raises(Unexpected, match=expected):
        check_loadbalancer.check_certificate_of_the_endpoints_lasts(_strict(here, certificate="20d"))


def test_a_certificate_that_is_not_trusted_is_no_good_one() -> None:
    with pytest.raises(Unexpected, match=r"expected keystone.example:5000 to answer"):
        check_heat.check_certificate_of_keystone_lasts(Answers("", rc=1), _over_tls())


def test_without_tls_there_is_no_certificate_to_ask_for() -> None:
    check_heat.check_certificate_of_keystone_lasts(Answers("", rc=1), site(ScriptedRemote()))


def test_tokens_that_end_before_an_action_may_are_named() -> None:
    here: Any = SimpleNamespace(environment=LOCAL)
    longest = LOCAL.heat.graceful_shutdown_timeout
    check_engine.check_tokens_outlive_actions(SimpleNamespace(token_seconds=lambda: longest), here)  # type: ignore[arg-type]
    survey: Any = SimpleNamespace(token_seconds=lambda: 60.0)
    with pytest.raises(Unexpected, match="found 60 s"):
        check_engine.check_tokens_outlive_actions(survey, here)


# --- the database


def _variables(text: str) -> None:
    here = site(ScriptedRemote())
    check_database.check_variables_are_as_configured(Answers(text), host(Role.DATABASE), here, R26, "heat-1")


def test_variables_are_compared_with_the_configuration_in_the_servers_own_words() -> None:
    address = host(Role.DATABASE).address
    well = (
        f"bind_address\t{address}\nmax_connections\t1000\ninnodb_buffer_pool_size\t268435456\n"
        "innodb_flush_log_at_trx_commit\t1\ncharacter_set_server\tutf8mb4\nskip_name_resolve\tON\n"
    )
    _variables(well)
    with pytest.raises(Unexpected, match=r"expected innodb_flush_log_at_trx_commit = 1; found .* = 2"):
        _variables(well.replace("commit\t1", "commit\t2"))
    with pytest.raises(Unexpected, match="expected max_connections = 1000; found max_connections = 214"):
        _variables(well.replace("1000", "214"))
    with pytest.raises(Unexpected, match="skip_name_resolve = ON"):
        _variables(well.replace("skip_name_resolve\tON\n", ""))


def test_a_read_only_database_is_named() -> None:
    check_database.check_database_may_be_written(Answers("0\n"))
    with pytest.raises(Unexpected, match="found read_only = 1"):
        check_database.check_database_may_be_written(Answers("1\n"))


def test_deleted_stacks_that_nobody_purged_are_named_and_those_of_today_are_not() -> None:
    check_database.check_deleted_stacks_are_purged(Answers("5000\t3\n"))
    with pytest.raises(Unexpected, match="found 7 deleted stacks, the oldest for 400 days"):
        check_database.check_deleted_stacks_are_purged(Answers("7\t400\n"))


def test_a_server_that_was_full_is_named() -> None:
    check_database.check_connections_are_enough(Answers("1000\n30\n"))
    with pytest.raises(Unexpected, match="found 1000 of 1000"):
        check_database.check_connections_are_enough(Answers("1000\n1000\n"))


# --- the broker


@pytest.mark.parametrize(("facts", "name"), [({"expiring": ("ttl",)}, "ttl"), ({"expiring": ("queue a",)}, "queue a")])
def test_messages_that_expire_are_named(facts: dict[str, Any], name: str) -> None:
    with pytest.raises(Unexpected, match=f"found {name}"):
        check_messaging.check_no_message_expires(BROKER, _broker(**facts))


def test_policies_that_drop_messages_are_named() -> None:
    with pytest.raises(Unexpected, match="found short"):
        check_messaging.check_no_policy_drops_messages(BROKER, _broker(dropping=("short",)))
