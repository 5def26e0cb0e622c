"""The questions: what the checks of a host will ask it, so that all of it is asked in one round trip.

Each is a command as testinfra's `host.run` takes it. A check asks the same question again, and gets the answer from
memory; one that is missing here costs a round trip, and nothing else. None may hold a secret: see pipeline.edges.batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from pipeline.checks.brokerfacts import ask_broker
from pipeline.checks.drift import expected_files, settings_in
from pipeline.edges.balancer import ASK_SERVERS
from pipeline.edges.testinfra_backend import Question
from pipeline.environment import Role
from pipeline.hostfiles import CURRENT, PROXY, UNITS
from pipeline.installation import RELEASES, release_dir
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = [
    "ACCOUNTS", "ADMIN_SOCKET", "BACKLOG", "BROKERS", "CONFIGURATION", "CONNECTIONS", "CURRENT_LINK", "ENCRYPTED",
    "FAILED_UNITS", "GALERA", "GRANTS", "HOSTNAME", "LOGIN", "READ_ONLY", "RELEASES_HERE", "REVISION", "SCHEMA",
    "SERVERS", "SHARED", "SOCKETS", "SYSTEM_STATE", "WORKERS", "beside", "broker", "certificate", "checksum",
    "configured", "digests", "disks", "health", "identity_of", "journal", "peers", "process", "questions", "reach",
    "unit", "variables",
]  # fmt: skip

# of every host

FAILED_UNITS: Question = ("systemctl list-units --failed --plain --no-legend",)
SYSTEM_STATE: Question = ("systemctl is-system-running",)
HOSTNAME: Question = ("hostname --short",)
LOGIN: Question = ('echo "$SUDO_USER"; id -un',)
SOCKETS: Question = ("ss --no-header --listening --tcp --udp --numeric --processes",)


def disks(target: Host) -> Question:
    """Room where a host writes, a line each; a service may keep its data on a volume of its own."""
    kept = _KEPT.get(target.role)
    return (f"{_ROOM} $(ls -d %s 2>/dev/null)", kept) if kept else (_ROOM,)


_ROOM = "df --output=avail,ipcent,target -B1M / /opt /var/lib"
_KEPT = {Role.DATABASE: "/var/lib/mysql", Role.MESSAGING: "/var/lib/rabbitmq"}


def unit(name: str) -> Question:
    """What systemd says of a unit."""
    return ("systemctl show -- %s", f"{name}.service")


def process(name: str) -> Question:
    """A unit's main process: its directory, its user, its children; then each one's open files, and how many it may."""
    return (_PROCESS, f"{name}.service")


_PROCESS = """\
pid=$(systemctl show --property MainPID --value -- %s)
[ "${pid:-0}" != 0 ] || exit 0
basename -- "$(readlink "/proc/$pid/cwd")"
stat -c %%U "/proc/$pid"
pgrep -c -P "$pid"
for one in "$pid" $(pgrep -P "$pid"); do
    [ -d "/proc/$one/fd" ] || continue
    echo "$(ls "/proc/$one/fd" | wc -l) $(awk '/^Max open files/ {print $4}' "/proc/$one/limits")"
done"""


def digests(target: Host, site: Site, release: Release, vhost: str) -> Question:
    """Mode, owner and digest of each file the pipeline writes, a line each; one that is missing has none."""
    paths = [file.path for file in expected_files(target, site, release, vhost)]
    return (_DIGESTS % " ".join(["%s"] * len(paths)), *paths)


_DIGESTS = """\
for file in %s; do
    [ -f "$file" ] && echo "$file $(stat -c '%%%%a %%%%U:%%%%G' "$file") $(sha256sum <"$file" | cut -c 1-64)"
done
true"""

# of hosts that run Heat

CURRENT_LINK: Question = ('basename -- "$(readlink %s)"', CURRENT)
REVISION: Question = ("sed -n 's/^heat_revision *= *//p' %s", f"{CURRENT}/etc/heat.conf")
SHARED: Question = (
    "set -eu; cd %s; { sed '/^#/d; /^host *=/d' etc/heat.conf; cat manifest.json; } | sha256sum",
    CURRENT,
)
RELEASES_HERE: Question = (f"for manifest in {RELEASES}/*/manifest.json; do cat \"$manifest\"; printf '\\0'; done",)


def checksum(release: Release) -> Question:
    """The digest of a release's manifest on disk."""
    return ("sha256sum -- %s", f"{release_dir(release.id)}/manifest.json")


def journal(name: str) -> Question:
    """The last errors that a unit wrote to its journal since it was started."""
    return (_JOURNAL, f"{name}.service")


_JOURNAL = """\
run=$(systemctl show --property InvocationID --value -- %s)
[ -n "$run" ] || exit 0
{ journalctl --quiet --no-pager --output cat "_SYSTEMD_INVOCATION_ID=$run" || echo "- - 0 ERROR journalctl failed"; } |
    grep -aE '^[^ ]+ [^ ]+ [0-9]+ (ERROR|CRITICAL) ' | cut -c 1-300 | tail -n 300
true"""


def reach(host: Host, port: int) -> Question:
    """Whether a connection can be opened; testinfra's own question gives up after a second, which is soon on a busy
    host.
    """
    return ("timeout 10 bash -c ': </dev/tcp/%s/%s'", host.address, str(port))


def peers(site: Site) -> tuple[tuple[Host, int], ...]:
    """The services that every host with Heat must reach: (host, port)."""
    ports = {Role.DATABASE: 3306, Role.MESSAGING: site.environment.messaging_ports[0]}
    return tuple((host, ports[host.role]) for host in site.region.inventory.of(*ports))


def certificate(site: Site) -> Question | None:
    """When Keystone's certificate ends, as this host trusts it; None where Keystone is asked without TLS."""
    host, port = identity_of(site)
    return (_CERTIFICATE, host, str(port)) if port else None


def identity_of(site: Site) -> tuple[str, int]:
    """Host and port of Keystone where it is asked over TLS, else ("", 0)."""
    url = urlsplit(site.region.identity.auth_url)
    return (url.hostname or "", url.port or 443) if url.scheme == "https" else ("", 0)


_CERTIFICATE = """\
python3 - %s %s <<'END'
import socket, ssl, sys
name, port = sys.argv[1], int(sys.argv[2])
try:
    with socket.create_connection((name, port), 10) as plain:
        with ssl.create_default_context().wrap_socket(plain, server_hostname=name) as secure:
            print(ssl.cert_time_to_seconds(secure.getpeercert()["notAfter"]))
except OSError as error:
    sys.exit(str(error))
END"""


def health(target: Host, port: int, scheme: str = "http") -> Question:
    """The HTTP status of /healthcheck, "000" where nothing answers. Whom to trust is a matter of customers: smoke."""
    url = f"{scheme}://{target.serves}:{port}/healthcheck"
    return ("curl --silent --insecure --output /dev/null --max-time 10 --write-out '%%{http_code}' %s", url)


# of the database's host


def _sql(query: str) -> Question:
    return ("mariadb --batch --skip-column-names --execute %s", query)


SCHEMA = _sql("SELECT version_num FROM heat.alembic_version")
GRANTS = _sql(
    "SELECT DISTINCT CONCAT('database ', table_schema) FROM information_schema.schema_privileges "
    "WHERE grantee LIKE '''heat''@%' UNION SELECT CONCAT('global ', privilege_type) FROM "
    "information_schema.user_privileges WHERE grantee LIKE '''heat''@%' AND privilege_type <> 'USAGE'"
)
ACCOUNTS = _sql("SELECT CONCAT(User, '@', Host) FROM mysql.global_priv WHERE User = '' OR Host <> 'localhost'")
CONNECTIONS = _sql(
    "SELECT @@max_connections; SELECT variable_value FROM information_schema.global_status "
    "WHERE variable_name = 'Max_used_connections'"
)
READ_ONLY = _sql("SELECT @@global.read_only")
BACKLOG = _sql(
    "SELECT COUNT(*), COALESCE(MAX(DATEDIFF(UTC_TIMESTAMP(), deleted_at)), 0) FROM heat.stack "
    "WHERE deleted_at IS NOT NULL"
)
WORKERS = _sql(
    "SELECT host FROM heat.service WHERE deleted_at IS NULL AND "
    "TIMESTAMPDIFF(SECOND, COALESCE(updated_at, created_at), UTC_TIMESTAMP()) <= 2 * report_interval"
)


# Not a SELECT: in a cluster that waits until the member has caught up, which is what is asked about.
GALERA = _sql(
    "SHOW STATUS WHERE Variable_name IN "
    "('wsrep_cluster_size', 'wsrep_cluster_status', 'wsrep_local_state_comment', 'wsrep_ready')"
)


def variables(names: Sequence[str]) -> Question:
    """The server's variables of these names, as it has them now: NAME TAB VALUE."""
    listed = ", ".join(f"'{name}'" for name in sorted(names))
    return _sql(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")


# of the others


def broker(vhost: str) -> Question:
    """What the broker says of itself; see pipeline.checks.brokerfacts."""
    return (ask_broker(vhost),)


BROKERS: Question = ("rabbitmqctl -q cluster_status --formatter json",)
ENCRYPTED: Question = ("rabbitmqctl -q --no-table-headers list_connections ssl peer_host",)
CONFIGURATION: Question = ("haproxy -c -f /etc/haproxy/haproxy.cfg",)
SERVERS: Question = (ASK_SERVERS,)
ADMIN_SOCKET: Question = ("stat -c '%a %U' /run/haproxy/admin.sock",)


def questions(target: Host, site: Site, release: Release, vhost: str) -> tuple[Question, ...]:
    """Return all that the checks of `target` will ask it."""
    asked = [FAILED_UNITS, SYSTEM_STATE, disks(target), HOSTNAME, LOGIN, SOCKETS]
    asked.append(digests(target, site, release, vhost))
    asked += [question(name) for name in UNITS[target.role] for question in (unit, process)]
    asked += [unit(name) for name in beside(target, site)]
    if target.role in (Role.API, Role.ENGINE):
        asked += _of_heat(target, site, release)
    if target.role in (Role.API, Role.LOADBALANCER):
        scheme = site.environment.scheme if target.role is Role.LOADBALANCER else "http"
        heat = site.environment.heat
        asked += [health(target, port, scheme) for port in (heat.api_port, heat.cfn_port)]
    if target.role is Role.LOADBALANCER:
        asked += [CONFIGURATION, SERVERS, ADMIN_SOCKET]
    if site.environment.topology.is_cluster(target.role):
        asked.append(GALERA if target.role is Role.DATABASE else BROKERS)
    if target.role is Role.MESSAGING:
        asked += [broker(vhost), *([ENCRYPTED] if site.environment.heat_uses_tls else [])]
    if target.role is Role.DATABASE:
        asked += [SCHEMA, GRANTS, ACCOUNTS, CONNECTIONS, READ_ONLY, BACKLOG, WORKERS]
        asked.append(variables(tuple(configured(target, site, release, vhost))))
    return tuple(asked)


def _of_heat(target: Host, site: Site, release: Release) -> Iterator[Question]:
    yield from (CURRENT_LINK, REVISION, SHARED, checksum(release))
    yield from (journal(name) for name in UNITS[target.role])
    yield from (reach(host, port) for host, port in peers(site))
    if keystone := certificate(site):
        yield keystone
    if target in site.region.inventory.of(Role.ENGINE)[:1]:
        yield RELEASES_HERE


def beside(target: Host, site: Site) -> tuple[str, ...]:
    """Return the units that a host runs beside its role's own: the way to a database's cluster, where there is one."""
    heat = target.role in (Role.API, Role.ENGINE)
    return (PROXY,) if heat and site.environment.topology.is_cluster(Role.DATABASE) else ()


def configured(target: Host, site: Site, release: Release, vhost: str) -> dict[str, str]:
    """Return the server's variables that its configuration sets, by the names the server has for them."""
    lines = [line for file in expected_files(target, site, release, vhost) for line in file.content.splitlines()]
    return {key.replace("-", "_"): value for key, value in settings_in(lines, "mariadbd").items()}
