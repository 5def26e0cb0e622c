"""Secrets that this process was given: in a variable, or in a file that others cannot read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.edges.secretsources.source import Unreadable
from pipeline.secrets import Reference, Secret

__all__ = ["Files", "Variables"]

_MOST = 65536  # bytes: a secret is no disk


class Variables:
    """Variables of this process."""

    def read(self, reference: Reference) -> Secret:
        """Return the variable's value."""
        if (text := os.environ.get(reference.name)) is None:
            raise Unreadable("the variable is not set", hint=f"export {reference.name}, then the same again")
        return Secret(text)


class Files:
    """Files of this machine, of which the newline at the end is no part of the secret."""

    def read(self, reference: Reference) -> Secret:
        """Return the file's text. A file that every user may read holds no secret."""
        path = Path(reference.name).expanduser()
        try:
            # Without waiting: of a pipe that nobody writes to, opening would never end.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
                about = os.fstat(stream.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise Unreadable("it is no file", hint=f"name another than {path}")
                if about.st_mode & stat.S_IROTH:
                    raise Unreadable("every user may read it", hint=f"chmod 600 {path}")
                content = stream.read(_MOST + 1)
        except OSError as error:
            raise Unreadable(f"{error.strerror}", hint=f"ls -l {path}") from error
        return Secret(_text(content).removesuffix("\n").removesuffix("\r"))


def _text(content: bytes) -> str:
    if len(content) > _MOST:
        raise Unreadable(f"it is larger than {_MOST} bytes", hint="name the file of the secret alone")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("it is not UTF-8 text", hint="keep it as text there") from error
