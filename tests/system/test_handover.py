# SPDX-License-Identifier: BSD-3-Clause
"""Rings change hands while frames ask for a checksum or segments, and packed ones anywhere."""

import os
import random
import struct
import time

import pytest

from frames import data_of, tcp4
from harness import Switch, wait_for
from test_direct import MESSAGES
from traffic import consistent, introduce
from vhostuser import (F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_HOST_TSO4, GET_FEATURES,
                       GET_VRING_BASE, HDR_LEN, SET_FEATURES)

SWITCH = ("--tso", "1", "--tx-csum", "1", "--rx-retry", "1", "--rx-retry-num", "1000",
          "--rx-retry-delay", "1000")
ABLE = F_GUEST_CSUM | F_GUEST_TSO4
BUFFER = 4096
MSS = 700
CSUM = struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 16, 0)


def size_of(number):
    return (60, 500, 3000)[number % 3]


def numbered(a, b, number):
    """A frame and its header: plain, with a checksum to be filled in, or to be segmented."""
    data = bytes([number % 251]) * size_of(number)
    if number % 3 == 0:
        return a.frame(b, struct.pack("<I", number) + data[4:]), bytes(HDR_LEN)
    frame, hdr = tcp4(a, b, data, seq=number << 16, mss=MSS)
    return frame, hdr if number % 3 == 2 else CSUM


def part_of(hdr, frame):
    """(number, offset, length) of what came, and whether it was left unfinished."""
    if frame[12:14] != b"\x08\0":
        assert hdr[:10] == bytes(10)
        number = struct.unpack_from("<I", frame, 14)[0]
        assert frame[18:] == bytes([number % 251]) * 56
        return (number, 0, 60), False
    number, offset = struct.unpack_from(">HH", frame, 38)
    if hdr[0]:
        data = frame[54:]
        assert hdr[:10] == (struct.pack("<BBHHHH", 1, 1, 54, MSS, 34, 16) if number % 3 == 2 else
                            CSUM[:10])
    else:
        data = data_of(frame, number << 16 | offset)
    assert data == bytes([number % 251]) * len(data)
    return (number, offset, len(data)), hdr[0] != 0


def post(guest, frame, hdr):
    """Offer a frame, without a wait. Returns whether there was room."""
    ring = guest.rings[1]
    guest.free_tx[1] += [head for head, _ in ring.take()]
    if not guest.free_tx[1]:
        return False
    head = guest.free_tx[1].pop()
    at = ring.buf(head)
    guest.mem[at:at + HDR_LEN + len(frame)] = hdr + frame
    ring.set_desc(head, HDR_LEN + len(frame))
    ring.offer([head])
    return True


def parts(guest):
    return [part_of(hdr, frame) for hdr, frame, _ in guest.poll(headers=True)
            if frame[12:14] == b"\x08\0" or frame[:6] == guest.mac]


def whole(got):
    """Numbers of frames that came, in order, each once and all of it."""
    numbers, at = [], 0
    for number, offset, length in got:
        if offset == 0:
            assert not numbers or at == size_of(numbers[-1]), f"{numbers[-1]} came to {at} bytes"
            assert not numbers or number > numbers[-1], f"{number} after {numbers[-1]}"
            numbers.append(number)
            at = 0
        assert numbers[-1] == number and offset == at, f"{number}, {offset} after {at}"
        at += length
    assert not numbers or at == size_of(numbers[-1])
    return numbers


def drain(s, a, b):
    """All that is on its way; a frame may wait in the switch, in segments."""
    got, new, end = [], True, time.monotonic() + 5
    while (new or a.rings[1].used_idx() != a.rings[1].avail_idx) and time.monotonic() < end:
        s.settle()
        new = parts(b)
        got += new
    return got


@pytest.mark.parametrize("able", [0, ABLE], ids=["finished", "as it was"])
@pytest.mark.parametrize("packed_at", [None, 60], ids=["split", "packed"])
def test_messages_while_frames_ask(guests, packed_at, able):
    """Each frame arrives once, whole, in order and as was negotiated, or was counted as dropped."""
    with Switch(*SWITCH, eal=("--log-level", "lib.vhost.config:error")) as s:
        kw = {"buf_len": BUFFER, "size": 64, "packed_at": packed_at}
        a, b = guests(s, features=F_CSUM | F_HOST_TSO4, **kw), guests(s, features=able, **kw)
        introduce(a, b)
        number = 0
        for message in ("memory", "disabled", "logging", "notified"):
            for actor in (a, b):
                before, got, end = s.stats(0), [], time.monotonic() + 0.2
                first = number
                # numbers are the upper half of sequence numbers
                while time.monotonic() < end and number < first + 5000:
                    for _ in range(5):
                        number += post(a, *numbered(a, b, number))
                    MESSAGES[message](actor)
                    actor.message(GET_FEATURES, reply=True)  # no more than that at once
                    got += parts(b)
                got += drain(s, a, b)
                numbers = whole(part for part, _ in got)
                assert {unfinished for (n, _, _), unfinished in got if n % 3} <= {bool(able)}
                stats = consistent(s.stats(0))
                dropped = stats["tx_dropped"] - before["tx_dropped"]
                assert len(numbers) + dropped == number - first, (message, actor is b)
                assert len(numbers) > 5


def restart(guest, features=None):
    """Stop both rings and start them where they were, maybe with other features."""
    for i, ring in enumerate(guest.rings):
        ring.base = struct.unpack("<II", guest.state(GET_VRING_BASE, i, 0, reply=True))[1]
        assert ring.base == ring.used_idx(), "the ring was handed over elsewhere"
    for fd in guest.fds:
        os.close(fd)
    guest.fds = []
    if features is not None:
        guest.u64(SET_FEATURES, features)
    for ring in guest.rings:
        ring.saved, ring.last_used = ring.last_used, ring.base
    guest.start()
    for ring in guest.rings:
        ring.last_used = ring.saved


@pytest.mark.parametrize("packed_at", [0x8006, 0, None])
def test_rings_are_handed_over_anywhere(guests, packed_at):
    """Small rings go round often: they stop and start at all their places, in both laps."""
    rng = random.Random(packed_at)
    with Switch(*SWITCH, eal=("--log-level", "lib.vhost.config:error")) as s:
        kw = {"buf_len": BUFFER, "size": 7 if packed_at is not None else 8, "packed_at": packed_at}
        a, b = guests(s, features=F_CSUM | F_HOST_TSO4, **kw), guests(s, features=ABLE, **kw)
        plain = b.features & ~ABLE
        introduce(a, b)
        got, number, places = [], 0, set()
        for turn in range(40):
            for _ in range(rng.randrange(1, 4)):
                number += post(a, *numbered(a, b, number))
            if turn % 2:
                restart(a)
            else:  # two more, which it gets and does not see yet; then it can do more or less
                got += drain(s, a, b)
                for _ in range(2):
                    number += post(a, *numbered(a, b, number))
                wait_for(lambda: a.rings[1].used_idx() == a.rings[1].avail_idx, what="frames")
                s.settle()
                restart(b, plain | (ABLE if turn % 4 else 0))
                b.announce()
                s.wait_registered(b.mac.hex(":"))
                a.poll()
            places |= {ring.base for guest in (a, b) for ring in guest.rings
                       if hasattr(ring, "base")}
            got += parts(b)
        got += drain(s, a, b)
        assert whole(part for part, _ in got) == list(range(number))
        assert {unfinished for (n, _, _), unfinished in got if n % 3} == {False, True}
        assert len(places) >= 14 or packed_at is None
