"""Commands of this machine, run to their end."""

from __future__ import annotations

import subprocess

from pipeline.errors import CommandFailed, ConfigurationInvalid

__all__ = ["run"]


def run(*command: str, stdin: str = "", timeout: float = 60) -> str:
    """Run `command` to its end, at most `timeout` seconds, and return what it printed.

    `stdin` is how it gets secrets and batches. Raises CommandFailed with its last words, ConfigurationInvalid if
    there is no such program.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise ConfigurationInvalid(f"{command[0]} is not installed", hint="inv local.up") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{command[0]} did not end within {timeout:.0f} s", status=-1) from error
    if done.returncode != 0:
        words = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CommandFailed(
            f"{' '.join(command[:4])} ended with {done.returncode}: {words[-1] if words else 'no message'}",
            status=done.returncode, stdout=done.stdout, stderr=done.stderr,
        )  # fmt: skip
    return done.stdout
