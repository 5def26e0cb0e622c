"""Galera, as the members of a database's cluster are told of it: who is in, who begins, who joins.

Pure: scripts as pipeline.commands has them, and the reading of their answers. Sources: MariaDB's documents on Galera,
"Getting Started" and "Recovering a Primary Component".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.commands import due
from pipeline.errors import Inconclusive
from pipeline.hostfiles import WATCH

__all__ = ["PRIMARY", "Position", "ask", "begin", "first", "join", "stop"]

PRIMARY = "Primary"
"""What a member says that belongs to the majority, and so may be written to."""
_DUE = due("mariadb")
_STATE = "/var/lib/mysql/grastate.dat"
_BEGINS = "/run/mariadb-wsrep-new-cluster"  # while galera_new_cluster runs; left behind by one that was killed
_NOBODY = "00000000-0000-0000-0000-000000000000"
_PATIENCE = 60  # seconds for a member to stop: one that waits for others to come hears no TERM


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stopped member had come: which cluster's data it has, and up to which write; -1 for none.

    `safe` says that it was the last to leave.
    """

    cluster: str
    seqno: int
    safe: bool

    @classmethod
    def read(cls, answer: str) -> Position:
        """Return what `stop` printed."""
        position, safe = answer.split()[-2:]
        cluster, _, seqno = position.rpartition(":")
        return cls("" if cluster == _NOBODY else cluster, int(seqno), safe == "1")


def _status(name: str) -> str:
    # Not a SELECT: that waits until the member has caught up with the others, which is what is asked about.
    return f"mariadb --connect-timeout=5 --batch --skip-column-names --execute \"SHOW STATUS LIKE '{name}'\""


def _told(name: str) -> str:
    """Print a status, or nothing where the member does not tell."""
    return f"{_status(name)} 2>/dev/null | cut -f 2"


def ask() -> str:
    """Print PRIMARY where the member is in, else whatever it says, or nothing where it does not run.

    Status 1 where it runs and does not tell: it may be in.
    """
    return f"""\
if said=$({_status("wsrep_cluster_status")}); then
    printf '%s\\n' "$said" | cut -f 2
elif systemctl is-active --quiet mariadb; then
    exit 1
fi"""


def stop() -> str:
    """Stop a member that is not in, and print its Position: of one that fell, as InnoDB's logs have it.

    Status 1 where they cannot be read: it may know what no other does.
    """
    return f"""\
set -eu
timeout {_PATIENCE} systemctl stop mariadb || {{
    systemctl kill --signal KILL mariadb
    systemctl stop mariadb
}}
rm -f {_BEGINS}
cluster='' seqno='' safe=''
if [ -f {_STATE} ]; then
    cluster=$(sed -n 's/^uuid: *//p' {_STATE})
    seqno=$(sed -n 's/^seqno: *//p' {_STATE})
    safe=$(sed -n 's/^safe_to_bootstrap: *//p' {_STATE})
fi
position="$cluster:$seqno"
if [ ! -d /var/lib/mysql/mysql ]; then
    position={_NOBODY}:-1
elif [ "${{seqno:--1}}" = -1 ] || [ -z "$cluster" ]; then
    recovered=$(galera_recovery)
    position=$(printf '%s\\n' "$recovered" | sed -n 's/.*wsrep_start_position=\\([0-9a-f-]*:[0-9-]*\\).*/\\1/p')
    [ -n "$position" ] || {{ echo "galera_recovery tells no position: $recovered" >&2; exit 1; }}
fi
echo "$position ${{safe:-0}}\""""


def first(positions: Mapping[str, Position]) -> str:
    """Return who of the stopped members, by name, begins the cluster anew: whoever has come furthest; of several,
    whoever left last, or the first. All members must be among them, or what one alone knows is lost.

    Raises Inconclusive where they have data of different clusters: which of them counts, a person must say.
    """
    clusters = {one.cluster for one in positions.values() if one.cluster}
    if len(clusters) > 1:
        told = ", ".join(f"{name} {one.cluster}:{one.seqno}" for name, one in positions.items())
        raise Inconclusive(
            f"the database's members have data of different clusters: {told}",
            hint="on each whose data does not count, move what is in /var/lib/mysql aside; then inv deploy again",
        )
    return max(positions, key=lambda name: (positions[name].seqno, positions[name].safe))


def begin() -> str:
    """Begin the cluster with this member's data; the others join it and take them over. Harmless where it is begun."""
    return f"""\
set -eu
{_WATCHED}
if [ "$({_told("wsrep_cluster_status")})" != {PRIMARY} ]; then
    [ ! -f {_STATE} ] || sed -i 's/^safe_to_bootstrap: 0/safe_to_bootstrap: 1/' {_STATE}
    galera_new_cluster
    rm -f {_DUE}
fi"""


def join(seconds: int) -> str:
    """Bring a member into the cluster, or restart one that has settings to read, and wait until it is synced.

    Status 1 where it is not within so many seconds. One that is joining is let go on, whoever told it to.
    """
    return f"""\
set -eu
end=$(($(date +%s) + {seconds}))
{_WATCHED}
left() {{ left=$((end - $(date +%s))); echo $((left > 1 ? left : 1)); }}
rm -f {_BEGINS}
if [ "$(systemctl is-active mariadb)" = activating ]; then
    timeout "$(left)" systemctl start mariadb || true
fi
if [ -e {_DUE} ] || [ "$({_told("wsrep_cluster_status")})" != {PRIMARY} ]; then
    systemctl reset-failed mariadb 2>/dev/null || true
    timeout "$(left)" systemctl restart mariadb && rm -f {_DUE}
fi || true
until [ "$({_told("wsrep_local_state")})" = 4 ]; do
    if [ "$(date +%s)" -ge "$end" ] || systemctl is-failed --quiet mariadb; then
        echo "mariadb is $(systemctl is-active mariadb), not synced with its cluster:" \
            "$({_told("wsrep_local_state_comment")})" >&2
        exit 1
    fi
    sleep 0.5
done"""


_WATCHED = f"""\
if [ -e {_DUE} ]; then watch=restart; else watch=start; fi
systemctl daemon-reload
systemctl enable --quiet mariadb {WATCH}.socket
systemctl reset-failed {WATCH}.socket 2>/dev/null || true
systemctl "$watch" {WATCH}.socket"""
