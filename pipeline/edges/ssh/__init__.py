"""SSH: one connection per host for a whole run, pinned host keys, scripts that travel on standard input.

The only importer of paramiko.
"""

from __future__ import annotations

from pipeline.edges.ssh.client import SshRemote
from pipeline.edges.ssh.keys import fingerprint, generate_key
from pipeline.edges.ssh.results import Heard, Remote, Result, failure

__all__ = ["Heard", "Remote", "Result", "SshRemote", "failure", "fingerprint", "generate_key"]
