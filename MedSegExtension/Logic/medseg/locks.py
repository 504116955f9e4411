"""Locks of the operating system on files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import sys
from typing import IO, Any

#: The byte that is locked on Windows, where what is locked cannot be read: far behind what is written.
_BYTE = 1 << 30


def try_lock(file: IO[Any]) -> bool | None:
    """Lock an open file without waiting. True: ours until it is closed. False: somebody else's. None: no locks here.

    Raises ``OSError`` where the file system answers anything else.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise
    return True
