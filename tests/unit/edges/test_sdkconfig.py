"""Reading clouds.yaml loads openstacksdk's reader alone, and leaves the rest of it as it is for who uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CLOUDS = "clouds: {here: {auth: {auth_url: 'http://127.0.0.1:5000/v3', username: u, password: p, project_name: n}}}\n"
_READ = (
    "import sys; from pathlib import Path; from pipeline.edges.sessions import session_of; "
    "session_of('here', Path(sys.argv[1]))"
)


def _python(code: str, tmp_path: Path) -> str:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(_CLOUDS, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code, str(clouds)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_service_of_the_library_is_loaded_for_clouds_yaml(tmp_path: Path) -> None:
    loaded = _python(f"{_READ}; print([name for name in sys.modules if name.endswith('._proxy')])", tmp_path)
    assert loaded == "[]"


@pytest.mark.parametrize(
    "use",
    [
        "import openstack; made = openstack.connect(cloud='here')",
        "from openstack import connect; made = connect(cloud='here')",
        "from openstack.connection import Connection; made = Connection(cloud='here')",
        "import openstack.connection; made = openstack.connection.from_config(cloud='here')",
    ],
)
def test_the_whole_library_works_after_it(use: str, tmp_path: Path) -> None:
    said = _python(
        f"{_READ}\n"
        "import os; os.environ['OS_CLIENT_CONFIG_FILE'] = sys.argv[1]\n"
        f"{use}\nimport openstack; openstack.enable_logging()\n"
        "print(made.config.name, type(made) is openstack.connection.Connection)",
        tmp_path,
    )
    assert said == "here True"


def test_the_library_that_is_loaded_already_is_used(tmp_path: Path) -> None:
    said = _python(
        f"import openstack; before = openstack\n{_READ}\nprint(sys.modules['openstack'] is before)", tmp_path
    )
    assert said == "True"


def test_what_the_library_has_not_is_missed_as_ever(tmp_path: Path) -> None:
    said = _python(f"{_READ}\nimport openstack\nprint(hasattr(openstack, 'no_such'))", tmp_path)
    assert said == "False"
