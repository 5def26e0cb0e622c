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


@pytest.mark.parametrize("name", ["nowhere", "defaults", "../here"])
def test_an_unknown_environment_names_those_there_are(directory: Path, name: str) -> None:
    error = _refused(directory, name)
    assert "(there are: here)" in error.message
    assert error.hint == "inv env.list"


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
