# SPDX-License-Identifier: BSD-3-Clause
"""One copy between guests, by virtqueues of every kind, and what messages do meanwhile."""

import os
import select
import struct
import subprocess
import threading
import time

import pytest

from harness import ROOT, Switch, cpus, eal_args, wait_for
from traffic import consistent, introduce
from vhostuser import (DESC_NEXT, F_CSUM, F_MRG_RXBUF, GET_VRING_BASE, HDR_LEN, SET_FEATURES,
                       SET_MEM_TABLE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_ERR,
                       SET_VRING_KICK)

F_LOG_ALL = 1 << 26
MATRIX = os.path.join(ROOT, "build/system/matrix")
FUZZ = os.path.join(ROOT, "build/unit/fuzz_{}")
BROKEN = "invalid index, address or descriptor chain in its {} virtqueue"
RUNNING = ("running", "")


def paths(s):
    return {i: (p["state"], p["reason"]) for i, p in s.telemetry("/vhost_switch/paths").items()}


def test_why_a_guest_has_no_traffic(guests):
    with Switch("--mergeable", "1") as s:
        a, b, c = guests(s), guests(s, features=F_MRG_RXBUF), guests(s, pairs=2)
        introduce(a, b, c)
        assert paths(s) == {"0": RUNNING, "1": RUNNING, "2": RUNNING}
        b.state(SET_VRING_ENABLE, 0, 0)
        wait_for(lambda: paths(s)["1"] == ("stopped", "no receive virtqueue is enabled"))
        b.state(SET_VRING_ENABLE, 0, 1)
        wait_for(lambda: paths(s)["1"] == RUNNING)
        c.stop()
        wait_for(lambda: paths(s)["2"] == ("stopped", "the device is stopped"))
        assert paths(s)["0"] == RUNNING


def test_frames_are_copied_once_by_any_virtqueue(guests):
    with Switch() as s:
        a, b, c = guests(s), guests(s), guests(s, pairs=2)
        introduce(a, b, c)
        a.send([a.frame(b, bytes([i])) for i in range(100)])
        assert [f[14] for f in b.recv(100)] == list(range(100))
        a.send([a.frame(c, bytes([i])) for i in range(50)])
        assert [f[14] for f in c.recv(50)] == list(range(50))
        c.send([c.frame(a, bytes([i])) for i in range(50)])
        assert [f[14] for f in a.recv(50)] == list(range(50))
        stats = consistent(s.stats(0))
        assert stats["tx_direct"] == 150 and stats["tx_total"] == 151
        assert s.stats(2)["tx_direct"] == 50


def calls(guest, ring):
    """Notifications of a ring since the last time."""
    try:
        return os.eventfd_read(guest.fds[2 * ring + 1])
    except BlockingIOError:
        return 0


def test_one_notification_a_burst_however_mixed(guests):
    with Switch() as s:
        a, b, c = guests(s), guests(s), guests(s)
        introduce(a, b, c)
        for g in (a, b, c):
            for ring in (0, 1):
                calls(g, ring)
        ring = a.rings[1]
        heads = [a.free_tx[1].pop() for _ in range(60)]
        for i, head in enumerate(heads):
            frame = a.frame((b, c)[i % 2], bytes([i]))
            a.mem[ring.buf(head):ring.buf(head) + HDR_LEN + len(frame)] = bytes(HDR_LEN) + frame
            ring.set_desc(head, HDR_LEN + len(frame))
        ring.offer(heads)
        assert [f[14] for f in b.recv(30)] == list(range(0, 60, 2))
        assert [f[14] for f in c.recv(30)] == list(range(1, 60, 2))
        s.settle()
        assert [calls(b, 0), calls(c, 0), calls(a, 1)] == [1, 1, 1]
        assert s.stats(0)["tx_direct"] == 60


@pytest.mark.parametrize("lengths", [[12, 60], [12, 14, 46], [5, 7, 60], [72], [30, 20, 22],
                                     [12] + [4] * 15], ids=str)
def test_frames_in_pieces(guests, lengths):
    """The header alone, cut in two, or with the frame; the frame in any number of pieces."""
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        ring = a.rings[1]
        sent = []
        for i in range(40):
            frame = a.frame(b, bytes([i]) * 46)
            data = bytes(HDR_LEN) + frame
            heads, at = [a.free_tx[1].pop() for _ in lengths], 0
            for k, n in enumerate(lengths):
                piece = data[at:at + n]
                a.mem[ring.buf(heads[k]):ring.buf(heads[k]) + len(piece)] = piece
                last = k + 1 == len(lengths)
                ring.set_desc(heads[k], n, 0 if last else DESC_NEXT, 0 if last else heads[k + 1])
                at += n
            ring.offer(heads[:1])
            sent.append(data[HDR_LEN:at])
            wait_for(lambda: ring.used_idx() == ring.avail_idx, what="the frame taken")
            ring.take()
            a.free_tx[1] += heads
        assert b.recv(40) == sent


@pytest.mark.parametrize("size", [64, 1518, 9000])
@pytest.mark.parametrize("buf_len", [128, 300, 2048])
def test_a_frame_over_several_buffers(guests, size, buf_len):
    with Switch("--mergeable", "1") as s:
        a = guests(s, features=F_MRG_RXBUF, buf_len=12288)
        b = guests(s, features=F_MRG_RXBUF, buf_len=buf_len)
        introduce(a, b)
        frames = [a.frame(b, os.urandom(size - 18)) for _ in range(12)]
        for frame in frames:
            a.send([frame])
            assert b.recv(1) == [frame]
        assert s.stats(0)["tx_direct"] == (12 if -(-(size + 8) // buf_len) <= 80 else 0)


def test_ring_too_small_full_and_refilled(guests):
    with Switch("--rx-retry", "0") as s:
        a, b = guests(s), guests(s, size=16)
        introduce(a, b)
        a.send([a.frame(b, bytes([i])) for i in range(100)])
        got = b.recv(16, refill=False)
        assert [f[14] for f in got] == list(range(16))
        b.quiet()
        stats = consistent(s.stats(0))
        assert stats["tx_drop_guest_full"] == 84 and stats["tx_direct"] == 16
        assert s.stats(1)["rx_drop_ring_full"] == 84
        b.rings[0].offer(range(16))
        a.send([a.frame(b, bytes([i])) for i in range(10)])
        assert [f[14] for f in b.recv(10)] == list(range(10))


def test_a_full_ring_is_waited_for(guests):
    with Switch("--rx-retry", "1", "--rx-retry-num", "1000", "--rx-retry-delay", "1000") as s:
        a, b, c = guests(s), guests(s, size=16), guests(s)
        introduce(a, b, c)
        sender = threading.Thread(
            target=lambda: a.send([a.frame(b, bytes([i])) for i in range(200)]))
        sender.start()
        got = []
        while len(got) < 200:
            time.sleep(0.002)
            got += b.poll()
        sender.join()
        assert [f[14] for f in got] == list(range(200))
        assert s.stats(0)["tx_direct"] == 200
        # and who waits is the sender alone
        c.send([c.frame(a, b"hello")])
        assert a.recv(1)


def test_too_long_for_the_receiver(guests):
    with Switch() as s:
        a, b = guests(s), guests(s, buf_len=256)
        introduce(a, b)
        a.send([a.frame(b, b"x"), a.frame(b, bytes(600)), a.frame(b, b"y")])
        assert [f[14:15] for f in b.recv(2)] == [b"x", b"y"]
        stats = consistent(s.stats(0))
        assert stats["tx_drop_guest_too_long"] == 1 and stats["tx_direct"] == 2


def test_offloads_are_finished_by_way_of_an_mbuf(guests):
    """A frame that asks for a checksum is finished by who can; the other frames are not held up."""
    with Switch("--tx-csum", "1") as s:
        a, b = guests(s, features=F_CSUM), guests(s)
        introduce(a, b)
        a.send([a.frame(b, b"1")])
        a.send([a.frame(b, b"2" * 60)], hdr=struct.pack("<BBHHHHH", 1, 0, 0, 0, 14, 16, 0))
        a.send([a.frame(b, b"3")])
        s.settle()
        got = [f[14:15] for f in b.poll()]
        assert got[0] == b"1" and got[-1] == b"3"
        assert 1 <= s.stats(0)["tx_direct"] <= 2  # the last one may have joined the second


MESSAGES = {
    "memory": lambda g: g.message(
        SET_MEM_TABLE, struct.pack("<II", 1, 0) + struct.pack("<QQQQ", 0, g.length, g.base, 0),
        [g.memfd]),
    "disabled": lambda g: [g.state(SET_VRING_ENABLE, i, e) for e in (0, 1) for i in (0, 1)],
    "logging": lambda g: [g.u64(SET_FEATURES, f) for f in (g.features | F_LOG_ALL, g.features)],
    "notified": lambda g: [g.u64(SET_VRING_CALL, i, [g.fds[2 * i + 1]]) for i in (0, 1)],
    "stopped": lambda g: restart(g),
}


def restart(g):
    """Both rings stopped and started where they were, as for a migration."""
    for i in (0, 1):
        g.rings[i].base = struct.unpack("<II", g.state(GET_VRING_BASE, i, 0, reply=True))[1]
    for fd in g.fds:
        os.close(fd)
    g.fds = []
    for ring in g.rings:
        ring.saved, ring.last_used = ring.last_used, ring.base
    g.start()
    for ring in g.rings:
        ring.last_used = ring.saved


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_nothing_is_lost_or_doubled_when_rings_change_hands(guests, message, who):
    """Frames flow while the front end of one guest sends messages: each arrives once, in order,
    or was counted as dropped."""
    with Switch("--rx-retry", "1", "--rx-retry-num", "1000", "--rx-retry-delay", "1000") as s:
        a, b = guests(s, 2)
        introduce(a, b)
        before = s.stats(0)
        got, sent, end = [], 0, time.monotonic() + 1.5
        actor = a if who == "sender" else b
        while time.monotonic() < end:
            burst = [a.frame(b, struct.pack("<I", sent + i)) for i in range(20)]
            ring = a.rings[1]
            a.free_tx[1] += [head for head, _ in ring.take()]
            if len(a.free_tx[1]) >= 20:
                for f in burst:
                    head = a.free_tx[1].pop()
                    at = ring.buf(head)
                    a.mem[at:at + HDR_LEN + len(f)] = bytes(HDR_LEN) + f
                    ring.set_desc(head, HDR_LEN + len(f))
                    ring.offer([head])
                sent += 20
            MESSAGES[message](actor)
            if message == "stopped" and actor is b:
                b.announce()  # its address is learned again in each life
                a.poll()
            got += b.poll()
        deadline = time.monotonic() + 5
        while a.rings[1].used_idx() != a.rings[1].avail_idx and time.monotonic() < deadline:
            got += b.poll()
        s.settle()
        got += b.poll()
        numbers = [struct.unpack_from("<I", f, 14)[0] for f in got]
        assert numbers == sorted(set(numbers)), "out of order or doubled"
        if message == "stopped":  # a new life: counters and the MAC are new, too
            assert len(numbers) > 20
            return
        stats = consistent(s.stats(0))
        dropped = stats["tx_dropped"] - before["tx_dropped"]
        assert stats["tx_total"] - before["tx_total"] == sent == len(numbers) + dropped
        assert len(numbers) > 20
        if message == "memory":
            assert len(numbers) == sent and stats["tx_direct"] > 0
        if message == "notified":  # two messages a time, and a worker on the CPU of their reader
            assert len(numbers) > 0.99 * sent and stats["tx_direct"] > 0


def test_a_guest_that_migrates_waits_for_messages_too(guests):
    """Longer than for a full ring: the front end sends one for each burst that is on its way."""
    # without librte_vhost's account of each message: writing that takes longer than the message
    with Switch("--rx-retry", "0", eal=("--log-level", "lib.vhost.config:error")) as s:
        a, b = guests(s, 2)
        introduce(a, b)
        b.u64(SET_FEATURES, b.features | F_LOG_ALL)
        got, sent, end = [], 0, time.monotonic() + 1
        while time.monotonic() < end:
            b.u64(SET_VRING_CALL, 1, [b.fds[3]])
            a.send([a.frame(b, struct.pack("<I", sent + i)) for i in range(10)])
            sent += 10
            got += b.poll()
        s.settle()
        got += b.poll()
        stats = consistent(s.stats(0))
        assert [struct.unpack_from("<I", f, 14)[0] for f in got] == list(range(sent))
        assert stats["tx_drop_guest_full"] == 0


CHANGES = {
    "call": lambda g, i: g.u64(SET_VRING_CALL, i, [g.fds[2 * i + 1]]),
    "kick": lambda g, i: g.u64(SET_VRING_KICK, i, [g.fds[2 * i]]),
    "err": lambda g, i: g.u64(SET_VRING_ERR, i, [g.fds[2 * i]]),
    "enable": lambda g, i: [g.state(SET_VRING_ENABLE, i, e) for e in (0, 1)],
    "memory": lambda g, i: MESSAGES["memory"](g),
    "logging": lambda g, i: MESSAGES["logging"](g),
}


@pytest.mark.parametrize("way,change", [("unicast", change) for change in CHANGES] + [
    (way, change) for way in ("flood", "two pairs", "logged") for change in ("call", "enable")] + [
        ("flood", "memory"), ("two pairs", "kick")])
def test_nothing_is_lost_while_a_ring_changes(guests, way, change):
    """A full ring is not waited for here, a ring that comes back at once is."""
    with Switch("--rx-retry", "0", eal=("--log-level", "lib.vhost.config:error")) as s:
        a, b = guests(s), guests(s, pairs=2 if way == "two pairs" else 1)
        introduce(a, b)
        if way == "logged":
            b.u64(SET_FEATURES, b.features | F_LOG_ALL)
            b.features |= 0 if change == "logging" else F_LOG_ALL
        stop = threading.Event()

        def changes():
            while not stop.is_set():
                for i in range(len(b.rings)):
                    CHANGES[change](b, i)

        thread = threading.Thread(target=changes)
        thread.start()
        to, got = "ff:ff:ff:ff:ff:ff" if way == "flood" else b, []
        for i in range(0, 1000, 25):
            a.send([a.frame(to, struct.pack("<I", n), ethertype=0x88b5 + n % 7)
                    for n in range(i, i + 25)], timeout=20)
            got += b.poll()
        stop.set()
        thread.join()
        end = time.monotonic() + 5
        while len(got) < 1000 and time.monotonic() < end:
            got += b.poll()
        assert sorted(struct.unpack_from("<I", f, 14)[0] for f in got) == list(range(1000))
        assert s.stats(1)["rx_drop_ring_full"] == 0


def test_a_ring_that_stays_disabled_is_given_up(guests):
    """Who sends to it waits once, and for less than a second for all frames together."""
    with Switch("--rx-retry", "0") as s:
        a, b, c = guests(s, 3)
        introduce(a, b, c)
        b.state(SET_VRING_ENABLE, 0, 0)
        wait_for(lambda: paths(s)["1"][0] == "stopped", what="a ring that is disabled")
        began = time.monotonic()
        for _ in range(30):
            a.send([a.frame(b, b"x"), a.frame("ff:ff:ff:ff:ff:ff", b"x"), a.frame(c, b"x")])
            c.recv(2)
        assert time.monotonic() - began < 2
        b.state(SET_VRING_ENABLE, 0, 1)
        wait_for(lambda: paths(s)["1"] == RUNNING, what="the ring")
        b.poll()
        a.send([a.frame(b, b"again")])
        assert b.recv(1)[0][14:19] == b"again"


NO_NOTIFY = 1  # VIRTIO 1.1, 2.6.8: flags of the used ring


def kicks_are_off(g, ring):
    return g.rings[ring].words[g.rings[ring].used // 2] == NO_NOTIFY


def test_rings_that_are_enabled_later(guests):
    """Not kicked for, like those that were there when the guest joined."""
    with Switch() as s:
        a = guests(s)
        b = guests(s, pairs=3, enable=False)
        b.start(pairs=1)
        s.wait_guests(2)
        introduce(a, b)
        assert kicks_are_off(b, 0) and kicks_are_off(b, 1)
        for pair in (1, 2):
            b.start(pairs=1, first=pair)
            wait_for(lambda p=pair: kicks_are_off(b, 2 * p) and kicks_are_off(b, 2 * p + 1),
                     what=f"queue pair {pair} without kicks")
        for i in (0, 2):
            b.state(SET_VRING_ENABLE, i, 0)
        wait_for(lambda: paths(s)["1"] == RUNNING, what="one receive ring")
        before = s.stats(0)["tx_direct"], s.stats(1)["tx_direct"]
        a.send([a.frame(b, bytes([i])) for i in range(50)])
        assert [f[14] for f in b.recv(50)] == list(range(50))
        b.send([b.frame(a, bytes([i])) for i in range(50)], pair=2)
        assert [f[14] for f in a.recv(50)] == list(range(50))
        assert s.stats(0)["tx_direct"] == before[0] + 50
        assert s.stats(1)["tx_direct"] == before[1] + 50


@pytest.mark.parametrize("way", ["unicast", "flood"])
def test_another_call_descriptor_is_used_at_once(guests, way):
    """What the last one was told, maybe after its owner stopped listening, is told again."""
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        to = "ff:ff:ff:ff:ff:ff" if way == "flood" else b
        for i in range(50):
            new = os.eventfd(0, os.EFD_NONBLOCK)
            b.fds.append(new)
            a.send([a.frame(to, bytes([i]))])
            b.u64(SET_VRING_CALL, 0, [new])
            b.recv(1)
            wait_for(lambda fd=new: select.select([fd], [], [], 0)[0], 5, "a notification")


def test_a_guest_that_breaks_the_rules_is_disabled_alone(guests):
    with Switch() as s:
        a, b, c, d = guests(s, 4)
        introduce(a, b, c, d)
        a.rings[1].set_desc(0, 100, addr=1 << 50)
        a.rings[1].offer([0])
        s.wait_log("(0) disabled: " + BROKEN.format("transmit"))
        b.rings[0].set_desc(int.from_bytes(b.mem[b.rings[0].avail + 4 + 2 * 3:][:2], "little"),
                            2048, 2, addr=1 << 50)
        c.send([c.frame(b, bytes([i])) for i in range(5)])
        s.wait_log("(1) disabled: " + BROKEN.format("receive"))
        c.send([c.frame(a, b"x"), c.frame(b, b"x"), c.frame(d, b"still here")])
        assert d.recv(1)[0][14:24] == b"still here"
        stats = consistent(s.stats(2))
        assert stats["tx_drop_guest_disabled"] >= 2
        assert consistent(s.stats(0))["rx_drop_disabled"] == 1
        assert sum("disabled" in line for line in s.lines) == 2
        states = {i: g["state"] for i, g in s.telemetry("/vhost_switch/guests").items()}
        assert states == {"0": "disabled", "1": "disabled", "2": "registered",
                          "3": "registered"}
        assert paths(s)["0"] == ("stopped", "disabled, the log says why")


KINDS = [(packed, mergeable, in_order)
         for packed in (0, 1) for mergeable in (0, 1) for in_order in (0, 1)]


@pytest.mark.parametrize("lcores,sizes", [
    (None, "64,1518,9000"), (f"{cpus()[0]},{cpus()[1]}", "1518")], ids=["", "2 workers"])
def test_every_pair_of_kinds(lcores, sizes):
    """{split, packed} x {mergeable, not} x {in-order, not}, each to each other."""
    with Switch("--mergeable", "1", "--rx-retry-delay", "100", memory=1024, lcores=lcores) as s:
        vdevs = [a for i, (packed, mergeable, in_order) in enumerate(KINDS) for a in (
            "--vdev", f"net_virtio_user{i},path={s.sock},mac=02:00:00:00:0a:{i:02x},queue_size=64,"
            f"packed_vq={packed},mrg_rxbuf={mergeable},in_order={in_order}")]
        out = subprocess.run(
            [MATRIX, *eal_args("matrix", f"0@{cpus()[1]}", 256, ["--no-telemetry", *vdevs]), "--",
             sizes, *[str(i) for i, kind in enumerate(KINDS) if kind[1]]],
            capture_output=True, text=True, timeout=300, check=False)
        print(out.stdout[-3000:] + out.stderr[-3000:])
        lines = out.stdout.splitlines()
        assert lines[-1] == "done" and not [line for line in lines if line.startswith("wrong")]
        rows = [tuple(map(int, line.split())) for line in lines if line[0].isdigit()]
        assert len(rows) == len(sizes.split(",")) * len(KINDS) * (len(KINDS) - 1)
        for sender, receiver, size, moving, full in rows:
            # a ring of 64 with buffers of 2 KB holds 12 frames of 9000 bytes
            room = 12 if size > 2048 and KINDS[receiver][1] else 56
            assert moving == 200 and full >= room, (KINDS[sender], KINDS[receiver], size, moving,
                                                    full)


def fuzz(what, turns):
    r = subprocess.run([FUZZ.format(what), str(turns)], capture_output=True, text=True, timeout=300,
                       check=False)
    print(r.stdout + r.stderr)
    assert r.returncode == 0


def test_hostile_rings():
    """Altered rings of all kinds and sizes under AddressSanitizer; fuzz_rings 10000000 for more."""
    fuzz("rings", 150000)


def test_flows_while_virtqueues_come_and_go():
    """Two workers, guests of several queue pairs; fuzz_flows 10000000 for more."""
    fuzz("flows", 2000)
