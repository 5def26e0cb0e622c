"""Rules of stacks: what environments may say, and what holds where they say nothing."""

from __future__ import annotations

import pytest
from builders import LOCAL, ROOT, TEMPLATES
from pydantic import ValidationError

from pipeline.environment import list_environments, load
from pipeline.errors import ConfigurationInvalid
from pipeline.render import render
from pipeline.stackrules import OnFailure, StackRules


def test_what_is_kept_in_a_region_is_protected_in_every_environment() -> None:
    for name in list_environments(ROOT / "environments"):
        rules = load(name, ROOT / "environments").stacks
        assert rules.protected == {"network", "identity", "database", "messaging", "control"}
        assert rules.on_failure is OnFailure.STOP


def test_a_stack_without_rules_is_not_protected_and_has_no_time_of_its_own() -> None:
    rule = StackRules().of("engine")
    assert (rule.protected, rule.timeout) == (False, None)


def test_times_are_written_as_everywhere() -> None:
    assert StackRules.model_validate({"each": {"database": {"timeout": "45m"}}}).of("database").timeout == 2700


@pytest.mark.parametrize(
    "wrong",
    [{"on_failure": "explode"}, {"each": {"api": {"timeout": "soon"}}}, {"each": {"api": {"protect": True}}}, {"a": 1}],
)
def test_what_is_no_rule_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StackRules.model_validate(wrong)


def test_rules_for_a_stack_that_there_is_not_are_refused() -> None:
    rules = StackRules.model_validate({"each": {"engin": {"protected": True}}})
    with pytest.raises(ConfigurationInvalid, match=r"stacks\.each: there is no stack 'engin'") as caught:
        render(LOCAL.model_copy(update={"stacks": rules}), TEMPLATES)
    assert caught.value.hint == "inv env.show local"
