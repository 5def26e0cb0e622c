"""Layers, as properties of any documents: it does not matter in which pairs they merge, and nobody's word is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationInvalid
from pipeline.layers import Layered, Place, lay, leaves, merge
from pipeline.yamlfile import Document, Key

# A key's first letter says whether it is a mapping: documents of one chain agree on that, or are refused.
VALUES = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=2))
DOCUMENTS = st.recursive(
    st.dictionaries(st.sampled_from(("v1", "v2", "v3")), VALUES, max_size=3),
    lambda inner: st.builds(
        lambda plain, nested: {**plain, **nested},
        st.dictionaries(st.sampled_from(("v1", "v2")), VALUES, max_size=2),
        st.dictionaries(st.sampled_from(("m1", "m2")), inner, max_size=2),
    ),
    max_leaves=12,
)
CHAINS = st.lists(DOCUMENTS, min_size=1, max_size=4)


def _document(index: int, values: dict[str, Any]) -> Document:
    lines: dict[Key, int] = {}

    def number(values: dict[str, Any], key: Key) -> None:
        for name, value in values.items():
            lines[(*key, name)] = len(lines) + 1
            if isinstance(value, dict):
                number(value, (*key, name))

    number(values, ())
    return Document(Path(f"{index}.yaml"), values, lines)


def _laid(chain: list[dict[str, Any]]) -> Layered:
    return lay(*(_document(index, values) for index, values in enumerate(chain)))


def _at(values: Any, key: Key) -> Any:
    for name in key:
        values = values[name]
    return values


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_it_does_not_matter_in_which_pairs_a_chain_is_merged(one: Any, two: Any, three: Any) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three)) == _laid([one, two, three]).values


@given(DOCUMENTS)
def test_a_document_laid_on_itself_or_on_nothing_is_itself(one: Any) -> None:
    assert merge(one, one) == merge({}, one) == merge(one, {}) == one


@given(DOCUMENTS, DOCUMENTS)
def test_laying_a_document_again_changes_nothing(one: Any, two: Any) -> None:
    assert merge(merge(one, two), two) == merge(one, two)


@given(CHAINS)
def test_the_last_that_says_something_wins(chain: list[dict[str, Any]]) -> None:
    merged = _laid(chain).values
    for key, value in leaves(chain[-1]):
        assert _at(merged, key) == value or value == {}


@given(CHAINS)
def test_nothing_is_lost_and_nothing_is_made_up(chain: list[dict[str, Any]]) -> None:
    said = {key for values in chain for key, value in leaves(values) if value != {}}
    merged = {key: value for key, value in leaves(_laid(chain).values) if value != {}}
    assert merged.keys() == said
    assert all(any((key, value) in list(leaves(values)) for values in chain) for key, value in merged.items())


@given(CHAINS)
def test_the_origin_of_a_key_is_the_last_file_that_says_it_and_says_what_came_of_it(
    chain: list[dict[str, Any]],
) -> None:
    layered = _laid(chain)
    for key, value in leaves(layered.values):
        place = layered.origin(key)
        assert place is not None
        index = int(place.path.stem)
        assert _at(chain[index], key) == value
        assert layered.documents[index].lines[key] == place.line
        assert all(key not in document.lines for document in layered.documents[index + 1 :])


@given(CHAINS)
def test_no_document_is_changed_by_being_laid(chain: list[dict[str, Any]]) -> None:
    before = repr(chain)
    _laid(chain)
    assert repr(chain) == before


@given(DOCUMENTS, DOCUMENTS, VALUES)
def test_a_mapping_in_one_and_none_in_another_is_refused_in_any_order(one: Any, two: Any, value: Any) -> None:
    mapping, plain = {**one, "m1": two}, {"m1": value}
    for chain in ([mapping, plain], [plain, mapping], [mapping, {}, plain], [{}, plain, mapping]):
        with pytest.raises(ConfigurationInvalid, match=r"yaml:\d+: m1: expected .*, as in \d\.yaml:\d+"):
            _laid(chain)


def test_the_nearest_place_is_that_of_the_longest_known_part() -> None:
    layered = _laid([{"v1": 1, "m1": {"v1": 1}}, {"m1": {"v2": 2}}])
    assert layered.nearest(("m1", "v1", "0")) == Place(Path("0.yaml"), 3)
    assert layered.nearest(("m1", "v3")) == Place(Path("1.yaml"), 1)
    assert str(layered.nearest(("v9",))) == "1.yaml"
    assert layered.origin(("v9",)) is None
