"""The story of a rolling change: what is planned and told, in which order it is done, and that no kill spoils it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    KNOWN,
    LOCAL,
    R25,
    R26,
    R27,
    Kept,
    Machines,
    ScriptedRemote,
    Services,
    journal,
    names,
    said,
    settled,
    site,
    with_policy,
)

from pipeline.edges.database import BackupFailed
from pipeline.edges.lock import LockLost
from pipeline.edges.runs import Runs
from pipeline.edges.ssh import Result
from pipeline.edges.wheelhouse import Built
from pipeline.environment import Environment, Role
from pipeline.errors import (
    CommandFailed,
    ConfigurationInvalid,
    FailedAndReverted,
    FleetMixed,
    HostUnreachable,
    Inconclusive,
    PipelineError,
    PreflightUnreachable,
    Unanswered,
)
from pipeline.fleet import Fleet
from pipeline.inventory import Host
from pipeline.journal import Journal
from pipeline.release import HeatVersion, Mode, Release
from pipeline.rolling import Change, manifest, manifests, plan_rollback, plan_upgrade, roll_out, tell
from pipeline.rollout import vhost_of

ORDER = ["engine-0", "api-0", "api-1", "engine-1"]


@dataclass
class World:
    """A region in memory, and what its journal keeps."""

    built: Built
    of: Environment = LOCAL
    remote: ScriptedRemote = field(default_factory=ScriptedRemote)
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        self.site = site(self.remote, self.of)
        self.machines = Machines(self.remote, self.site.region.inventory, R25, self.of.heat.engine_workers)
        self.services = Services(self.remote, R25)
        self.remote.on(r"^put ")

    def upgrade(self, **options: Any) -> Change:
        """Plan an upgrade to release 26 and do it."""
        change = plan_upgrade(self.site, R26)
        return self._do(change, self.built, **options)

    def rollback(self, wanted: Release | None = None) -> Change:
        """Plan a rollback and do it."""
        return self._do(plan_rollback(self.site, wanted), None, promoted=True)

    def _do(
        self,
        change: Change,
        built: Built | None,
        *,
        gate: Callable[[], None] = lambda: None,
        owned: Callable[[], None] = lambda: None,
        promoted: bool = False,
    ) -> Change:
        kept = journal(self.site.clock, self.kept)
        roll_out(self.site, change, built, kept, gate=gate, promoted=promoted, owned=owned)
        return change

    @property
    def on(self) -> set[str]:
        """The releases that hosts are on, all of which must run and be in rotation."""
        assert all(self.machines.running.values())
        assert not self.machines.draining
        assert set(self.machines.rotation.values()) == {"ready"}
        return set(self.machines.current.values())


@pytest.fixture
def built(tmp_path: Path) -> Built:
    (tmp_path / "heat.tar").write_text("of few bytes", "utf-8")
    (tmp_path / "archive.sha256").write_text("5eed heat.tar\n", "utf-8")
    return Built(R26, tmp_path / "heat.tar")


@pytest.fixture
def world(built: Built) -> World:
    return World(built)


# --- plans


def test_an_upgrade_is_planned_from_what_the_hosts_say(world: World) -> None:
    change = plan_upgrade(world.site, R26)
    assert (change.running, change.plan.target, change.plan.source) == (R25, R26, R25.id)
    assert change.fleet == Fleet(tuple(settled(host, R25) for host in world.machines.hosts))
    assert names(change.plan.moves) == ORDER


def test_an_upgrade_keeps_to_the_policy_of_its_environment(built: Built) -> None:
    world = World(built, with_policy(order="reverse_sorted"))
    assert names(plan_upgrade(world.site, R26).plan.moves) == ["engine-1", "api-1", "api-0", "engine-0"]


def test_a_host_that_does_not_answer_stops_a_change_before_it_begins(world: World) -> None:
    world.remote.on(r"^\[ -L", PreflightUnreachable("api-1 is gone"), host="api-1")
    for plan in (lambda: plan_upgrade(world.site, R26), lambda: plan_rollback(world.site, None)):
        with pytest.raises(PreflightUnreachable):
            plan()


def test_a_release_is_described_by_a_host_that_has_it(world: World) -> None:
    world.machines.installed["engine-1"].append(R26.id)
    fleet = plan_upgrade(world.site, R26).fleet
    world.remote.ran.clear()
    assert manifest(world.site, fleet, R26.id) == R26
    assert [name for name, _ in world.remote.ran] == ["engine-1"]
    assert manifests(world.site, fleet) == (R25, R26)


def test_a_release_that_no_host_has_cannot_be_described(world: World) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"no host has release {R27.id} on disk"):
        manifest(world.site, plan_upgrade(world.site, R26).fleet, R27.id)


# --- plans to go back


def test_a_rollback_goes_to_the_release_before(world: World) -> None:
    world.upgrade()
    change = plan_rollback(world.site, None)
    assert (change.running, change.plan.target, change.plan.rollback) == (R26, R25, True)
    assert (change.plan.mode, names(change.plan.moves)) == (Mode.VHOST_CUTOVER, ORDER)


def test_a_rollback_may_be_told_where_to(world: World) -> None:
    world.upgrade()
    assert plan_rollback(world.site, R25).plan.target == R25


def test_a_rollback_to_a_newer_release_is_an_upgrade(world: World) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"{R26.id} is newer than {R25.id}, which runs") as caught:
        plan_rollback(world.site, R26)
    assert caught.value.hint == "inv upgrade local --release 26.0.2"


def test_a_rollback_to_where_the_region_is_has_nothing_to_do(world: World) -> None:
    assert plan_rollback(world.site, R25).plan.moves == ()


def test_a_region_with_nothing_older_on_disk_has_nowhere_to_go_back_to(world: World) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"no release older than {R25.id} is left") as caught:
        plan_rollback(world.site, None)
    assert "inv rollback ENV --release R" in caught.value.hint


def test_a_half_finished_upgrade_goes_back_on_the_hosts_that_moved(world: World) -> None:
    world.machines.installed = {name: [R25.id, R26.id] for name in world.machines.installed}
    world.machines.current |= {"engine-0": R26.id, "api-0": R26.id}
    change = plan_rollback(world.site, None)
    assert (change.running, change.plan.target) == (R26, R25)
    assert names(change.plan.moves) == ["api-0", "engine-0"]


# --- what is told


def test_what_would_be_done_is_told_with_how_long_and_what_is_in_flight(world: World) -> None:
    change = plan_upgrade(world.site, R26)
    world.remote.on("SELECT COUNT", "2\t1\t5\n")
    tell(world.site, change)
    told = said(world.site.progress)
    for line in change.plan.describe():
        assert line in told
    assert "drain budget: 180 s for each of 2 engines" in told
    assert "in flight now: 5 stacks in progress; these engines hold 2 resources and 1 stack locks" in told
    assert "rollback" not in told
    (script,) = world.remote.scripts("SELECT COUNT")
    assert all(row in script for rows in world.machines.rows.values() for row in rows)


def test_telling_touches_nothing(world: World) -> None:
    change = plan_upgrade(world.site, R26)
    world.remote.ran.clear()
    tell(world.site, change)
    assert {name for name, _ in world.remote.ran} == {"database-0"}
    assert all("SELECT" in script for _, script in world.remote.ran)


def test_a_region_that_is_there_is_told_in_two_lines(world: World) -> None:
    tell(world.site, plan_rollback(world.site, R25))
    assert len(said(world.site.progress).splitlines()) == 2


def test_a_rollback_tells_that_the_schema_stays(world: World) -> None:
    world.upgrade()
    tell(world.site, plan_rollback(world.site, None))
    assert "a rollback moves binaries and vhost; the schema stays as it is" in said(world.site.progress)


# --- what is done


def test_an_upgrade_installs_migrates_opens_the_vhost_moves_and_tidies_up(world: World) -> None:
    world.upgrade()
    assert [name for name, _ in world.site.progress.stages] == [
        "install", "database", "vhost", "move engine-0", "move api-0", "move api-1", "old vhost idle", "move engine-1",
        "tidy",
    ]  # fmt: skip
    assert world.on == {R26.id}
    assert world.services.vhosts == {vhost_of(R26)}
    assert world.services.head == R26.alembic_head
    ((path, head),) = world.services.backups.items()
    assert path.startswith(f"/var/backups/heat/{R25.id}-to-{R26.id}-20260101T")
    assert head == R25.alembic_head
    assert {tuple(on_disk) for on_disk in world.machines.installed.values()} == {(R25.id, R26.id)}
    done = world.kept.steps()
    assert sorted(done[:4]) == [f"install {name}" for name in sorted(ORDER)]
    assert done[4:7] == ["database database-0", "vhost messaging-0", "drain engine-0"]
    assert done[-1] == "tidy "


def test_a_second_upgrade_keeps_the_release_before_and_removes_the_one_before_that(world: World) -> None:
    world.machines.installed = {name: ["24.0.0-old", R25.id] for name in world.machines.installed}
    change = plan_upgrade(world.site, R26)
    roll_out(world.site, change, world.built, journal(world.site.clock), gate=lambda: None, promoted=False)
    assert {tuple(on_disk) for on_disk in world.machines.installed.values()} == {(R25.id, R26.id)}


def test_an_upgrade_of_a_region_that_is_there_writes_settings_and_tidies_and_no_more(world: World) -> None:
    world.upgrade()
    world.remote.ran.clear()
    world.upgrade()
    assert world.remote.steps(write="^put ", clean="service clean")
    assert not world.remote.scripts(
        r"systemctl (stop --no-block|start)|db_sync|mariadb-dump|add_vhost|^mkdir -p /opt/heat/rel"
    )


def test_a_rollback_moves_binaries_and_vhost_and_leaves_the_schema(world: World) -> None:
    world.upgrade()
    world.remote.ran.clear()
    change = world.rollback()
    assert [name for name, _ in world.site.progress.stages][-8:] == [
        "install", "vhost", "move engine-0", "move api-0", "move api-1", "old vhost idle", "move engine-1", "tidy",
    ]  # fmt: skip
    assert (world.on, change.plan.vhost) == ({R25.id}, vhost_of(R25))
    assert world.services.vhosts == {vhost_of(R25)}
    assert world.services.head == R26.alembic_head
    assert not world.remote.scripts(r"db_sync|mariadb-dump|upgrade check|^mkdir -p /opt/heat/rel")


def test_a_release_that_was_rolled_back_stays_on_disk_and_can_be_upgraded_to_again(world: World) -> None:
    world.upgrade()
    world.rollback()
    assert {tuple(on_disk) for on_disk in world.machines.installed.values()} == {(R25.id, R26.id)}
    world.upgrade()
    assert world.on == {R26.id}


def test_a_rollback_neither_soaks_nor_pauses(built: Built) -> None:
    world = World(built, with_policy(canary={"soak": 600, "auto_promote": False}))
    world.upgrade(promoted=True)
    before = world.site.clock.monotonic()
    world.rollback()
    assert world.on == {R25.id}
    assert world.site.clock.monotonic() - before < 600


def test_a_paused_canary_goes_on_at_a_persons_word(built: Built) -> None:
    world = World(built, with_policy(canary={"soak": 60, "auto_promote": False}))
    with pytest.raises(Inconclusive, match="paused: the canary engine-0 is healthy"):
        world.upgrade()
    assert world.machines.current == dict.fromkeys(world.machines.current, R25.id) | {"engine-0": R26.id}
    with pytest.raises(Inconclusive, match="paused: the canary engine-0 is healthy"):
        world.upgrade()
    world.upgrade(promoted=True)
    assert world.on == {R26.id}


def test_a_paused_canary_can_be_rolled_back(built: Built) -> None:
    world = World(built, with_policy(canary={"soak": 60, "auto_promote": False}))
    with pytest.raises(Inconclusive):
        world.upgrade()
    change = world.rollback()
    assert (names(change.plan.moves), world.on) == (["engine-0"], {R25.id})
    assert world.services.vhosts == {vhost_of(R25)}


def test_after_a_rollback_a_newer_patch_of_the_older_series_takes_the_schema_as_it_is(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.upgrade()
    world.rollback()
    patch = replace(R25, heat=HeatVersion(25, 0, 3))
    monkeypatch.setitem(KNOWN, patch.id, patch)
    world.remote.ran.clear()
    world._do(plan_upgrade(world.site, patch), Built(patch, world.built.archive))
    assert (world.on, world.services.head) == ({patch.id}, R26.alembic_head)
    assert not world.remote.scripts("db_sync")
    assert {tuple(on_disk) for on_disk in world.machines.installed.values()} == {(R25.id, R26.id, patch.id)}


@pytest.mark.parametrize("fails", [r"mariadb-dump", r"db_sync$", r"upgrade check$"])
def test_a_database_that_cannot_be_prepared_ends_the_run_before_any_host_is_touched(world: World, fails: str) -> None:
    world.remote.on(fails, Result(1, "", "No space left on device"))
    with pytest.raises(Exception, match="No space left on device"):
        world.upgrade()
    assert not world.remote.scripts(r"systemctl (stop --no-block|start)|^ln -sfn|add_vhost")
    assert world.kept.steps("failed") == ["database database-0"]


def test_an_upgrade_whose_log_is_on_a_full_disk_moves_every_host_all_the_same(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Runs(tmp_path / "runs", world.site.clock).begin("local", "r")
    for name in ("events.jsonl", "journal.jsonl"):
        (log.directory / name).symlink_to("/dev/full")
    change, kept = plan_upgrade(world.site, R26), Journal(world.site.clock, log)
    with world.site.progress.heard(log.event):
        roll_out(world.site, change, world.built, kept, gate=lambda: None, promoted=False)
    assert world.on == {R26.id}
    assert len(caplog.messages) == 1


# --- what fails before any host moves

FULL = Result(1, "", "No space left on device")
EARLY = {
    "an installation": r"^mkdir -p /opt/heat/releases$",
    "settings": r"^put ",
    "Heat's own check": r"upgrade check$",
    "the migration": r"db_sync$",
}
TOUCHED = r"systemctl (stop|start)|^ln -sfn|set server"


def _with_canary_moved(world: World) -> World:
    """Return a region whose first engine an earlier run moved."""
    world.machines.current["engine-0"] = R26.id
    world.machines.installed["engine-0"].append(R26.id)
    return world


@pytest.mark.parametrize("fails", EARLY)
def test_what_fails_before_any_host_moved_leaves_all_as_it_was_and_says_so(world: World, fails: str) -> None:
    world.remote.on(EARLY[fails], FULL)
    with pytest.raises(FailedAndReverted, match=r"No space left on device.*; this run has moved no host") as caught:
        world.upgrade()
    assert caught.value.exit_code == 8
    assert isinstance(caught.value.__cause__, CommandFailed)
    assert "run the same command again" in caught.value.hint
    assert not world.remote.scripts(TOUCHED)
    assert world.on == {R25.id}


@pytest.mark.parametrize("fails", EARLY)
def test_what_fails_where_an_earlier_run_moved_some_leaves_the_fleet_mixed(world: World, fails: str) -> None:
    _with_canary_moved(world).remote.on(EARLY[fails], FULL)
    with pytest.raises(FleetMixed, match=r"No space left on device.*; this run has moved no host") as caught:
        world.upgrade()
    assert caught.value.exit_code == 7
    assert not world.remote.scripts(TOUCHED)
    assert world.on == {R25.id, R26.id}


def test_settings_that_cannot_be_written_in_a_region_that_is_there_mix_no_fleet(world: World) -> None:
    world.upgrade()
    world.remote.on(r"^put ", FULL)
    with pytest.raises(FailedAndReverted, match="this run has moved no host"):
        world.upgrade()
    assert world.on == {R26.id}


def test_a_migration_that_fails_is_told_with_how_to_restore_what_was_before(world: World) -> None:
    world.remote.on(r"db_sync$", FULL)
    with pytest.raises(FailedAndReverted, match=r"^the schema could not be migrated: engine-0: ") as caught:
        world.upgrade()
    ((path, head),) = world.services.backups.items()
    assert head == R25.alembic_head
    assert caught.value.hint.endswith(f"gzip -dc {path} | mariadb, as root on database-0")


@pytest.mark.parametrize(("moved", "kind", "code"), [(False, BackupFailed, 8), (True, FleetMixed, 7)])
def test_a_backup_that_fails_is_told_as_what_it_is_and_leaves_a_fleet_mixed_that_was(
    world: World, moved: bool, kind: type[PipelineError], code: int
) -> None:
    (_with_canary_moved(world) if moved else world).remote.on("mariadb-dump", FULL)
    with pytest.raises(kind, match=r"^the database could not be backed up, so nothing was changed: ") as caught:
        world.upgrade()
    assert (caught.value.exit_code, caught.value.hint) == (code, "look at the disk and mariadb of database-0")
    assert "moved no host" not in caught.value.message
    assert not world.remote.scripts(rf"db_sync|{TOUCHED}")


@pytest.mark.parametrize("pattern", ["add_vhost", "version_num"])
def test_a_service_that_stays_away_before_any_host_moved_is_told_as_away(world: World, pattern: str) -> None:
    world.remote.on(pattern, Result(1, "", "ERROR 2002 (HY000): Can't connect"))
    with pytest.raises(Unanswered, match="did not answer: ") as caught:
        world.upgrade()
    assert caught.value.exit_code == 11
    assert not world.remote.scripts(TOUCHED)


def test_a_host_that_fails_is_not_told_as_what_failed_before_any_moved(world: World) -> None:
    world.remote.on(rf"^ln -sfn \S*{R26.id}", FULL)
    with pytest.raises(FailedAndReverted, match=f"engine-0 is back on {R25.id}") as caught:
        world.upgrade()
    assert "moved no host" not in caught.value.message


# --- all of it goes back


def _fails_on(world: World, name: str) -> None:
    """Let release 26 not start on a host."""
    world.remote.on(rf"^ln -sfn \S*{R26.id}", Result(1, "", "Job for heat failed"), host=name)


@pytest.mark.parametrize("name", ORDER)
def test_with_auto_revert_all_the_region_is_as_it_was_whatever_host_fails(built: Built, name: str) -> None:
    world = World(built, with_policy(auto_revert="all"))
    _fails_on(world, name)
    with pytest.raises(FailedAndReverted, match=f"is back on {R25.id}; done: none; failed: {name}") as caught:
        world.upgrade()
    assert caught.value.exit_code == 8
    assert world.on == {R25.id}


def _lost() -> None:
    raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")


@pytest.mark.parametrize(
    ("meanwhile", "changes"),
    [("mariadb-dump", r"db_sync|add_vhost|^ln -sfn"), ("db_sync$", r"add_vhost|^ln -sfn")],
    ids=["the backup", "the migration"],
)
def test_a_run_that_lost_its_lock_while_the_database_was_prepared_changes_nothing_more(
    world: World, meanwhile: str, changes: str
) -> None:
    def owned() -> None:
        if world.remote.scripts(meanwhile):
            _lost()

    with pytest.raises(LockLost):
        world.upgrade(owned=owned)
    assert not world.remote.scripts(changes)
    assert world.on == {R25.id}


def test_a_run_that_lost_its_lock_in_a_drain_starts_no_host_and_names_the_one_it_left(world: World) -> None:
    def owned() -> None:
        if world.remote.scripts("^systemctl stop --no-block"):
            _lost()

    with pytest.raises(LockLost, match=r"is lost; done: none; failed: engine-0 \(.*; remaining: api-0, ") as caught:
        world.upgrade(owned=owned)
    assert caught.value.exit_code == 5
    assert not world.remote.scripts(r"^ln -sfn|^systemctl start heat-")


def test_a_region_that_goes_back_starts_no_host_once_the_lock_is_lost_in_its_drain(built: Built) -> None:
    world = World(built, with_policy(auto_revert="all"))
    _fails_on(world, "api-1")
    stop, back = "^systemctl stop --no-block", rf"^ln -sfn \S*{R25.id}"

    def owned() -> None:
        if world.remote.steps(stop=stop, back=back)[-2:] == ["back api-1", "stop api-0"]:
            _lost()

    with pytest.raises(FleetMixed, match=r"^halted; "):
        world.upgrade(owned=owned)
    assert world.remote.steps(back=back) == ["back api-1"]


@pytest.mark.parametrize("revert", ["batch", "all"])
@pytest.mark.parametrize("name", ["engine-0", "api-1"])
def test_a_run_that_lost_its_lock_puts_nothing_back(built: Built, revert: str, name: str) -> None:
    world = World(built, with_policy(auto_revert=revert))
    _fails_on(world, name)
    started = rf"^ln -sfn \S*{R26.id}"

    def owned() -> None:
        if f"start {name}" in world.remote.steps(start=started):
            _lost()

    with pytest.raises(FleetMixed, match=f"^halted; .*failed: {name}"):
        world.upgrade(owned=owned)
    assert not world.remote.scripts(rf"^ln -sfn \S*{R25.id}")
    assert "could not be put back: local: the lock of run r is lost" in said(world.site.progress)


def test_a_region_that_goes_back_stops_when_the_lock_is_lost(built: Built) -> None:
    world = World(built, with_policy(auto_revert="all"))
    _fails_on(world, "api-1")
    back = rf"^ln -sfn \S*{R25.id}"

    def owned() -> None:
        if len(world.remote.scripts(back)) == 2:
            _lost()

    with pytest.raises(FleetMixed, match=r"^halted; "):
        world.upgrade(owned=owned)
    assert len(world.remote.scripts(back)) == 2
    assert set(world.machines.current.values()) == {R25.id, R26.id}


def test_a_host_that_fails_on_its_way_back_is_left_when_the_lock_is_lost(built: Built) -> None:
    world = World(built, with_policy(auto_revert="all"))
    _fails_on(world, "api-1")
    back = rf"^ln -sfn \S*{R25.id}"
    world.remote.on(back, Result(1, "", "Job for heat failed"), host="api-0")

    def owned() -> None:
        if "back api-0" in world.remote.steps(back=back):
            _lost()

    with pytest.raises(FleetMixed, match=r"^halted; "):
        world.upgrade(owned=owned)
    assert world.remote.steps(there=rf"^ln -sfn \S*{R26.id}", back=back)[-1] == "back api-0"


@pytest.mark.parametrize("name", ORDER[1:])
def test_with_auto_revert_batch_what_moved_stays_and_the_same_command_goes_on(built: Built, name: str) -> None:
    world = World(built, with_policy(auto_revert="batch"))
    _fails_on(world, name)
    with pytest.raises(FleetMixed, match=f"{name} is back on {R25.id}"):
        world.upgrade()
    moved = {one for one, release in world.machines.current.items() if release == R26.id}
    assert moved == set(ORDER[: ORDER.index(name)])
    world.remote.on(rf"^ln -sfn \S*{R26.id}", world.machines._act)
    change = world.upgrade()
    assert (names(change.plan.moves), world.on) == (ORDER[ORDER.index(name) :], {R26.id})


# --- killed anywhere


class Killed(BaseException):
    """The pipeline is gone: nothing in it may catch this."""


class Mortal:
    """A Remote whose pipeline is killed after so many scripts; `watch` looks at the region after each of them."""

    def __init__(self, remote: ScriptedRemote, after: int, watch: Callable[[str], None]) -> None:
        self.left = after
        self._remote = remote
        self._watch = watch
        self._lock = threading.RLock()

    def run(self, host: Host, script: str, **options: Any) -> Result:
        with self._lock:
            if self.left <= 0:
                raise Killed
            try:
                return self._remote.run(host, script, **options)
            finally:
                self.left -= 1
                self._watch(script)

    def put(self, host: Host, source: Path, target: str) -> None:
        self._remote.put(host, source, target)

    def close(self) -> None:
        self._remote.close()


def _served(world: World) -> Callable[[str], None]:
    """Return what fails the test where customers are not served: no API in rotation, or one without an engine."""
    inventory = world.site.region.inventory
    machines = world.machines

    def at_work(role: Role) -> set[str]:
        hosts = [host.name for host in inventory.of(role)]
        return {machines.current[name] for name in hosts if machines.running[name] and name not in machines.draining}

    def look(script: str) -> None:
        apis = [host.name for host in inventory.of(Role.API)]
        serving = [name for name in apis if machines.running[name] and machines.rotation[name] == "ready"]
        assert serving, f"no API serves after: {script}"
        for name in serving:
            assert machines.current[name] in at_work(Role.ENGINE), f"no engine works for {name} after: {script}"

    return look


def _killed(world: World, after: int, act: Callable[[], object]) -> bool:
    """Let the pipeline live for so many scripts of `act`; return whether it was killed."""
    whole = world.site
    mortal = Mortal(world.remote, after, _served(world))
    world.site = replace(whole, remote=mortal)  # type: ignore[arg-type]
    with suppress(Killed):
        act()
    world.site = whole
    return mortal.left <= 0


def _on_all_kills(world: Callable[[], World], act: Callable[[World], object]) -> list[World]:
    """Return a region for each script after which `act` can be killed, as it was left there."""
    left = []
    for after in range(1, 500):
        one = world()
        if not _killed(one, after, lambda one=one: act(one)):  # type: ignore[misc]
            break
        left.append(one)
    assert len(left) > 40
    return left


def _slow(built: Built) -> World:
    """Return a region on release 25 whose units take a while to stop."""
    world = World(built)
    world.machines.looks = {"engine-0": 2, "engine-1": 2, "api-0": 1}
    return world


def _upgraded(built: Built) -> World:
    """Return the same on release 26, with release 25 to go back to."""
    world = _slow(built)
    world.machines.current = dict.fromkeys(world.machines.current, R26.id)
    world.machines.installed = {name: [R25.id, R26.id] for name in world.machines.installed}
    world.services.head, world.services.vhosts = R26.alembic_head, {vhost_of(R26)}
    return world


def test_an_upgrade_that_is_killed_anywhere_is_finished_by_the_same_command(built: Built) -> None:
    for world in _on_all_kills(lambda: _slow(built), World.upgrade):
        change = plan_upgrade(world.site, R26)
        assert names(change.plan.moves) == ORDER[len(ORDER) - len(change.plan.moves) :]
        assert not _killed(world, 10**6, world.upgrade)
        assert world.on == {R26.id}
        assert world.services.vhosts == {vhost_of(R26)}
        assert world.services.head == R26.alembic_head


def test_a_rollback_that_is_killed_anywhere_is_finished_by_the_same_command(built: Built) -> None:
    for world in _on_all_kills(lambda: _upgraded(built), World.rollback):
        assert not _killed(world, 10**6, lambda: world.rollback(R25))  # noqa: B023 (called at once)
        assert world.on == {R25.id}
        assert world.services.vhosts == {vhost_of(R25)}


def test_an_upgrade_that_is_killed_anywhere_can_be_rolled_back_instead(built: Built) -> None:
    for world in _on_all_kills(lambda: _slow(built), World.upgrade):
        assert not _killed(world, 10**6, lambda: world.rollback(R25))  # noqa: B023 (called at once)
        assert world.on == {R25.id}
        assert world.services.vhosts == {vhost_of(R25)}


def test_a_last_host_that_is_mended_by_a_second_run_leaves_the_release_to_go_back_to(built: Built) -> None:
    world = World(built, with_policy(auto_revert="none"))

    def switch_only(host: Host, script: str) -> Result:
        world.machines.current[host.name] = R26.id
        return Result(1, "", "Job for heat-engine failed")

    world.remote.on(rf"^ln -sfn \S*{R26.id}", switch_only, host="engine-1")
    with pytest.raises(FleetMixed, match="failed: engine-1"):
        world.upgrade()
    world.remote.on(rf"^ln -sfn \S*{R26.id}", world.machines._act)
    world.upgrade()
    assert world.on == {R26.id}
    assert {tuple(on_disk) for on_disk in world.machines.installed.values()} == {(R25.id, R26.id)}


def test_an_upgrade_that_is_taken_up_again_keeps_the_backup_from_before_its_migration(built: Built) -> None:
    world = World(built)
    world.machines.lost["engine-0"] = 10**6
    with pytest.raises(HostUnreachable):
        world.upgrade()
    world.machines.lost.clear()
    world.upgrade()
    assert R25.alembic_head in world.services.backups.values()
