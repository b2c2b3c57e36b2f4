# SPDX-License-Identifier: BSD-3-Clause
"""A guest without a VM: a vhost-user front end with a virtio-net driver, in plain Python.

It speaks the vhost-user protocol (QEMU, docs/interop/vhost-user.rst) over the socket, keeps its
rings and buffers in one memfd, and drives virtqueues (virtio 1.1, 2.6), packed ones (2.7) if told
where to begin. Slow, but exact: a test sees every byte, and can break every rule.
"""

import array
import mmap
import os
import socket
import struct
import time

from deadline import Deadline

GET_FEATURES, SET_FEATURES, SET_OWNER = 1, 2, 3
SET_MEM_TABLE = 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES = 15, 16
SET_VRING_ENABLE = 18
SEND_RARP = 19

F_CSUM, F_GUEST_CSUM = 1 << 0, 1 << 1
F_GUEST_TSO4, F_HOST_TSO4 = 1 << 7, 1 << 11
F_GUEST_TSO6, F_HOST_TSO6 = 1 << 8, 1 << 12
F_GUEST_ECN, F_HOST_ECN = 1 << 9, 1 << 13
F_MRG_RXBUF, F_MQ = 1 << 15, 1 << 22
F_INDIRECT, F_PROTOCOL, F_VERSION_1, F_PACKED = 1 << 28, 1 << 30, 1 << 32, 1 << 34
PROTOCOL_MQ, PROTOCOL_RARP, PROTOCOL_REPLY_ACK = 1 << 0, 1 << 2, 1 << 3

DESC_NEXT, DESC_WRITE = 1, 2
HDR_LEN = 12  # virtio-net header with num_buffers
USER_BASE = 0x100000000000  # "user" addresses of the region, any number
ETH_MIN = 60
HUGEPAGE = 2 << 20


class Ring:
    """One split virtqueue, and a buffer for each of its descriptors."""

    def __init__(self, mem, offset, size, buf_len):
        self.mem, self.size, self.buf_len = mem, size, buf_len
        self.desc = offset
        self.avail = offset + 16 * size
        self.used = (self.avail + 6 + 2 * size + 4095) & ~4095
        self.bufs = (self.used + 6 + 8 * size + 4095) & ~4095
        self.end = self.bufs + size * buf_len
        self.avail_idx = self.last_used = 0
        # struct writes byte by byte: the other side would see an index half written.
        self.words = memoryview(mem).cast("H") if mem else None

    def buf(self, i):
        return self.bufs + i * self.buf_len

    def set_desc(self, i, length, flags=0, nxt=0, addr=None):
        addr = self.buf(i) if addr is None else addr
        struct.pack_into("<QIHH", self.mem, self.desc + 16 * i, addr, length, flags, nxt)

    def offer(self, heads):
        for head in heads:
            struct.pack_into("<H", self.mem, self.avail + 4 + 2 * (self.avail_idx % self.size),
                             head)
            self.avail_idx = (self.avail_idx + 1) & 0xffff
        self.words[(self.avail + 2) // 2] = self.avail_idx

    def used_idx(self):
        return self.words[(self.used + 2) // 2]

    def take(self):
        """Used elements that are new: (head, length)."""
        out = []
        while self.last_used != self.used_idx():
            out.append(struct.unpack_from("<II", self.mem,
                                          self.used + 4 + 8 * (self.last_used % self.size)))
            self.last_used = (self.last_used + 1) & 0xffff
        return out


class PackedRing(Ring):
    """The same of a packed virtqueue (2.7), whose buffers have one descriptor each.

    Indices have the wrap counter in bit 15, as SET_VRING_BASE and GET_VRING_BASE have them.
    """

    AVAIL, USED = 1 << 7, 1 << 15

    def __init__(self, mem, offset, size, buf_len):
        super().__init__(mem, offset, size, buf_len)
        self.descs = {}
        if mem:
            self.start_at(0x8000)

    def start_at(self, at):
        """Go on from there: what is after it was used in the round before, the rest in this."""
        self.avail_idx = self.last_used = at
        for i in range(self.size):
            both = (i < (at & 0x7fff)) == bool(at & 0x8000)
            self.words[(self.desc + 16 * i + 14) // 2] = (self.AVAIL | self.USED) * both

    def next(self, at):
        at += 1
        return at if at & 0x7fff < self.size else (at ^ 0x8000) & 0x8000

    def set_desc(self, i, length, flags=0, nxt=0, addr=None):
        self.descs[i] = self.buf(i) if addr is None else addr, length, i, flags

    def offer(self, heads):
        for head in heads:
            addr, length, i, flags = self.descs[head]
            at = self.desc + 16 * (self.avail_idx & 0x7fff)
            struct.pack_into("<QIH", self.mem, at, addr, length, i)
            self.words[(at + 14) // 2] = flags | (
                self.AVAIL if self.avail_idx & 0x8000 else self.USED)
            self.avail_idx = self.next(self.avail_idx)

    def is_used(self, at):
        flags = self.words[(self.desc + 16 * (at & 0x7fff) + 14) // 2]
        wrap = bool(at & 0x8000)
        return bool(flags & self.AVAIL) == bool(flags & self.USED) == wrap

    def used_idx(self):
        at = self.last_used
        while at != self.avail_idx and self.is_used(at):
            at = self.next(at)
        return at

    def take(self):
        out = []
        while self.last_used != self.avail_idx and self.is_used(self.last_used):
            length, head = struct.unpack_from(
                "<IH", self.mem, self.desc + 16 * (self.last_used & 0x7fff) + 8)
            out.append((head, length))
            self.last_used = self.next(self.last_used)
        return out


class Guest:
    """A virtio-net device that is connected to a vhost-user socket."""

    base = USER_BASE
    switch = None  # the harness.Switch, where a test has said which

    def __init__(self, path, mac="52:54:00:00:00:01", features=0, pairs=1, size=256,
                 rx_buffers=None, buf_len=2048, enable=True, sock=None, timeout=10, huge=False,
                 packed_at=None):
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.pairs, self.size = pairs, size
        self.sock = sock or self.connect(path, timeout)
        self.sock.settimeout(timeout)
        fd = os.memfd_create("guest", os.MFD_CLOEXEC | (os.MFD_HUGETLB if huge else 0))
        ring_of = Ring if packed_at is None else PackedRing
        probe = ring_of(None, 0, size, buf_len)
        step = (probe.end + 4095) & ~4095
        page = HUGEPAGE if huge else 4096
        self.length = (step * 2 * pairs + page - 1) // page * page
        os.ftruncate(fd, self.length)
        self.mem = mmap.mmap(fd, self.length)
        self.memfd = fd
        self.rings = [ring_of(self.mem, i * step, size, buf_len) for i in range(2 * pairs)]
        if packed_at is not None:
            features |= F_PACKED
            for ring in self.rings:
                ring.start_at(packed_at)
        self.fds = []
        self.received = []
        self.wanted = features
        self._negotiate(features)
        for i, ring in enumerate(self.rings):
            if i % 2 == 0:
                for j in range(size):
                    ring.set_desc(j, buf_len, DESC_WRITE)
                ring.offer(range(size if rx_buffers is None else rx_buffers))
            self.free_tx = {i: list(range(size)) for i in range(1, 2 * pairs, 2)}
        if enable:
            self.start()

    @staticmethod
    def connect(path, timeout=10):
        end = time.monotonic() + timeout
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(path)
                return sock
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                sock.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def message(self, request, payload=b"", fds=(), reply=False):
        data = struct.pack("<III", request, 1, len(payload)) + payload
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], anc)
        if not reply:
            return None
        head = self._read(12)
        return self._read(struct.unpack("<III", head)[2])

    def _read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise ConnectionError("the switch hung up")
            data += more
        return data

    def u64(self, request, value, fds=()):
        self.message(request, struct.pack("<Q", value), fds)

    def state(self, request, index, num, reply=False):
        return self.message(request, struct.pack("<II", index, num), reply=reply)

    def _negotiate(self, features):
        self.message(SET_OWNER)
        self.offered = struct.unpack("<Q", self.message(GET_FEATURES, reply=True))[0]
        want = features | F_VERSION_1 | F_PROTOCOL | (F_MQ if self.pairs > 1 else 0)
        self.features = self.offered & want
        self.message(GET_PROTOCOL_FEATURES, reply=True)
        self.u64(SET_PROTOCOL_FEATURES, PROTOCOL_RARP | (PROTOCOL_MQ if self.pairs > 1 else 0))
        self.u64(SET_FEATURES, self.features)
        region = struct.pack("<QQQQ", 0, self.length, self.base, 0)
        self.message(SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [self.memfd])

    def start(self, pairs=None, first=0):
        """Start and enable so many queue pairs, all without a number."""
        some = range(2 * first, 2 * (first + (pairs or self.pairs)))
        for i in some:
            ring = self.rings[i]
            kick, call = os.eventfd(0), os.eventfd(0, os.EFD_NONBLOCK)
            self.fds += [kick, call]
            self.state(SET_VRING_NUM, i, ring.size)
            base = ring.last_used
            if self.features & F_PACKED and not isinstance(ring, PackedRing):
                base |= 1 << 15  # others drive it, from the beginning: the wrap counter is 1
            self.state(SET_VRING_BASE, i, base)
            self.message(SET_VRING_ADDR, struct.pack(
                "<IIQQQQ", i, 0, self.base + ring.desc, self.base + ring.used,
                self.base + ring.avail, 0))
            self.u64(SET_VRING_CALL, i, [call])
            self.u64(SET_VRING_KICK, i, [kick])
        for i in some:
            self.state(SET_VRING_ENABLE, i, 1)

    def reconnect(self, sock):
        """To a switch that has been started again: its rings go on where they are."""
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        sock.settimeout(10)
        self.sock, self.fds = sock, []
        self._negotiate(self.wanted)
        self.start()

    def stop(self):
        for i in range(len(self.rings)):
            self.state(GET_VRING_BASE, i, 0, reply=True)

    def send(self, frames, pair=0, hdr=bytes(HDR_LEN), timeout=20):
        """Send frames and wait until the switch has taken them all."""
        i = 2 * pair + 1
        ring = self.rings[i]
        for frame in frames:
            self._reclaim(i, timeout)
            head = self.free_tx[i].pop()
            at = ring.buf(head)
            self.mem[at:at + HDR_LEN + len(frame)] = hdr + frame
            ring.set_desc(head, HDR_LEN + len(frame))
            ring.offer([head])
        self._reclaim(i, timeout, all_of_them=True)

    def _reclaim(self, i, timeout, all_of_them=False):
        deadline = Deadline(timeout)
        while True:
            self.free_tx[i] += [head for head, _ in self.rings[i].take()]
            if len(self.free_tx[i]) == self.size or (self.free_tx[i] and not all_of_them):
                return
            if deadline.is_over():
                raise TimeoutError("the switch does not take frames")
            time.sleep(0.0005)

    def poll(self, refill=True, headers=False):
        """Frames that have come in, whatever the queue pair."""
        out = []
        for i in range(0, len(self.rings), 2):
            ring, used = self.rings[i], self.rings[i].take()
            while used:
                head, length = used.pop(0)
                at = ring.buf(head)
                hdr = self.mem[at:at + HDR_LEN]
                frame = self.mem[at + HDR_LEN:at + length]
                heads = [head]
                for _ in range(struct.unpack_from("<H", hdr, 10)[0] - 1):
                    head, length = used.pop(0)
                    frame += self.mem[ring.buf(head):ring.buf(head) + length]
                    heads.append(head)
                out.append((hdr, frame, i // 2) if headers else frame)
                if refill:
                    ring.offer(heads)
        return out

    def recv(self, n=1, timeout=5, **kw):
        """Wait for n frames."""
        out = []
        deadline = Deadline(timeout)
        while len(out) < n:
            out += self.poll(**kw)
            if len(out) < n:
                if deadline.is_over():
                    raise TimeoutError(f"{len(out)} of {n} frames came")
                time.sleep(0.0005)
        return out

    def quiet(self, seconds=0.3):
        """Assert that nothing comes."""
        time.sleep(seconds)
        got = self.poll()
        assert not got, f"unexpected: {[f.hex() for f in got]}"

    def frame(self, dst, payload=b"", vlan=None, src=None, ethertype=0x88b5):
        if isinstance(dst, Guest):
            dst = dst.mac
        elif isinstance(dst, str):
            dst = bytes.fromhex(dst.replace(":", ""))
        tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
        data = dst + (src or self.mac) + tag + struct.pack(">H", ethertype) + payload
        return data + bytes(max(0, ETH_MIN - len(data)))

    def announce(self):
        """Make the switch learn the MAC, by a broadcast."""
        self.send([self.frame("ff:ff:ff:ff:ff:ff", b"announce")])

    def close(self):
        self.sock.close()
        for fd in self.fds + [self.memfd]:
            os.close(fd)
        self.fds = []
        for ring in self.rings:
            ring.words.release()
        self.mem.close()


class Listener:
    """A guest's end of a socket that the switch connects to, as QEMU's with server=on."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen()
        self.sock.settimeout(30)

    def accept(self):
        """A connection; not one that the switch has given up, since nobody had taken it."""
        while True:
            sock = self.sock.accept()[0]
            try:
                if sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    return sock
            except BlockingIOError:
                return sock
            sock.close()

    def guest(self, mac, **kw):
        return Guest(None, mac, sock=self.accept(), **kw)

    def close(self):
        os.unlink(self.sock.getsockname())
        self.sock.close()
