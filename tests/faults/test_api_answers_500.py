"""A release whose API lives and answers with 500: the first API goes back, and the other is not touched."""

from __future__ import annotations

from tests.faults.faults import NEW, OLD, Region

PROGRAM = "heat/api/openstack/v1/build_info.py"
BROKEN = 's/^        engine_revision = .*/        raise RuntimeError("this release is broken")/'


def test_an_api_that_answers_500_goes_back_and_the_other_api_is_not_touched(region: Region) -> None:
    path = f"{region.install()}/{PROGRAM}"
    before = region.marks("api-1")
    with region.spoiled(path, BROKEN, "api-0", "api-1"):
        run = region.upgrade()
        assert run.code == 7, run.output  # engines had moved
        assert "api-0" in run.message
        assert region.marks("api-1") == before
        assert region.on() == {"api-0": OLD, "api-1": OLD, "engine-0": NEW, "engine-1": NEW}
        assert region.out_of_rotation() == set()
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)
