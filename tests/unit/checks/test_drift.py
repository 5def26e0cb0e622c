"""Drift: files that differ are told line by line, and no secret of either side is shown."""

from __future__ import annotations

from dataclasses import replace

from builders import LOCAL, R26, SECRETS, TEMPLATES, ScriptedRemote, environment, host, region, site

from pipeline.checks.drift import diff, expected_files, how, service_settings, settings_in
from pipeline.checks.masking import masked, secrets_of
from pipeline.environment import Role
from pipeline.hostfiles import HostFile, role_files

FILE = HostFile("/etc/a.conf", "[DEFAULT]\nhost = engine-0\npassword = s3cret-service\n")
OWN = f"0644 root:root {FILE.digest}"


def _conf() -> HostFile:
    return expected_files(host(), site(ScriptedRemote()), R26, "heat-1")[1]


def test_a_file_as_it_should_be_is_not_told() -> None:
    assert how(FILE, OWN) == ""


def test_how_a_file_differs_is_told() -> None:
    assert how(FILE, "") == "is missing"
    assert how(FILE, OWN.replace("0644", "666")) == "is 666 root:root instead of 0644 root:root"
    assert how(FILE, "644 heat:heat 00") == "is 644 heat:heat instead of 0644 root:root and has another content"


def test_a_diff_shows_the_lines_that_differ() -> None:
    shown = diff(FILE, FILE.content.replace("engine-0", "engine-9"), ())
    assert shown.splitlines()[:2] == ["--- /etc/a.conf on the host", "+++ /etc/a.conf as rendered"]
    assert {"-host = engine-9", "+host = engine-0"} <= set(shown.splitlines())


def test_a_diff_of_heat_conf_holds_no_secret_of_either_side() -> None:
    there = (
        _conf().content.replace("s3cret", "0ther-s3cret").replace("num_engine_workers = 2", "num_engine_workers = 3")
    )
    shown = diff(_conf(), there, secrets_of(region()))
    assert "-num_engine_workers = 3" in shown
    assert "s3cret" not in shown


def test_where_only_a_secret_differs_that_is_all_that_is_told() -> None:
    there = FILE.content.replace("s3cret-service", "another")
    assert diff(FILE, there, ()) == "/etc/a.conf: only a secret differs"


def test_a_long_diff_is_cut() -> None:
    lines = diff(FILE, "\n".join(map(str, range(200))), ()).splitlines()
    assert len(lines) == 41
    assert lines[-1].endswith("lines more)")


def test_whatever_holds_a_secret_is_masked() -> None:
    text = f"transport_url = rabbit://heat:p@w/d@198.18.7.1:5672/v\nadmin_password=x\nit said {SECRETS['database']}"
    shown = masked(text, secrets_of(region()))
    assert shown == "transport_url = rabbit://***@198.18.7.1:5672/v\nadmin_password=***\nit said ***"


def test_secrets_in_the_middle_of_a_log_are_masked_and_words_about_them_are_not() -> None:
    token = f"gAAAA{'x' * 40}"
    assert masked(f"it sent {{'password': 'abc', 'user': 'b'}} with X-Auth-Token: {token}; and {token}") == (
        "it sent {'password': '***', 'user': 'b'} with X-Auth-Token: ***; and ***"
    )
    told = "expected tokens good for 600 s; found 60 s\nlikely: [token] expiration of Keystone is short"
    assert masked(told) == told


def test_every_secret_of_a_region_is_known() -> None:
    assert set(secrets_of(region())) == set(SECRETS.values())


def test_settings_of_a_section_are_read_the_last_of_a_key_counts() -> None:
    text = "[a]\nx = 1\n# y = 2\nflag\n[b]\nx = 3\n[a]\nx = 4"
    assert settings_in(text.splitlines(), "a") == {"x": "4", "flag": ""}


def test_a_units_settings_are_those_of_its_file() -> None:
    (engine,) = role_files(host(Role.ENGINE), LOCAL, region(), TEMPLATES)
    settings = service_settings(engine)
    assert (settings["User"], settings["KillMode"], settings["ProtectSystem"]) == ("heat", "mixed", "strict")
    assert not {"ExecStart", "TimeoutStopSec", "CapabilityBoundingSet"} & set(settings)
    changed = replace(engine, content=engine.content.replace("LimitNOFILE=65536", "LimitNOFILE=9"))
    assert service_settings(changed)["LimitNOFILE"] == "9"


def test_a_private_key_shows_in_no_diff() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\nlines\n-----END PRIVATE KEY-----\n"
    file = HostFile("/etc/haproxy/heat.pem", f"chain\n{key}", "0600")
    shown = diff(file, key.replace("MIGH", "0THER") + "more\n", ())
    assert "MIGH" not in shown
    assert "0THER" not in shown
    assert "more" in shown


# --- secrets that are not the region's: who changed a file wrote his own


def test_of_brokers_in_one_address_every_password_is_masked() -> None:
    members = "heat:0ther@10.0.0.1:5672,heat:0th/er@10.0.0.2:5672,heat:0th@er@[fd00::3]:5672"
    shown = masked(f"-transport_url = rabbit://{members}/heat-1")
    assert shown == "-transport_url = rabbit://***@10.0.0.1:5672,***@10.0.0.2:5672,***@[fd00::3]:5672/heat-1"


def test_addresses_and_accounts_in_a_row_stay_as_they_are() -> None:
    told = "expected 10.0.0.1:5672,10.0.0.2:5672; found eve@%, heat@%,ada@laptop"
    assert masked(told) == told


def test_a_diff_of_a_clusters_files_holds_no_secret_of_either_side() -> None:
    three = environment(messaging=3)
    here = site(ScriptedRemote(), three)
    secrets = secrets_of(here.region)
    conf = expected_files(host(of=three), here, R26, "heat-1")[1]
    there = conf.content.replace(SECRETS["messaging"], "f0reign").replace("engine_workers = 2", "engine_workers = 3")
    assert there.count("heat:f0reign@") == 3
    shown = diff(conf, there, secrets)
    assert "-num_engine_workers = 3" in shown
    assert "f0reign" not in shown + diff(conf, there.replace(":5672,", ":5673,"), secrets)
    (cookie,) = (file for file in expected_files(host(Role.MESSAGING, of=three), here, R26, "heat-1") if file.secret)
    assert diff(cookie, "F0REIGNC00KIE", secrets) == "/var/lib/rabbitmq/.erlang.cookie: only a secret differs"


def test_a_key_without_its_first_line_shows_in_no_diff() -> None:
    file = HostFile("/etc/mysql/heat.key", "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n", "0640", secret=True)
    assert diff(file, "0THERGEAMBMG\n-----END PRIVATE KEY-----\n", ()) == f"{file.path}: only a secret differs"
