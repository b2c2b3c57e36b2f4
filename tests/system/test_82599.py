# SPDX-License-Identifier: BSD-3-Clause
"""The 82599's own rules, by the real ixgbe PMD on the model of the card (tests/nic82599)."""

import os
import re
import signal
import struct
import subprocess
import threading
import time

import pytest

from card import OWN, filters, mode, queues, received, vlans
from frames import BROADCAST, OUTSIDE, tagged, to_guest
from harness import ROOT, Wire, cpus, eal_args, wait_for
from traffic import consistent, introduce
from vhostuser import F_CSUM, F_HOST_TSO4, F_MRG_RXBUF, Guest

MULTICAST = "01:00:5e:00:00:fb"
DUMP = os.path.join(ROOT, "build/system/dump_registers")
ASAN = os.path.join(ROOT, "build/asan/vhost-switch")


@pytest.fixture
def wire(request):
    with Wire("82599", doorbell=getattr(request, "param", None)) as w:
        yield w


# On any CPU with both instructions that DPDK writes doorbells with; other tests have the CPU's own.
both_doorbells = pytest.mark.parametrize("wire", ["mov", "movdiri"], indirect=True)


def check_doorbells(s, wire):
    assert (s.telemetry("/nic82599/doorbells")["movdiri"] > 0) == (wire.doorbell == "movdiri")


@both_doorbells
def test_64_guests_by_mac_and_vlan(wire, guests):
    with wire.switch() as s:
        crowd = guests(s, 64)
        wire.open()
        introduce(*crowd)
        wire.recv(64)
        extra = Guest(s.sock, "02:00:00:00:0f:00")
        s.wait_log("guest refused: there can be 64 guests and all are connected")
        extra.close()
        wait_for(lambda: len(filters(s)) == 64, what="64 filters")
        assert filters(s) == {g.mac.hex(): 1 << i for i, g in enumerate(crowd)}
        assert vlans(s) == {1000 + i: 1 << i for i in range(64)}
        assert s.telemetry("/vhost_switch/port")["queues_per_guest"] == 2
        before = queues(s)
        for i, g in enumerate(crowd):
            wire.send(to_guest(g, b"for %d" % i, 1000 + i)[0],
                      to_guest(g, b"wrong VLAN", 1000 + (i + 1) % 64)[0])
        for i, g in enumerate(crowd):
            assert g.recv(1) == [to_guest(g, b"for %d" % i, None)[1]]
        assert received(before, queues(s)) == {2 * i: 1 for i in range(64)}
        for g in crowd:
            g.quiet(0)
        # the card dropped the others: nothing for the switch to do
        port = s.telemetry("/vhost_switch/port")
        assert port["rx"] == 64
        check_doorbells(s, wire)
        assert not any(v for k, v in port.items() if k.startswith("rx_drop_"))


@pytest.mark.parametrize("strip", ["1", "0"])
def test_strip_is_the_queues(wire, guests, strip):
    with wire.switch("--vlan-strip", strip) as s:
        a = guests(s)
        wire.open()
        introduce(a)
        every = 2**64 - 1 if strip == "1" else 0
        assert mode(s)["strip_queues_0_63"] == mode(s)["strip_queues_64_127"] == every
        for length in (1, 100, 1400):
            frame, bare = to_guest(a, os.urandom(length), 1000 | 6 << 13)
            wire.send(frame)
            assert a.recv(1) == [bare if strip == "1" else frame]


@pytest.mark.parametrize("options", [(), ("--dcb", "8"), ("--dcb", "4")], ids=str)
@pytest.mark.parametrize("to", [BROADCAST, MULTICAST])
def test_broadcast_and_multicast_stay_in_their_vlan(wire, guests, options, to):
    with wire.switch(*options) as s:
        crowd = guests(s, 4)
        wire.open()
        introduce(*crowd)
        for i, g in enumerate(crowd):
            frame, bare = to_guest(g, b"to all of %d" % i, 1000 + i, dst=to)
            wire.send(frame)
            assert g.recv(1) == [bare]
        wire.send(to_guest(crowd[0], b"of no guest", 1009, dst=to)[0])
        for g in crowd:
            g.quiet(0.1)


def test_an_id_that_is_used_again_starts_clean(wire, guests):
    with wire.switch() as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wait_for(lambda: len(filters(s)) == 2, what="filters")
        old = a.mac
        a.close()
        s.wait_guests(1)
        assert filters(s) == {b.mac.hex(): 2}
        for _ in range(20):  # for the guest that left, and for its VLAN
            wire.send(to_guest(b, b"late", 1000, dst=old.hex(":"))[0],
                      to_guest(b, b"late", 1000, dst=BROADCAST)[0])
        time.sleep(0.2)
        c = guests(s, mac="02:00:00:00:0c:01")
        assert set(s.guests()) == {"0", "1"}
        introduce(c)
        c.quiet()
        wait_for(lambda: filters(s) == {b.mac.hex(): 2, c.mac.hex(): 1}, what="the new filter")
        good, bare = to_guest(c, b"new", 1000)
        wire.send(to_guest(c, b"old", 1000, dst=old.hex(":"))[0], good)
        assert c.recv(1) == [bare]
        c.quiet()


CLASSES = {"8": list(range(8)), "4": [0, 0, 0, 0, 1, 2, 3, None]}


@both_doorbells
@pytest.mark.parametrize("dcb", ["8", "4"])
def test_priorities_become_classes_both_ways(wire, guests, dcb):
    with wire.switch("--dcb", dcb) as s:
        crowd = guests(s, 3)
        wire.open()
        introduce(*crowd)
        wire.recv(3)
        assert s.telemetry("/vhost_switch/port")["guest_limit"] == 128 // int(dcb)
        assert s.has("frames of priority 7 are lost in the NIC") == (dcb == "4")
        for i, g in enumerate(crowd):
            for priority, traffic_class in enumerate(CLASSES[dcb]):
                before = queues(s)
                frame, bare = to_guest(g, b"priority %d" % priority, 1000 + i | priority << 13)
                wire.send(frame)
                if traffic_class is None:
                    g.quiet(0.2)
                    assert received(before, queues(s)) == {}
                    continue
                assert g.recv(1) == [bare]
                assert received(before, queues(s)) == {i * int(dcb) + traffic_class: 1}
        for priority, traffic_class in enumerate(CLASSES[dcb]):
            before = queues(s)
            frame = crowd[1].frame(OUTSIDE, b"out", vlan=7 | priority << 13)
            crowd[1].send([frame])
            assert wire.recv(1) == [frame]
            after = queues(s)
            queue = f"tx_{int(dcb) + (int(dcb) - 1 if traffic_class is None else traffic_class)}"
            assert after[queue] == before.get(queue, 0) + 1


@pytest.mark.parametrize("dcb,high", [("8", 7), ("4", 6)])
def test_the_highest_class_is_served_first_and_the_lowest_too(wire, guests, dcb, high):
    with wire.switch("--dcb", dcb) as s:
        guests(s)
        g = guests(s)  # guest 0's queues are everybody's with DCB
        wire.open()
        introduce(g)
        s.proc.send_signal(signal.SIGSTOP)
        low = [to_guest(g, b"low %03d" % i, 1001) for i in range(100)]
        urgent = [to_guest(g, b"high %03d" % i, 1001 | high << 13) for i in range(50)]
        for frame, _ in low + urgent:
            wire.send(frame)
        s.proc.send_signal(signal.SIGCONT)
        got = g.recv(150)
        assert [f for f in got if f[14:17] == b"low"] == [bare for _, bare in low]
        assert [f for f in got if f[14:18] == b"high"] == [bare for _, bare in urgent]
        last_high = max(i for i, f in enumerate(got) if f[14:18] == b"high")
        assert last_high < 149, "what came last was served last"
        # and while urgent frames keep coming, others get through
        end = threading.Event()

        def flood():
            while not end.is_set():
                wire.send(*[frame for frame, _ in urgent])
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            through = 0
            deadline = time.monotonic() + 10
            while through < 20:  # the flood overruns the cable and the guest now and then
                wire.send(low[0][0])
                through += sum(f[14:17] == b"low" for f in g.poll())
                assert time.monotonic() < deadline, through
        finally:
            end.set()
            thread.join()


@both_doorbells
def test_loopback_is_exact(wire, guests):
    with wire.switch("--vm2vm", "2") as s:
        a, b, c = guests(s, 3)
        wire.open()
        introduce(a, b, c)
        wire.recv(3)
        wait_for(lambda: len(filters(s)) == 3, what="filters")
        assert mode(s)["pfdtxgswc"] & 1
        before = queues(s)
        n = 0
        for x, y in ((a, b), (b, a), (c, a)):
            # a long one first: nothing of it may show in the short ones after it
            frames = [x.frame(y, os.urandom(size)) for size in (1486, 1, 46, 47, 200, 1000)]
            frames += [x.frame(y, b"own tag", vlan=77)]
            x.send(frames)
            got = y.recv(len(frames))
            assert got[:-1] == frames[:-1]
            # a tag of its own gives way to the one that the other pool takes, which is stripped
            assert got[-1][:12] == frames[-1][:12] and got[-1][12:21] == b"\x88\xb5own tag"
            n += len(frames)
        wire.quiet()
        c.quiet(0)
        assert queues(s)["looped_back"] - before.get("looped_back", 0) == n
        for i in range(3):
            consistent(s.stats(i))
        check_doorbells(s, wire)


def test_loopback_not_for_oneself_and_broadcast_once(wire, guests):
    with wire.switch("--vm2vm", "2") as s:
        a, b, c = guests(s, 3)
        wire.open()
        introduce(a, b, c)
        wire.recv(3)
        a.send([a.frame(a, b"to myself")])
        assert s.stats(0)["tx_drop_to_self"] == 1
        frame = a.frame(BROADCAST, b"hello all")
        a.send([frame])
        assert b.recv(1) == c.recv(1) == [frame]
        assert wire.recv(1) == [tagged(frame, 1000)]
        for g in (a, b, c):
            g.quiet(0.2)
        wire.quiet(0)
        # its own frame that the wire gives back
        wire.send(tagged(frame, 1000))
        wait_for(lambda: s.telemetry("/vhost_switch/port")["rx_drop_own"] == 1, what="own")
        a.quiet(0)


class Answering(threading.Thread):
    """Answers at once whatever receive() returns, until it is stopped."""

    def __init__(self, receive, answer):
        super().__init__(daemon=True)
        self.receive, self.answer, self.ended = receive, answer, False
        self.start()

    def run(self):
        while not self.ended:
            for frame in self.receive():
                self.answer(frame)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.ended = True
        self.join()


def newcomers(s, guests, n):
    """Guests one after the other; each is gone before the next comes, and has the same id."""
    for i in range(n):
        before = len(s.guests())
        g = guests(s, mac=f"02:00:00:00:0d:{i:02x}")
        yield g
        g.close()
        s.wait_guests(before)


def test_the_first_answer_of_a_neighbour_comes_by_loopback(wire, guests):
    with wire.switch("--vm2vm", "2") as s:
        a = guests(s)
        wire.open()
        introduce(a)
        wire.recv(1)
        with Answering(a.poll, lambda f: a.send([a.frame(f[6:12].hex(":"), b"answer")])):
            for g in newcomers(s, guests, 25):
                hello = g.frame(BROADCAST, b"hello")
                g.send([hello])
                assert g.recv(1)[0][:20] == g.mac + a.mac + b"\x88\xb5answer"
                assert wire.recv(1) == [tagged(hello, 1001)]
        wire.quiet()


@pytest.mark.parametrize("options", [(), ("--dcb", "4"), ("--vm2vm", "0")], ids=str)
def test_the_first_answer_from_outside_arrives(wire, guests, options):
    def hear():
        try:
            return wire.recv(1, 0.1)
        except TimeoutError:
            return []

    with wire.switch(*options) as s:
        wire.open()
        with Answering(hear, lambda f: wire.send(
                tagged(f[6:12] + f[:6].replace(b"\xff", b"\x02") + f[16:], 1000))):
            for g in newcomers(s, guests, 25):
                g.send([g.frame(dst, b"hello") for dst in (BROADCAST, OUTSIDE)])
                assert len(g.recv(2)) == 2
                assert consistent(s.stats(0))["tx_total"] == 2


def test_the_cards_own_address_is_for_no_guest(wire, guests):
    own = OWN[4:]
    with wire.switch() as s:
        a = guests(s, mac=":".join(own[i:i + 2] for i in range(0, 12, 2)))
        wire.open()
        before = s.telemetry("/nic82599/filters")
        a.send([a.frame(OUTSIDE, b"one"), a.frame(OUTSIDE, b"two")])
        s.wait_log("refused by the NIC: it is the NIC's own")
        wait_for(lambda: s.stats(0)["tx_drop_nic_refused"] == 2, what="drops")
        assert consistent(s.stats(0))["tx_total"] == 2 and s.guests()["0"]["state"] == "refused"
        wire.quiet(0.1)
        assert not s.telemetry("/vhost_switch/fdb")
        assert not s.has("registered")
        assert s.telemetry("/nic82599/filters") == before

        # with another address it is served
        def registered():
            a.send([a.frame(OUTSIDE, b"me", src=bytes.fromhex("020000000e01"))])
            return s.guests()["0"]["state"] == "registered"

        wait_for(registered, what="the other address registered")
        assert filters(s) == {"020000000e01": 1}
        # and with one more, at once, after its device was started again
        refused = s.stats(0)["tx_drop_nic_refused"]
        a.stop(), a.start()
        s.wait_path(0, "running")
        a.send([a.frame(OUTSIDE, b"me", src=bytes.fromhex("020000000e02"))])
        wait_for(lambda: filters(s) == {"020000000e02": 1}, what="the filter")
        assert s.stats(0)["tx_drop_nic_refused"] == refused
        a.close()
        s.wait_guests(0)
        assert s.telemetry("/nic82599/filters") == before


def test_no_loopback_unless_asked_for(wire, guests):
    with wire.switch() as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        assert not mode(s)["pfdtxgswc"] & 1
        a.send([a.frame(b, b"in software")])
        assert b.recv(1)[0][14:25] == b"in software"
        assert "looped_back" not in queues(s)


@both_doorbells
def test_statistics_agree(wire, guests):
    with wire.switch() as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        before, known = queues(s), s.stats(0)["rx_successful"]
        n = 300
        for i in range(n):
            wire.send(to_guest(a, struct.pack("<I", i), 1000)[0])
            b.send([b.frame(OUTSIDE, struct.pack("<I", i))])
            assert struct.unpack_from("<I", wire.recv(1)[0], 18)[0] == i
            assert struct.unpack_from("<I", a.recv(1)[0], 14)[0] == i
        port, pmd = s.telemetry("/vhost_switch/port"), s.telemetry("/ethdev/stats,1")
        assert received(before, queues(s)) == {0: n}
        assert port["rx"] == pmd["ipackets"] == s.stats(0)["rx_successful"] - known == n
        assert port["tx_successful"] == pmd["opackets"] == n + 2
        assert s.stats(1)["tx_successful"] == n + 1
        assert pmd["imissed"] == pmd["ierrors"] == pmd["oerrors"] == 0
        check_doorbells(s, wire)


def unsegmented(src, dst, tag, payload, mss, flags="FPAE"):
    """A TCP frame as a guest sends it that leaves segmentation to the card, and its header."""
    from scapy.all import IP, TCP, Dot1Q, Ether, raw
    eth = Ether(src=src.mac.hex(":"), dst=dst)
    ip = IP(src="10.0.0.1", dst="10.0.0.2", id=0xfffe)
    frame = raw((eth / Dot1Q(vlan=tag) if tag else eth) / ip /
                TCP(sport=1, dport=2, seq=0xffffff00, flags=flags, options=[
                    ("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]) / payload)
    l3 = 18 if tag else 14
    start = l3 + 20
    # what the field of the checksum holds: the sum of the pseudo-header
    words = struct.unpack(">4H", frame[l3 + 12:l3 + 20]) + (6, len(frame) - start)
    total = sum(words)
    total = (total & 0xffff) + (total >> 16)
    at = start + 16
    frame = frame[:at] + struct.pack(">H", (total & 0xffff) + (total >> 16)) + frame[at + 2:]
    return frame, struct.pack("<BBHHHHH", 1, 1, start + 32, mss, start, 16, 0)


def check_segments(frames, sent, vlan, mss):
    """Segments of a frame: complete, in order, and each right in all of its headers."""
    from scapy.all import IP, TCP, Ether, raw
    whole, payload = Ether(sent), b""
    for i, frame in enumerate(frames):
        p = Ether(frame)
        assert (p.vlan if vlan else p.type) == (vlan or 0x0800)
        assert p[IP].id == (0xfffe + i) & 0xffff
        assert p[TCP].seq == (0xffffff00 + i * mss) & 0xffffffff
        is_last = i == len(frames) - 1
        # FIN and PSH are of the last alone, CWR of the first (8.2.3.9.3; RFC 3168, 6.1.2)
        assert str(p[TCP].flags) == ("FPAE" if is_last else "AE") + (
            "C" if i == 0 and "C" in whole[TCP].flags else "")
        assert p[TCP].options == whole[TCP].options
        assert len(p[TCP].payload) == mss or is_last
        assert p[IP].len == 20 + 32 + len(p[TCP].payload)
        sums = p[IP].chksum, p[TCP].chksum
        del p[IP].chksum, p[TCP].chksum
        again = Ether(raw(p))
        assert sums == (again[IP].chksum, again[TCP].chksum)
        payload += raw(p[TCP].payload)
    assert payload == raw(whole[TCP].payload)


@both_doorbells
def test_tcp_segmentation(wire, guests):
    with wire.switch("--tso", "1", "--tx-csum", "1", "--mergeable", "1") as s:
        guests(s)
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=70000, size=16)
        wire.open()
        introduce(a)
        wire.recv(1)
        wire.ETH_TEST = 0x0800
        for turn, (size, mss, tag) in enumerate(((10000, 1000, None), (60000, 1448, None),
                                                 (1449, 1448, None), (4001, 600, 7)), 1):
            frame, hdr = unsegmented(a, OUTSIDE, tag, os.urandom(size), mss)
            a.send([frame], hdr=hdr)
            check_segments(wire.recv(-(-size // mss)), frame, tag or 1001, mss)
            assert queues(s)["segmented"] == turn
        frame, hdr = unsegmented(a, OUTSIDE, None, os.urandom(4001), 1000, "FPACE")
        a.send([frame], hdr=hdr)  # which the card cannot: it leaves CWR in all but the last
        check_segments(wire.recv(5), frame, 1001, 1000)
        assert queues(s)["segmented"] == turn
        wire.quiet()
        check_doorbells(s, wire)
        assert consistent(s.stats(1))["tx_dropped"] == 0


def test_segments_are_looped_back(wire, guests):
    with wire.switch("--tso", "1", "--tx-csum", "1", "--vm2vm", "2") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=20000, size=64)
        b = guests(s)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        wait_for(lambda: len(filters(s)) == 2, what="filters")
        frame, hdr = unsegmented(a, b.mac.hex(":"), None, os.urandom(10000), 1000)
        a.send([frame], hdr=hdr)
        check_segments(b.recv(10), frame, None, 1000)
        assert queues(s)["segmented"] == 1
        wire.ETH_TEST = 0x0800
        wire.quiet()


@pytest.mark.parametrize("doorbell", ["mov", "movdiri"])
def test_jumbo_frames_both_ways(guests, doorbell):
    with Wire("82599", doorbell=doorbell, jumbo=True) as wire, \
            wire.switch("--mergeable", "1", "--vm2vm", "2") as s:
        a = guests(s, features=F_MRG_RXBUF, buf_len=10000)
        b = guests(s, features=F_MRG_RXBUF)  # several buffers for a frame
        wire.open()
        introduce(a, b)
        wire.recv(2)
        wait_for(lambda: len(filters(s)) == 2, what="filters")
        # the ends of the NIC's buffers, and of the MTU that the switch sets
        for length in (1518, 1519, 2048, 2049, 4096, 8192, 9013, 9014):
            for i, g in enumerate((a, b)):
                frame, bare = to_guest(g, os.urandom(length - 14), 1000 + i)
                wire.send(frame)
                assert g.recv(1) == [bare]
            frames = [a.frame(to, os.urandom(length - 14)) for to in (OUTSIDE, b)]
            a.send(frames)
            assert wire.recv(1) == [tagged(frames[0], 1000)]
            assert b.recv(1) == frames[1:]
        assert s.telemetry("/ethdev/xstats,1")["rx_oversize_errors"] == 0
        wire.send(to_guest(b, os.urandom(9001), 1001)[0])
        wait_for(lambda: s.telemetry("/ethdev/xstats,1")["rx_oversize_errors"] == 1,
                 what="the card's count of it")
        b.quiet(0)
        check_doorbells(s, wire)


def test_jumbo_frames_are_dropped_by_the_card_unless_asked_for(guests):
    with Wire("82599", jumbo=True) as wire, wire.switch() as s:
        a = guests(s)
        wire.open()
        introduce(a)
        wire.send(to_guest(a, os.urandom(1501), 1000)[0], to_guest(a, os.urandom(8986), 1000)[0])
        good, bare = to_guest(a, os.urandom(1500), 1000)
        wire.send(good)
        assert a.recv(1) == [bare]
        assert s.telemetry("/ethdev/xstats,1")["rx_oversize_errors"] == 2


def test_waits_for_link_at_start():
    with Wire("82599", plugged=False) as wire:
        start = time.monotonic()
        with wire.switch() as s:
            assert 5 < time.monotonic() - start < 30
            assert s.has("waiting for link") and s.has("no link yet, starting without")
            assert s.telemetry("/vhost_switch/port")["link"] == "down"
            s.telemetry("/nic82599/link,1")
            s.wait_log("link up, 10 Gbps")


def test_a_link_that_flaps(wire, guests):
    with wire.switch() as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        before = s.stats(0)["tx_total"]
        for turn in range(3):
            s.telemetry("/nic82599/link,0")
            wait_for(lambda: s.telemetry("/vhost_switch/port")["link"] == "down", what="link down")
            a.send([a.frame(OUTSIDE, b"into nothing")])
            a.send([a.frame(b, b"neighbours still talk")])
            assert b.recv(1)[0][14:24] == b"neighbours"
            s.telemetry("/nic82599/link,1")
            wait_for(lambda: s.telemetry("/vhost_switch/port")["link"] == "up", what="link up")
            a.send([a.frame(OUTSIDE, b"turn %d" % turn)])
            wait_for(lambda t=turn: any(f[18:24] == b"turn %d" % t for f in wire.recv(1)),
                     what="a frame on the wire")
        assert consistent(s.stats(0))["tx_total"] == before + 9


def test_a_register_that_is_not_modelled_ends_the_process(wire):
    """Nothing is made up: the driver's dump reads registers that no forwarding needs."""
    args = eal_args("dump", str(cpus()[0]), 512,
                    ["--no-telemetry", *wire.eal, *[a for v in wire.vdev for a in ("--vdev", v)]])
    r = subprocess.run([DUMP, *args], capture_output=True, text=True, timeout=60, check=False)
    print(r.stdout + r.stderr)
    assert "registers of port 1" in r.stdout
    assert r.returncode == -signal.SIGABRT
    assert re.search(r"^nic82599: not modelled: .+ \(0x[0-9a-f]+\)$", r.stderr, re.M)


@pytest.mark.parametrize("options,says", [
    (("--vm2vm", "2"), "--vm2vm 2 needs a NIC"), (("--dcb", "4"), "--dcb 4 needs a NIC"),
    (("--dcb", "8"), "--dcb 8 needs a NIC")])
def test_what_a_plain_port_cannot_do_is_refused_in_one_line(options, says):
    with Wire("tap") as wire:
        s = wire.switch(*options, start=False)
        r = subprocess.run(s.args, cwd=s.dir, capture_output=True, text=True, timeout=60,
                           check=False)
        os.rmdir(s.dir)
        assert r.returncode == 1
        lines = [line for line in (r.stdout + r.stderr).splitlines() if "vhost-switch:" in line]
        assert len(lines) == 1 and says in lines[0], r.stdout + r.stderr


ARRIVALS = int(os.environ.get("ARRIVALS", "2000"))  # 10,000 in make soak


@pytest.mark.parametrize("app,turns", [(None, ARRIVALS), (ASAN, 600)], ids=["", "ASan"])
def test_arrivals_and_departures_with_traffic(app, turns, guests):
    with Wire("82599") as wire:
        with wire.switch(**({"app": app} if app else {})) as s:
            a, b = guests(s, 2)
            wire.open()
            introduce(a, b)
            wire.sock.setblocking(True)
            end, errors = threading.Event(), []

            def traffic():
                """Frames for whoever comes and goes, from the wire and from a guest that stays."""
                number = 0
                try:
                    while not end.is_set():
                        for vlan in range(1002, 1010):
                            mac = f"02:00:00:01:{number % 8:02x}:00"
                            wire.send(to_guest(b, b"to come", vlan, dst=mac)[0],
                                      to_guest(b, b"to come", vlan, dst=BROADCAST)[0])
                        a.send([a.frame(b, struct.pack("<I", number)), a.frame(BROADCAST, b"x")])
                        for f in b.recv(2):
                            if f[:6] == b.mac and struct.unpack_from("<I", f, 14)[0] != number:
                                raise AssertionError("lost or doubled")
                        number += 1
                        time.sleep(0.002)
                except (AssertionError, TimeoutError, OSError) as e:
                    errors.append(e)
            thread = threading.Thread(target=traffic)
            thread.start()
            try:
                here = []
                for i in range(turns):
                    g = Guest(s.sock, f"02:00:00:01:{i % 8:02x}:{i // 8 % 256:02x}", size=64)
                    here.append(g)
                    if i % 3:
                        g.announce()
                    if len(here) > 6:
                        here.pop(i % 7).close()
                    assert not errors, errors
                for g in here:
                    g.close()
            finally:
                end.set()
                thread.join()
            assert not errors, errors
            s.wait_guests(2)
            assert filters(s) == {a.mac.hex(): 1, b.mac.hex(): 2}
            while a.poll():
                time.sleep(0.1)
            good, bare = to_guest(a, b"at last", 1000)
            wire.send(good)
            assert a.recv(1) == [bare]
        # leaving Switch checked that all mbufs came back
