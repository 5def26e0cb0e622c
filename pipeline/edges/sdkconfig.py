"""openstacksdk's reader of clouds.yaml without the rest of it: every service's proxies take 0.6 s of CPU to import.

Importing any part of a package runs the package first, and openstacksdk's imports all it has. So the package is put in
place without being run; who asks it for what its own file defines has it run then.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["without_services"]

_NAME = "openstack"
_OWN = ("connect", "enable_logging")  # its __all__: everything else of it is a module below it
_guard = threading.Lock()


def without_services() -> None:
    """Let `import openstack.config` load that alone, where nothing of openstacksdk was imported before."""
    with _guard:
        if _NAME not in sys.modules and (spec := PathFinder.find_spec(_NAME)):
            sys.modules[_NAME] = _unrun(spec)


def _unrun(spec: ModuleSpec) -> ModuleType:
    """Return the package of `spec`, which runs when one of its _OWN is asked for."""
    package = module_from_spec(spec)

    def own(wanted: str) -> Any:
        if wanted not in _OWN or spec.loader is None:
            raise AttributeError(f"module {spec.name!r} has no attribute {wanted!r}")
        del package.__dict__["__getattr__"]
        spec.loader.exec_module(package)
        return getattr(package, wanted)

    package.__dict__["__getattr__"] = own
    return package
