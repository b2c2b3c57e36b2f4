# SPDX-License-Identifier: BSD-3-Clause
"""Messages of the vhost-user protocol, and answers, beside those of vhostuser.Guest."""

import socket
import struct


def ask(g, request, payload, fds=()):
    """Send a message that asks for an answer. Returns whether it was refused."""
    data = struct.pack("<III", request, 1 | 8, len(payload)) + payload
    anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]
    g.sock.sendmsg([data], anc if fds else [])
    head = struct.unpack("<III", g._read(12))
    assert head[0] == request
    return struct.unpack("<Q", g._read(head[2]))[0] != 0


def is_hung_up(sock, timeout=5):
    """Wait for the end. What the switch has not read by then makes a reset of it."""
    sock.settimeout(timeout)
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def region(g, size=None, offset=0):
    return struct.pack("<QQQQ", 0, size or g.length, g.base, offset)


def table(*regions, n=None):
    return struct.pack("<II", len(regions) if n is None else n, 0) + b"".join(regions)
