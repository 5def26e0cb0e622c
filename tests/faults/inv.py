"""What people type after `inv`, in an environment with other policies: python -m tests.faults.inv upgrade local …

CHANGES holds, in JSON, what is laid on the environment.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from invoke.main import program

from pipeline import environment
from tests.faults.faults import changed

load = environment.load


def load_changed(name: str, directory: Path) -> environment.Environment:
    return changed(load(name, directory), json.loads(os.environ["CHANGES"]))


if __name__ == "__main__":
    environment.load = load_changed
    program.run(["inv", *sys.argv[1:]])
