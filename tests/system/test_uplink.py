# SPDX-License-Identifier: BSD-3-Clause
"""Guests and the NIC port, exact frames, on each kind of port and by either kind of steering."""

import os
import struct
import time

import pytest

from frames import BROADCAST, OUTSIDE, data_of, ipv6_partial, tagged, tcp4, to_guest
from harness import Switch, Wire
from traffic import consistent, introduce

KINDS = ["af_packet", "tap", "pcap", "82599"]


@pytest.fixture(params=KINDS)
def wire(request):
    with Wire(request.param) as w:
        yield w


@pytest.fixture
def veth():
    with Wire("af_packet") as w:
        yield w


def test_from_the_nic_by_mac_and_vlan(wire, guests):
    with wire.switch() as s:
        assert s.has("steering by VMDQ" if wire.kind == "82599" else "steering by software")
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        good, bare = to_guest(a, b"right MAC, right VLAN", 1000)
        wire.send(good)
        assert a.recv(1) == [bare]
        for bad in (to_guest(a, b"wrong VLAN", 1001)[0], to_guest(a, b"VLAN of nobody", 5)[0],
                    to_guest(a, b"no tag", None)[0],
                    to_guest(a, b"wrong MAC", 1000, dst=OUTSIDE)[0]):
            wire.send(bad)
        wire.send(to_guest(b, b"for all of VLAN 1001", 1001, dst=BROADCAST)[0])
        assert b.recv(1) == [to_guest(b, b"for all of VLAN 1001", 1001, dst=BROADCAST)[1]]
        a.quiet()
        b.quiet(0)
        # The 82599 drops these itself, where the switch cannot count them.
        port = s.telemetry("/vhost_switch/port")
        if wire.kind != "82599":
            assert port["rx_drop_wrong_mac"] == 2 and port["rx_drop_no_guest"] == 1
            assert port["rx_drop_untagged"] >= 1
        # priority bits are no part of the VLAN
        wire.send(to_guest(a, b"priority 5", 1000 | 5 << 13)[0])
        assert a.recv(1)[0][14:24] == b"priority 5"


@pytest.mark.parametrize("options", [(), ("--mergeable", "1", "--tso", "1", "-P")],
                         ids=["default", "mergeable, tso, promiscuous"])
def test_to_the_nic_with_the_guests_tag(wire, guests, options):
    with wire.switch(*options) as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        frames = [b.frame(OUTSIDE, os.urandom(n)) for n in (1, 60, 500, 1500 - 14)]
        frames += [b.frame(OUTSIDE, b"own tag", vlan=7)]
        b.send(frames)
        assert wire.recv(5) == [tagged(f, 1001) for f in frames[:4]] + frames[4:]
        # a broadcast: to the other guest bare, to the wire tagged
        everybody = b.frame(BROADCAST, b"everybody")
        b.send([everybody])
        assert a.recv(1) == [everybody]
        assert wire.recv(1) == [tagged(everybody, 1001)]
        wire.quiet()
        st = consistent(s.stats(1))
        assert st["tx_successful"] == st["tx_total"] == 7


def test_strip_off_keeps_the_tag(wire, guests):
    with wire.switch("--vlan-strip", "0") as s:
        a = guests(s)
        wire.open()
        introduce(a)
        frame, _ = to_guest(a, b"keep it", 1000 | 3 << 13)
        wire.send(frame)
        assert a.recv(1) == [frame]


def test_vm2vm_0_sends_everything_to_the_nic(wire, guests):
    with wire.switch("--vm2vm", "0") as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        frames = [a.frame(b, b"neighbour"), a.frame(BROADCAST, b"all"), a.frame(OUTSIDE, b"out")]
        a.send(frames)
        assert wire.recv(3) == [tagged(f, 1000) for f in frames]
        b.quiet()


@pytest.mark.parametrize("wire,mode", [
    *((kind, mode) for kind in KINDS for mode in ("0", "1")), ("82599", "2")], indirect=["wire"])
def test_a_priority_tag_names_no_vlan(wire, guests, mode):
    with wire.switch("--vm2vm", mode) as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        # out: the guest's VLAN, and the priority and drop eligibility that it asked for
        tcis = [priority << 13 | dei << 12 for priority in range(8) for dei in (0, 1)]
        for dst in (OUTSIDE, BROADCAST):
            b.send([b.frame(dst, b"priority", vlan=tci) for tci in tcis])
            assert wire.recv(16) == [b.frame(dst, b"priority", vlan=tci | 1001) for tci in tcis]
        if mode == "1":  # between guests the frame is left as it is
            assert a.recv(16) == [b.frame(BROADCAST, b"priority", vlan=tci) for tci in tcis]
        a.poll()
        # a tag after the priority tag is payload
        inner = b.frame(OUTSIDE, b"inner", vlan=7)
        b.send([tagged(inner, 5 << 13)])
        wire.ETH_TEST = 0x8100
        assert wire.recv(1) == [tagged(inner, 5 << 13 | 1001)]
        del wire.ETH_TEST
        # in: it belongs to no guest
        before = s.telemetry("/vhost_switch/port")
        for dst in (None, BROADCAST):
            wire.send(to_guest(a, b"priority", 5 << 13, dst)[0])
        wire.send(to_guest(a, b"end", 1000 | 5 << 13)[0])
        assert a.recv(1) == [to_guest(a, b"end", None)[1]]
        if wire.kind != "82599":  # which drops these itself
            after = s.telemetry("/vhost_switch/port")
            assert after["rx_drop_untagged"] - before["rx_drop_untagged"] >= 2
            assert after["rx_drop_no_guest"] == before["rx_drop_no_guest"]


def test_order_and_counts_under_load(veth, guests):
    with veth.switch() as s:
        a = guests(s)
        veth.open()
        introduce(a)
        veth.recv(1)
        n = 2000
        for i in range(0, n, 50):
            a.send([a.frame(OUTSIDE, struct.pack(">I", j)) for j in range(i, i + 50)])
            assert [struct.unpack(">I", f[18:22])[0] for f in veth.recv(50)] == \
                list(range(i, i + 50))
        st = consistent(s.stats(0))
        assert st["tx_successful"] == n + 1
        assert s.telemetry("/vhost_switch/port")["tx_successful"] == n + 1


def test_partial_checksum_is_completed_for_the_wire(wire, guests):
    from scapy.all import IP, UDP, Ether, raw
    from vhostuser import F_CSUM
    with wire.switch("--tx-csum", "1") as s:
        a = guests(s, features=F_CSUM)
        wire.open()
        introduce(a)
        wire.recv(1)
        good = raw(Ether(dst=OUTSIDE, src="02:00:00:00:01:00") /
                   IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / (b"data" * 30))
        hdr = bytes([1, 0, 0, 0, 0, 0]) + (34).to_bytes(2, "little") + \
            (6).to_bytes(2, "little") + bytes(2)
        a.send([good[:40] + b"\xde\xad" + good[42:]], hdr=hdr)
        wire.ETH_TEST = 0x0800
        assert wire.recv(1) == [tagged(good, 1000)]


@pytest.mark.parametrize("kind", ["hop-by-hop", "routing", "long"])
def test_checksum_after_ipv6_extension_headers_for_the_wire(wire, guests, kind):
    """No NIC is told of them: one that fills in checksums takes the first header for the whole."""
    from vhostuser import F_CSUM
    with wire.switch("--tx-csum", "1") as s:
        a = guests(s, features=F_CSUM)
        wire.open()
        introduce(a)
        wire.recv(1)
        wire.ETH_TEST = 0x86dd
        for proto in (6, 17):
            frame, hdr, good = ipv6_partial(a, bytes.fromhex(OUTSIDE.replace(":", "")), kind, proto)
            a.send([frame], hdr=hdr)
            assert wire.recv(1) == [tagged(good, 1000)]


def test_small_segments_for_the_wire(wire, guests):
    from vhostuser import F_CSUM, F_HOST_TSO4
    with wire.switch("--tso", "1") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=66000)
        wire.open()
        introduce(a)
        wire.recv(1)
        wire.ETH_TEST = 0x0800
        outside = type("Host", (), {"mac": bytes.fromhex(OUTSIDE.replace(":", ""))})
        for mss, length in ((48, 4000), (216, 20000), (1448, 60000)):
            data = os.urandom(length)
            frame, hdr = tcp4(a, outside, data, mss=mss)
            a.send([frame], hdr=hdr)
            got = b""
            for f in wire.recv(-(-length // mss)):
                assert f[12:16] == struct.pack(">HH", 0x8100, 1000)
                got += data_of(f[:12] + f[16:], 7 + len(got))
            assert got == data
        st = consistent(s.stats(0))
        assert (st["tx_successful"], st["tx_dropped"]) == (4, 0)
        assert s.telemetry("/vhost_switch/port")["tx_successful"] == 4


def test_null_port_runs(guests):
    with Switch(vdev=["net_null0,no-rx=1"], port="0x1") as s:
        a = guests(s)
        introduce(a)
        a.send([a.frame(OUTSIDE, b"x")] * 100)
        assert consistent(s.stats(0))["tx_successful"] == 101


def test_historical_command_line(tmp_path):
    """-c MASK -n 4 --socket-mem ... as in 2016, the mask as the machine allows."""
    import re
    import subprocess
    from harness import APP, cpus
    s = Switch("--dev-basename", "usvhost", start=False, vdev=["net_null0,no-rx=1"])
    s.args = [APP, "-c", f"{1 << cpus()[0]:x}", "-n", "4", "--file-prefix", s.prefix, "--no-huge",
              "-m", "512", "--vdev", "net_null0,no-rx=1", "--", "-p", "0x1", "--dev-basename",
              "usvhost"]
    s.sock = os.path.join(s.dir, "usvhost")
    s.start()
    assert os.path.exists(s.sock)
    time.sleep(0.1)
    s.stop()
    assert re.search("all [0-9]+ mbufs", s.log()) and subprocess
