"""A small package index on loopback, served to the real uv: the packages of a tiny Heat."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath

from pipeline.installation import MODULES

BACKEND = """
import zipfile, os
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "sourced-1.0-{tag}.whl"
    files = {{"sourced.py": "x = 1\\n",
        "sourced-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\n",
        "sourced-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: {tag}\\n",
        "sourced-1.0.dist-info/RECORD": ""}}
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return name
"""


def wheel(name: str, version: str, files: dict[str, str], requires: tuple[str, ...] = ()) -> bytes:
    """Return a pure wheel's bytes."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return out.getvalue()


def source(tag: str = "py3-none-any") -> bytes:
    """Return the source of a package "sourced" 1.0, which builds to a wheel with `tag`."""
    texts = {
        "PKG-INFO": "Metadata-Version: 2.2\nName: sourced\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "sourced"\nversion = "1.0"\n',
        "backend.py": BACKEND.format(tag=tag),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for path, text in texts.items():
            entry = tarfile.TarInfo(f"sourced-1.0/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def heat(version: str, worker_rpc: str) -> bytes:
    """Return the wheel of a tiny Heat: what a release's manifest is read from, and modules for all that is imported."""
    modules = [name for name in (*MODULES, "heat.engine.resources.tiny") if name != "pyuwsgi"]
    packages = {str(parent) for name in modules for parent in PurePath(*name.split(".")).parents} - {"."}
    return wheel(
        "openstack-heat",
        version,
        {
            **{f"{package}/__init__.py": "" for package in sorted(packages)},
            **{f"{name.replace('.', '/')}.py": f"NAME = {name!r}\n" for name in modules},
            "heat/never_imported.py": "NAME = 'lazy'\n",
            "heat/tests/test_tiny.py": "assert False\n",
            "heat/tests/unit/tests/test_tiny.py": "assert False\n",
            "heat/engine/worker.py": f"class WorkerService:\n    RPC_API_VERSION = '{worker_rpc}'\n",
            "heat/engine/service.py": "class EngineService:\n    RPC_API_VERSION = '1.36'\n",
            "heat/db/migrations/versions/a_first.py": "revision = 'aaaa'\ndown_revision = None\n",
            "heat/db/migrations/versions/b_second.py": "revision = 'bbbb'\ndown_revision = 'aaaa'\n",
        },
        ("sourced",),
    )


class PackageIndex:
    """Files by name. What it says of downloads is about the pipeline's own, not about uv's looks at metadata.

    `lie` names files that come with other bytes than promised; `served` lists the downloads.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lie: set[str] = set()
        self.served: list[str] = []
        self.address = ""

    def add(self, filename: str, content: bytes) -> None:
        """Publish a file."""
        self.files[filename] = content

    def page(self, path: str, client: str) -> bytes | None:
        """Return what is at `path`: a project's list of files, or a file."""
        kind, _, name = path.strip("/").partition("/")
        if kind == "files" and name in self.files:
            if client.startswith("uv/"):
                return self.files[name]
            self.served.append(name)
            return b"other bytes" if name in self.lie else self.files[name]
        projects = defaultdict(str)
        for filename, content in self.files.items():
            digest = hashlib.sha256(content).hexdigest()
            project = filename.split("-")[0].replace("_", "-")
            projects[project] += f'<a href="/files/{filename}#sha256={digest}">{filename}</a>\n'
        return projects[name].encode() if kind == "simple" and name in projects else None


@contextmanager
def serving(index: PackageIndex) -> Iterator[PackageIndex]:
    """Serve `index` on a free port of loopback while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = index.page(self.path, self.headers["User-Agent"])
            self.send_response(404 if body is None else 200)
            self.send_header(
                "Content-Type", "text/html" if self.path.startswith("/simple") else "application/octet-stream"
            )
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.address = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
