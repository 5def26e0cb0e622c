"""Planning against a Heat in memory: what is shown, what is hidden, what is stale, and that nothing is changed."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import HOSTS, Small, hosts, network
from rich.console import Console

from pipeline.edges.heat import HeatRefused
from pipeline.errors import (
    ConfigurationInvalid,
    Inconclusive,
    PlanStale,
    PreflightUnreachable,
    ProtectedRefused,
    StackFailed,
)
from pipeline.plan import Act, Parameter, ParameterChange, Plan, from_json, lost, require_fresh, stale, to_json
from pipeline.planning import at_rest, templates_digest
from pipeline.plantext import show_plan
from pipeline.render import RenderedStack
from pipeline.secrets import Secret
from pipeline.stacks import Kind, Resource, ResourceChange


@pytest.fixture
def small(tmp_path: Path) -> Small:
    (tmp_path / "network.yaml.j2").write_text("a: 1")
    return Small(tmp_path)


@pytest.fixture
def launched(small: Small) -> Small:
    small.launch()
    small.heat.done.clear()
    return small


def _shown(plan: Plan) -> str:
    out = StringIO()
    show_plan(plan, Console(file=out, width=200))
    return out.getvalue()


def _acts(plan: Plan) -> dict[str, str]:
    return {stack.name: stack.act.value for stack in plan.stacks}


def _open(plan: Plan) -> list[Parameter]:
    """Return what becomes of the engines' parameters that are not hidden."""
    return [one for one in plan.by_name["engine"].parameters if one.name != "secret"]


# --- a region that is not there yet


def test_what_is_not_there_is_to_be_created_and_nothing_is_touched(small: Small) -> None:
    plan = small.plan()
    assert _acts(plan) == {"network": "create", "database": "create", "engine": "create"}
    assert small.heat.kept == {}
    assert {what.split()[0] for what in small.heat.done} <= {"preview", "validate"}


def test_what_takes_from_a_stack_that_is_not_there_is_validated_and_says_so(small: Small) -> None:
    plan = small.plan()
    assert sorted(small.heat.done) == ["preview local-network", "validate ", "validate "]
    (subnet,) = (one for one in plan.by_name["engine"].parameters if one.name == "subnet")
    assert (subnet.change, subnet.source, subnet.after) == (ParameterChange.UNKNOWN, "network", "")
    assert "parameter subnet: nothing yet, known once stack network is done" in _shown(plan)


def test_the_resources_of_a_new_stack_are_listed(small: Small) -> None:
    found = [f"{one.path} {one.kind}" for one in small.plan().by_name["engine"].resources]
    assert found == ["engine-0 added", "engine-1 added", "wait added"]


def test_a_key_that_was_never_made_is_not_made_by_a_plan(small: Small) -> None:
    small.given = {"identity_url": "http://keystone.test/v3"}
    small.change("engine", inputs={"key": ("given", "ssh_public_key")})
    (key,) = (one for one in small.plan().by_name["engine"].parameters if one.name == "key")
    assert (key.change, key.source) == (ParameterChange.UNKNOWN, "given")
    assert "known once it is deployed from here" in _shown(small.plan())


# --- a region that is there


def test_a_plan_of_what_is_as_it_should_be_is_empty(launched: Small) -> None:
    plan = launched.plan()
    assert plan.empty
    assert plan.by_name["engine"].changes == ()
    assert all(stack.parameters == () and stack.diff == () for stack in plan.stacks)
    assert launched.heat.done == []


def test_every_stack_is_really_previewed_whatever_its_tag_says(launched: Small) -> None:
    """A tag may be right and the stack not: one with another template was sent by hand, and kept the tag."""
    kept = launched.heat.kept["local-engine"]
    kept.body = {**kept.body, "template": kept.body["template"].replace("flavor: {type", "flavour: {type", 1)
                 .replace("flavor: {get_param: flavor}", "flavor: big")}  # fmt: skip
    plan = launched.plan()
    assert _acts(plan) == {"network": "none", "database": "none", "engine": "update"}
    assert any(line.startswith("-") and "flavour" in line for line in plan.by_name["engine"].diff)
    launched.launch(plan)
    assert launched.plan().empty


def test_a_changed_parameter_is_shown_with_both_values(launched: Small) -> None:
    launched.give("engine", flavor="big")
    plan = launched.plan()
    (one,) = _open(plan)
    assert (one.name, one.change, one.before, one.after) == ("flavor", ParameterChange.ADDED, "small", "big")
    assert [f"{one.path} {one.kind}" for one in plan.by_name["engine"].changes] == ["engine-0 updated"]


def test_a_parameter_that_falls_to_the_templates_default_is_shown(launched: Small) -> None:
    launched.give("engine", flavor="big")
    launched.launch(launched.plan())
    launched.give("engine", flavor=None)
    (one,) = _open(launched.plan())
    assert (one.change, one.before, one.after) == (ParameterChange.DEFAULT, "big", "small")
    assert "parameter flavor: big → small, the template's default" in _shown(launched.plan())


def test_a_parameter_that_is_dropped_is_shown_with_its_value(launched: Small) -> None:
    launched.heat.kept["local-engine"].body["environment"]["parameters"]["by_hand"] = "x1"
    (one,) = _open(launched.plan())
    assert (one.name, one.change, one.before) == ("by_hand", ParameterChange.DROPPED, "x1")
    assert "parameter by_hand: x1 is dropped" in _shown(launched.plan())


def test_a_template_that_changed_is_shown_line_by_line(launched: Small) -> None:
    launched.change("engine", template=HOSTS.replace("ROLE", "engine").replace("flavor}}}", "flavor}, x: y}}"))
    diff = launched.plan().by_name["engine"].diff
    assert any(line.startswith("+") and "x: y" in line for line in diff)
    assert not any(line.startswith("-") and "x: y" in line for line in diff)


def test_a_file_or_a_type_that_changed_is_shown(launched: Small) -> None:
    launched.change("engine", files={"host.yaml": "resources: {disk: {}}\n"}, registry={"Region::Other": "host.yaml"})
    diff = "\n".join(launched.plan().by_name["engine"].diff)
    assert "+resources: {disk: {}}" in diff
    assert "-Region::Host: host.yaml" in diff


def test_what_takes_from_a_stack_that_changes_may_change_too(launched: Small) -> None:
    launched.give("network", cidr="10.1.0.0/24")
    plan = launched.plan()
    assert _acts(plan) == {"network": "update", "database": "none", "engine": "none"}
    assert plan.by_name["engine"].unforeseen
    assert "but may change with those it takes values from" in _shown(plan)
    launched.heat.outputs["local-network"] = {"subnet": "s2"}
    done = launched.launch(plan)
    assert [one.change.value for one in done.values()] == ["updated", "updated", "updated"]
    assert launched.heat.kept["local-engine"].body["environment"]["parameters"]["subnet"] == "s2"


@pytest.mark.parametrize(("status", "act"), [("CREATE_FAILED", Act.RECREATE), ("UPDATE_FAILED", Act.UPDATE)])
def test_a_stack_that_failed_is_not_as_it_should_be(launched: Small, status: str, act: Act) -> None:
    launched.heat.kept["local-engine"].status = status
    assert launched.plan().by_name["engine"].act is act
    launched.launch(launched.plan())
    assert launched.plan().empty


def test_a_host_that_was_marked_unhealthy_is_replaced_though_its_stack_is_complete(launched: Small) -> None:
    launched.heat.failed = (Resource("engine-1", "Region::Host", "CHECK_FAILED", "it smokes", "", "local-engine"),)
    plan = launched.plan()
    assert _acts(plan) == {"network": "none", "database": "none", "engine": "update"}
    assert [f"{one.path} {one.kind}" for one in plan.by_name["engine"].changes] == ["engine-1 replaced"]
    assert launched.launch(plan)["engine"].change.value == "updated"


def test_a_hidden_value_that_was_rolled_back_is_sent_again(launched: Small) -> None:
    launched.give("engine", secret="another-s3cret")
    kept = launched.heat.kept["local-engine"]
    launched.launch(launched.plan())
    assert launched.plan().empty
    kept.status = "ROLLBACK_COMPLETE"  # with the tags of what failed
    assert launched.plan().by_name["engine"].act is Act.UPDATE


@pytest.mark.parametrize("allowed", [(), ("database",)])
def test_the_rest_of_a_protected_stack_is_deleted_only_when_it_is_named(
    launched: Small, allowed: tuple[str, ...]
) -> None:
    launched.heat.kept["local-database"].status = "DELETE_FAILED"
    plan = launched.plan()
    assert (plan.by_name["database"].act, plan.by_name["database"].lost) == (Act.RECREATE, ("database",))
    if allowed:
        plan.require(allowed)
        launched.launch(plan, allowed=allowed)
        assert launched.plan().empty
    else:
        with pytest.raises(ProtectedRefused, match="database in"):
            plan.require(allowed)
        with pytest.raises(ProtectedRefused, match="stack local-database, of which something is left"):
            launched.launch(plan, allowed=allowed)


def test_what_is_under_way_cannot_be_planned(launched: Small) -> None:
    launched.heat.kept["local-engine"].status = "UPDATE_IN_PROGRESS"
    with pytest.raises(Inconclusive, match="local-engine is UPDATE_IN_PROGRESS"):
        launched.plan()


def test_a_deploy_waits_for_what_is_under_way(launched: Small) -> None:
    kept = launched.heat.kept["local-engine"]
    kept.status, kept.due = "UPDATE_IN_PROGRESS", launched.clock.monotonic() + 20
    heat: Any = launched.heat
    at_rest(heat, launched.stacks, launched.clock, timeout=60)
    assert kept.status == "UPDATE_COMPLETE"


def test_what_a_stack_that_never_worked_gives_is_not_known(launched: Small) -> None:
    launched.heat.kept["local-network"].status = "CREATE_FAILED"
    del launched.heat.kept["local-engine"]
    plan = launched.plan()
    assert _acts(plan) == {"network": "recreate", "database": "none", "engine": "create"}
    assert [one.source for one in plan.by_name["engine"].parameters if one.change is ParameterChange.UNKNOWN] == [
        "network"
    ]


# --- what is kept out


def test_hidden_values_are_in_no_plan(launched: Small) -> None:
    launched.give("engine", secret="another-s3cret", flavor="another-s3cret")
    plan = launched.plan()
    assert {one.name: (one.before, one.after) for one in plan.by_name["engine"].parameters} == {
        "secret": ("***", "***"),
        "flavor": ("small", "***"),
    }
    for text in (to_json(plan), _shown(plan)):
        assert "s3cret" not in text


def _kept_elsewhere(small: Small, text: str) -> Small:
    """Have the engines take a secret that no stack made."""
    small.change("engine", inputs={"subnet": ("network", "subnet"), "secret": ("given", "word")})
    small.given = {**small.given, "word": Secret(text)}
    return small


def test_a_secret_that_is_kept_elsewhere_is_sent_to_heat_and_in_no_plan(small: Small) -> None:
    plan = _kept_elsewhere(small, "kept-s3cret").plan()
    for text in (to_json(plan), _shown(plan), repr(plan)):
        assert "kept-s3cret" not in text
    assert from_json(to_json(plan), "file") == plan
    small.launch(plan)
    assert small.heat.kept["local-engine"].body["environment"]["parameters"]["secret"] == "kept-s3cret"


def test_a_secret_that_stays_is_no_change_and_another_one_is_shown_by_its_name(small: Small) -> None:
    _kept_elsewhere(small, "kept-s3cret").launch()
    assert small.plan().empty
    plan = _kept_elsewhere(small, "other-s3cret").plan()
    assert _acts(plan) == {"network": "none", "database": "none", "engine": "update"}
    assert plan.by_name["engine"].parameters == (Parameter("secret", ParameterChange.CHANGED, "***", "***"),)
    assert "other-s3cret" not in to_json(plan) + _shown(plan)


def test_a_secret_that_a_template_does_not_hide_is_in_no_plan_all_the_same(small: Small) -> None:
    text = HOSTS.replace("ROLE", "engine").replace("hidden: true", "hidden: false")
    small.change("engine", template=text)
    _kept_elsewhere(small, "kept-s3cret").launch()
    assert small.plan().empty
    plan = _kept_elsewhere(small, "other-s3cret").plan()
    assert [one.name for one in plan.by_name["engine"].parameters] == ["secret"]
    assert "s3cret" not in to_json(plan) + _shown(plan)


def test_the_default_of_a_hidden_parameter_is_in_no_diff(launched: Small) -> None:
    text = HOSTS.replace("ROLE", "engine").replace("default: ''}", 'default: "two\\nlines of s3cret"}')
    launched.change("engine", template=text)
    plan = launched.plan()
    assert plan.by_name["engine"].diff
    assert "s3cret" not in to_json(plan)


def test_a_parameter_that_is_called_a_secret_is_hidden_though_its_template_does_not_say_so(launched: Small) -> None:
    launched.give("engine", admin_password="s3cret")
    assert "s3cret" not in to_json(launched.plan())


def test_what_heat_refuses_is_told_without_hidden_values(launched: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    preview = launched.heat.preview_update

    def refuses(stack_id: str, **body: Any) -> Any:
        if not stack_id.startswith("local-engine"):
            return preview(stack_id, **body)
        raise HeatRefused("Property error: resources.engine-1.properties.key: 's3cret-value' is not one", status=400)

    monkeypatch.setattr(launched.heat, "preview_update", refuses)
    with pytest.raises(ConfigurationInvalid, match=r"key: '\*\*\*' is not one"):
        launched.plan()


@pytest.mark.parametrize(
    ("status", "kind"), [(0, PreflightUnreachable), (500, PreflightUnreachable), (401, ConfigurationInvalid),
                         (403, ConfigurationInvalid), (409, Inconclusive)],
)  # fmt: skip
def test_a_cloud_that_does_not_answer_is_told_by_its_exit_code(
    launched: Small, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise HeatRefused("no", status=status)

    monkeypatch.setattr(launched.heat, "list", refuses)
    with pytest.raises(kind, match="no") as caught:
        launched.plan()
    assert caught.value.hint  # type: ignore[attr-defined]


# --- what is protected


def test_a_protected_host_is_replaced_only_by_name(launched: Small) -> None:
    launched.give("database", image="trixie")
    plan = launched.plan()
    with pytest.raises(ProtectedRefused, match="database-0, database-1 in local would be replaced") as caught:
        plan.require(())
    assert (caught.value.exit_code, "--allow-replace database-0,database-1" in caught.value.hint) == (4, True)
    with pytest.raises(ProtectedRefused, match="database-1 in local"):
        plan.require(["database-0"])
    plan.require(["database-0", "database-1"])
    assert "only with --allow-replace database-0,database-1" in _shown(plan)


def test_what_is_nested_in_a_protected_host_counts_as_the_host(launched: Small) -> None:
    launched.heat.nested["local-database"] = (ResourceChange("database-0/machine", Kind.REPLACED, "Local::Machine"),)
    with pytest.raises(ProtectedRefused, match="database-0 in local"):
        launched.plan().require(())


def test_a_wait_condition_that_is_made_anew_loses_nothing(launched: Small) -> None:
    launched.heat.outputs["local-network"] = {"subnet": "s2"}
    launched.heat.kept["local-network"].outputs = {"subnet": "s2"}
    plan = launched.plan()
    assert [f"{one.path} {one.kind}" for one in plan.by_name["database"].changes] == ["wait replaced"]
    plan.require(())


def test_hosts_that_are_not_protected_are_replaced_without_being_named(launched: Small) -> None:
    launched.give("engine", image="trixie")
    launched.plan().require(())


# --- the file


def test_a_plan_comes_back_from_its_file(launched: Small) -> None:
    launched.give("engine", flavor="big")
    plan = launched.plan("26.0.2-abc")
    assert from_json(to_json(plan), "f") == plan
    assert to_json(plan) == to_json(launched.plan("26.0.2-abc"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f: is no plan"),
        ("[]", "f: is no plan of format 1"),
        ('{"format": 2}', "f: is no plan of format 1"),
        ('{"format": 1}', "f: environment: Field required"),
        ('{"format": 1, "environment": "a", "release": "", "settings": "", "templates": "", "stacks": [{}]}',
         "f: stacks.0.name: Field required"),
        ('{"format": 1, "environment": "a", "release": 1, "settings": "", "templates": "", "stacks": []}', "f: rel"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_plan_is_told(text: str, said: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=said) as caught:
        from_json(text, "f")
    assert caught.value.hint.endswith("inv plan ENV --out FILE")


def test_templates_of_hosts_count_too(launched: Small) -> None:
    before = launched.plan()
    (launched.templates / "hosts").mkdir()
    (launched.templates / "hosts" / "heat.conf.j2").write_text("a = 1")
    assert stale(before, launched.plan()) == "templates are others now"
    assert templates_digest(launched.templates) == launched.plan().templates


# --- what is stale


def _updated_by_hand(small: Small) -> None:
    kept = small.heat.kept["local-engine"]
    kept.body = {**kept.body, "files": {"host.yaml": "resources: {}\n# by hand\n"}}


STALE = {
    "another template": lambda s: s.change("network", template=s.stacks[0].template + "# more\n"),
    "a parameter": lambda s: s.give("engine", flavor="huge"),
    "a hidden parameter": lambda s: s.give("engine", secret="s3cret-other"),
    "a file": lambda s: s.change("database", files={"host.yaml": "resources: {a: {}}\n"}),
    "a stack less": lambda s: s.stacks.pop(),
    "settings": lambda s: s.rule(on_failure="rollback"),
    "a stack that is gone": lambda s: s.heat.kept.pop("local-engine"),
    "a stack that is another one": lambda s: setattr(s.heat.kept["local-engine"], "id", "id-9"),
    "a stack that failed": lambda s: setattr(s.heat.kept["local-engine"], "status", "CHECK_FAILED"),
    "a stack that was updated": lambda s: setattr(s.heat.kept["local-engine"], "updated", "2026-01-02"),
    "files by hand": _updated_by_hand,
    "tags by hand": lambda s: s.heat.kept["local-engine"].body.update(tags="mine"),
    "a value by hand": lambda s: s.heat.kept["local-engine"].body["environment"]["parameters"].update(flavor="b"),
    "an output": lambda s: setattr(s.heat.kept["local-network"], "outputs", {"subnet": "s3"}),
    "what heat foresees": lambda s: s.heat.nested.update(
        {"local-engine": (ResourceChange("engine-0/machine", Kind.REPLACED, "Local::Machine"),)}
    ),
}


@pytest.mark.parametrize("what", STALE)
def test_any_single_change_makes_a_plan_stale(launched: Small, what: str) -> None:
    launched.give("engine", flavor="big")
    before = launched.plan()
    require_fresh(before, launched.plan())
    STALE[what](launched)
    with pytest.raises(PlanStale, match="the plan is stale: ") as caught:
        require_fresh(before, launched.plan())
    assert caught.value.exit_code == 6
    assert "s3cret" not in str(caught.value)


def test_a_plan_is_stale_for_another_release(launched: Small) -> None:
    assert stale(launched.plan("a"), launched.plan("b")) == "it is for another environment or release"


def test_what_heat_would_do_otherwise_in_the_middle_of_a_run_is_not_done(launched: Small) -> None:
    launched.give("engine", flavor="big")
    plan = launched.plan()
    launched.heat.nested["local-engine"] = (ResourceChange("engine-0/machine", Kind.REPLACED, "Local::Machine"),)
    with pytest.raises(PlanStale, match="Heat would now do otherwise to stack local-engine"):
        launched.launch(plan)
    assert launched.heat.done == []


def test_a_protected_loss_that_nobody_foresaw_is_not_done(launched: Small) -> None:
    """The database's stack takes a value that came out otherwise, and would now lose its host."""
    launched.give("network", cidr="10.1.0.0/24")
    plan = launched.plan()
    launched.heat.outputs["local-network"] = {"subnet": "s2"}
    launched.heat.nested["local-database"] = (ResourceChange("database-0/machine", Kind.REPLACED, "Local::Machine"),)
    with pytest.raises(Exception, match="database-0 of stack local-database would be replaced") as caught:
        launched.launch(plan)
    assert "changed by this run, and kept: network" in str(caught.value)
    assert caught.value.exit_code == 7  # type: ignore[attr-defined]
    assert "update local-database" not in launched.heat.done


# --- properties

WORDS = st.text("abcdefgh-", min_size=1, max_size=8)
# What no other text holds by chance: not the digests, which are of the letters a to f and digits.
SECRETS = st.text("QXZ!'\"\\\n é", min_size=5, max_size=24).filter(lambda text: text.strip() == text)
PARAMETERS = st.fixed_dictionaries({"image": WORDS}, optional={"flavor": WORDS, "secret": SECRETS})
EACH = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _region(tmp_path: Path, values: dict[str, Any], cidr: str = "") -> Small:
    extra = {"cidr": cidr} if cidr else {}
    return Small(tmp_path, [network(**extra), _engines(values)])


def _engines(values: dict[str, Any]) -> RenderedStack:
    return replace(hosts("engine"), parameters=values)


@EACH
@given(before=PARAMETERS, after=PARAMETERS, cidr=WORDS)
def test_the_plan_of_what_was_applied_is_empty(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], cidr: str
) -> None:
    small = _region(tmp_path, before)
    small.launch(small.plan())
    assert small.plan().empty
    small.stacks = [network(cidr=cidr), _engines(after)]
    small.launch(small.plan())
    assert small.plan().empty


@EACH
@given(before=PARAMETERS, after=PARAMETERS)
def test_a_plan_is_deterministic_and_comes_back_from_its_file(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    small = _region(tmp_path, before)
    small.launch()
    small.stacks = [small.stacks[0], _engines(after)]
    plan = small.plan()
    assert to_json(plan) == to_json(small.plan())
    assert from_json(to_json(plan), "f") == plan


@EACH
@given(before=PARAMETERS, after=PARAMETERS)
def test_every_parameter_that_changes_is_shown(tmp_path: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    small = _region(tmp_path, before)
    small.launch()
    small.stacks = [small.stacks[0], _engines(after)]
    plan = small.plan().by_name["engine"]
    differing = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    shown = {one.name for one in plan.parameters}
    # Heat tells no hidden value: one that may have changed is shown as well.
    assert differing <= shown <= differing | {"secret"}
    assert (plan.act is Act.NONE) == (not differing)


@EACH
@given(before=SECRETS, after=SECRETS, flavor=WORDS)
def test_no_hidden_value_is_ever_in_the_text_or_the_file_of_a_plan(
    tmp_path: Path, before: str, after: str, flavor: str
) -> None:
    small = _region(tmp_path, {"image": "a", "secret": before})
    plans = [small.plan()]
    small.launch()
    default = HOSTS.replace("ROLE", "engine").replace("default: ''", f"default: {json.dumps(after)}")
    small.stacks = [
        small.stacks[0],
        replace(_engines({"image": "a", "secret": after, "flavor": f"{flavor}{after}"}), template=default),
    ]
    plans.append(small.plan())
    for plan in plans:
        texts = (to_json(plan), _shown(plan))
        strings = _strings(json.loads(texts[0]))
        for secret in (before, after):
            assert not any(secret in text for text in (*texts, *strings))


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


@EACH
@given(what=st.sampled_from(sorted(STALE)), flavor=WORDS)
def test_any_change_at_all_makes_any_plan_stale(tmp_path: Path, what: str, flavor: str) -> None:
    small = Small(tmp_path)
    small.launch()
    small.give("engine", flavor=f"planned-{flavor}")
    before = small.plan()
    STALE[what](small)
    assert stale(before, small.plan()) != ""


def test_a_server_that_goes_for_what_another_stack_gives_is_planned_again_first(launched: Small) -> None:
    template = HOSTS.replace("ROLE", "engine").replace(
        "Host, properties: {image", "Host, properties: {name: NAME, image"
    )
    launched.change("engine", template=template.replace("NAME", "{get_param: subnet}"))
    launched.launch(launched.plan())
    launched.give("network", cidr="10.1.0.0/24")
    launched.heat.outputs["local-network"] = {"subnet": "s2"}
    plan = launched.plan()
    with pytest.raises(
        StackFailed, match=r"engine-0, engine-1 of stack local-engine would be .*kept: network"
    ) as caught:
        launched.launch(plan)
    assert "plans anew" in caught.value.hint
    again = launched.plan()
    assert lost(again.by_name["engine"].resources) == ("engine-0", "engine-1")
    assert launched.launch(again)["engine"].change.value == "updated"


def test_a_stale_plan_is_made_again_for_its_release(launched: Small) -> None:
    with pytest.raises(PlanStale) as caught:
        require_fresh(launched.plan("26.0.2-a"), launched.plan(""))
    assert caught.value.hint.startswith("inv plan local --release 26.0.2-a --out FILE")


def test_a_rule_of_a_security_group_keeps_nothing() -> None:
    rule = ResourceChange("network/database-from-api", Kind.REPLACED, "OS::Neutron::SecurityGroupRule")
    assert lost((rule,)) == ()
    assert lost((replace(rule, type="OS::Neutron::SecurityGroup"),)) == ("network",)
