# SPDX-License-Identifier: BSD-3-Clause
"""The kernel module, inside a VM: what it copies, what it refuses, and what it survives."""

import ctypes
import errno
import fcntl
import os
import random
import signal
import stat
import struct
import subprocess
import time

import pytest

DEVICE = "/dev/eventfd-link"
MODULE = "/eventfd_link.ko"
COPY2 = 1 << 30 | 12 << 16 | ord("D") << 8 | 2  # _IOW('D', 2, struct eventfd_copy2)
TUNSETIFF, TUNGETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 0x800454d2, 2, 0x1000


def insert():
    if not os.path.exists(DEVICE):
        subprocess.run(["insmod", MODULE], check=True)


def remove():
    subprocess.run(["rmmod", "eventfd_link"], check=True)


def complaints():
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return [line for line in log.splitlines()
            if any(word in line for word in ("BUG", "Oops", "WARNING", "Call Trace", "refcount"))]


@pytest.fixture
def device():
    insert()
    before = complaints()
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)
    remove()
    assert complaints() == before
    assert not os.path.exists(DEVICE)


def copy(device, fd, pid, flags=0):
    """The new descriptor, or minus an errno."""
    arg = bytearray(struct.pack("<IiI", fd & 0xffffffff, pid, flags))
    try:
        return fcntl.ioctl(device, COPY2, arg, True)
    except OSError as e:
        return -e.errno


class Other:
    """Another process: runs act, tells what that returns, and waits."""

    def __init__(self, act):
        ours, theirs = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.write(ours[1], repr(act()).encode())
                os.close(theirs[1])
                os.read(theirs[0], 1)
            finally:
                os._exit(0)
        os.close(theirs[0])
        self.hold = theirs[1]
        self.sent = eval(os.read(ours[0], 4096).decode())  # pylint: disable=eval-used
        os.close(ours[0])
        os.close(ours[1])

    def end(self):
        os.close(self.hold)
        os.waitpid(self.pid, 0)


def test_mode():
    insert()
    mode = os.stat(DEVICE)
    assert stat.S_ISCHR(mode.st_mode) and stat.S_IMODE(mode.st_mode) == 0o600
    remove()


def test_an_eventfd_and_a_tap(device):
    def act():
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"copied0", IFF_TAP | IFF_NO_PI))
        return os.eventfd(7), tap
    other = Other(act)
    event, tap = (copy(device, fd, other.pid) for fd in other.sent)
    assert os.read(event, 8) == struct.pack("<Q", 7)
    os.write(event, struct.pack("<Q", 3))
    assert fcntl.ioctl(tap, TUNGETIFF, bytes(40))[:8] == b"copied0\0"
    other.end()
    assert os.read(event, 8) == struct.pack("<Q", 3)  # it outlives the other process
    os.close(event)
    os.close(tap)


def test_flags(device):
    fd = os.eventfd(1)
    plain, cloexec = copy(device, fd, os.getpid()), copy(device, fd, os.getpid(), os.O_CLOEXEC)
    assert not fcntl.fcntl(plain, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert fcntl.fcntl(cloexec, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    for flags in (os.O_NONBLOCK, os.O_CLOEXEC | os.O_NONBLOCK, 1, 0xffffffff):
        assert copy(device, fd, os.getpid(), flags) == -errno.EINVAL
    for x in (fd, plain, cloexec):
        os.close(x)


def test_bad_pids_descriptors_and_pointers(device):
    for pid in (0, -1, -2**31, 2**31 - 1, 4194303):
        assert copy(device, 0, pid) == -errno.ESRCH
    for fd in (999, 65536, 2**31 - 1, 2**31, 0xffffffff):
        assert copy(device, fd, os.getpid()) == -errno.EBADF
    low = os.open("/dev/null", os.O_RDONLY)
    high = fcntl.fcntl(low, fcntl.F_DUPFD, low + 5)
    for fd in range(low + 1, high):  # not the next one that is open
        try:
            os.fstat(fd)
        except OSError:
            assert copy(device, fd, os.getpid()) == -errno.EBADF
    for number in (COPY2 + 1, 0, 0x5401):
        with pytest.raises(OSError) as e:
            fcntl.ioctl(device, number, 0)
        assert e.value.errno == errno.ENOTTY
    libc = ctypes.CDLL(None, use_errno=True)
    for pointer in (0, 1, 0x7fffffff0000, 2**64 - 4096):
        assert libc.ioctl(device, ctypes.c_ulong(COPY2), ctypes.c_void_p(pointer)) == -1
        assert ctypes.get_errno() == errno.EFAULT
    os.close(low)
    os.close(high)


def test_a_kernel_thread_and_a_zombie_have_no_files(device):
    assert copy(device, 0, 2) == -errno.EBADF  # kthreadd
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    time.sleep(0.3)
    assert copy(device, 0, pid) == -errno.EBADF
    os.waitpid(pid, 0)
    assert copy(device, 0, pid) == -errno.ESRCH


def test_an_unprivileged_caller_is_refused(device):
    """Also with a device that root has opened for it: its own files alone."""
    parent = os.getpid()

    def act():
        os.setgid(65534)
        os.setuid(65534)
        try:
            opened = os.open(DEVICE, os.O_RDWR)
        except OSError as e:
            opened = -e.errno
        return (opened, copy(device, 0, parent), copy(device, 0, 1),
                copy(device, 0, os.getpid()) >= 0)
    other = Other(act)
    assert other.sent == (-errno.EACCES, -errno.EPERM, -errno.EPERM, True)
    other.end()


def test_ten_thousand_calls_race_with_the_end_of_their_target(device):
    before = len(os.listdir("/proc/self/fd"))
    calls = copied = gone = 0
    generator = random.Random(1)
    while calls < 10000:
        pid = os.fork()
        if pid == 0:
            fds = [os.eventfd(0) for _ in range(8)]
            for fd in fds:
                os.close(fd)
            os._exit(0)
        if generator.random() < 0.3:
            os.kill(pid, signal.SIGKILL)
        for _ in range(50):
            got = copy(device, generator.randrange(16), pid, os.O_CLOEXEC)
            calls += 1
            if got >= 0:
                os.close(got)
                copied += 1
            else:
                assert got in (-errno.EBADF, -errno.ESRCH)
                gone += 1
        os.waitpid(pid, 0)
    assert len(os.listdir("/proc/self/fd")) == before
    assert copied > 100 and gone > 100


def test_it_stays_while_it_is_open():
    insert()
    fd = os.open(DEVICE, os.O_RDWR)
    assert subprocess.run(["rmmod", "eventfd_link"], check=False, capture_output=True).returncode
    os.close(fd)
    remove()
