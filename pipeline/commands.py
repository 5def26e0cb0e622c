"""What is run on hosts, as text: each function returns one POSIX sh script, to be run as root in one round trip."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.hostfiles import CURRENT
from pipeline.installation import RELEASES

__all__ = [
    "DRAINING",
    "apply_files",
    "ask_api",
    "ask_engine",
    "count_workers",
    "db_sync",
    "due",
    "enable",
    "make_user",
    "manifest",
    "purge_deleted",
    "remove_release",
    "service_clean",
    "start",
    "stop",
    "switch",
    "upgrade_check",
    "write_files",
]


def make_user() -> str:
    """Make the system user and group `heat` that the services run as; harmless where they are."""
    return (
        "getent passwd heat >/dev/null || "
        "useradd --system --user-group --home-dir /var/lib/heat --no-create-home --shell /usr/sbin/nologin heat"
    )


def enable(units: Sequence[str]) -> str:
    """Start `units` now and at every boot."""
    names = shlex.join(units)
    return f"set -eu\nsystemctl daemon-reload\nsystemctl enable --quiet {names}\nsystemctl start {names}"


def due(unit: str) -> str:
    """Return the path of the note that `unit` has not read yet what was written for it: machines have several roles."""
    return f"/run/heat-restart-due-{unit}"


def write_files(write: str, unit: str) -> str:
    """Run script `write`, which prints the paths it changed, and print them; note that `unit` has them to read."""
    return f"""\
set -eu
changed=$(
{write}
)
[ -z "$changed" ] || : >{due(unit)}
echo "$changed\""""


def apply_files(write: str, units: Sequence[str], *, sockets: Sequence[str] = (), before: str = "true") -> str:
    """Run script `write`, which prints the paths it changed; restart `units` if it printed any, and see that they run.

    `sockets` name socket units (and their services) that are bound anew first; `before` runs before anything is
    restarted. Prints what `write` printed. A restart that fails, or that a lost host never came to, is made up for by
    the next run: a note in /run says that it is due.
    """
    names = shlex.join(units)
    bound = "".join(
        f"    systemctl stop {name}.socket {name}.service\n    systemctl start {name}.socket\n"
        for name in map(shlex.quote, sockets)
    )
    return f"""\
{write_files(write, units[0])}
systemctl enable --quiet {names}
if [ -e {due(units[0])} ]; then
    {before}
    systemctl daemon-reload
{bound}    systemctl reload-or-restart {names}
    rm -f {due(units[0])}
fi
systemctl start {names}"""


DRAINING = "draining"
"""What `stop` prints while a unit has not ended yet."""


def count_workers() -> str:
    """Print how many workers the engine of this host has now; one that has a single worker forks none."""
    return """\
pid=$(systemctl show --property MainPID --value heat-engine)
[ "${pid:-0}" != 0 ] || { echo 0; exit 0; }
children=$(pgrep -c -P "$pid" || true)
[ "$children" != 0 ] || children=1
echo $children"""


def stop(units: Sequence[str]) -> str:
    """Tell `units` to stop, by TERM, and print DRAINING where they have not ended within two seconds.

    systemd goes on with the stop whatever becomes of the connection, so this may be said again and again. When all
    have ended, prove it: no process of user heat may be left (status 1 where one is). Prints each unit's Result as
    systemd saw it: "success", or "timeout" where it had to kill.
    Source: Heat drains on TERM, and stops at once on INT.
    """
    names = shlex.join(units)
    return f"""\
set -eu
systemctl stop --no-block {names}
for look in 1 2 3 4 5 6 7 8 9 10; do
    ended=yes
    for unit in {names}; do
        case "$(systemctl is-active "$unit" || true)" in inactive | failed | unknown) ;; *) ended=no ;; esac
    done
    [ "$ended" = no ] || break
    sleep 0.2
done
if [ "$ended" = no ]; then
    echo {DRAINING}
    exit 0
fi
if left=$(pgrep -a -u heat); then
    echo "still running after the stop: $left" >&2
    exit 1
fi
systemctl show --property Result --value {names} | grep . | sort -u"""


def switch(release_id: str) -> str:
    """Point the link `current` at a release in one step; the release must be complete on disk."""
    release = shlex.quote(f"{RELEASES}/{release_id}")
    return f"""\
set -eu
test -f {release}/manifest.json
test -f {release}/etc/heat.conf
ln -sfn {release} {CURRENT}.partial
mv -fT {CURRENT}.partial {CURRENT}"""


def start(units: Sequence[str]) -> str:
    """Start `units`, forgetting earlier failures of theirs."""
    names = shlex.join(units)
    return (
        f"set -eu\nsystemctl daemon-reload\nsystemctl reset-failed {names} 2>/dev/null || true\nsystemctl start {names}"
    )


def manifest(release_id: str) -> str:
    """Print the manifest of an installed release."""
    return f"cat {shlex.quote(f'{RELEASES}/{release_id}/manifest.json')}"


def db_sync(release_id: str) -> str:
    """Migrate the schema with the code of `release_id`. Source: Heat's upgrades guide, with the new code, once."""
    return _heat(release_id, "heat-manage", "db_sync")


def upgrade_check(release_id: str) -> str:
    """Run Heat's own `heat-status upgrade check` of the new code."""
    return _heat(release_id, "heat-status", "upgrade", "check")


def purge_deleted(release_id: str, days: int) -> str:
    """Remove what was soft-deleted more than `days` days ago."""
    return _heat(release_id, "heat-manage", "purge_deleted", "--granularity", "days", str(days))


def service_clean(release_id: str) -> str:
    """Remove the rows of engines that are no more. Source: Heat's upgrades guide, after the last engine moved."""
    return _heat(release_id, "heat-manage", "service", "clean")


def remove_release(release_id: str) -> str:
    """Remove an installed release; refused for the one that `current` names.

    It is gone at once; its thousands of files are deleted by systemd after the connection has moved on. Safe to run
    again, also where the connection was lost in between.
    """
    release, doomed = shlex.quote(f"{RELEASES}/{release_id}"), shlex.quote(f"{RELEASES}/.removed-{release_id}")
    return f"""\
set -eu
[ "$(readlink -f {CURRENT})" != {release} ]
if [ -e {release} ]; then
    rm -rf -- {doomed}
    mv -T -- {release} {doomed}
fi
systemd-run --quiet --collect --no-block --property=Nice=19 rm -rf -- {doomed}"""


def ask_api(url: str, token: str) -> str:
    """Print what `url` answers a customer with `token`, which stays off every command line."""
    return f"""\
curl --silent --show-error --fail-with-body --max-time 30 --config - <<'END'
url = "{url}"
header = "X-Auth-Token: {token}"
header = "Accept: application/json"
END"""


def ask_engine(release_id: str, engine_ids: Sequence[str]) -> str:
    """Ask each worker of this host's engine by RPC whether it listens, then the engine for its revision; print that.

    Status 1 where one gives no answer within ten seconds: the worker may be up and registered, and talk to nobody.
    It runs as nobody in Heat's group, for a process of user heat would count as an engine that is left after its stop,
    and without a queue manager, whose counter is the engine's own.
    """
    root = f"{RELEASES}/{release_id}"
    command = shlex.join([f"{root}/venv/bin/python", "-W", "ignore", "-", f"{root}/etc/heat.conf", *engine_ids])
    return f"""export OS_OSLO_MESSAGING_RABBIT__USE_QUEUE_MANAGER=false
cd / && setpriv --reuid nobody --regid heat --clear-groups {command} <<'END'
import sys
from oslo_config import cfg
from heat.common import config, context, messaging
from heat.rpc import api
cfg.CONF(["--config-file", sys.argv[1]], project="heat", prog="heat-engine")
messaging.setup()
admin = context.get_admin_context()
for worker in sys.argv[2:]:
    listener = messaging.get_rpc_client(topic=api.LISTENER_TOPIC, version="1.0", server=worker)
    listener.prepare(timeout=10).call(admin, "listening")
engine = messaging.get_rpc_client(topic=api.ENGINE_TOPIC, version="1.0", server=cfg.CONF.host)
print(engine.prepare(timeout=10).call(admin, "get_revision"))
END"""


def _heat(release_id: str, program: str, *arguments: str) -> str:
    """A command of Heat, run as the user whose files it may read."""
    root = f"{RELEASES}/{release_id}"
    command = shlex.join([f"{root}/venv/bin/{program}", "--config-file", f"{root}/etc/heat.conf", *arguments])
    return f"cd / && setpriv --reuid heat --regid heat --init-groups {command}"
