"""A local cloud comes up, is looked at, goes down.

Every step asks what is there before it does anything, so that `up` after a kill goes on where things stood, and
`down` needs no record to be complete: all that a cloud makes carries its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline.edges.clock import Clock, SystemClock
from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import cache, cgroups, control, credentials, limits, mounts, network, traces
from pipeline.localcloud import cloud as records
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.hosts import PROPAGATE, RECORD
from pipeline.localcloud.image import ensure_image
from pipeline.localcloud.packages import check_kernel, check_root, ensure_packages
from pipeline.localcloud.registry import NAME
from pipeline.localcloud.system import run
from pipeline.localcloud.venv import ensure_venv
from pipeline.privatefile import partials

__all__ = ["down", "up"]

# All that a cloud writes into its directory. Whatever else is in there is somebody else's, and stays.
OURS = (
    "cloud.json", ".cloud.json", "secrets.json", ".secrets.json.new", "clouds.yaml", ".clouds.yaml.new",
    "keystone.conf", ".keystone.conf.new", "heat.conf", ".heat.conf.new", "keystone.prepared", "seed.prepared",
    "keystone", "mariadb", ".mariadb", "machines", "addresses.json", "addresses.new", "logs", "probe",
)  # fmt: skip
# Those of OURS that have beginnings of their own, should their writer be killed.
PRIVATE = ("secrets.json", "clouds.yaml", "keystone.conf", "heat.conf")
# All that is in the directory of a host.
HOST_FILES = frozenset({RECORD, f".{RECORD}", "upper", "work", "root"})
Report = Callable[[str], None]
WORKERS = 4


def up(directory: Path, *, report: Report, clock: Clock | None = None) -> LocalCloud:
    """Have a running local cloud with its state in `directory`, and return its record.

    What runs already is left running. Raises ConfigurationInvalid if the machine lacks something that cannot be
    installed, or a port is taken; other PipelineErrors if a service does not come up.
    """
    clock = clock or SystemClock()
    check_root("local.up")
    check_kernel()
    ensure_packages(report)
    with _alone(directory, report):
        cloud = _claim(directory)
        limits.ensure(report)
        groups = cgroups.find(cloud.name)
        secrets = credentials.ensure(cloud.directory)
        parts = _parts(report)
        mounts.check_overlay(parts.image, cloud.directory / "probe")
        network.ensure(cloud)
        control.start(cloud, secrets, parts, groups, clock, report)
    return cloud


def down(directory: Path, *, report: Report, clock: Clock | None = None) -> None:
    """End the cloud in `directory` and remove all it made, save the caches. None there is well.

    A disk that somebody mounted at `directory`, or there at machines, stays, without what the cloud wrote on it. Raises
    ConfigurationInvalid, before anything is touched, where something else is mounted among what is to be removed.
    """
    clock = clock or SystemClock()
    check_root("local.down")
    with _alone(directory, report):
        # Which network it had does not matter for removing it: everything goes by name.
        cloud = LocalCloud(directory.resolve(), records.TEST_RANGE)
        _require_own_mounts(cloud)
        groups = cgroups.find(cloud.name)
        there = cloud.directory.exists() or bool(groups.names() or network.namespaces(cloud))
        ended = _end(groups, clock, report)
        groups.remove(clock)
        _remove_files(cloud, report)
        limits.restore(network.clouds, report)
        _await_reaping(ended, clock)
    report("local cloud: down, nothing left" if there else "local cloud: there was none")


def _end(groups: cgroups.Cgroups, clock: Clock, report: Report) -> frozenset[int]:
    """End all that runs, and return its pids: the machines service first, lest it boot what is being ended."""
    names = groups.names()
    if names:
        report(f"ending {', '.join(names)}")
    ended = groups.kill("machines", clock)
    with ThreadPoolExecutor(WORKERS) as pool:
        return ended.union(*pool.map(lambda name: groups.kill(name, clock), names))


def _await_reaping(pids: Collection[int], clock: Clock) -> None:
    """Give init a moment to take notice of the ended, so that usually not even zombies are left when we say so.

    Some look every other second. A zombie holds nothing but its number, so one that init leaves is none of ours.
    """
    deadline = clock.monotonic() + 2
    while any(_is_zombie(pid) for pid in pids) and clock.monotonic() < deadline:
        clock.sleep(0.1)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"


def _require_own_mounts(cloud: LocalCloud) -> None:
    roots = [directory / "root" for directory in _overlays(cloud)]
    for path in mounts.below(cloud.directory):
        ours = any(path.is_relative_to(root) for root in roots)
        if path in (cloud.directory, cloud.machines) or ours:
            continue
        if path.relative_to(cloud.directory).parts[0] in OURS:
            raise ConfigurationInvalid(
                f"{path}: something is mounted there, and not by the local cloud, whose files are to be removed",
                hint=f"umount {path}, then inv local.down",
            )


def _overlays(cloud: LocalCloud) -> tuple[Path, ...]:
    """Return the directories in which the cloud may have mounted an overlay."""
    return (*cloud.machines.glob("*"), cloud.directory / "probe")


def _remove_files(cloud: LocalCloud, report: Report) -> None:
    for directory in _overlays(cloud):
        mounts.unmount_overlay(directory)
    network.remove(cloud)
    if PROPAGATE.is_dir():
        for left in PROPAGATE.glob(f"{cloud.name}-*"):
            left.rmdir()
    traces.forget()
    _distrust(cloud)
    # Hosts hold nearly all of the files, tens of thousands each, and a disk is quicker with several at once.
    disks = tuple(path for path in cloud.machines.glob("*") if _is_host(path))
    if disks:
        report(f"removing the disks of {len(disks)} hosts")
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(_delete, disks))
    theirs = mounts.below(cloud.directory)
    _delete(cloud.run_directory, *(path for path in _files(cloud) if path not in theirs))
    if cloud.directory.is_dir() and cloud.directory not in theirs and not any(cloud.directory.iterdir()):
        cloud.directory.rmdir()


def _distrust(cloud: LocalCloud) -> None:
    """Leave nothing that `up` would go on from: a removal that is cut off must not come back as half of a cloud.

    As with a host the records go first: the database, which counts by its name, then what is of hosts, then the rest.
    """
    database, unfinished = cloud.directory / "mariadb", cloud.directory / ".mariadb"
    _delete(unfinished)
    if database.is_dir():
        database.rename(unfinished)
    prepared, others = ("seed.prepared", "keystone.prepared"), ("addresses.json", "cloud.json")
    hosts = (str(path.relative_to(cloud.directory)) for path in cloud.machines.glob(f"*/{RECORD}"))
    for name in (*prepared, *hosts, *others):
        (cloud.directory / name).unlink(missing_ok=True)


def _is_host(path: Path) -> bool:
    """Return whether `path` is what is left of a host; on a disk of somebody's there may be other things beside it."""
    return bool(NAME.fullmatch(path.name)) and path.is_dir() and {one.name for one in path.iterdir()} <= HOST_FILES


def _files(cloud: LocalCloud) -> tuple[Path, ...]:
    """Return what the cloud writes into its directory, whether it is there or not, and beginnings of it."""
    begun = (path for name in PRIVATE for path in partials(cloud.directory / name))
    return (*(cloud.directory / name for name in OURS), *begun)


def _delete(*paths: Path) -> None:
    # --one-file-system: should a mount be left after all, what is behind it stays.
    run("rm", "-rf", "--one-file-system", "--", *map(str, paths), timeout=600)


def _claim(directory: Path) -> LocalCloud:
    """Return the cloud recorded in `directory`, or record a new one on a free network.

    The choice and the interface that occupies it are made under one lock, so that two clouds never choose the same.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    traces.note()
    with cache.locked("networks"):
        cloud = records.load(directory)
        if cloud is None:
            cloud = records.choose(directory, network.taken())
        elif not network.ready(cloud) and any(cloud.network.overlaps(other) for other in network.taken()):
            raise ConfigurationInvalid(
                f"the network of this cloud, {cloud.subnet}, has been taken by another interface",
                hint="ip -4 address shows by which; or start anew: inv local.down, inv local.up",
            )
        network.ensure(cloud)
        records.save(cloud)
    cloud.run_directory.mkdir(mode=0o700, exist_ok=True)
    return cloud


def _parts(report: Report) -> control.Parts:
    with ThreadPoolExecutor(2) as pool:
        venv, image = pool.submit(ensure_venv, report), pool.submit(ensure_image, report)
        return control.Parts(venv.result(), image.result())


@contextmanager
def _alone(directory: Path, report: Report) -> Iterator[None]:
    """Let one `up` or `down` of a cloud work at a time; the next waits for it, and says so."""
    name = f"cloud-{records.tag(directory)}"
    with cache.locked(name, on_wait=lambda: report("another inv local.up or local.down is at work: waiting for it")):
        yield
