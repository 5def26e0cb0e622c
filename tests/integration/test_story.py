"""The whole story for real: what the README promises, asked of a region that the demo made."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.demo import Proof
from pipeline.edges.ssh import generate_key
from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, GateRefused, HostKeyRefused, HostUnreachable
from pipeline.inventory import Host
from pipeline.site import Site
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace
from tests.integration.conftest import NEW, OLD, ROOT


@pytest.fixture
def site(story: Proof, pipeline: Pipeline) -> Iterator[Site]:
    """The region, with connections that end with the test."""
    with pipeline.site("local") as opened:
        yield opened


@contextmanager
def stopped(site: Site, unit: str, *hosts: Host) -> Iterator[None]:
    """Stop `unit` on `hosts` while the body runs."""
    for host in hosts:
        site.remote.run(host, f"systemctl stop {unit}")
    try:
        yield
    finally:
        for host in hosts:
            site.remote.run(host, f"systemctl start {unit}")
            site.balancer.admit(host.name, timeout=60)


def test_customers_noticed_nothing_of_the_upgrade(story: Proof) -> None:
    stacks, requests = story.traffic.stacks, story.traffic.requests
    assert (stacks.failed, stacks.stuck, requests.errors) == (0, 0, 0), story.traffic.failures
    assert stacks.completed >= 30


def test_only_the_new_release_answers_after_the_upgrade(story: Proof, pipeline: Pipeline) -> None:
    old, new = (pipeline.wheelhouse.find(version).release.id for version in (OLD, NEW))
    assert story.before == {"api": [old], "engine": [old]}
    assert story.after == {"api": [new], "engine": [new]}


def test_every_check_and_every_rung_passed(story: Proof) -> None:
    assert story.verify.ok, [result for result in story.verify.results if result.outcome != "passed"]
    assert story.smoke.ok
    assert story.smoke.count("skipped") == 0


def test_deploying_again_changes_nothing(story: Proof, pipeline: Pipeline) -> None:
    assert pipeline.deploy("local", NEW) is False


def test_upgrading_again_moves_no_host(story: Proof, pipeline: Pipeline) -> None:
    assert pipeline.plan("local", NEW).moves == ()


def test_deploying_another_release_is_refused_as_an_upgrade(story: Proof, pipeline: Pipeline) -> None:
    with pytest.raises(ConfigurationInvalid, match="is an upgrade, not a deploy"):
        pipeline.deploy("local", OLD)


def test_a_host_with_another_key_than_the_pinned_one_is_refused(site: Site, tmp_path: Path) -> None:
    host = site.region.inventory.one(Role.ENGINE)
    impostor = dataclasses.replace(host, name="impostor", host_keys=(generate_key(tmp_path / "key"),))
    with pytest.raises(HostKeyRefused, match="SHA256"):
        site.remote.run(impostor, "true")


def test_no_vhost_of_the_old_release_is_left(site: Site, pipeline: Pipeline) -> None:
    assert site.broker.vhosts() == (f"heat-{pipeline.wheelhouse.find(NEW).release.id}",)


def test_the_backup_of_before_the_upgrade_is_on_the_database_host(site: Site) -> None:
    host = site.region.inventory.one(Role.DATABASE)
    listing = site.remote.run(host, "stat -c '%a %n' /var/backups/heat/*.sql.gz").stdout
    assert listing.startswith("600 ")
    assert f"{OLD}-" in listing


def test_smoke_turns_red_for_the_right_reason_when_the_cfn_api_is_stopped(site: Site, pipeline: Pipeline) -> None:
    with stopped(site, "heat-api-cfn", *site.region.inventory.of(Role.API)):
        report = pipeline.smoke("local")
    failed = {rung.name: rung for rung in report.rungs if rung.outcome == "failed"}
    assert set(failed) == {"endpoint cloudformation", "wait condition"}
    assert all("heat-api-cfn" in rung.likely_cause for rung in failed.values())
    assert pipeline.smoke("local").ok


def test_verify_turns_red_when_a_unit_is_stopped(site: Site, pipeline: Pipeline) -> None:
    api = site.region.inventory.of(Role.API)[0]
    with stopped(site, "heat-api-cfn", api):
        report = pipeline.verify("local")
    assert {result.host for result in report.results if result.outcome != "passed"} >= {api.name}


def test_secrets_stay_out_of_records_and_files_are_private(site: Site, workspace: Workspace) -> None:
    secrets = _secrets(site)
    kept = (workspace.records, workspace.state / "environments", workspace.runs)
    for path in (path for directory in kept for path in directory.rglob("*")):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
            text = path.read_text(encoding="utf-8")
            assert not any(secret in text for secret in secrets), path


def test_secrets_are_on_no_command_line_and_in_no_output(
    site: Site, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():  # the hosts' processes are processes of this machine too
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    lines.add(path.read_text("utf-8", errors="replace"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        pipeline.deploy("local", NEW)
        pipeline.verify("local")
        token, _ = site.customer.credentials()
    finally:
        over.set()
        looking.join()
    told = capsys.readouterr()
    assert any("heat-engine" in line for line in lines), "nothing was seen"
    for secret in (*_secrets(site), token):
        assert not [line for line in lines if secret in line]
        assert secret not in told.out + told.err


def _secrets(site: Site) -> list[str]:
    region = site.region
    return [
        secret.reveal()
        for secret in (
            region.database_password,
            region.messaging_password,
            region.encryption_key,
            region.identity.service_password,
            region.identity.stack_domain_password,
        )
    ]


def test_a_killed_deploy_goes_on_where_it_was(story: Proof, workspace: Workspace, pipeline: Pipeline) -> None:
    command = [sys.executable, "-m", "invoke", "deploy", "local-production", "--release", OLD]
    environment = {"PIPELINE_STATE": str(workspace.state), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=12)
    process.kill()
    process.wait()
    assert pipeline.deploy("local-production", OLD) is True
    assert pipeline.deploy("local-production", OLD) is False


def test_promotion_needs_evidence_of_exactly_that_release(story: Proof, pipeline: Pipeline) -> None:
    pipeline.build("26.0.1")
    with pytest.raises(GateRefused):
        pipeline.promote("local-production", "26.0.1")


def test_a_release_with_evidence_is_promoted_for_real(story: Proof, pipeline: Pipeline) -> None:
    pipeline.upgrade("local", NEW)
    pipeline.require_green("local")
    pipeline.promote("local-production", NEW)
    records = [record for record in pipeline.store.records("local-production") if record.operation == "promote"]
    assert records[-1].passed


def test_a_rollback_goes_back_by_the_same_careful_road_and_loses_nothing(story: Proof, pipeline: Pipeline) -> None:
    report, plan = pipeline.rollback("local-production")
    assert report.ok, report.failures
    assert (plan.rollback, plan.target) == (True, pipeline.wheelhouse.find(OLD).release)
    assert {(one.running, one.batch) for one in pipeline.status("local-production") if one.running} == {
        (plan.target.id, "")
    }
    checks = pipeline.verify("local-production")
    assert checks.ok, checks.told


def test_a_step_runs_once_though_its_connection_is_lost(site: Site) -> None:
    host = site.region.inventory.one(Role.ENGINE)
    log = "/run/lost-step"
    script = f"echo begun >>{log}; sleep 4; echo ended >>{log}"

    def lose_it() -> None:
        time.sleep(2)
        with suppress(HostUnreachable):  # this goes over the very connection
            site.remote.run(host, "pkill -KILL -f '^sshd: pipeline'")

    with ThreadPoolExecutor(max_workers=1) as pool:
        lost = pool.submit(lose_it)
        site.step(host, "lost", script, timeout=60)
        lost.result()
    assert site.remote.run(host, f"cat {log}; rm {log}").stdout.split() == ["begun", "ended"]


def test_a_steps_end_is_known_though_systemd_was_reloaded_meanwhile(site: Site) -> None:
    host = site.region.inventory.one(Role.ENGINE)

    def reload() -> None:
        time.sleep(1)
        site.remote.run(host, "systemctl daemon-reload")

    with ThreadPoolExecutor(max_workers=1) as pool:
        reloaded = pool.submit(reload)
        assert site.step(host, "reloaded", "sleep 4; echo whole", timeout=60).stdout == "whole\n"
        reloaded.result()


def test_every_run_left_its_plan_events_journal_counts_and_summary(story: Proof, pipeline: Pipeline) -> None:
    upgrades = [run for run in pipeline.runs.of("local") if "-upgrade-" in run.id]
    first = upgrades[0]
    names = {path.name for path in first.directory.iterdir()}
    assert names == {"plan.json", "events.jsonl", "journal.jsonl", "counts.json", "summary.json"}
    assert first.summary is not None
    assert first.summary["exit_code"] == 0
    drained = [line for line in (first.directory / "journal.jsonl").read_text().splitlines() if '"drained"' in line]
    assert len(drained) == 2
