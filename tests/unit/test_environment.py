"""Environments: files become frozen values, and one clear error says what is wrong with a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pipeline.environment import Environment, Provider, Role, Ssh, list_environments, load
from pipeline.errors import ConfigurationInvalid
from pipeline.layers import merge
from pipeline.origins import settings

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "environments"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with the shipped defaults and one small environment, `here`."""
    shutil.copy(SHIPPED / "defaults.yaml", tmp_path)
    _write(tmp_path, "here", "cloud: seed\nheat: {region: here}\n")
    return tmp_path


def _write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.yaml").write_text(text, encoding="utf-8")


def _refused(directory: Path, name: str = "here") -> ConfigurationInvalid:
    with pytest.raises(ConfigurationInvalid) as caught:
        load(name, directory)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize("name", list_environments(SHIPPED))
def test_every_shipped_environment_loads(name: str) -> None:
    assert load(name, SHIPPED).name == name


def test_the_local_environment_is_the_one_of_the_demo() -> None:
    topology = load("local", SHIPPED).topology
    assert {role.value: topology.of(role).count for role in Role} == {
        "database": 1,
        "messaging": 1,
        "api": 2,
        "engine": 2,
        "loadbalancer": 1,
    }


def test_the_list_leaves_out_the_defaults_and_is_sorted(directory: Path) -> None:
    _write(directory, "abroad", "cloud: far\nheat: {region: abroad}\n")
    assert list_environments(directory) == ("abroad", "here")


def test_an_environment_overrides_the_defaults_key_by_key(directory: Path) -> None:
    _write(directory, "here", "cloud: seed\nheat: {region: here, engine_workers: 9}\n")
    environment = load("here", directory)
    defaults = yaml.safe_load((directory / "defaults.yaml").read_text(encoding="utf-8"))
    assert environment.heat.engine_workers == 9
    assert environment.heat.api_threads == defaults["heat"]["api_threads"]
    assert environment.provider is Provider.OPENSTACK


def test_a_policy_overrides_the_defaults_key_by_key_too(directory: Path) -> None:
    _write(directory, "here", "cloud: seed\nheat: {region: here}\npolicies: {serial: [2], health: {interval: 9s}}\n")
    policies, defaults = load("here", directory).policies, load("production-east", SHIPPED).policies
    assert (policies.serial, policies.health.interval) == ((2,), 9)
    assert policies.health.healthy_deadline == defaults.health.healthy_deadline


def test_the_lock_is_this_machines_where_nothing_else_is_said(directory: Path) -> None:
    assert load("here", directory).lock.url is None
    _write(directory, "here", "cloud: seed\nheat: {region: here}\nlock: {url: 'redis://team', lease: 2m}\n")
    lock = load("here", directory).lock
    assert (lock.url, lock.lease) == ("redis://team", 120)


def test_an_environment_cannot_be_changed(directory: Path) -> None:
    environment: Environment = load("here", directory)
    with pytest.raises(ValidationError):
        environment.cloud = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("5 m", 300), ("7", 7), ("0.5", 0.5)]
)
def test_durations_are_read_with_their_units(directory: Path, text: str, seconds: float) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\ndeadlines: {{stack: {text}}}\n")
    assert load("here", directory).deadlines.stack == seconds


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("colour: blue", r"here\.yaml:3: colour: unknown key"),
        ("ssh: {port: many}", r"here\.yaml:3: ssh\.port: expected a valid integer.*found 'many'"),
        (
            "ssh: {release_url: 'http://a/{archive}'}",
            r"here\.yaml:3: ssh\.release_url: expected an https:// URL .*, found 'http",
        ),
        ("ssh: {release_url: 'https://a/heat.tar.gz'}", r"here\.yaml:3: ssh\.release_url: "),
        ("ssh: {release_url: 'https://me:secret@a/{archive}'}", r"here\.yaml:3: ssh\.release_url: "),
        ("ssh: {port: 0}", r"here\.yaml:3: ssh\.port: expected greater than or equal to 1, found 0"),
        ("network: {cidr: 10.0.0.0/99}", r"here\.yaml:3: network\.cidr: .*10\.0\.0\.0/99"),
        ("network: {cidr: 10.0.0.1/24}", r"here\.yaml:3: network\.cidr: .*10\.0\.0\.1/24"),
        ("provider: magic", r"here\.yaml:3: provider: expected 'local' or 'openstack', found 'magic'"),
        ("deadlines: {stack: soon}", r"here\.yaml:3: deadlines\.stack: expected a valid number.*'soon'"),
        ("deadlines: {stack: -5}", r"here\.yaml:3: deadlines\.stack: expected greater than or equal to 0, found -5"),
        ("topology: {engine: {count: 0}}", r"here\.yaml:3: topology\.engine\.count: .*found 0"),
        ("topology: {database: {count: 2}}", r"database\.count must be 1, or 3, 5 or 7 for a cluster"),
        ("topology: {messaging: {count: 4}}", r"messaging\.count must be 1, or 3, 5 or 7 for a cluster"),
        ("topology: {loadbalancer: {count: 2}}", r"loadbalancer\.count must be 1: it holds the one address"),
        ("topology: {engine: {counts: 2}}", r"here\.yaml:3: topology\.engine\.counts: unknown key"),
        ("topology: {engine: 2}", r"here\.yaml:3: topology\.engine: expected a mapping .*, as in .*defaults\.yaml:8"),
        ("policies: {serial: []}", r"here\.yaml:3: policies\.serial: "),
        ("policies: {serial: [1, 150%]}", r"here\.yaml:3: policies\.serial.*a share of them such as .25%"),
        ("policies: {max_unavailable: 0}", r"here\.yaml:3: policies\.max_unavailable: .*1 or more"),
        ("policies: {auto_revert: some}", r"here\.yaml:3: policies\.auto_revert: expected 'none', 'batch' or 'all'"),
        ("policies: {health: {interval: soon}}", r"here\.yaml:3: policies\.health\.interval: .*'soon'"),
        ("policies: {drain: {patience: 5m}}", r"here\.yaml:3: policies\.drain\.patience: unknown key"),
        ("policy: {max_fail: 1}", r"here\.yaml:3: policy: unknown key"),
        ("lock: {lease: never}", r"here\.yaml:3: lock\.lease: .*'never'"),
        ("7: x", r"7"),
    ],
)
def test_a_mistake_is_named_with_file_line_key_and_what_was_expected(directory: Path, line: str, expected: str) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\n{line}\n")
    error = _refused(directory)
    assert pytest.RaisesExc(ConfigurationInvalid, match=expected).matches(error), error.message


@pytest.mark.parametrize(
    ("heat", "expected"),
    [
        ("api_port: 443", r"here\.yaml:2: heat\.api_port: expected greater than or equal to 1024, found 443"),
        ("cfn_port: 80", r"here\.yaml:2: heat\.cfn_port: expected greater than or equal to 1024, found 80"),
        ("cfn_port: 8004", r"here\.yaml:2: heat: cfn_port must not be api_port: both APIs listen on the same hosts"),
        ("api_port: 2222", r"here\.yaml:2: heat: api_port must not be ssh\.port: sshd listens there"),
        ("cfn_port: 3306", r"here\.yaml:2: heat: cfn_port must not be 3306: on a control host database or broker"),
    ],
)
def test_the_apis_have_ports_that_they_can_listen_on(directory: Path, heat: str, expected: str) -> None:
    topology = "{control: {count: 1, flavor: a, image: b}, api: {count: 1}}"
    text = f"cloud: seed\nheat: {{region: here, {heat}}}\nssh: {{port: 2222}}\ntopology: {topology}\n"
    _write(directory, "here", text)
    error = _refused(directory)
    assert pytest.RaisesExc(ConfigurationInvalid, match=expected).matches(error), error.message


def test_the_apis_may_have_a_port_that_another_service_has_on_another_host(directory: Path) -> None:
    _write(directory, "here", "cloud: seed\nheat: {region: here, api_port: 3306}\n")
    assert load("here", directory).heat.api_port == 3306


@pytest.mark.parametrize(
    ("topology", "missing"),
    [
        ("control: {count: 1}, api: {count: 1}", r"control\.flavor"),
        ("control: {count: 1, flavor: m1.large}, api: {count: 1}", r"control\.image"),
        ("engine: {flavor: local}", r"engine\.flavor"),
    ],
)
def test_on_a_real_cloud_every_stack_names_what_its_hosts_are_made_of(
    directory: Path, topology: str, missing: str
) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\ntopology: {{{topology}}}\n")
    error = _refused(directory)
    expected = rf"here\.yaml:3: topology: {missing} must be given: 'local' is of the local cloud alone"
    assert pytest.RaisesExc(ConfigurationInvalid, match=expected).matches(error), error.message
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\ntopology: {{{topology}}}\nprovider: local\n")
    assert load("here", directory).provider is Provider.LOCAL


def test_roles_on_a_control_host_need_no_size_of_their_own(directory: Path) -> None:
    control = "control: {count: 1, flavor: a, image: b}, api: {count: 1, flavor: local}"
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\ntopology: {{{control}}}\n")
    assert load("here", directory).topology.stacks == ("control", "engine")


def test_a_missing_key_is_named(directory: Path) -> None:
    _write(directory, "here", "heat: {region: here}\n")
    assert "here.yaml: cloud: is required" in _refused(directory).message


def test_a_mistake_in_the_defaults_is_named_there(directory: Path) -> None:
    with (directory / "defaults.yaml").open("a", encoding="utf-8") as stream:
        stream.write("colour: blue\n")
    assert "defaults.yaml:" in _refused(directory).message


def test_the_file_to_edit_is_the_one_that_is_wrong(staged: Path) -> None:
    _write(staged / "stages", "lab", "cloud: seed\ntraffic: {before: soon}\n")
    assert _refused(staged).hint == f"edit {staged}/stages/lab.yaml, then inv env.show here"
    _write(staged / "stages", "lab", "cloud: seed\n")
    _write(staged, "here", "stage: lab\nheat: {region: here}\ntraffic: {before: soon}\n")
    assert _refused(staged).hint == f"edit {staged}/here.yaml, then inv env.show here"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            "topology: {loadbalancer: {count: 2}}",
            "topology: loadbalancer.count must be 1: it holds the one address of the",
        ),
        ("topology: {database: {count: 2}}", "topology: database.count must be 1, or 3, 5 or 7 for a cluster: "),
        ("topology: {engine: {data_volume_gb: 2}}", "topology: engine.data_volume_gb must be 0: hosts of this role"),
        ("topology: {api: {image: local}}", "topology: api.image must be given: 'local' is of the local cloud alone"),
        ("policies: {health: {min_healthy_time: 6m}}", "policies.health: min_healthy_time must be shorter than"),
        ("heat: {cfn_port: 8004}", "heat: cfn_port must not be api_port: both APIs listen on the same hosts"),
        ("ssh: {jump: ['not a host!']}", "ssh: jump.0 must be HOST, USER@HOST or USER@HOST:PORT"),
    ],
)
def test_a_mistake_of_one_key_among_others_is_told_where_that_key_was_set_and_without_the_others(
    staged: Path, wrong: str, told: str
) -> None:
    _write(staged / "stages", "lab", f"cloud: seed\n{wrong}\n")
    more = "topology: {engine: {count: 3}}\npolicies: {health: {interval: 1s}}\nssh: {user: me}\n"
    _write(staged, "here", f"stage: lab\nheat: {{region: here}}\n{more}")
    refused = _refused(staged)
    assert refused.message.startswith(f"{staged}/stages/lab.yaml:2: {told}")
    assert "found" not in refused.message
    assert refused.hint.startswith(f"edit {staged}/stages/lab.yaml, ")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("network: {cidr: garbage}", "network.cidr: expected an IPv4 network such as 10.20.0.0/24, found 'garbage'"),
        ("network: {cidr: 10}", "network.cidr: expected an IPv4 network such as 10.20.0.0/24, found 10"),
        (
            "network: {cidr: 10.0.0.9/24}",
            "network.cidr: expected the first address of a network, as 10.0.0.0/24, found ",
        ),
        (
            "network: {dns: [9.9.9.9, garbage]}",
            "network.dns.1: expected an IPv4 address such as 9.9.9.9, found 'garbage'",
        ),
        (
            "promotes_from: Foo",
            "promotes_from: expected small letters, digits and dashes, 31 at most, and a letter first",
        ),
        ("region: a b", "region: expected letters, digits and . _ -, 63 at most, and a letter or digit first, found "),
        (
            "topology: {engine: {flavor: ''}}",
            "topology.engine.flavor: expected a name, with no blanks around it, found ''",
        ),
        ("topology: {engine: {count: true}}", "topology.engine.count: expected a valid integer, found True"),
        ("policies: {serial: []}", "policies.serial: expected at least 1 in the list, found []"),
        ("policies: {serial: 5}", "policies.serial: expected a list, found 5"),
        ("ssh: {agent: 'yes'}", "ssh.agent: expected true or false, found 'yes'"),
        ("ssh: {config: 5}", "ssh.config: expected a path, found 5"),
        ("tls: 5", "tls: expected a mapping of keys to values, found 5"),
        ("description: 5", "description: expected text, found 5"),
        ("network: {external_network: {a: 1}}", "network.external_network: expected text"),
        ("secrets: {vault: {address: me}}", "secrets.vault.address: expected text that fits '"),
    ],
)
def test_what_was_expected_is_told_in_words_of_files(directory: Path, line: str, told: str) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\n{line}\n")
    assert _refused(directory).message.startswith(f"{directory}/here.yaml:3: {told}")


def test_what_was_found_is_quoted_only_as_far_as_a_line_goes(directory: Path) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\nregion: {'x' * 5000}\n")
    assert len(_refused(directory).message.removeprefix(str(directory))) < 300


@pytest.mark.parametrize(
    "line",
    [
        "topology: {engine: {count: '3'}}",
        "network: {cidr: true}",
        "network: {operator_cidr: 10.0.0.0/255.0.0.0}",
        "network: {dns: ['']}",
        "network: {dns: [9.9.9]}",
        "policies: {batch_wait: true}",
        "policies: {batch_wait: '1e3'}",
        "policies: {batch_wait: '1_000'}",
        "policies: {serial: [true]}",
        "policies: {max_unavailable: '025%'}",
        "policies: {canary: {auto_promote: 'yes'}}",
        "stacks: {each: {engine: {protected: 1}}}",
        "verification: {free_mib: '5'}",
        "lock: {lease: 0}",
        "lock: {lease: 0s}",
        "promotion: {max_age: 1000000d}",
        f"promotion: {{max_age: 1{'0' * 400}}}",
        "ssh: {jump: ['']}",
        "ssh: {jump: ['-oProxyCommand=x@gate']}",
        "ssh: {jump: ['gate:ssh']}",
        "topology: {engine: {image: ' '}}",
    ],
)
def test_nothing_is_read_as_what_it_only_resembles(directory: Path, line: str) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\n{line}\n")
    assert f"{directory}/here.yaml:3: " in _refused(directory).message


@pytest.mark.parametrize(
    "jump", ["gate", "gate.example.org:2222", "ops@gate", "me@198.51.100.7:22", "a@[2001:db8::1]:22"]
)
def test_a_jump_host_is_written_as_ssh_takes_it(directory: Path, jump: str) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\nssh: {{jump: ['{jump}']}}\n")
    assert load("here", directory).ssh.jump == (jump,)


def test_several_mistakes_are_counted(directory: Path) -> None:
    _write(directory, "here", "cloud: seed\nheat: {region: here}\ncolour: blue\nshape: round\n")
    assert "(and 1 more)" in _refused(directory).message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cloud: a\ncloud: b\n", "here.yaml:2: key 'cloud' is given twice"),
        ("cloud: [a\n", "here.yaml:"),
        ("cloud: a: b\n", "here.yaml:1: mapping values are not allowed here"),
        ("? [a]\n: b\n", "here.yaml:1: found unhashable key"),
        ("- cloud\n", "here.yaml: expected a mapping of keys to values"),
        ("", "here.yaml: expected a mapping of keys to values"),
        ("cloud: !!python/object:os.system x\n", "here.yaml:1: could not determine a constructor"),
    ],
)
def test_yaml_that_cannot_be_read_is_named_with_its_line(directory: Path, text: str, expected: str) -> None:
    _write(directory, "here", text)
    assert expected in _refused(directory).message


def test_text_that_is_not_utf_8_is_refused(directory: Path) -> None:
    (directory / "here.yaml").write_bytes(b"cloud: \xff\xfe\n")
    assert "here.yaml: is not UTF-8 YAML" in _refused(directory).message


def test_yaml_merges_may_be_overridden(directory: Path) -> None:
    text = "cloud: seed\nheat: {region: here}\ntopology:\n  api: &many {count: 5, flavor: a, image: b}\n"
    _write(directory, "here", f"{text}  engine: {{<<: *many, count: 7}}\n")
    assert load("here", directory).topology.engine.count == 7


@pytest.mark.parametrize("name", ["nowhere", "defaults", "../here", "", "a/b", "h" * 300, "Here", "here\n", "\0"])
def test_an_unknown_environment_names_those_there_are(directory: Path, name: str) -> None:
    error = _refused(directory, name)
    assert "(there are: here)" in error.message
    assert error.hint == "inv env.list"


def test_what_a_name_is_made_of_is_said_where_it_is_none(directory: Path) -> None:
    (directory / "below").mkdir()
    for name in ("../" + directory.name + "/here", "n" * 300):
        message = _refused(directory, name).message
        assert message.startswith(f"{name!r:.40}: no such environment ")
        assert message.endswith("a name has small letters, digits and dashes, 31 at most, and a letter first")


def test_a_file_whose_name_no_environment_may_have_is_to_be_renamed(directory: Path) -> None:
    _write(directory, "Prod", "cloud: seed\nheat: {region: prod}\n")
    assert list_environments(directory) == ("Prod", "here")
    assert _refused(directory, "Prod").message.startswith(f"{directory}/Prod.yaml: a name has small letters, ")
    assert _refused(directory, "Prod").hint == f"rename {directory}/Prod.yaml"


def test_only_files_are_environments(directory: Path) -> None:
    (directory / "loop.yaml").symlink_to("loop.yaml")
    (directory / "dangling.yaml").symlink_to("nowhere")
    (directory / "folder.yaml").mkdir()
    assert list_environments(directory) == ("here",)
    for name in ("loop", "dangling", "folder"):
        assert "no such environment (there are: here)" in _refused(directory, name).message


def test_a_stage_that_is_no_file_is_none(staged: Path) -> None:
    (staged / "stages/loop.yaml").symlink_to("loop.yaml")
    _write(staged, "here", "cloud: seed\nstage: loop\nheat: {region: here}\n")
    assert _refused(staged).message.endswith("(there are: lab)")


def test_defaults_that_are_not_there_are_to_be_restored(directory: Path) -> None:
    (directory / "defaults.yaml").unlink()
    refused = _refused(directory)
    assert refused.message == f"{directory}/defaults.yaml: cannot be read: No such file or directory"
    assert refused.hint == f"restore {directory}/defaults.yaml"


def test_an_environment_cannot_be_promoted_from_one_that_is_not_there(directory: Path) -> None:
    _write(directory, "here", "cloud: seed\nheat: {region: here}\npromotes_from: dream\n")
    assert "promotes_from: there is no environment 'dream'" in _refused(directory).message


def test_merging_goes_into_mappings_and_replaces_anything_else() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(base, {"a": {"c": [3]}, "d": {"e": 2}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_hosts_fetch_a_release_from_each_other_unless_there_is_a_url() -> None:
    assert load("local", SHIPPED).ssh.url_of("heat-26.tar.gz") == ""
    ssh = Ssh(release_url="https://releases.example.org/heat/{archive}?mirror=1")
    assert ssh.url_of("heat-26.tar.gz") == "https://releases.example.org/heat/heat-26.tar.gz?mirror=1"


# --- stages


@pytest.fixture
def staged(directory: Path) -> Path:
    """Return the directory with a stage, `lab`, that `here` is in."""
    (directory / "stages").mkdir()
    _write(directory / "stages", "lab", "cloud: seed\nheat: {engine_workers: 7, api_threads: 3}\n")
    _write(directory, "here", "stage: lab\nheat: {region: here, api_threads: 5}\n")
    return directory


def test_a_stage_lies_between_the_defaults_and_the_regions_own_file(staged: Path) -> None:
    heat = load("here", staged).heat
    assert (heat.engine_workers, heat.api_threads, heat.api_processes) == (7, 5, 2)
    assert list_environments(staged) == ("here",)


def test_the_origin_of_every_key_is_its_file_and_line(staged: Path) -> None:
    found = {setting.key: setting for setting in settings("here", staged)}
    below = staged.name
    assert found["heat.engine_workers"].origin == f"{below}/stages/lab.yaml:2"
    assert found["heat.api_threads"].origin == f"{below}/here.yaml:2"
    assert found["heat.api_processes"].origin.startswith(f"{below}/defaults.yaml:")
    assert found["ssh.starts"].origin == "built in"
    assert found["ssh.starts"].to_json() == {"key": "ssh.starts", "value": 8, "file": None, "line": None}
    assert found["stage"].to_json() == {"key": "stage", "value": "lab", "file": f"{below}/here.yaml", "line": 1}


def test_a_mistake_in_a_stage_is_named_there(staged: Path) -> None:
    _write(staged / "stages", "lab", "cloud: seed\nheat: {engine_workers: 700}\n")
    assert "stages/lab.yaml:2: heat.engine_workers: expected" in _refused(staged).message


@pytest.mark.parametrize("stage", ["moon", "../here", "[a]", "7", "{a: 1}"])
def test_an_unknown_stage_is_refused_with_its_line_and_those_there_are(staged: Path, stage: str) -> None:
    _write(staged, "here", f"cloud: seed\nstage: {stage}\nheat: {{region: here}}\n")
    message = _refused(staged).message
    assert "here.yaml:2: stage: there is no" in message
    assert message.endswith("(there are: lab)")


def test_only_a_region_says_which_stage_it_is(staged: Path) -> None:
    _write(staged / "stages", "lab", "cloud: seed\nstage: lab\n")
    assert "lab.yaml:2: stage: only a region's own file" in _refused(staged).message


def test_an_environment_is_called_as_its_file_is(staged: Path) -> None:
    _write(staged, "here", "cloud: seed\nheat: {region: here}\nname: there\n")
    assert "here.yaml:3: name: unknown key" in _refused(staged).message


@pytest.mark.parametrize("middle", ["here", "there"])
def test_promotions_in_a_circle_are_refused(directory: Path, middle: str) -> None:
    _write(directory, "there", "cloud: seed\nheat: {region: there}\npromotes_from: here\n")
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\npromotes_from: {middle}\n")
    message = _refused(directory).message
    assert "here.yaml:3: promotes_from: a cycle: here from " in message
    assert message.endswith(" from here")


def test_a_circle_further_up_ends_too(directory: Path) -> None:
    for name, upstream in (("one", "two"), ("two", "one"), ("here", "one")):
        _write(directory, name, f"cloud: seed\nheat: {{region: here}}\npromotes_from: {upstream}\n")
    assert "a cycle: here from one from two from one" in _refused(directory).message


def test_what_stands_where_a_reference_should_is_never_repeated(directory: Path) -> None:
    for wrong in ("hunter2", "'env:'", "vault:hunter2", "12345678", "[hunter2]"):
        _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\nsecrets: {{database_password: {wrong}}}\n")
        message = _refused(directory).message
        assert "here.yaml:3: secrets.database_password" in message
        assert "hunter2" not in message
        assert "12345678" not in message


def test_a_password_in_an_address_is_never_repeated(directory: Path) -> None:
    urls = (
        "redis://me:hunter2@team",
        "mysql://me:hunter2/w@team",
        "redis://:hunter2@team",
        "mysql://me:a@hunter2@team",
    )
    for line in (*(f"lock: {{url: '{url}'}}" for url in urls), "ssh: {release_url: 'https://me:hunter2@a/{archive}'}"):
        _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\n{line}\n")
        assert "hunter2" not in _refused(directory).message
        assert "here.yaml:3: " in _refused(directory).message


@pytest.mark.parametrize("span", [".inf", ".nan", "1e400", "inf"])
def test_a_span_of_time_ends(directory: Path, span: str) -> None:
    _write(directory, "here", f"cloud: seed\nheat: {{region: here}}\ndeadlines: {{stack: {span}}}\n")
    assert "here.yaml:3: deadlines.stack: expected " in _refused(directory).message
