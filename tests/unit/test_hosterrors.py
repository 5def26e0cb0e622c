"""What hosts logged, for the record: of each host its own, without secrets, and a host that is lost hides nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from builders import SECRETS, ScriptedRemote, site

from pipeline.errors import HostUnreachable
from pipeline.hosterrors import errors_since

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def test_each_hosts_errors_are_kept_without_secrets() -> None:
    remote = ScriptedRemote()
    remote.on("journalctl")
    remote.on("journalctl", f"t ERROR heat no: password {SECRETS['database']}\nt ERROR heat 2\n", host="engine-1")
    remote.on("journalctl", HostUnreachable("api-0 is lost"), host="api-0")
    assert errors_since(site(remote), SINCE) == {
        "api-0": ["its log could not be had: api-0 is lost"],
        "engine-1": ["t ERROR heat no: password ***", "t ERROR heat 2"],
    }
    (script,) = [script for host, script in remote.ran if host == "api-1"]
    assert f"--since @{SINCE.timestamp():.0f} --unit heat-api --unit heat-api-cfn" in script
