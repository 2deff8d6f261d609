"""What the system says of files and addresses, in words for who has just typed them.

``[Errno 2] No such file or directory`` says neither which setting is meant nor what is there instead.
"""

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_OF_FILES: Final = {
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTDIR: "a part of it is a file, not a folder",
    errno.EACCES: "this user may not do that",
    errno.EPERM: "this user may not do that",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "this user's share of the disk is used up",
    errno.EROFS: "the disk is read-only",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.EMFILE: "too many files are open",
}
_OF_ADDRESSES: Final = {
    errno.ECONNREFUSED: "nobody listens there",
    errno.ECONNRESET: "the connection was cut",
    errno.EPIPE: "the connection was cut",
    errno.ETIMEDOUT: "no answer",
    errno.EHOSTUNREACH: "no way leads to this machine",
    errno.ENETUNREACH: "no way leads to this network",
    errno.EADDRINUSE: "the port is taken",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "this user may not do that; ports below 1024 are for root",
}
_NUMBERED: Final = re.compile(r"\[Errno (-?\d+)\] ")


def of_file(error: OSError, path: Path | str | None = None) -> str:
    """Return why a file or folder cannot be used; ``path``, where the error does not name the one that was meant."""
    meant = path if path is not None else error.filename
    if error.errno == errno.ENOENT and meant is not None:
        return _missing(Path(str(meant)))
    return _OF_FILES.get(error.errno or 0) or error.strerror or str(error) or type(error).__name__


def _missing(path: Path) -> str:
    """Say what is not there: the file, or already its folder; and what is, where only capitals differ."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no folder {path.parent}"
    try:
        near = next((each.name for each in folder.iterdir() if each.name.lower() == path.name.lower()), None)
    except OSError:
        near = None
    return "there is no such file" if near is None else f"there is no such file, but {near}: capitals count"


def of_address(error: BaseException) -> str:
    """Return why an address cannot be reached or listened on, from an error or from what has caused it."""
    for each in _causes(error):
        if isinstance(each, socket.gaierror):
            return "no machine has this name"
        if isinstance(each, OSError) and each.errno in _OF_ADDRESSES:
            return _OF_ADDRESSES[each.errno]
        if isinstance(each, TimeoutError):
            return "no answer"
        number = _NUMBERED.search(str(each))
        if number and not isinstance(each, OSError):
            # paho and aiomqtt keep the words of what they have met, and not itself.
            known = "no machine has this name" if int(number[1]) < 0 else _OF_ADDRESSES.get(int(number[1]))
            if known:
                return known
    return _NUMBERED.sub("", str(error)) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the first of several that came together."""
    found: BaseException | None = error
    for _ in range(8):
        if found is None:
            return
        yield found
        reason = getattr(found, "reason", None)
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        else:
            found = reason if isinstance(reason, BaseException) else found.__cause__ or found.__context__
