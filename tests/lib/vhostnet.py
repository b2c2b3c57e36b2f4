# SPDX-License-Identifier: BSD-3-Clause
"""A guest that comes by the character device: the ioctls of the kernel's vhost-net.

The rings and buffers are those of vhostuser.Guest; only the way of telling about them differs.
linux/vhost.h has the ioctls.
"""

import ctypes
import fcntl
import os
import socket
import struct

from vhostuser import F_VERSION_1, Guest

DEVICE = "/dev/usvhost"


def ioc(direction, number, size):
    return direction << 30 | size << 16 | 0xaf << 8 | number


R, W = 2, 1
GET_FEATURES, SET_FEATURES = ioc(R, 0x00, 8), ioc(W, 0x00, 8)
SET_OWNER, RESET_OWNER = ioc(0, 0x01, 0), ioc(0, 0x02, 0)
SET_MEM_TABLE = ioc(W, 0x03, 8)
SET_LOG_BASE, SET_LOG_FD = ioc(W, 0x04, 8), ioc(W, 0x07, 4)
SET_VRING_NUM, SET_VRING_ADDR = ioc(W, 0x10, 8), ioc(W, 0x11, 40)
SET_VRING_BASE, GET_VRING_BASE = ioc(W, 0x12, 8), ioc(R | W, 0x12, 8)
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = (ioc(W, n, 8) for n in (0x20, 0x21, 0x22))
SET_VRING_BUSYLOOP, GET_VRING_BUSYLOOP = ioc(W, 0x23, 8), ioc(W, 0x24, 8)
SET_BACKEND_FEATURES, GET_BACKEND_FEATURES = ioc(W, 0x25, 8), ioc(R, 0x26, 8)
NET_SET_BACKEND = ioc(W, 0x30, 8)


class VhostNet(Guest):
    """steps: how many ioctls to get through before giving up, for tests that die half-way."""

    def __init__(self, mac="52:54:00:00:00:01", steps=None, tap=None, **kw):
        self.steps = steps
        self.packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # a backend, as a tap is one
        self.tap = self.packet.fileno() if tap is None else tap
        super().__init__(None, mac, sock=Device(), **kw)

    def call(self, command, data=b""):
        if self.steps is not None:
            if self.steps == 0:
                raise StopIteration
            self.steps -= 1
        return self.sock.ioctl(command, data)

    def ring(self, command, i, value):
        return self.call(command, struct.pack("<Ii", i, value))

    def _negotiate(self, features):
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.mem))
        self.call(SET_OWNER)
        self.offered = struct.unpack("<Q", self.call(GET_FEATURES, bytes(8)))[0]
        self.features = self.offered & (features | F_VERSION_1)
        self.call(SET_FEATURES, struct.pack("<Q", self.features))
        self.set_memory(0, self.length, self.base)

    def set_memory(self, *region):
        self.call(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, *region, 0))

    def start(self):
        for i, ring in enumerate(self.rings):
            kick, call = os.eventfd(0), os.eventfd(0, os.EFD_NONBLOCK)
            self.fds += [kick, call]
            self.ring(SET_VRING_NUM, i, ring.size)
            self.ring(SET_VRING_BASE, i, ring.last_used)
            self.call(SET_VRING_ADDR, struct.pack(
                "<IIQQQQ", i, 0, self.base + ring.desc, self.base + ring.used,
                self.base + ring.avail, 0))
            self.ring(SET_VRING_CALL, i, call)
            self.ring(SET_VRING_KICK, i, kick)
        self.set_backends(self.tap)

    def set_backends(self, fd):
        for i in range(2):
            self.ring(NET_SET_BACKEND, i, fd)

    def stop(self):
        self.set_backends(-1)
        for i, ring in enumerate(self.rings):
            assert struct.unpack("<II", self.ring(GET_VRING_BASE, i, 0)) == (i, ring.used_idx())


    def close(self):
        self.packet.close()
        super().close()


class Device:
    """An open of the device, in the place of the socket that vhostuser.Guest has."""

    def __init__(self, path=DEVICE):
        self.fd = os.open(path, os.O_RDWR)

    def ioctl(self, command, data=b""):
        if len(data) > 1024:  # more than Python copies
            return fcntl.ioctl(self.fd, command, bytearray(data))
        return fcntl.ioctl(self.fd, command, data) if data else fcntl.ioctl(self.fd, command)

    def settimeout(self, _):
        pass

    def close(self):
        os.close(self.fd)
