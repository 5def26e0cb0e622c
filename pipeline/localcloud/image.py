"""The image every host starts from: a Debian with the packages of every role, built once and shared read-only."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.localcloud import cache
from pipeline.localcloud.system import run

__all__ = ["ensure_image", "image_digest"]

SUITE = "bookworm"
RECIPE = Path(__file__).parent / "host_image"
DEBIAN_SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
# Nobody reads manuals on a host, and without them the image is unpacked and removed sooner.
LEAVE_OUT = ("doc", "man", "info", "locale")


def image_digest() -> str:
    """Return the digest of the recipe: its packages and every file that shapes the image."""
    digest = hashlib.sha256(SUITE.encode())
    for path in sorted(RECIPE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def ensure_image(report: Callable[[str], None]) -> Path:
    """Return the directory of the host image, building it (about a minute) if the cache has none.

    Raises ConfigurationInvalid if the packages cannot be had.
    """
    final = cache.directory("images") / image_digest()
    with cache.locked(f"image-{final.name}"):
        if final.is_dir():
            return final
        report(f"host image: building Debian {SUITE} for hosts, once (about a minute)")
        _discard_unfinished(final)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        _build(unfinished)
        unfinished.chmod(0o755)
        # After a power cut the name must not be there without its files.
        run("sync", "-f", str(unfinished), timeout=600)
        unfinished.rename(final)
        report(f"host image: ready, {final}")
    return final


def _build(root: Path) -> None:
    packages = ",".join((RECIPE / "packages").read_text(encoding="utf-8").split())
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEAVE_OUT]
    try:
        run(
            "setpriv", "--pdeathsig=KILL", "unshare", "--fork", "--pid", "--kill-child", "--mount-proc",
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={packages}", *options,
            f"--customize-hook=sh {shlex.quote(str(RECIPE / 'customize'))} \"$1\"", SUITE, str(root), *_mirrors(),
            timeout=1500,
        )  # fmt: skip
    except PipelineError as error:
        raise ConfigurationInvalid(
            f"the host image could not be built: {error.message}",
            hint="check that the Debian archive answers (apt-get update), then inv local.up",
        ) from error


def _mirrors() -> tuple[str, ...]:
    """Return the machine's own apt sources if it runs the image's suite: a site with a mirror uses it here too."""
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    if f"VERSION_CODENAME={SUITE}" not in release:
        return ()
    return tuple(path for path in DEBIAN_SOURCES if Path(path).is_file() and SUITE in Path(path).read_text("utf-8"))[:1]


def _discard_unfinished(final: Path) -> None:
    for path in final.parent.glob(f".{final.name}-*"):
        shutil.rmtree(path)
