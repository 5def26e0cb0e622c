"""Rendering: the shipped environment against its golden files, and mistakes in templates with their file and line."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from builders import LOCAL, ROOT, TEMPLATES

from pipeline.environment import Provider, Role, list_environments, load
from pipeline.errors import ConfigurationInvalid
from pipeline.layers import Place
from pipeline.render import GIVEN, RenderedStack, launch_order, render, render_text, write
from pipeline.secrets import Secrets
from pipeline.stackrules import StackRules

GOLDEN = ROOT / "tests" / "golden"
RENEW = "rm -r tests/golden && inv render all --out tests/golden"
SHIPPED = list_environments(ROOT / "environments")
BARE = LOCAL.model_copy(update={"stacks": StackRules()})
"""The local environment without rules for its stacks, which templates of a test need not have."""
LISTING = Place(Path("stacks.yaml.j2"))


def _stack(name: str, **inputs: str) -> RenderedStack:
    paths = {key: tuple(path.split(".")) for key, path in inputs.items()}
    return RenderedStack(name, f"local-{name}", "", {}, {}, {}, paths)


def _files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text("utf-8") for path in directory.rglob("*.yaml")}


def _templates(directory: Path, **texts: str) -> Path:
    """Write templates and the provider's files that every rendering reads."""
    for kind in ("network", "address", "host"):
        provided = directory / "providers" / LOCAL.provider.value / f"{kind}.yaml"
        provided.parent.mkdir(parents=True, exist_ok=True)
        provided.write_text("heat_template_version: 2021-04-16\n", "utf-8")
    for name, text in texts.items():
        (directory / f"{name}.yaml.j2").write_text(text, "utf-8")
    return directory


def _refused(templates: Path) -> ConfigurationInvalid:
    with pytest.raises(ConfigurationInvalid) as caught:
        render(BARE, templates)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.fixture(scope="module")
def local() -> tuple[RenderedStack, ...]:
    return render(LOCAL, TEMPLATES)


# --- the golden files


def test_every_environment_that_is_shipped_has_golden_files_and_no_other_has() -> None:
    assert sorted(path.name for path in GOLDEN.iterdir()) == list(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_rendered_is_what_was_reviewed(name: str, tmp_path: Path) -> None:
    write(render(load(name, ROOT / "environments"), TEMPLATES), tmp_path)
    new, old = _files(tmp_path), _files(GOLDEN / name)
    diff = [
        line
        for file in sorted(new.keys() | old.keys())
        for line in difflib.unified_diff(
            old.get(file, "").splitlines(), new.get(file, "").splitlines(), f"golden/{file}", file, lineterm=""
        )
    ]
    assert not diff, "\n".join(["", *diff, "", f"where this is meant: {RENEW}, and commit what it wrote"])


def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for run in ("one", "two"):
        write(render(LOCAL, TEMPLATES), tmp_path / run)
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_no_secret_is_in_what_is_rendered(local: tuple[RenderedStack, ...]) -> None:
    for stack in local:
        assert not [key for key in stack.parameters if "password" in key or "secret" in key]


SECRETS = ("database_password", "messaging_password", "encryption_key", "service_password", "stack_domain_password",
           "canary_password")  # fmt: skip


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_kept_elsewhere_is_made_by_no_stack_and_told_by_none(
    key: str, local: tuple[RenderedStack, ...]
) -> None:
    kept = LOCAL.model_copy(update={"secrets": Secrets(**{key: "env:KEPT"})})  # type: ignore[arg-type]
    stacks = render(kept, TEMPLATES)
    made = [sum(stack.template.count("OS::Heat::RandomString") for stack in each) for each in (local, stacks)]
    assert made == [len(SECRETS), len(SECRETS) - 1]
    for stack in stacks:
        template = yaml.safe_load(stack.template)
        parameters = [name for name in template["parameters"] if name in SECRETS]
        assert all(template["parameters"][name]["hidden"] for name in parameters)
        assert {name: stack.inputs[name] for name in parameters} == {name: (GIVEN, name) for name in parameters}
        assert "KEPT" not in stack.template + str(stack.parameters)
        if stack.name in ("identity", key.partition("_")[0]):
            assert key.removeprefix("database_").removeprefix("messaging_") not in template["outputs"]


def test_only_keystones_users_need_heat_to_be_told_a_secret() -> None:
    kept = LOCAL.model_copy(update={"secrets": Secrets(**dict.fromkeys(SECRETS, "env:KEPT"))})  # type: ignore[arg-type]
    told = {name for stack in render(kept, TEMPLATES) for name in stack.inputs if name in SECRETS}
    assert told == {"service_password", "stack_domain_password", "canary_password"}


# --- what a rendering is


ODD = ("20.10", "NO", "null", "Debian #12", "a: b", "a'b\"<&>\\", "Grün 🐧", " *x", "")


@pytest.mark.parametrize("text", ODD)
def test_a_text_of_the_environment_reaches_heat_as_it_is(text: str) -> None:
    engine = LOCAL.topology.engine.model_copy(update={"image": text, "flavor": text})
    update = {
        "topology": LOCAL.topology.model_copy(update={"engine": engine}),
        "heat": LOCAL.heat.model_copy(update={"region": text}),
        "network": LOCAL.network.model_copy(update={"external_network": text, "dns": (text,)}),
    }
    stacks = {stack.name: stack for stack in render(LOCAL.model_copy(update=update), TEMPLATES)}
    assert [stacks["engine"].parameters[key] for key in ("image", "flavor")] == [text, text]
    assert stacks["identity"].parameters["region_name"] == text
    assert [stacks["network"].parameters[key] for key in ("external_network", "dns")] == [text, text]
    assert isinstance(stacks["engine"].parameters["boot_timeout"], int)


def test_an_environment_whose_name_is_a_word_of_yaml_keeps_it() -> None:
    network = render(LOCAL.model_copy(update={"name": "no"}), TEMPLATES)[0]
    properties = yaml.safe_load(network.template)["resources"]["network"]["properties"]
    assert properties["name"] == "no"


@pytest.mark.parametrize("provider", list(Provider))
def test_every_provider_makes_the_same_stacks_in_the_same_order(
    local: tuple[RenderedStack, ...], provider: Provider
) -> None:
    stacks = render(LOCAL.model_copy(update={"provider": provider}), TEMPLATES)
    assert [stack.name for stack in stacks] == [stack.name for stack in local]
    assert all(set(stack.registry.values()) == set(stack.files) for stack in stacks)
    assert all(provider.value in name for stack in stacks for name in stack.files)


def test_every_role_has_a_stack_that_is_named_after_the_environment(local: tuple[RenderedStack, ...]) -> None:
    stacks = {stack.name: stack for stack in local}
    assert {role.value for role in Role} < set(stacks)
    assert all(stack.stack_name == f"local-{name}" for name, stack in stacks.items())


def test_a_stack_comes_after_all_that_it_takes_from(local: tuple[RenderedStack, ...]) -> None:
    seen: set[str] = set()
    for stack in local:
        assert stack.needs <= seen
        seen.add(stack.name)


def test_every_parameter_of_a_template_without_a_default_is_filled(local: tuple[RenderedStack, ...]) -> None:
    for stack in local:
        parameters = yaml.safe_load(stack.template)["parameters"]
        wanted = {name for name, facts in parameters.items() if "default" not in facts}
        assert wanted <= {*stack.parameters, *stack.inputs} <= set(parameters)


def test_what_the_pipeline_gives_is_no_stack_to_wait_for() -> None:
    stack = _stack("engine", key="given.ssh_public_key", network="network.network")
    assert stack.inputs["key"] == (GIVEN, "ssh_public_key")
    assert stack.needs == {"network"}
    assert launch_order([stack, _stack("network", key="given.any")], LISTING)[0].name == "network"


def test_the_environment_for_heat_holds_the_registry_and_the_values_it_is_launched_with(
    local: tuple[RenderedStack, ...],
) -> None:
    stack = local[0]
    assert stack.heat_environment() == {"resource_registry": stack.registry, "parameters": stack.parameters}
    assert stack.heat_environment({"a": 1})["parameters"] == {"a": 1}


def test_a_digest_changes_with_the_values_and_with_nothing_else(local: tuple[RenderedStack, ...]) -> None:
    one, two = local[0], replace(local[0])
    assert one.digest({"a": 1}) == two.digest({"a": 1})
    assert one.digest({"a": 1}) != one.digest({"a": 2})
    assert len(one.digest({})) == 16


def test_writing_returns_every_path_sorted(local: tuple[RenderedStack, ...], tmp_path: Path) -> None:
    paths = write(local, tmp_path)
    assert list(paths) == sorted(tmp_path.rglob("*.yaml"))
    assert tmp_path / "engine.env.yaml" in paths


def test_a_directory_that_cannot_be_written_is_named(local: tuple[RenderedStack, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"file.*: cannot be written"):
        write(local, tmp_path / "file" / "below")


# --- mistakes


def test_an_undefined_variable_is_named_with_file_and_line(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="heat_template_version: x\nname: {{ nobody }}\n")
    assert _refused(templates).message == f"{tmp_path}/one.yaml.j2:2: 'nobody' is undefined"


def test_an_undefined_key_of_the_environment_is_named_with_file_and_line(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: 1\n\nb: {{ environment.heat.nothing }}\n")
    assert _refused(templates).message.startswith(f"{tmp_path}/one.yaml.j2:3: ")
    assert "nothing" in _refused(templates).message


def test_an_error_in_an_included_template_is_named_there(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: 1\n{% include 'part.yaml.j2' %}\n", part="\n{{ no }}")
    assert _refused(templates).message == f"{tmp_path}/part.yaml.j2:2: 'no' is undefined"


def test_an_error_of_python_in_a_template_is_named_with_its_line(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: 1\nb: {{ 1 + 'x' }}\n")
    assert _refused(templates).message.startswith(f"{tmp_path}/one.yaml.j2:2: unsupported operand")


@pytest.mark.parametrize(
    "loop",
    [
        "{% include 'one.yaml.j2' %}",
        "{% import 'one.yaml.j2' as one %}",
        "{% macro on() %}{{ on() }}{% endmacro %}{{ on() }}",
    ],
)
def test_a_template_that_includes_itself_is_named(tmp_path: Path, loop: str) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one=f"a: 1\n{loop}\n")
    assert _refused(templates).message == f"{tmp_path}/one.yaml.j2:2: it includes itself, or goes too deep"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 10.0 ** 400 }}", "Numerical result"),
        ("{{ cycler() }}", "at least one"),
    ],
)
def test_a_template_that_cannot_be_worked_out_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    message = _refused(_templates(tmp_path, stacks="one: {}\n", one=f"a: 1\nb: {text}\n")).message
    assert message.startswith(f"{tmp_path}/one.yaml.j2:2: ")
    assert told in message


def test_more_loops_in_one_another_than_python_takes_are_told(tmp_path: Path) -> None:
    loops = "{% for x in [1] %}" * 25 + "{% endfor %}" * 25
    message = _refused(_templates(tmp_path, stacks="one: {}\n", one=loops)).message
    assert message.startswith(f"{tmp_path}/one.yaml.j2: too many statically nested blocks")


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.yaml.j2").symlink_to("/proc/self/mem")
    assert "one.yaml.j2: [Errno 5]" in _refused(_templates(tmp_path, stacks="one: {}\n")).message


def test_bad_syntax_is_named_with_file_and_line(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: 1\n{% for x %}\n")
    assert _refused(templates).message.startswith(f"{tmp_path}/one.yaml.j2:2: ")


def test_a_stack_without_a_template_is_named(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="ghost: {}\n")
    refused = _refused(templates)
    assert refused.message == f"{tmp_path}/stacks.yaml.j2: there is no {tmp_path}/ghost.yaml.j2"
    assert refused.hint == f"edit {tmp_path}/stacks.yaml.j2"


def test_a_template_that_renders_to_bad_yaml_is_named_with_the_rendered_line(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="{% for x in [1, 2] %}\na: [{{ x }}\n{% endfor %}\n")
    refused = _refused(templates)
    assert refused.message.startswith(f"{tmp_path}/one.yaml.j2: rendered line 2: ")
    assert refused.message.endswith(", near 'a: [2'")
    assert refused.hint == f"edit {tmp_path}/one.yaml.j2"


def test_where_the_rendered_line_is_blank_the_last_that_is_not_is_quoted_and_no_more_of_it_than_helps(
    tmp_path: Path,
) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: [1\nb" + 200 * "x" + ": [2\n\n\n")
    assert _refused(templates).message.endswith(f", near 'b{99 * 'x'}'")


def test_a_template_that_renders_to_more_levels_than_are_read_is_named(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: " + 3000 * "[" + 3000 * "]")
    assert "is nested too deep" in _refused(templates).message
    assert _refused(templates).hint == f"edit {tmp_path}/one.yaml.j2"


@pytest.mark.parametrize("text", ["", "- a\n", "word\n"])
def test_a_template_must_render_to_a_mapping(tmp_path: Path, text: str) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one=text)
    assert _refused(templates).message == f"{tmp_path}/one.yaml.j2: expected a mapping when rendered"
    assert _refused(templates).hint == f"edit {tmp_path}/one.yaml.j2"


def test_a_stack_may_take_nothing_at_all(tmp_path: Path) -> None:
    (only,) = render(BARE, _templates(tmp_path, stacks="one:\n", one="a: 1\n"))
    assert (only.parameters, only.inputs) == ({}, {})


@pytest.mark.parametrize(
    ("listing", "told"),
    [
        ("one: foo", "one: expected a mapping by name, found 'foo'"),
        ("one: {from: [a]}", "one: from: expected a mapping by name, found ['a']"),
        ("one: {from: {x: 3}}", "one: from: x: expected STACK.OUTPUT, found 3"),
        ("one: {parameters: [a]}", "one: parameters: expected a mapping by name, found ['a']"),
        ("one: {parameters: {1: a}}", "one: parameters: expected a mapping by name, found {1: 'a'}"),
        ("one: {parameters: {a: !!binary eA==}}", "one: parameters: not what Heat can be sent: Object of type bytes"),
        ("one: {parameters: {a: {1: x, b: y}}}", "one: parameters: not what Heat can be sent: '<' not supported"),
        ("one: {parameters: {a: .nan}}", "one: parameters: not what Heat can be sent: Out of range float"),
        ("1: {}", "1: expected the name of a stack, as text"),
    ],
)
def test_an_entry_of_another_shape_is_named(tmp_path: Path, listing: str, told: str) -> None:
    refused = _refused(_templates(tmp_path, stacks=listing, one="a: 1\n"))
    assert refused.message.startswith(f"{tmp_path}/stacks.yaml.j2: {told}")
    assert refused.hint == f"edit {tmp_path}/stacks.yaml.j2"


def test_a_character_that_yaml_does_not_take_is_named_with_the_rendered_line(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: 1\nb: \x07\n")
    told = "rendered line 2: character #x0007 is not allowed, near 'b: \\x07'"
    assert _refused(templates).message == f"{tmp_path}/one.yaml.j2: {told}"


def test_an_unknown_stack_among_inputs_is_named(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {from: {a: nowhere.a}}\n", one="a: 1\n")
    assert _refused(templates).message == f"{tmp_path}/stacks.yaml.j2: one: from: there is no stack 'nowhere'"
    assert _refused(templates).hint == f"edit {tmp_path}/stacks.yaml.j2"


def test_a_cycle_is_told_whole() -> None:
    stacks = [_stack("one", a="two.a"), _stack("two", a="three.a"), _stack("three", a="one.a")]
    with pytest.raises(ConfigurationInvalid, match=r"a cycle: (\w+ → ){3}\w+\n") as caught:
        launch_order(stacks, LISTING)
    assert caught.value.hint == "edit stacks.yaml.j2"


def test_a_provider_without_its_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "stacks.yaml.j2").write_text("one: {}\n", "utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"providers/local/network\.yaml: cannot be read") as caught:
        render(BARE, tmp_path)
    assert caught.value.hint == f"restore {tmp_path}/providers/local/network.yaml"


def test_a_file_of_a_provider_that_is_no_text_is_named(tmp_path: Path) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="a: 1\n")
    (templates / "providers/local/host.yaml").write_bytes(b"\xff")
    assert _refused(templates).message == f"{tmp_path}/providers/local/host.yaml: cannot be read: it is not UTF-8"


@pytest.mark.parametrize(
    "text",
    [
        "{{ nobody }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'x' }}",
        "{% for x %}",
        "{{ x | nofilter }}",
        "{% include 'below/part.yaml.j2' %}",
    ],
)
def test_what_is_wrong_in_a_template_names_the_template_to_edit(tmp_path: Path, text: str) -> None:
    (tmp_path / "below").mkdir()
    templates = _templates(tmp_path, stacks="one: {}\n", one="{% include 'below/part.yaml.j2' %}\n")
    (templates / "below/part.yaml.j2").write_text(text, "utf-8")
    assert _refused(templates).hint == f"edit {tmp_path}/below/part.yaml.j2"


@pytest.mark.parametrize(
    "asking", ["{% include 'no.j2' %}", "{% import 'no.j2' as no %}", "{% include ['nor.j2', 'no.j2'] %}"]
)
def test_who_asks_for_a_template_that_there_is_not_is_named_with_its_line(tmp_path: Path, asking: str) -> None:
    refused = _refused(_templates(tmp_path, stacks="one: {}\n", one=f"a: 1\n{asking}\n"))
    assert refused.message == f"{tmp_path}/one.yaml.j2:2: there is no {tmp_path}/no.j2"
    assert refused.hint == f"edit {tmp_path}/one.yaml.j2"


def test_a_template_that_the_pipeline_asks_for_and_there_is_not_is_to_be_restored(tmp_path: Path) -> None:
    refused = _refused(tmp_path)
    assert refused.message == f"{tmp_path}/stacks.yaml.j2: no such template"
    assert refused.hint == f"restore {tmp_path}/stacks.yaml.j2"


@pytest.mark.parametrize("included", [False, True])
def test_a_template_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path, included: bool) -> None:
    templates = _templates(tmp_path, stacks="one: {}\n", one="{% include 'part.yaml.j2' %}\n")
    wrong = templates / ("part.yaml.j2" if included else "one.yaml.j2")
    wrong.write_bytes(b"a: 1\n# gr\xfcn\n")
    assert _refused(templates).message == f"{wrong}:2: is not UTF-8"
    assert _refused(templates).hint == f"edit {wrong}"


def test_text_is_not_escaped_as_html_would_be(tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("{{ word }}\n", "utf-8")
    assert render_text(tmp_path, "t.j2", {"word": "<a> & 'b'"}) == "<a> & 'b'\n"
