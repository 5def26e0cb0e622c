"""The installation of a release on a host: one POSIX sh script, one round trip, safe to run again.

Pure: text in, text out. The layout on a host, which units and commands rely on:

/opt/heat/releases/ID/manifest.json           there only when the release is complete
/opt/heat/releases/ID/requirements.lock       what was installed, by hash
/opt/heat/releases/ID/venv/bin/{heat-engine,heat-manage,heat-status,uwsgi,python}
/opt/heat/releases/ID/venv/etc/heat/api-paste.ini
"""

from __future__ import annotations

from shlex import quote

from pipeline.release import PYTHON

__all__ = ["IMPORTS", "MAGIC", "MODULES", "RELEASES", "install_script", "release_dir"]

RELEASES = "/opt/heat/releases"
MAGIC = "bytecode.magic"  # in an archive: the hex magic number of its bytecode, "none" where it holds no bytecode
_NEED_MIB = 500  # the archive is on this disk too, and there must be room to spare

# What the services import by name, or by an option of theirs.
MODULES = (
    "heat.cmd.engine",
    "heat.cmd.manage",
    "heat.cmd.status",
    "heat.api.openstack.v1",
    "heat.api.cfn.v1",
    "keystonemiddleware.auth_token",
    "oslo_messaging._drivers.impl_rabbit",
    "kombu.transport.pyamqp",
    "sqlalchemy.dialects.mysql.pymysql",
    "oslo_service.backend._threading",
    "pyuwsgi",
)

# Everything the services import. Run at a build it proves that the release can start, and tells what to compile.
IMPORTS = f"""\
import importlib, pkgutil, sys
from importlib.metadata import distribution
sys.argv = ["heat"]
for name in {MODULES!r}:
    importlib.import_module(name)
for point in distribution("openstack-heat").entry_points:
    if point.group.startswith("heat.") or point.group == "console_scripts":
        point.load()
import heat.engine.resources as resources
for module in pkgutil.walk_packages(resources.__path__, "heat.engine.resources."):
    importlib.import_module(module.name)
"""

# What a host may still lack although the build imported everything from these very files: a symbol that a compiled
# module wants from the host's libraries. Loading all of those takes a tenth of the time of importing the engine.
_STARTS = """\
import ctypes, glob
import heat, pymysql, pyuwsgi
for path in glob.glob("venv/lib/python*/site-packages/**/*.so", recursive=True):
    ctypes.CDLL(path)
"""

_SCRIPT = """\
set -eu
umask 022
id={id}
archive={archive}
home={releases}/$id
partial={releases}/.$id.partial
imports={imports}
starts={starts}
die() {{ echo "release $id: $1" >&2; exit 1; }}

mkdir -p {releases}
exec 9>{releases}/.lock
flock 9
if [ -f "$home/manifest.json" ]; then
    rm -f -- "$archive"
    echo "release $id is already installed"
    exit 0
fi
[ ! -e "$home" ] || die "$home is there without its manifest: look at it, then remove it"
[ -f "$archive" ] || die "no archive at $archive"
free=$(($(df --output=avail -k {releases} | tail -n 1) / 1024))
[ "$free" -ge {need} ] || die "{need} MiB of free disk are needed in {releases}, $free are there"
/usr/bin/python3 -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "{python}")' ||
    die "/usr/bin/python3 is not Python {python}"
echo {sha256}"  $archive" | sha256sum --check --status || die "the archive is damaged: upload it again"

rm -rf -- "$partial"
trap 'rm -rf -- "$partial"' EXIT
mkdir -- "$partial"
tar -xf "$archive" -C "$partial" --no-same-owner
cd "$partial"
ln -s /usr/bin/python3 venv/bin/python
magic=$(venv/bin/python -I -c 'import importlib.util as u; print(u.MAGIC_NUMBER.hex())')
if [ "$(cat {magic})" = "$magic" ]; then
    venv/bin/python -I -B -W ignore -c "$starts" || die "a compiled module does not load on this host"
else
    # Services run as a user who cannot write here, so what they import gets its bytecode now.
    venv/bin/python -I -m compileall -q -j 0 venv/lib/python{python}/site-packages/heat >&2 ||
        die "Heat's own modules do not compile"
    venv/bin/python -I -W ignore -c "$imports" || die "this Heat cannot be imported: it would not start"
fi
rm {magic}
cd /
sync -f "$partial"
mv -T -- "$partial" "$home"
rm -f -- "$archive"
echo "release $id is installed"
"""


def release_dir(release_id: str) -> str:
    """Return where a release lives on a host."""
    return f"{RELEASES}/{release_id}"


def install_script(release_id: str, archive_sha256: str, archive_path: str) -> str:
    """Return the sh script, run as root, that installs the uploaded archive at `archive_path` offline.

    It changes nothing when the release is complete, and leaves nothing behind when it fails; status 1 comes with one
    line on stderr. The release appears under its name by one rename, so a venv that can move is made. The archive is
    removed once it is installed.
    """
    return _SCRIPT.format(
        id=quote(release_id),
        archive=quote(archive_path),
        sha256=quote(archive_sha256),
        releases=RELEASES,
        need=_NEED_MIB,
        python=PYTHON,
        imports=quote(IMPORTS),
        starts=quote(_STARTS),
        magic=MAGIC,
    )
