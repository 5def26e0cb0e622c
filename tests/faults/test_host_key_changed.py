"""A host that shows another key than the pinned one is nobody we know."""

from __future__ import annotations

import base64
import hashlib

import pytest

from tests.faults.faults import Region

KEY = "/etc/ssh/ssh_host_ed25519_key"


@pytest.mark.quick
def test_a_host_with_another_key_is_refused_before_anything_is_touched(region: Region) -> None:
    before = region.marks()
    pinned = region.console("engine-1", f"cat {KEY}.pub")
    region.console("engine-1", f"cp -p {KEY} {KEY}.kept; cp -p {KEY}.pub {KEY}.pub.kept")
    try:
        region.console("engine-1", f"rm {KEY}; ssh-keygen -q -t ed25519 -N '' -f {KEY} && systemctl restart ssh")
        shown = region.console("engine-1", f"cat {KEY}.pub")
        run = region.upgrade()
        assert run.code == 9, run.output
        assert fingerprint(pinned) in run.message
        assert fingerprint(shown) in run.message
    finally:
        region.console("engine-1", f"mv -f {KEY}.kept {KEY}; mv -f {KEY}.pub.kept {KEY}.pub; systemctl restart ssh")
    assert region.marks() == before
    assert run.steps == []


def fingerprint(public_key: str) -> str:
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
