# SPDX-License-Identifier: BSD-3-Clause
"""The CUSE way in, tested inside a VM whose kernel has CUSE. tests/vm/test_cuse.py runs this."""

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

import eventfd_link
import vhostnet as vn
from harness import APP, Switch, eal_args, wait_for
from vhostnet import DEVICE, Device, VhostNet
from vhostuser import Guest

TESTPMD = "/usr/bin/dpdk-testpmd"


@pytest.fixture(params=["pidfd_getfd", "eventfd_link"])
def taking(request):
    """Both ways of taking descriptors over."""
    if request.param == "pidfd_getfd":
        yield ()
        return
    eventfd_link.insert()
    yield ("--eventfd-link",)
    eventfd_link.remove()


def cuse_switch(*args, **kw):
    return Switch("--dev-basename", "usvhost", "--socket-file", "vhost-net", *args, **kw)


def descriptors(switch):
    """What the switch has open. Some may be closed while this looks."""
    found = []
    for fd in os.listdir(f"/proc/{switch.proc.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{switch.proc.pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return sorted(found)


def settled_descriptors(switch):
    """The same once nothing comes and goes any more: a question to telemetry is a socket too."""
    last, now = None, descriptors(switch)
    while last != now:
        time.sleep(0.3)
        last, now = now, descriptors(switch)
    return now


def exchange(a, b, n=40):
    """Frames of many lengths both ways, compared byte by byte."""
    for x, y in ((a, b), (b, a)):
        sent = [x.frame(y, os.urandom(i * 37 % 1480 + 1)) for i in range(n)]
        x.send(sent)
        assert y.recv(n, timeout=20) == sent


def introduce(*guests):
    for g in guests:
        g.announce()
    time.sleep(0.3)
    for g in guests:
        g.poll()


def test_frames_both_ways_with_a_vhost_user_guest(taking):
    with cuse_switch(*taking) as s:
        mode = os.stat(DEVICE)
        assert stat.S_ISCHR(mode.st_mode) and os.major(mode.st_rdev) == 10
        a = VhostNet("02:00:00:00:00:0a")
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        # stop and go, as a driver that is reloaded
        a.stop()
        s.wait_path(0, "stopped")
        a.start()
        s.wait_path(0, "running")
        introduce(a, b)
        exchange(a, b)
        c = VhostNet("02:00:00:00:00:0c")
        s.wait_guests(3)
        introduce(c)
        b.poll()
        a.poll()
        exchange(a, c)
        for g in (a, b, c):
            g.close()
        s.wait_guests(0)


def test_mergeable_buffers_and_the_taps_name():
    with cuse_switch("--mergeable", "1") as s:
        tap = tap_with_an_interface(b"guest7")
        a = VhostNet("02:00:00:00:00:0a", features=1 << 15, tap=tap)
        b = Guest(s.sock, "02:00:00:00:00:0b", features=1 << 15)
        s.wait_guests(2)
        introduce(a, b)
        big = b.frame(a, os.urandom(8000))
        b_ring = b.rings[1]
        assert b_ring.buf_len < len(big)
        exchange(a, b)
        assert s.has("starts its guest (guest7)")
        assert s.guests()["0"]["socket"].startswith("/run/vhost-switch-usvhost")
        a.close()
        b.close()
        os.close(tap)


def test_a_stopped_switch_leaves_no_device_and_a_killed_one_no_hindrance():
    with cuse_switch() as s:
        assert os.path.exists(DEVICE)
        second = subprocess.run([APP, *eal_args("second", "0", 64), "--", "-p", "0x0",
                                 "--dev-basename", "usvhost"], capture_output=True, text=True,
                                check=False)
        assert second.returncode == 1 and len(second.stderr.splitlines()) == 1
        assert "--dev-basename names /dev/usvhost, which exists" in second.stderr
    assert not os.path.exists(DEVICE) and not os.path.exists("/run/vhost-switch-usvhost.sock")
    s = cuse_switch()
    a = VhostNet()
    s.wait_guests(1)
    s.proc.kill()
    s.proc.wait()
    with pytest.raises(OSError):
        a.call(vn.GET_FEATURES, bytes(8))
    a.close()
    wait_for(lambda: not os.path.exists(DEVICE))
    with cuse_switch() as s:
        a, b = VhostNet("02:00:00:00:00:0a"), Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        a.close()
        b.close()


def test_stopped_while_guests_are_connected():
    s = cuse_switch()
    a = VhostNet("02:00:00:00:00:0a")
    s.wait_guests(1)
    s.stop()
    with pytest.raises(OSError) as e:
        a.call(vn.GET_FEATURES, bytes(8))
    assert e.value.errno in (errno.ENOTCONN, errno.ENODEV)
    a.close()


def test_clients_killed_at_every_step():
    with cuse_switch() as s:
        a, b = VhostNet("02:00:00:00:00:0a"), Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(2)
        introduce(a, b)
        before = settled_descriptors(s)
        for steps in range(18):
            child = os.fork()
            if child == 0:
                try:
                    VhostNet("02:00:00:00:00:0c", steps=steps)
                except BaseException:
                    pass
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            wait_for(lambda: descriptors(s) == before, what=f"descriptors back after step {steps}")
            s.wait_guests(2)
            if steps % 6 == 0:
                exchange(a, b, 5)
        exchange(a, b)
        a.close()
        b.close()


def refused(guest, command, data, error):
    with pytest.raises(OSError) as e:
        guest.call(command, data)
    assert e.value.errno == error, e.value


def pair(index, value):
    return struct.pack("<Ii", index, value)


def table(*regions, padding=0, n=None):
    return struct.pack("<II", len(regions) if n is None else n, padding) + b"".join(
        struct.pack("<QQQQ", *r, 0) for r in regions)


def addresses(index, desc, used, avail, flags=0, log=0):
    return struct.pack("<IIQQQQ", index, flags, desc, used, avail, log)


class Recorder:
    """An open of a vhost-net device that notes what each ioctl comes to."""

    def __init__(self, path, things):
        self.device, self.notes = Device(path), []
        self.__dict__.update(things)

    def __call__(self, command, data=b""):
        try:
            answer = self.device.ioctl(command, data)
            self.notes.append(answer.hex() if isinstance(answer, bytes) else answer)
        except OSError as e:
            self.notes.append(errno.errorcode[e.errno])

    def ring(self, index=0):
        """Set one up, in memory that is set up."""
        self(vn.SET_VRING_NUM, pair(index, 256))
        self(vn.SET_VRING_BASE, pair(index, 0))
        at = self.base + 0x4000 * index
        self(vn.SET_VRING_ADDR, addresses(index, at, at + 0x2000, at + 0x1000))

    def memory(self):
        self(vn.SET_MEM_TABLE, table((0, 1 << 20, self.base)))


RING_COMMANDS = [vn.SET_VRING_NUM, vn.SET_VRING_BASE, vn.GET_VRING_BASE, vn.SET_VRING_KICK,
                 vn.SET_VRING_CALL, vn.SET_VRING_ERR, vn.NET_SET_BACKEND, vn.SET_VRING_BUSYLOOP,
                 vn.GET_VRING_BUSYLOOP]
UNKNOWN = [vn.ioc(2, 0x77, 8), vn.ioc(1, 0x13, 8), vn.ioc(1, 0x14, 8), vn.ioc(0, 0x05, 0)]


def without_an_owner(d):
    for command in RING_COMMANDS + UNKNOWN + [vn.SET_LOG_BASE]:
        d(command, pair(0, 1))
        d(command, pair(7, 1))
    d(vn.SET_LOG_FD, struct.pack("<i", -1))
    d(vn.SET_VRING_ADDR, bytes(40))
    d(vn.SET_MEM_TABLE, table(n=65))
    d(vn.SET_MEM_TABLE, table(padding=1))
    d(vn.SET_MEM_TABLE, table())
    d(vn.RESET_OWNER)
    d(vn.SET_FEATURES, struct.pack("<Q", 1 << 32))
    d(vn.SET_FEATURES, b"\xff" * 8)
    d(vn.SET_BACKEND_FEATURES, bytes(8))
    d(vn.SET_BACKEND_FEATURES, b"\x80" + bytes(7))


def owners(d):
    d(vn.SET_OWNER)
    d(vn.SET_OWNER)
    child = os.fork()
    if child == 0:  # another process is no owner
        status = 255
        try:
            d.device.ioctl(vn.SET_VRING_NUM, pair(0, 256))
        except OSError as e:
            status = e.errno
        os._exit(status)
    d.notes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    d(vn.SET_VRING_NUM, pair(0, 256))
    d(vn.RESET_OWNER)
    d(vn.SET_VRING_NUM, pair(0, 256))
    d(vn.RESET_OWNER)
    d(vn.SET_OWNER)
    d(vn.NET_SET_BACKEND, pair(0, -1))  # after it there is a table without regions
    d(vn.NET_SET_BACKEND, pair(0, d.tap))


def indices(d):
    d(vn.SET_OWNER)
    for index in (1, 2, 3, 255, 256, 0x7fffffff, 0x80000000, 0xffffffff):
        for command in RING_COMMANDS + UNKNOWN:
            d(command, struct.pack("<II", index, 0xffffffff))
        d(vn.SET_VRING_ADDR, struct.pack("<I36x", index))


def null_pointers(d):
    d(vn.SET_OWNER)
    for command in RING_COMMANDS + UNKNOWN + [
            vn.SET_LOG_BASE, vn.SET_LOG_FD, vn.SET_VRING_ADDR, vn.SET_MEM_TABLE, vn.SET_FEATURES,
            vn.GET_FEATURES, vn.SET_BACKEND_FEATURES]:
        d(command)


def sizes_and_bases(d):
    d(vn.SET_OWNER)
    for num in (0, 1, 2, 3, 255, 256, 1024, 32768, 32769, 65536, 0x80000000, 0xffffffff):
        d(vn.SET_VRING_NUM, struct.pack("<II", 0, num))
    for num in (0, 1, 0x7fff, 0x8000, 0xffff, 0x10000, 0xffffffff):
        d(vn.SET_VRING_BASE, struct.pack("<II", 1, num))
        d(vn.GET_VRING_BASE, pair(1, 77))
        d(vn.GET_VRING_BASE, pair(0, 77))
    d(vn.GET_VRING_BUSYLOOP, pair(0, 77))
    d(vn.SET_VRING_BUSYLOOP, pair(0, 50))
    d(vn.GET_VRING_BUSYLOOP, pair(0, 77))


def ring_addresses(d):
    d(vn.SET_OWNER)  # there is no memory yet
    for flags in (0, 1, 2, 3, 0x80000000, 0xffffffff):
        d(vn.SET_VRING_ADDR, addresses(0, 0x10000, 0x12000, 0x11000, flags))
    for desc, used, avail, log in ((1, 0, 0, 0), (8, 0, 0, 0), (0, 1, 0, 0), (0, 2, 0, 0),
                                   (0, 4, 0, 0), (0, 0, 1, 0), (0, 0, 2, 0), (0, 0, 0, 1),
                                   (0, 0, 0, 2), (0, 0, 0, 4), (0, 0, 0, 0)):
        d(vn.SET_VRING_ADDR, addresses(0, 0x10000 + desc, 0x12000 + used, 0x11000 + avail, 0, log))
    d(vn.SET_VRING_ADDR, addresses(0, 0x10001, 0x12001, 0x11000, 2))  # flags come first


def memory_tables(d):
    d(vn.SET_OWNER)
    region = (0, 1 << 20, d.base)
    d(vn.SET_MEM_TABLE, table())
    d(vn.SET_MEM_TABLE, table(padding=1))
    d(vn.SET_MEM_TABLE, table(region, padding=1))
    d(vn.SET_MEM_TABLE, table(padding=1, n=65))
    d(vn.SET_MEM_TABLE, table(n=65))
    d(vn.SET_MEM_TABLE, table(n=0xffffffff))
    d(vn.SET_MEM_TABLE, table(region))
    d(vn.SET_MEM_TABLE, table(region, (1 << 32, 1 << 12, d.base + (1 << 16))))
    d(vn.SET_MEM_TABLE, table((1 << 20, 0, d.base)))
    d(vn.SET_MEM_TABLE, table(((1 << 64) - 4096, 1 << 20, d.base)))
    d(vn.SET_MEM_TABLE, table(region)[:8] + region_with_flags(region, 0xffffffffffffffff))
    d(vn.SET_MEM_TABLE, table())


def region_with_flags(region, flags):
    return struct.pack("<QQQQ", *region, flags)


def eventfds(d):
    d(vn.SET_OWNER)
    for command in (vn.SET_VRING_KICK, vn.SET_VRING_CALL, vn.SET_VRING_ERR):
        for fd in (-1, d.eventfd, d.eventfd, -1, -1, 999, -2, -0x80000000, d.tap, d.udp, d.memfd,
                   d.pipe, d.path_only, d.device.fd):
            d(command, pair(0, fd))
            d(command, pair(1, fd))
    for fd in (-1, d.eventfd, 999, -2, d.memfd):
        d(vn.SET_LOG_FD, struct.pack("<i", fd))
    for base in (0, d.base, 0x1000):
        d(vn.SET_LOG_BASE, struct.pack("<Q", base))


def backends(d):
    d(vn.SET_OWNER)
    for fd in (-1, 999, d.tap):
        d(vn.NET_SET_BACKEND, pair(0, fd))  # there is no memory yet
    d.memory()
    for fd in (-1, d.memfd, d.tap):
        d(vn.NET_SET_BACKEND, pair(0, fd))  # nor a ring
    d.ring(0)
    d.ring(1)
    for fd in (-1, 999, -2, d.memfd, d.pipe, d.eventfd, d.udp, d.packet_dgram, d.path_only,
               d.device.fd, d.unattached):
        d(vn.NET_SET_BACKEND, pair(0, fd))
        d(vn.NET_SET_BACKEND, pair(1, fd))
    for fd in (d.tap, d.tap, d.packet, d.memfd, -1, -1, d.packet, -1):
        d(vn.NET_SET_BACKEND, pair(0, fd))
        d(vn.NET_SET_BACKEND, pair(1, fd))
    # a ring that the client does not have
    d(vn.SET_VRING_ADDR, addresses(0, 0x1000, 0x2000, 0x3000))
    d(vn.NET_SET_BACKEND, pair(0, d.tap))


def a_ring_in_use(d):
    d(vn.SET_OWNER)
    d(vn.SET_FEATURES, struct.pack("<Q", 1 << 32))
    d.memory()
    d.ring(0)
    d(vn.NET_SET_BACKEND, pair(0, d.tap))
    for num in (0, 3, 256):
        d(vn.SET_VRING_NUM, pair(0, num))
        d(vn.SET_VRING_BASE, pair(0, num))
        d(vn.SET_VRING_NUM, pair(1, num))
        d(vn.SET_VRING_BASE, pair(1, num))
    d(vn.SET_VRING_BASE, pair(0, 0x10000))
    for command in (vn.SET_VRING_KICK, vn.SET_VRING_CALL, vn.SET_VRING_ERR):
        d(command, pair(0, d.eventfd))
        d(command, pair(0, -1))
        d(command, pair(0, d.pipe))
    at = d.base
    d(vn.SET_VRING_ADDR, addresses(0, at, at + 0x2000, at + 0x1000))
    d(vn.SET_VRING_ADDR, addresses(0, at, at + 0x2002, at + 0x1000))
    d(vn.GET_VRING_BASE, pair(0, 77))
    d(vn.SET_FEATURES, struct.pack("<Q", 1 << 32 | 1 << 28))
    d.memory()
    d(vn.SET_MEM_TABLE, table())
    d.memory()
    d(vn.NET_SET_BACKEND, pair(0, -1))
    d(vn.GET_VRING_BASE, pair(0, 77))
    d(vn.NET_SET_BACKEND, pair(0, d.tap))
    d(vn.RESET_OWNER)
    d(vn.SET_VRING_NUM, pair(0, 256))


def tap_with_an_interface(name):
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", name, 0x1002))  # TUNSETIFF, IFF_TAP
    return tap


@pytest.fixture
def things():
    """Descriptors, and memory, to name to a device."""
    memfd = os.memfd_create("things")
    os.ftruncate(memfd, 1 << 20)
    mapped = mmap.mmap(memfd, 1 << 20)
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
               socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
               socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)]
    ends, event = os.pipe(), os.eventfd(0)
    fds = {"memfd": memfd, "eventfd": event, "pipe": ends[0],
           "tap": tap_with_an_interface(b"things0"),
           "unattached": os.open("/dev/net/tun", os.O_RDWR),
           "path_only": os.open(f"/proc/self/fd/{event}", os.O_PATH)}
    yield dict(fds, base=ctypes.addressof(ctypes.c_char.from_buffer(mapped)),
               udp=sockets[0].fileno(), packet=sockets[1].fileno(),
               packet_dgram=sockets[2].fileno())
    for fd in [*fds.values(), ends[1]]:
        os.close(fd)
    for s in sockets:
        s.close()


@pytest.mark.parametrize("talk", [
    without_an_owner, owners, indices, null_pointers, sizes_and_bases, ring_addresses,
    memory_tables, eventfds, backends, a_ring_in_use], ids=lambda f: f.__name__)
def test_answers_are_those_of_the_kernels_vhost_net(talk, things):
    kernels = Recorder("/dev/vhost-net", things)
    talk(kernels)
    kernels.device.close()
    with cuse_switch() as s:
        ours = Recorder(DEVICE, things)
        talk(ours)
        ours.device.close()
        assert len(ours.notes) > 8 and ours.notes == kernels.notes, [
            (i, x, y) for i, (x, y) in enumerate(zip(ours.notes, kernels.notes)) if x != y]
        g = VhostNet()  # it goes on
        s.wait_guests(1)
        g.close()


def test_a_ring_keeps_what_the_client_said_of_it():
    """The kernel's has no order, and SET_BACKEND alone starts and stops."""
    with cuse_switch() as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        a = VhostNet("02:00:00:00:00:0a")
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        a.stop()
        s.wait_path(1, "stopped")
        a.set_backends(a.tap)
        s.wait_path(1, "running")
        introduce(a, b)
        exchange(a, b)
        # in use: asked where it is, without its memory for a time, with other features
        for i, ring in enumerate(a.rings):
            assert a.ring(vn.GET_VRING_BASE, i, 0) == struct.pack("<II", i, ring.used_idx())
        s.wait_path(1, "running")
        introduce(a, b)
        exchange(a, b)
        a.call(vn.SET_MEM_TABLE, table())
        s.wait_path(1, "stopped")
        a.set_memory(0, a.length, a.base)
        s.wait_path(1, "running")
        introduce(a, b)
        exchange(a, b)
        a.call(vn.SET_FEATURES, struct.pack("<Q", a.features | 1 << 28))
        s.wait_path(1, "running")
        introduce(a, b)
        exchange(a, b)
        for g in (a, b):
            g.close()


def test_a_ring_is_set_up_in_another_order_and_without_eventfds():
    with cuse_switch() as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        a = VhostNet("02:00:00:00:00:0a", enable=False)
        a.call(vn.RESET_OWNER)
        a.call(vn.SET_OWNER)
        a.ring(vn.SET_VRING_KICK, 1, -1)
        for i, ring in enumerate(a.rings):
            a.call(vn.SET_VRING_ADDR, addresses(i, a.base + ring.desc, a.base + ring.used,
                                                a.base + ring.avail))
            a.ring(vn.SET_VRING_NUM, i, ring.size)
        a.call(vn.SET_FEATURES, struct.pack("<Q", a.features))
        a.set_memory(0, a.length, a.base)
        a.set_backends(a.tap)
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        for g in (a, b):
            g.close()


def test_out_of_order_and_nonsense():
    with cuse_switch() as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        a = VhostNet.__new__(VhostNet)
        a.steps, a.sock = None, Device()
        a.call(vn.GET_FEATURES, bytes(8))  # once answered, its connection has been accepted
        before = settled_descriptors(s)
        # before VHOST_SET_OWNER
        for command in (vn.SET_VRING_NUM, vn.SET_VRING_BASE, vn.SET_VRING_KICK, vn.SET_VRING_CALL,
                        vn.SET_VRING_ERR, vn.NET_SET_BACKEND, vn.GET_VRING_BASE):
            refused(a, command, pair(0, 1), errno.EPERM)
        refused(a, vn.SET_VRING_ADDR, bytes(40), errno.EPERM)
        refused(a, vn.RESET_OWNER, b"", errno.EPERM)
        wait_for(lambda: sum("refused" in line for line in list(s.lines)) == 9, what="nine lines")
        a.call(vn.SET_OWNER)
        refused(a, vn.SET_OWNER, b"", errno.EBUSY)
        assert s.has("the last line about this guest")
        for i in (2, 3, 255, 256, 1 << 31):
            refused(a, vn.SET_VRING_NUM, struct.pack("<II", i, 256), errno.ENOBUFS)
            refused(a, vn.GET_VRING_BASE, struct.pack("<II", i, 0), errno.ENOBUFS)
            refused(a, vn.NET_SET_BACKEND, struct.pack("<Ii", i, 0), errno.ENOBUFS)
        for num in (0, 3, 65536, 0xffffffff):
            refused(a, vn.SET_VRING_NUM, struct.pack("<II", 0, num), errno.EINVAL)
        refused(a, vn.SET_VRING_BASE, struct.pack("<II", 0, 65536), errno.EINVAL)
        refused(a, vn.SET_FEATURES, b"\xff" * 8, errno.EOPNOTSUPP)
        refused(a, vn.SET_BACKEND_FEATURES, b"\1" + bytes(7), errno.EOPNOTSUPP)
        assert a.call(vn.GET_BACKEND_FEATURES, bytes(8)) == bytes(8)
        for command in (vn.ioc(1, 0x13, 8), vn.ioc(2, 0x77, 8), 0x5401):
            refused(a, command, bytes(8), errno.ENOTTY)
        # descriptors: closed, negative, no eventfd
        for fd, error in ((999, errno.EBADF), (-2, errno.EBADF), (0, errno.EINVAL)):
            refused(a, vn.SET_VRING_KICK, pair(0, fd), error)
            refused(a, vn.SET_VRING_CALL, pair(1, fd), error)
        refused(a, vn.NET_SET_BACKEND, pair(0, 999), errno.EFAULT)  # there is no memory
        a.call(vn.SET_VRING_ERR, pair(0, -1))
        a.call(vn.GET_VRING_BASE, pair(0, 0))
        wait_for(lambda: descriptors(s) == before, what="descriptors back")
        a.sock.close()
        c = VhostNet("02:00:00:00:00:0c")
        s.wait_guests(2)
        c.call(vn.RESET_OWNER)  # all forgotten
        s.wait_guests(1)
        refused(c, vn.SET_VRING_NUM, pair(0, 256), errno.EPERM)
        c.close()
        introduce(b)
        b.close()


def test_bad_memory():
    with cuse_switch() as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        a = VhostNet("02:00:00:00:00:0a", enable=False)
        before = settled_descriptors(s)
        shared, at = a.base, lambda n, *r: struct.pack("<II", n, 0) + b"".join(
            struct.pack("<QQQQ", *x, 0) for x in r)
        private = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE)
        private_at = ctypes.addressof(ctypes.c_char.from_buffer(private))
        refused(a, vn.SET_MEM_TABLE, at(1, (0, 1 << 20, private_at)), errno.EFAULT)
        s.wait_log("guest memory is not shared")
        a.call(vn.SET_MEM_TABLE, at(0))
        refused(a, vn.SET_MEM_TABLE, at(65) + bytes(65 * 32), errno.E2BIG)
        refused(a, vn.SET_MEM_TABLE, at(0xffffffff), errno.E2BIG)
        refused(a, vn.SET_MEM_TABLE, at(1, (0, 0, shared)), errno.EFAULT)
        refused(a, vn.SET_MEM_TABLE, at(1, (0, (1 << 64) - 4096, shared)), errno.EFAULT)
        refused(a, vn.SET_MEM_TABLE, at(1, ((1 << 64) - 4096, 1 << 20, shared)), errno.EFAULT)
        refused(a, vn.SET_MEM_TABLE, at(1, (0, 4096, 0x1000)), errno.EFAULT)
        # a mapping longer than its file would be a SIGBUS in the switch
        fd = os.memfd_create("short")
        os.ftruncate(fd, 1 << 20)
        short = mmap.mmap(fd, 1 << 20)
        os.ftruncate(fd, 4096)
        refused(a, vn.SET_MEM_TABLE,
                at(1, (0, 1 << 20, ctypes.addressof(ctypes.c_char.from_buffer(short)))),
                errno.EFAULT)
        # nine files
        maps = [mmap.mmap(-1, 1 << 16) for _ in range(18)][::2]
        refused(a, vn.SET_MEM_TABLE, at(9, *((i << 20, 1 << 16, ctypes.addressof(
            ctypes.c_char.from_buffer(m))) for i, m in enumerate(maps))), errno.E2BIG)
        wait_for(lambda: descriptors(s) == before, what="descriptors back")
        a.set_memory(0, a.length, a.base)
        a.start()
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        # rings outside of memory: nobody's harm but its own
        c = VhostNet("02:00:00:00:00:0c", enable=False)
        c.base += 1 << 40
        with pytest.raises(OSError) as e:
            c.start()
        assert e.value.errno == errno.EFAULT
        s.wait_log("the ring is not in guest memory")
        exchange(a, b)
        for g in (a, b, c):
            g.close()


def compat_ioctl(fd, command, data):
    """The ioctl of a 32-bit program, by int 0x80: returns minus errno."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, 54; mov ebx, edi; mov ecx, esi; int 0x80; pop rbx; ret (edx as it comes)
    code.write(bytes.fromhex("53b83600000089fb89f1cd805bc3"))
    low = mmap.mmap(-1, 4096)
    low.write(data)
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(
        ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return call(fd, command, 0x1000)


def test_the_last_of_many_opens_takes_no_longer_than_the_first():
    with cuse_switch() as s:
        devices, took = [], []
        for _ in range(8):
            start = time.monotonic()
            devices += [Device() for _ in range(25)]
            took.append(time.monotonic() - start)
        for d in devices:
            d.close()
        assert sum(took[-2:]) < 3 * sum(took[:2]), took
        wait_for(lambda: not s.guests())


def test_32_bit_ioctls_are_refused():
    with cuse_switch() as s:
        d = Device()
        assert compat_ioctl(d.fd, vn.GET_FEATURES, bytes(8)) == -errno.ENOTTY
        s.wait_log("32-bit ioctl")
        d.ioctl(vn.GET_FEATURES, bytes(8))
        d.close()


def wait_frame(guest, match, timeout=60):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for frame in guest.poll():
            if match(frame):
                return frame
        time.sleep(0.01)
    raise TimeoutError("no such frame")


def test_testpmds_virtio_user(taking):
    """It swaps the MAC addresses of what it gets, and sends it back."""
    mac = "02:00:00:00:00:07"
    with cuse_switch(*taking) as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        p = subprocess.Popen(
            [TESTPMD, "-l", "0,1", "--file-prefix", "tp", "--no-pci", "-m", "256",
             "--single-file-segments", "--no-telemetry",
             "--vdev", f"net_virtio_user0,path={DEVICE},mac={mac},queue_size=256", "--",
             "--forward-mode=macswap", "--tx-first", "--total-num-mbufs=4096", "--auto-start"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            s.wait_guests(2, 60)
            s.wait_log(f"MAC_ADDRESS {mac} and VLAN_TAG 1001 registered", 60)
            introduce(b)
            frames = [b.frame(mac, os.urandom(i * 61 % 1400 + 50)) for i in range(20)]
            for f in frames:
                b.send([f])
                back = f[6:12] + f[:6] + f[12:]
                assert wait_frame(b, lambda x, want=back: x[12:14] == f[12:14]) == back
        finally:
            p.stdin.write("\n")
            out = p.communicate(timeout=30)[0]
        assert "Bye" in out, out
        s.wait_guests(1)
        b.close()


def dhcp_options(frame):
    """Of a frame that is a DHCP request in IPv4 (RFC 2131), else nothing."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != b"\x00\x43":
        return {}
    options, at = {}, 42 + 240
    while at + 1 < len(frame) and frame[at] != 255:
        length = frame[at + 1] if frame[at] else -1
        options[frame[at]] = frame[at + 2:at + 2 + length]
        at += 2 + length
    return options


def dhcp_offer(guest, asked, address=bytes([10, 0, 0, 9]), me=bytes([10, 0, 0, 1])):
    bootp = struct.pack(">BBBB4sHH4s4s4s4s16s64x128x4s", 2, 1, 6, 0, asked[46:50], 0, 0x8000,
                        bytes(4), address, me, bytes(4), asked[70:86], b"\x63\x82\x53\x63")
    bootp += bytes([53, 1, 2, 54, 4]) + me + bytes([51, 4, 0, 0, 2, 0, 1, 4, 255, 255, 255, 0, 255])
    udp = struct.pack(">HHHH", 67, 68, 8 + len(bootp), 0) + bootp
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, me, b"\xff" * 4)
    total = sum(struct.unpack(">10H", ip))
    ip = ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xffff) + ip[12:]
    return asked[6:12] + guest.mac + b"\x08\x00" + ip + udp


def test_a_nested_qemu_through_the_wrapper(taking):
    """QEMU knows of a vhost-net and nothing else. Its firmware asks for an address by DHCP, gets an
    offer from a vhost-user guest, and asks for what it was offered: frames both ways."""
    mac = "52:54:00:00:00:0e"
    with cuse_switch(*taking) as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        introduce(b)
        with subprocess.Popen(
                ["/usr/bin/python3", "/qemu-wrap.py", "-nodefaults", "-display", "none",
                 "-accel", "tcg", "-m", "64",
                 "-netdev", "tap,id=n,ifname=nested0,script=no,downscript=no,vhost=on",
                 "-device", f"virtio-net-pci,netdev=n,mac={mac},vectors=0,bootindex=1"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as qemu:
            try:
                s.wait_log("starts its guest (nested0)", 60)
                requested, end = None, time.monotonic() + 150
                while requested is None:
                    assert qemu.poll() is None, qemu.stdout.read()
                    assert time.monotonic() < end, s.log()
                    for frame in b.poll():
                        options = dhcp_options(frame)
                        if options.get(53) == b"\1":
                            assert frame[6:12].hex(":") == mac == frame[70:76].hex(":")
                            b.send([dhcp_offer(b, frame)])
                        elif options.get(53) == b"\3":
                            requested = options[50]
                    time.sleep(0.05)
                assert requested == bytes([10, 0, 0, 9])
                assert mac in s.telemetry("/vhost_switch/fdb").values()
                assert s.telemetry("/vhost_switch/stats,0")["rx_dropped"] == 0
            finally:
                qemu.kill()
        s.wait_guests(1)
        b.close()
