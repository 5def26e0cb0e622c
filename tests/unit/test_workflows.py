"""CI: workflows only type what a person types, may do little, and end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typed_commands import ROOT, collection, task_of

from pipeline.environment import list_environments, load
from pipeline.secrets import Source, reference_of

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EACH = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
PINNED = {"actions/checkout", "actions/upload-artifact"}
OF_EVERY_RUNNER = {"RUNNER_TEMP"}  # GitHub empties it for each job


def _workflow(path: Path) -> dict[str, Any]:
    # BaseLoader keeps "on" a word: YAML 1.1 reads it as true.
    workflow: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    return workflow


def _steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def _commands(path: Path) -> list[str]:
    return [line for step in _steps(_workflow(path)) for line in step.get("run", "").splitlines()]


def _variables(directory: Path) -> set[str]:
    """Return the variables that environments of `directory` take secrets from."""
    found = set()
    for secrets in (load(name, directory).secrets for name in list_environments(directory)):
        for text in (*secrets.references().values(), secrets.vault.token):
            if text and (reference := reference_of(text)).source is Source.ENV:
                found.add(reference.name)
    return found


VARIABLES = _variables(ROOT / "environments")


def test_there_is_a_workflow_for_each_way_to_change_an_environment() -> None:
    assert [path.stem for path in WORKFLOWS] == ["canary", "ci", "promote", "smoke", "upgrade"]


def test_a_run_that_waits_for_a_persons_word_can_be_given_it() -> None:
    names = list_environments(ROOT / "environments")
    assert not all(load(name, ROOT / "environments").policies.canary.auto_promote for name in names)
    assert _commands(ROOT / ".github/workflows/canary.yml") == ['./inv canary.promote "$ENVIRONMENT"']


def test_the_shipped_environments_take_a_secret_from_a_variable() -> None:
    assert {"VAULT_TOKEN"} == VARIABLES


@EACH
def test_every_command_on_an_environment_has_the_variables_that_environments_take_secrets_from(path: Path) -> None:
    passed = {name: f"${{{{ secrets.{name} }}}}" for name in VARIABLES} if path.stem != "ci" else {}
    assert [step.get("env", {}) for step in _steps(_workflow(path)) if "run" in step] == [
        passed for _ in _commands(path)
    ]


@EACH
def test_what_is_uploaded_of_a_checkout_that_is_kept_is_no_report_of_an_earlier_run(path: Path) -> None:
    steps = list(_steps(_workflow(path)))
    if all(step["with"].get("clean") != "false" for step in steps if "checkout@" in step.get("uses", "")):
        return
    uploaded = {step["with"]["path"] for step in steps if "upload-artifact@" in step.get("uses", "")}
    for report in uploaded - {".state/records"}:  # those are kept on purpose: they are the evidence
        assert report.startswith("${{ runner.temp }}/")
        assert any(report.replace("${{ runner.temp }}", "$RUNNER_TEMP") in command for command in _commands(path))


@EACH
def test_every_line_is_an_inv_command_that_exists_with_those_flags(path: Path) -> None:
    for command in _commands(path):
        assert command.startswith("./inv ")
        assert task_of(command) in collection().task_names


@EACH
def test_no_input_of_a_person_is_pasted_into_a_shell(path: Path) -> None:
    assert not [command for command in _commands(path) if "${{" in command]


@EACH
def test_every_variable_of_a_command_is_quoted_and_comes_from_the_jobs_env(path: Path) -> None:
    workflow = _workflow(path)
    known = {name for job in workflow["jobs"].values() for name in job.get("env", {})} | OF_EVERY_RUNNER
    for command in _commands(path):
        for word in (word for word in command.split() if "$" in word):
            quoted = re.fullmatch(r'"\$(\w+)(/[\w.-]+)?"', word)
            assert quoted, command
            assert quoted[1] in known, command


@EACH
def test_a_workflow_may_only_read_the_code(path: Path) -> None:
    workflow = _workflow(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert not [job for job in workflow["jobs"].values() if "permissions" in job]


@EACH
def test_every_job_ends(path: Path) -> None:
    for job in _workflow(path)["jobs"].values():
        assert 0 < int(job["timeout-minutes"]) <= 180


@EACH
def test_runs_on_one_environment_queue_up(path: Path) -> None:
    workflow = _workflow(path)
    concurrency = workflow["concurrency"]
    if path.stem == "ci":
        assert concurrency["cancel-in-progress"] == "true"
        return
    target = "to" if path.stem == "promote" else "environment"
    assert concurrency == {"group": f"environment-${{{{ inputs.{target} }}}}", "cancel-in-progress": "false"}
    assert all(job["environment"] == f"${{{{ inputs.{target} }}}}" for job in workflow["jobs"].values())


@EACH
def test_actions_are_ours_or_pinned_by_commit(path: Path) -> None:
    for step in _steps(_workflow(path)):
        uses = step.get("uses")
        if uses is None or uses.startswith("./.github/actions/"):
            continue
        name, _, commit = uses.partition("@")
        assert name in PINNED
        assert len(commit) == 40
        assert set(commit) <= set("0123456789abcdef")


@EACH
def test_a_checkout_leaves_no_token_behind(path: Path) -> None:
    checkouts = [step for step in _steps(_workflow(path)) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)  # type: ignore[index]


@EACH
def test_every_local_action_exists(path: Path) -> None:
    for step in _steps(_workflow(path)):
        if step.get("uses", "").startswith("./"):
            assert (ROOT / step["uses"] / "action.yml").is_file()


@EACH
def test_a_secret_only_ever_goes_to_the_action_that_guards_it_or_to_one_command_that_reads_it(path: Path) -> None:
    workflow = _workflow(path)
    assert not [place for place in (workflow, *workflow["jobs"].values()) if "secrets." in str(place.get("env"))]
    for step in _steps(workflow):
        if "secrets." not in str(step):
            continue
        if "run" in step:
            assert "secrets." not in str(step | {"env": None})
            assert step["env"].keys() == VARIABLES
        else:
            assert step["uses"] == "./.github/actions/cloud-access"


def test_the_clouds_file_is_private_and_its_text_never_in_a_command() -> None:
    action = _workflow(ROOT / ".github/actions/cloud-access/action.yml")
    (step,) = action["runs"]["steps"]
    assert "${{" not in step["run"]
    assert "umask 077" in step["run"]
    assert "chmod 600" in step["run"]
