"""Connection: one client of the control socket, and which process it is."""

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
    peer: int = 0
    """The process at the other end; 0 where the system can't say."""
    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    in_work: int = 0
    """Commands of this connection that aren't answered yet."""
    reading: bool = True
    """False after its end of file or a refused line: what is in work is answered, then it is closed."""
    last_heard: float = field(default_factory=time.monotonic)


def peer_of(accepted: socket.socket) -> int | None:
    """The process at the other end, 0 where the system can't say: the 0700 directory has to do then. None: it is another user's."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    pid, uid, _gid = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid) if uid == os.geteuid() else None
