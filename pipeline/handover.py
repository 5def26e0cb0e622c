"""Handing a file from host to host: the program that serves one file for a while, and the scripts around it.

Pure: text in, text out. A giver serves from a transient systemd unit, as a user that exists for it alone and has no
way to the file but its standard input. The path that it answers to it makes up itself: it is in no list of processes.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass

__all__ = ["FETCH_GRACE", "SERVE", "File", "fetch", "give", "has", "read_url", "server", "stop_giving"]

FETCH_GRACE = 90.0  # seconds that a fetch may take beside what curl is given: for an earlier one's end, and the digest
_UNIT = "heat-pipeline-spread.service"
_SAID = "/run/heat-pipeline/spread"
_CONNECT = 5  # seconds: a firewall between hosts says nothing at all
_STALLED = 30  # seconds in which a transfer must move on
_URL = re.compile(r"http://[\w.:\[\]-]+:\d+/[\w-]{40,}")
_STARTS = 100  # tenths of a second until a server has to be there

SERVE = """\
import http.server, os, re, secrets, signal, socketserver, sys

address, seconds = sys.argv[1], int(sys.argv[2])
signal.alarm(seconds)  # its end, whoever forgets it
path, size, file = "/" + secrets.token_urlsafe(32), os.fstat(0).st_size, open(0, "rb")

class Handler(http.server.BaseHTTPRequestHandler):
    timeout = 30

    def do_GET(self):
        wanted = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range", "bytes=0-"))
        start = int(wanted[1]) if wanted else 0
        if not secrets.compare_digest(self.path.encode(), path.encode()):
            return self.send_error(404)
        if start >= size:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", "bytes " + str(start) + "-" + str(size - 1) + "/" + str(size))
        self.end_headers()
        self.connection.sendfile(file, start, size - start)

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = 10 if ":" in address else 2

    def server_bind(self):  # http.server's own asks the DNS for its name
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, *_):
        pass

server = Server((address, 0), Handler)
host = "[" + address + "]" if ":" in address else address
print("http://" + host + ":" + str(server.server_address[1]) + path, flush=True)
server.serve_forever()
"""
"""What a giver runs, with the file as its standard input, an address and its seconds to live as arguments.

It prints the file's URL. No dollar and no percent sign is in it: systemd would read them.
"""

_CONFINED = (
    "DynamicUser=yes",
    "CapabilityBoundingSet=",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=strict",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictSUIDSGID=yes",
    "TasksMax=32",
    "Nice=5",
)


@dataclass(frozen=True, slots=True)
class File:
    """A file as hosts are to have it: its absolute path there, its sha256 (hex) and its size in bytes."""

    path: str
    sha256: str
    size: int


def has(file: File) -> str:
    """Return the script that ends with 0 where a host has the whole file, with 1 where it has not.

    Where it has, what a fetch that broke off left behind is of no use any more, and removed.
    """
    return f"{_digest(file)}\nwhole {shlex.quote(file.path)} || exit 1\nrm -f {shlex.quote(_partial(file))}"


def give(file: File, address: str, seconds: float) -> str:
    """Return the script, run as root, that serves `file` on the host's own `address` for `seconds`; it prints the URL.

    What an earlier run left serving ends. The script fails where the server is not there within ten seconds.
    """
    return f"""\
set -eu
umask 077
install -d -m 0700 {_SAID.rpartition("/")[0]} {_SAID}
systemctl stop {_UNIT} 2>/dev/null || true  # none there is well
said=$(mktemp {_SAID}/XXXXXXXX)
trap 'rm -f "$said"' EXIT
{_systemd_run(file, address, seconds)}
tries=0
until read -r url <"$said"; do
    tries=$((tries + 1))
    [ "$tries" -lt {_STARTS} ] || {{ echo "{_UNIT} says nothing: journalctl -u {_UNIT}" >&2; exit 1; }}
    sleep 0.1
done
echo "$url\""""


def stop_giving() -> str:
    """Return the script, run as root, that ends what `give` started; none there is well."""
    return f"systemctl stop {_UNIT} 2>/dev/null || true"


def read_url(answer: str) -> str | None:
    """Return the URL that `give` printed, None where it is none."""
    url = answer.strip()
    return url if _URL.fullmatch(url) else None


def fetch(file: File, url: str, seconds: float) -> str:
    """Return the script that has a host fetch `file` from `url` within `seconds`; `file.path` is whole or not at all.

    It goes on where an earlier one broke off, waits for one that still runs, and fetches nothing where the file is
    there already. It fails (1) with a line on stderr; what arrived damaged is thrown away.
    """
    return f"""\
set -eu
umask 077
target={shlex.quote(file.path)}
partial={shlex.quote(_partial(file))}
{_digest(file)}
die() {{ echo "$1" >&2; exit 1; }}
exec 9>>"$partial"
flock -w {_STALLED} 9 || die "an earlier fetch has not ended"
if whole "$target"; then
    rm -f "$partial"
    exit 0
fi
tries=0
until whole "$partial"; do
    [ "$(wc -c <"$partial")" -lt {file.size} ] || : >"$partial"
    tries=$((tries + 1))
    [ "$tries" -le 3 ] || die "it arrived damaged, or broke off again and again"
    ended=0
    printf 'url = "%s"\\n' {shlex.quote(url)} | {_curl(url, seconds)} --output "$partial" || ended=$?
    case $ended in
    0 | 18 | 56) ;;       # whole, or broken off: go on from there
    33) : >"$partial" ;;  # a server that only gives the whole
    *) die "curl ended with $ended" ;;
    esac
done
sync "$partial"
mv -f -- "$partial" "$target"
sync "$(dirname "$target")\""""


def _partial(file: File) -> str:
    return f"{file.path}.fetched"


def _digest(file: File) -> str:
    """Return the shell function `whole PATH`; the digest is made from standard input, so no name can spoil it."""
    return f"""\
whole() {{ [ -f "$1" ] && [ "$(sha256sum <"$1")" = "{file.sha256}  -" ]; }}"""


def _curl(url: str, seconds: float) -> str:
    limits = (f"--connect-timeout {_CONNECT}", f"--max-time {math.ceil(seconds)}", "--speed-limit 1024")
    # Between hosts there is no proxy; what lies at a URL of the environment's may have moved, but not to plain HTTP.
    peer = url.startswith("http:")
    way = "--proto =http --noproxy '*'" if peer else "--proto =https --proto-redir =https --location"
    fixed = f"--fail --globoff --silent --show-error --continue-at - --speed-time {_STALLED}"
    return f"curl --disable --config - {fixed} {' '.join(limits)} {way}"


def _systemd_run(file: File, address: str, seconds: float) -> str:
    """Return the line that starts the unit; systemd opens the file as root, and hands it over as standard input."""
    limit = math.ceil(seconds)
    properties = (f"RuntimeMaxSec={limit}", f"StandardInput=file:{file.path}", *_CONFINED)
    unit = ("--quiet", "--collect", f"--unit={_UNIT}", "--service-type=exec")
    run = shlex.join(("systemd-run", *unit, *(f"--property={one}" for one in properties)))
    return f'{run} --property=StandardOutput=file:"$said" {server(address, seconds)}'


def server(address: str, seconds: float) -> str:
    """Return the command that serves its standard input; it is what the unit runs."""
    return shlex.join(("/usr/bin/python3", "-I", "-c", SERVE, address, str(math.ceil(seconds))))
