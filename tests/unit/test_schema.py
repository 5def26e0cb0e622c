"""The JSON Schema that editors use: it is current, takes what loads, and refuses what no file may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.environment import Environment, list_environments
from pipeline.errors import ConfigurationInvalid
from pipeline.quantities import Cidr, Seconds, Share
from pipeline.schema import FILE, require_current, schema_text, write
from pipeline.yamlfile import read

SHIPPED = Path(__file__).parents[2] / "environments"
FILES = (*SHIPPED.glob("*.yaml"), *SHIPPED.glob("stages/*.yaml"))
SCHEMA = json.loads(schema_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def _takes(document: Any) -> bool:
    return bool(VALIDATOR.is_valid(document))


def _loads(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def test_the_schema_in_git_is_what_the_models_say() -> None:
    assert (SHIPPED / FILE).read_text("utf-8") == schema_text(), "inv env.schema, and commit what it wrote"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_file_fits_and_names_the_schema_first(path: Path) -> None:
    VALIDATOR.validate(read(path).values)
    first = path.read_text("utf-8").splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SHIPPED / FILE


def test_there_are_files_of_every_kind() -> None:
    assert len(FILES) > len(list_environments(SHIPPED)) + 1


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"stage": "dev"},
        {"topology": {}},
        {"topology": {"engine": {"flavor": "m1.large"}}},
        {"policies": {"drain": {"timeout": "5 m"}, "max_unavailable": "25%", "serial": [1, "50%"]}},
        {"ssh": {"release_url": None}},
        {"promotion": {"max_age": "7d", "evidence": ["smoke"]}},
        {"secrets": {"database_password": "vault:secret/heat/east#database"}},
        {"topology": {"database": {"count": 3, "data_volume_gb": 5}, "control": None}},
        {"network": {"cidr": "10.20.0.0/24", "dns": ["9.9.9.9"], "operator_cidr": "192.0.2.7"}},
        {"ssh": {"jump": ["ops@gate:2222"], "release_url": "https://a/{archive}"}},
        {"lock": {"lease": "1m", "url": "redis://team"}},
    ],
)
def test_a_part_of_an_environment_is_enough(part: dict[str, Any]) -> None:
    VALIDATOR.validate(part)


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "blue"},
        {"name": "here"},
        {"topology": {"engine": {"counts": 2}}},
        {"topology": {"engine": {"count": 0}}},
        {"topology": {"engine": 2}},
        {"deadlines": {"stack": "soon"}},
        {"deadlines": {"stack": -5}},
        {"policies": {"max_unavailable": "150%"}},
        {"policies": {"max_unavailable": 0}},
        {"policies": {"serial": []}},
        {"policies": {"auto_revert": "some"}},
        {"provider": "magic"},
        {"promotion": {"evidence": ["hope"]}},
        {"secrets": {"database_password": "hunter2"}},
        {"secrets": {"root_password": "env:ROOT"}},
        {"topology": {"engine": {"count": True}}},
        {"topology": {"engine": {"count": "3"}}},
        {"topology": {"engine": {"flavor": ""}}},
        {"topology": {"engine": {"data_volume_gb": 5}}},
        {"topology": {"database": {"count": 2}}},
        {"topology": {"loadbalancer": {"count": 2}}},
        {"topology": {"control": {"count": 2}}},
        {"network": {"cidr": "garbage"}},
        {"network": {"cidr": 10}},
        {"network": {"dns": ["garbage"]}},
        {"network": {"dns": [""]}},
        {"ssh": {"jump": ["not a host!"]}},
        {"ssh": {"release_url": "http://a/{archive}"}},
        {"lock": {"lease": 0}},
        {"lock": {"lease": "0s"}},
        {"lock": {"url": "redis://me:word@team"}},
        {"deadlines": {"stack": float("inf")}},
        {"deadlines": {"stack": "1000000d"}},
        {"deadlines": {"stack": True}},
        {"policies": {"serial": [True]}},
        {"policies": {"serial": ["025%"]}},
        {"policies": {"canary": {"auto_promote": "yes"}}},
    ],
)
def test_what_no_file_may_say_is_refused(wrong: dict[str, Any]) -> None:
    assert not _takes(wrong)


@given(
    st.one_of(
        st.from_regex(r"\d{1,4}(\.\d{1,3})?\s?[smhdx]?", fullmatch=True),
        st.text(max_size=6),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_the_schema_takes_no_span_of_time_that_does_not_load(span: str | float) -> None:
    if _takes({"deadlines": {"stack": span}}):
        assert _loads(Seconds, span)


@given(st.from_regex(r"\d{1,10}(\.\d{1,2})?\s?[smhd]?", fullmatch=True))
def test_a_span_of_time_that_loads_is_one_that_the_schema_takes(span: str) -> None:
    assert _takes({"deadlines": {"stack": span}}) is _loads(Seconds, span)


@given(
    st.one_of(st.from_regex(r"[0-2]?\d{0,2}(\.[0-2]?\d{1,2}){3}(/\d{1,2})?\s?", fullmatch=True), st.text(max_size=9))
)
def test_the_schema_takes_every_network_that_loads_and_no_text_that_is_none(text: str) -> None:
    taken = _takes({"network": {"cidr": text}})
    assert taken or not _loads(Cidr, text)
    assert not taken or _loads(Cidr, text) or "/" in text  # that the first address is to be given, no schema can say


@given(st.one_of(st.from_regex(r"\d{1,3}%", fullmatch=True), st.text(max_size=5), st.integers()))
def test_the_schema_takes_no_share_that_does_not_load(share: str | int) -> None:
    if _takes({"policies": {"max_unavailable": share}}):
        assert _loads(Share, share)


@pytest.mark.parametrize("span", ["30s", "1.5m", "2h", "1d", "5 m", 7, 0.5, 0])
def test_every_way_to_write_a_span_of_time_is_taken(span: str | float) -> None:
    assert _takes({"deadlines": {"stack": span}})
    assert _loads(Seconds, span)


@pytest.mark.parametrize("share", [*(f"{n}%" for n in range(1, 101)), 1, 200])
def test_every_share_is_taken(share: str | int) -> None:
    assert _takes({"policies": {"max_unavailable": share}})
    assert _loads(Share, share)


def test_editors_are_told_what_a_key_means() -> None:
    assert SCHEMA["properties"]["promotes_from"]["description"] == Environment.model_fields["promotes_from"].description
    assert SCHEMA["properties"].keys() == Environment.model_fields.keys() - {"name"}


def test_what_was_written_is_current(tmp_path: Path) -> None:
    write(tmp_path / FILE)
    require_current(tmp_path / FILE)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe"])
def test_a_schema_that_is_not_what_the_models_say_is_to_be_written_again(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / FILE
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationInvalid, match=r"schema\.json: is not what the models say") as caught:
        require_current(path)
    assert caught.value.hint == "inv env.schema"
    write(path)
    require_current(path)


def test_a_directory_where_the_schema_should_be_is_named(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.mkdir()
    with pytest.raises(ConfigurationInvalid, match="is not what the models say"):
        require_current(path)
    with pytest.raises(ConfigurationInvalid, match=r"schema\.json: cannot be written: Is a directory") as caught:
        write(path)
    assert caught.value.hint == f"move {path} away, then inv env.schema"


def test_a_schema_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/proc/self/mem")
    with pytest.raises(ConfigurationInvalid, match=r"schema\.json: cannot be read: Input/output error"):
        require_current(tmp_path / FILE)
