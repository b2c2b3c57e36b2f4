# SPDX-License-Identifier: BSD-3-Clause
"""Front ends that send what no honest one sends: they harm nobody but themselves.

Each test has two guests that must go on exchanging frames, and a third one that misbehaves.
"""

import os
import shutil
import signal
import struct
import threading
import time

import pytest

from harness import ROOT, Switch, wait_for
from messages import ask, is_hung_up, region, table
from traffic import consistent, exchange, introduce
from vhostuser import (DESC_WRITE, F_MRG_RXBUF, GET_FEATURES, GET_VRING_BASE, SET_FEATURES,
                       SET_MEM_TABLE, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_CALL,
                       SET_VRING_KICK, SET_VRING_NUM, Guest)

F_LOG_ALL = 1 << 26
F_EVENT_IDX, F_PACKED = 1 << 29, 1 << 34
SET_LOG_BASE, NET_SET_MTU, IOTLB_MSG = 6, 20, 22
POSTCOPY_ADVISE, POSTCOPY_LISTEN, SET_INFLIGHT_FD = 28, 29, 32
EFD_MAX = 2 ** 64 - 2
ASAN = os.path.join(ROOT, "build/asan/vhost-switch")


@pytest.fixture(params=["", "--vm2vm 0"], ids=["vm2vm 1", "vm2vm 0"])
def party(request, guests):
    """The switch, two guests that talk (with --vm2vm 0 by a wire that gives all back), one more."""
    with Switch(*request.param.split()) as s:
        a, b, evil = guests(s, 3)
        introduce(a, b, evil)
        yield s, a, b, evil
        assert s.proc.poll() is None, s.log()
        a.poll(), b.poll()
        if not request.param:
            exchange(a, b)
        late = Guest(s.sock, "02:00:00:00:99:99", timeout=5)  # and others can come
        wait_for(lambda: any(g["mac"] == "02:00:00:00:99:99" for g in s.guests().values()) or
                 late.announce(), 5, "a guest that comes later")
        late.close()


def bad_memory(g):
    """Tables that cannot be mapped, and the descriptors that go with them."""
    pipe = os.pipe()
    short, huge = os.memfd_create("short"), os.memfd_create("huge")
    os.ftruncate(short, 4096)
    os.ftruncate(huge, 1 << 60)
    readonly = os.open(f"/proc/self/fd/{g.memfd}", os.O_RDONLY)
    g.fds += [*pipe, short, huge, readonly]
    return {
        "a pipe": (table(region(g)), [pipe[0]]),
        "a short file": (table(region(g)), [short]),
        "beyond the end": (table(region(g, offset=4096)), [g.memfd]),
        "read-only": (table(region(g)), [readonly]),
        "too large for any address space": (table(region(g, size=1 << 60)), [huge]),
        "without a descriptor": (table(region(g), region(g)), [g.memfd]),
        "that wraps around": (table(region(g, size=1 << 20, offset=(1 << 64) - 4096)), [g.memfd]),
        "none": (table(), []),
        "nine": (table(n=9), []),
    }


def test_memory_that_cannot_be_mapped(party):
    s, a, b, evil = party
    for what, (payload, fds) in bad_memory(evil).items():
        assert ask(evil, SET_MEM_TABLE, payload, fds), what
    evil.send([evil.frame("02:00:00:00:00:77", b"still here")])  # nothing was changed
    payload, fds = bad_memory(evil)["a pipe"]
    evil.message(SET_MEM_TABLE, payload, fds)
    assert is_hung_up(evil.sock)
    s.wait_guests(2)
    s.wait_lines("refused: memory", 1)


def test_memory_that_shrinks_under_a_flood(guests):
    """New memory that is bad, while the old one is in use by the worker."""
    with Switch() as s:
        a, b, evil = guests(s, 3)
        introduce(a, b, evil)
        payload, fds = bad_memory(evil)["a pipe"]
        stop = time.monotonic() + 1
        while time.monotonic() < stop:
            a.send([a.frame(evil, b"x")] * 20)
            evil.poll()
            assert ask(evil, SET_MEM_TABLE, payload, fds)
        exchange(a, b)


def test_a_ring_that_ends_beyond_the_memory(guests):
    """librte_vhost takes it for ready, and sees for itself that it is not to be used."""
    with Switch() as s:
        a, b = guests(s, 2)
        evil = guests(s, enable=False)
        evil.rings[0].used = evil.length - 8
        evil.start()
        s.wait_guests(3)
        introduce(a, b, evil)
        assert s.telemetry("/vhost_switch/guests")["2"]["state"] == "registered"
        a.send([a.frame(evil, bytes(1000)) for _ in range(50)])
        stats = consistent(s.stats(0))
        assert stats["tx_direct"] == 0 and stats["tx_drop_guest_full"] == 50
        exchange(a, b)


def sealed_memfd(g):
    fd = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    g.fds.append(fd)
    return fd


IN_USE = {
    "size": lambda g: g.state(SET_VRING_NUM, 1, 32768),
    "event index": lambda g: g.u64(SET_FEATURES, g.features | F_EVENT_IDX),
    "packed": lambda g: g.u64(SET_FEATURES, g.features | F_PACKED),
    "not offered": lambda g: g.u64(SET_FEATURES, g.features | 1 << 60),
    "a ring that cannot be": lambda g: g.state(SET_VRING_NUM, 4, 100),
    "postcopy": lambda g: g.message(POSTCOPY_ADVISE),
    "postcopy without": lambda g: g.message(POSTCOPY_LISTEN),
    "inflight": lambda g: g.message(SET_INFLIGHT_FD, struct.pack("<QQHH", 4096, 0, 2, 256),
                                    [g.memfd]),
    "iotlb": lambda g: g.message(IOTLB_MSG, bytes(40)),
    "unknown": lambda g: g.message(77),
    "log in a pipe": lambda g: g.message(SET_LOG_BASE, struct.pack("<QQ", 4096, 0),
                                         [g.fds[0]]),
    "log too short": lambda g: g.message(SET_LOG_BASE, struct.pack("<QQ", 1 << 40, 0),
                                         [sealed_memfd(g)]),
    "log that may shrink": lambda g: g.message(SET_LOG_BASE, struct.pack("<QQ", 4096, 0),
                                               [g.memfd]),
    "notified by a file": lambda g: g.u64(SET_VRING_CALL, 0, [g.memfd]),
    "protocol features": lambda g: g.u64(SET_PROTOCOL_FEATURES, 1 << 40),
    "a kick without": lambda g: g.u64(SET_VRING_KICK, 0),
    "a descriptor too many": lambda g: g.message(GET_FEATURES, b"", [g.memfd]),
    "MTU": lambda g: g.u64(NET_SET_MTU, 20),
    "notified by two": lambda g: g.u64(SET_VRING_CALL, 0, g.fds[:2]),
}


@pytest.mark.parametrize("mode", ["1", "0"])
def test_refused_while_rings_are_in_use(guests, mode):
    with Switch("--vm2vm", mode) as s:
        a, b = guests(s, 2)
        introduce(a, b)
        for n, (what, message) in enumerate(IN_USE.items(), 1):
            evil = guests(s)
            evil.announce()
            message(evil)
            assert is_hung_up(evil.sock), what
            s.wait_guests(2)
            s.wait_lines("refused: ", n)
        a.poll(), b.poll()
        if mode == "1":
            exchange(a, b)


def test_a_refused_message_changes_nothing(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        assert ask(b, SET_VRING_NUM, struct.pack("<II", 0, 40000))
        assert ask(b, SET_VRING_NUM, struct.pack("<II", 0, 128))
        assert ask(b, SET_FEATURES, struct.pack("<Q", b.features | F_PACKED))
        assert ask(b, POSTCOPY_ADVISE, b"")
        exchange(a, b)
        assert s.stats(0)["tx_direct"] == 20
        s.wait_lines("refused: ", 1)


def test_a_ring_started_without_a_size(party):
    """Stopping a ring frees what librte_vhost keeps for its size."""
    s, a, _, evil = party
    for i in (0, 1):
        evil.state(GET_VRING_BASE, i, 0, reply=True)
    for i in (0, 1):
        evil.message(SET_VRING_ADDR, struct.pack(
            "<IIQQQQ", i, 0, evil.base + evil.rings[i].desc, evil.base + evil.rings[i].used,
            evil.base + evil.rings[i].avail, 0))
        evil.u64(SET_VRING_CALL, i, [evil.fds[1]])
    evil.u64(SET_VRING_KICK, 0, [evil.fds[0]])
    assert is_hung_up(evil.sock)
    a.send([a.frame("ff:ff:ff:ff:ff:ff", b"to all")])


def test_sized_for_one_layout_and_started_with_the_other(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        evil = guests(s, enable=False)
        evil.state(SET_VRING_NUM, 0, 256)
        evil.u64(SET_FEATURES, evil.features | F_PACKED)
        assert is_hung_up(evil.sock)
        introduce(a, b)
        exchange(a, b)


def test_rings_that_were_not_negotiated(guests):
    """Pairs 0 and 1 are made ready, then MQ is given up: nobody polls what is not there."""
    with Switch() as s:
        a, b = guests(s, 2)
        evil = guests(s, pairs=2, enable=False)
        evil.start()
        s.wait_guests(3)
        for i in range(4):
            evil.state(GET_VRING_BASE, i, 0, reply=True)
        evil.u64(SET_FEATURES, evil.features & ~(1 << 22))
        introduce(a, b)
        exchange(a, b)
        assert not s.has("invalid virtqueue idx")


@pytest.mark.parametrize("huge", [False, True], ids=["pages", "hugepages"])
@pytest.mark.parametrize("mode", ["1", "0"])
def test_memory_that_is_cut_off(request, guests, mode, huge):
    """SIGBUS for who touches it: the guest is disabled, and the others go on."""
    if huge:
        request.getfixturevalue("hugetlbfs")
    with Switch("--vm2vm", mode) as s:
        a, b = guests(s, 2)
        evil = guests(s, huge=huge)
        introduce(a, b, evil)
        evil.rings[1].offer(range(8))
        os.ftruncate(evil.memfd, 0)
        for i in range(20):
            a.send([a.frame(evil, b"x"), a.frame("ff:ff:ff:ff:ff:ff", b"x")])
            b.poll()
        s.wait_log("(2) disabled: its memory file was truncated")
        assert s.telemetry("/vhost_switch/guests")["2"]["state"] == "disabled"
        if mode == "1":
            exchange(a, b)
        evil.sock.close()
        s.wait_guests(2)
        late = guests(s)  # perhaps by the same handle
        introduce(late)
        if mode == "1":
            exchange(a, late)
        s.wait_lines("disabled", 1)


def test_memory_that_is_cut_off_before_the_rings_start(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        evil = guests(s, enable=False)
        os.ftruncate(evil.memfd, 0)
        evil.start()
        introduce(a, b)
        exchange(a, b)
        assert s.proc.poll() is None


def test_another_sigbus_ends_the_program():
    s = Switch()
    s.proc.send_signal(signal.SIGBUS)
    assert s.proc.wait(10) == -signal.SIGBUS
    shutil.rmtree(s.dir)


@pytest.mark.parametrize("kind", ["eventfd", "pipe"])
def test_a_full_descriptor_to_notify_by(guests, kind):
    with Switch() as s:
        a, b, evil = guests(s, 3)
        introduce(a, b, evil)
        if kind == "pipe":
            r, w = os.pipe()
            evil.fds += [r, w]
            evil.u64(SET_VRING_CALL, 0, [w])
            assert is_hung_up(evil.sock)
        else:
            full = os.eventfd(0)  # blocking
            evil.fds.append(full)
            os.eventfd_write(full, EFD_MAX)
            evil.u64(SET_VRING_CALL, 0, [full])
            a.send([a.frame(evil, bytes([i])) for i in range(50)])
            assert len(evil.recv(50)) == 50
            a.send([a.frame("ff:ff:ff:ff:ff:ff", bytes([i])) for i in range(50)])
            assert len(evil.recv(50)) == 50
            b.recv(50)
        exchange(a, b)


def fill(fd):
    """Blocking again, which the peer of a descriptor can always do, and as full as can be."""
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass
    os.eventfd_write(fd, EFD_MAX)
    os.set_blocking(fd, True)


@pytest.mark.parametrize("path", ["direct", "flood", "logged", "several queues"])
def test_a_call_descriptor_that_is_made_to_block(guests, path):
    """After the switch has made it non-blocking. Frames of both directions notify by it."""
    with Switch() as s:
        a, b = guests(s, 2)
        evil = guests(s, pairs=2 if path == "several queues" else 1)
        introduce(a, b, evil)
        if path == "logged":
            evil.u64(SET_FEATURES, evil.features | F_LOG_ALL)
        full = [os.eventfd(0, os.EFD_NONBLOCK) for _ in evil.rings]
        evil.fds += full
        for i, fd in enumerate(full):
            assert not ask(evil, SET_VRING_CALL, struct.pack("<Q", i), [fd])
            fill(fd)
        to = "ff:ff:ff:ff:ff:ff" if path == "flood" else evil
        for i in range(20):
            a.send([a.frame(to, bytes([i]))])
            evil.send([evil.frame("ff:ff:ff:ff:ff:ff", b"x")])
        evil.recv(20)
        exchange(a, b)
        for fd in full:
            os.set_blocking(fd, False)
        assert all(os.eventfd_read(fd) >= EFD_MAX for fd in full)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("left", [1, 2, 3])
def test_the_device_area_at_the_very_end_of_memory(guests, packed, left):
    """Where drivers are told not to kick: beyond the last byte is nobody's memory."""
    with Switch() as s:
        a, b = guests(s, 2)
        evil = guests(s, features=F_PACKED if packed else 0, enable=False)
        evil.start()
        s.wait_guests(3)
        for i in (0, 1):
            evil.state(GET_VRING_BASE, i, 0, reply=True)
        for ring in evil.rings:
            ring.used = evil.length - left
        evil.start()
        s.wait_log("(2) virtqueue 0 is not used: "
                   "it is misaligned or not wholly in the guest's memory")
        introduce(a, b)
        a.send([a.frame(evil, b"x"), a.frame("ff:ff:ff:ff:ff:ff", b"x")])
        b.recv(1)
        assert evil.mem[evil.length - left:] == bytes(left)
        exchange(a, b)
        assert sum("is not used" in line for line in s.lines) == 1


def jump(g, ring, by):
    """The available index is further ahead than the ring is long."""
    words = g.rings[ring].words
    words[(g.rings[ring].avail + 2) // 2] = (words[(g.rings[ring].avail + 2) // 2] + by) & 0xffff


@pytest.mark.parametrize("size", [2, 4, 16])
@pytest.mark.parametrize("ring,mergeable", [(1, 0), (0, 0), (0, 1)],
                         ids=["transmit", "receive", "mergeable"])
def test_an_index_that_jumps(guests, ring, mergeable, size):
    """librte_vhost's list of used elements is as long as the ring; queue pairs share all of it."""
    with Switch("--mergeable", "1", "--rx-retry", "0", app=ASAN) as s:
        a, b = guests(s, 2)
        evil = guests(s, features=F_MRG_RXBUF if mergeable else 0, pairs=2, size=size)
        introduce(a, b)
        jump(evil, ring, 3 * size)
        for _ in range(3):
            a.send([a.frame("ff:ff:ff:ff:ff:ff", bytes(1000)) for _ in range(40)])
            b.recv(40)
        way = "transmit" if ring else "receive"
        s.wait_log("(2) disabled: "
                   f"invalid index, address or descriptor chain in its {way} virtqueue")
        exchange(a, b)


def test_replies_that_are_not_read(party):
    s, _, _, evil = party
    evil.sock.settimeout(20)
    began = time.monotonic()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(100000):
            evil.message(GET_FEATURES)
    assert time.monotonic() - began < 10
    s.wait_guests(2)


@pytest.mark.parametrize("part", [b"\x05\0", struct.pack("<III", SET_MEM_TABLE, 1, 264),
                                  struct.pack("<III", SET_MEM_TABLE, 1, 264) + b"x" * 40])
def test_the_rest_of_a_message_never_comes(party, part):
    """The other front ends' messages are read by the same thread."""
    _, a, _, evil = party
    evil.sock.sendall(part)
    began = time.monotonic()
    a.message(GET_FEATURES, reply=True)
    assert time.monotonic() - began < 3


def test_an_empty_receive_chain(guests):
    with Switch("--mergeable", "1") as s:
        a, b = guests(s, 2)
        evil = guests(s, features=F_MRG_RXBUF, rx_buffers=0)
        introduce(a, b, evil)
        for i in range(evil.size):
            evil.rings[0].set_desc(i, 0, DESC_WRITE)
        evil.rings[0].offer(range(evil.size))
        a.send([a.frame(evil, b"x")])
        s.wait_log("(2) disabled: "
                   "invalid index, address or descriptor chain in its receive virtqueue")
        exchange(a, b)


def test_a_slow_receiver_does_not_hold_up_its_senders(guests):
    """One buffer at a time, as slowly as a sender is just willing to wait."""
    with Switch("--rx-retry-delay", "10000") as s:  # 40 ms
        a, b = guests(s, 2)
        slow = guests(s, rx_buffers=1)
        introduce(a, b, slow)
        stop = threading.Event()

        def trickle():
            while not stop.is_set():
                slow.poll()
                time.sleep(0.01)

        thread = threading.Thread(target=trickle)
        thread.start()
        began, got = time.monotonic(), 0
        while got < 600 and time.monotonic() - began < 10:
            a.send([a.frame(slow, b"s"), a.frame(b, b"b")] * 50)
            got += len(b.poll())
        took = time.monotonic() - began
        stop.set()
        thread.join()
        # waiting for each frame of the slow one would take 6 s
        assert got >= 600 and took < 3, (got, took)
        consistent(s.stats(0))
