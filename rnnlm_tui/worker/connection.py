"""Connection: one client of the control socket, and whether it belongs to this user."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Connection:
    """What was received and not heard yet, what waits to be sent, and how much of it is in work."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    in_work: int = 0
    """Commands of this connection that aren't answered yet."""
    reading: bool = True
    """False after its end of file or a refused line: what is in work is answered, then it is closed."""
    last_heard: float = field(default_factory=time.monotonic)


def same_user(accepted: socket.socket) -> bool:
    """Whether the other end belongs to this user; where the system can't say, the 0700 directory has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _pid, uid, _gid = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid == os.geteuid())
