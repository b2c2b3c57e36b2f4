# SPDX-License-Identifier: BSD-3-Clause
"""Named ports: what limits and checks hold for frames that come by another way than most."""

import os
import struct
import threading
import time

import pytest

from frames import BROADCAST, OUTSIDE, tagged
from harness import Switch, Wire, wait_for
from named import Ports, reload, switch_of
from traffic import consistent
from vhostuser import F_CSUM, HDR_LEN, SEND_RARP, Guest


def sent_all(switch, guest_id, n):
    """Counters of a guest, when it has sent so many frames."""
    wait_for(lambda: switch.stats(guest_id)["tx_total"] >= n, 5, f"{n} frames")
    return consistent(switch.stats(guest_id))


def publish(guest, frames, pair=0):
    """All frames at once. Returns the virtqueue, whose heads are then those of the frames."""
    ring = guest.rings[2 * pair + 1]
    for head, frame in enumerate(frames):
        at = ring.buf(head)
        guest.mem[at:at + HDR_LEN + len(frame)] = bytes(HDR_LEN) + frame
        ring.set_desc(head, HDR_LEN + len(frame))
    ring.offer(range(len(frames)))
    return ring


def test_rate_to_is_for_floods_too(tmp_path):
    """Of a guest and of the uplink; the sender does not lose what one receiver may not have."""
    ports = Ports(tmp_path, a="", slow="rate-to=8k", c="")
    with Wire("af_packet") as wire, wire.switch(*ports.args()) as s:
        a, slow, c = ports.guests()
        s.wait_guests(3)
        wire.open()
        begin = time.monotonic()
        for dst in (BROADCAST, OUTSIDE):
            for _ in range(10):
                a.send([a.frame(dst, bytes(1400))] * 10)
                assert len(c.recv(10)) == 10
        assert sent_all(s, 128, 200)["tx_dropped"] == 0
        outside = b"\xff" * 6 + bytes.fromhex("020000000077") + b"\x88\xb5" + bytes(1400)
        for _ in range(10):
            wire.send(*[outside] * 10)
            c.recv(10)
        st = consistent(s.stats(129))
        assert st["rx_total"] == 300
        assert 46 <= st["rx_successful"] <= 47 + time.monotonic() - begin
        assert st["rx_drop_rate"] == st["rx_dropped"]
        for g in (a, slow, c):
            g.close()


@pytest.mark.parametrize("option", ["flood-unknown", "--vm2vm"])
def test_storm_counts_what_goes_to_the_uplink_alone(option, tmp_path):
    ports = Ports(tmp_path, a="storm=5", b="")
    args = ports.write("flood-unknown = no") if option == "flood-unknown" else \
        [*ports.args(), "--vm2vm", "0"]
    with Wire("af_packet") as wire, wire.switch(*args) as s:
        a, b = ports.guests()
        s.wait_guests(2)
        wire.open()
        gateway = bytes.fromhex("020000000077")
        wire.send(b"\xff" * 6 + gateway + b"\x88\xb5" + bytes(46))  # known from here on
        a.recv(1)
        dst = BROADCAST if option == "--vm2vm" else OUTSIDE
        a.send([a.frame(dst, b"storm")] * 50 + [a.frame("02:00:00:00:00:77", b"known")] * 50)
        st = sent_all(s, 128, 100)
        assert 20 <= st["tx_drop_storm"] == st["tx_dropped"] <= 49
        for g in (a, b):
            g.close()


@pytest.mark.parametrize("keys,why", [
    ("mac=02:00:00:00:00:aa learn=0 source-check=yes", "source_not_allowed"),
    ("", "mac_taken"), ("storm=1", "storm")])
def test_an_announcement_keeps_to_the_rules(keys, why, tmp_path):
    """SEND_RARP of a front end: its address is checked as the guest's own frames are."""
    ports = Ports(tmp_path, a=keys, b="mac=02:00:00:00:00:bb", c="")
    with switch_of(ports) as s:
        a, b, c = ports.guests()
        s.wait_guests(3)
        mac = {"mac_taken": "0200000000bb", "storm": "020000000001",
               "source_not_allowed": "020000000001"}[why]

        def announced():
            a.message(SEND_RARP, bytes.fromhex(mac) + bytes(2))
            return s.stats(128)[f"tx_drop_{why}"] > 0
        wait_for(announced, 5, f"{why}, {s.stats(128)}")
        consistent(s.stats(128))
        if why != "storm":
            c.quiet(0.05)
        assert all(r["port"] != "a" or r["static"] == "yes" or why == "storm"
                   for r in s.telemetry("/vhost_switch/fdb").values())
        for g in (a, b, c):
            g.close()


def test_learn_is_lowered_by_a_reload(tmp_path):
    """The addresses that were seen last stay, and no others may be used."""
    ports = Ports(tmp_path, a="source-check=yes", b="")
    with Switch(*ports.write()) as s:
        a, b = ports.guests()
        s.wait_guests(2)

        def learned():
            return [r["mac"] for r in s.telemetry("/vhost_switch/fdb").values()
                    if r["port"] == "a"]
        a.send([a.frame(BROADCAST, src=b"\x02\0\0\0\0" + bytes([i])) for i in range(8)])
        wait_for(lambda: len(learned()) == 8, 5)
        ports.ports["a"] = "source-check=yes learn=3"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        assert len(learned()) == 3
        ports.ports["a"] = "source-check=yes learn=0 mac=02:00:00:00:00:aa"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        assert learned() == ["02:00:00:00:00:aa"]
        for g in (a, b):
            g.close()


def test_all_places_are_taken_and_a_port_is_replaced(tmp_path):
    ports = Ports(tmp_path, **{f"p{i}": "vlan=7" for i in range(512)})
    with Switch(*ports.write()) as s:
        ports.ports.update({f"p{i}": "vlan=7 offload=no" for i in range(256)})
        reload(s, ports, "256 ports added, 256 removed, 0 changed")
        assert not s.has("not added") and len(os.listdir(tmp_path)) == 513
        last = ports.guest("p255")
        s.wait_log("port p255: guest connected")
        last.close()


def test_a_port_takes_the_vlan_of_a_historical_guests_tag(tmp_path):
    """The guest stays connected, with another id and tag, or waits until it can have one."""
    old = str(tmp_path / "old")
    ports = Ports(tmp_path, a="vlan=10")
    with Wire("af_packet") as wire, wire.switch(*ports.write(), "--socket-file", old) as s:
        a = ports.guest("a")
        first = Guest(old, "52:54:00:00:0b:00")
        s.wait_log("(0) guest connected")
        other = Guest(old, "52:54:00:00:0b:01")
        s.wait_guests(3)
        wire.open()
        ports.ports["a"] = "vlan=1000"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        s.wait_log("(0) VLAN_TAG 1000 is now a named port's")
        s.wait_log("(2) guest connected")
        first.send([first.frame(BROADCAST, b"with another tag")])
        assert wire.recv(1) == [tagged(first.frame(BROADCAST, b"with another tag"), 1002)]
        assert other.recv(1) == [first.frame(BROADCAST, b"with another tag")]
        a.quiet(0.05)
        # all tags are a port's, and then none of them
        ports.ports["a"] = "trunk=all"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        s.wait_guests(1)
        ports.ports["a"] = "vlan=10"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        s.wait_guests(3)
        for g in (a, first, other):
            g.close()


def test_all_queue_pairs_of_a_limited_guest_have_their_turn(tmp_path):
    ports = Ports(tmp_path, a="frames=1000", b="")
    with switch_of(ports) as s:
        a, b = ports.guest("a", pairs=2), ports.guest("b")
        s.wait_guests(2)
        taken = {1: 0, 3: 0}
        for i in taken:
            publish(a, [a.frame(b)] * a.size, i // 2)

        def both():
            for i in taken:
                done = [head for head, _ in a.rings[i].take()]
                taken[i] += len(done)
                a.rings[i].offer(done)
            b.poll()
            return sum(taken.values()) > 1500
        wait_for(both, 20, "1500 frames")
        assert min(taken.values()) > 500, taken
        a.close()
        b.close()


@pytest.mark.parametrize("keys,size,per_second", [("frames=10", 64, 10), ("rate=1M", 60014, 2.1)])
def test_a_low_limit_does_not_let_a_burst_go(keys, size, per_second, tmp_path):
    """Nor is the guest silent for long after it."""
    ports = Ports(tmp_path, a=keys, b="")
    with switch_of(ports) as s:
        a, b = ports.guest("a", buf_len=65536, size=128), ports.guest("b", buf_len=65536, size=128)
        s.wait_guests(2)
        begin = time.monotonic()
        publish(a, [a.frame(b, bytes(size - 14))] * 100)
        got = len(b.recv(1))
        s.settle()
        got += len(b.poll())
        assert got <= 6 + per_second * (time.monotonic() - begin)
        b.recv(2)
        a.close()
        b.close()


def test_two_tags_from_the_uplink(tmp_path):
    """Are for nobody, as from a guest: without the first one, the other would count."""
    ports = Ports(tmp_path, a="vlan=10", t="trunk=10;20", n="vlan=10 trunk=20", u="")
    with Wire("af_packet") as wire, wire.switch(*ports.args()) as s:
        guests = ports.guests()
        s.wait_guests(4)
        wire.open()
        bare = b"\xff" * 6 + bytes.fromhex("020000000077") + b"\x88\xb5" + bytes(46)
        for outer in (10, 0):
            wire.send(tagged(tagged(bare, 20), outer))
        wait_for(lambda: s.telemetry("/vhost_switch/port")["rx"] >= 2, 5)
        for g in guests:
            assert not [f for f in g.poll() if f[6:12] == bare[6:12]]
        wait_for(lambda: s.telemetry("/vhost_switch/port")["rx_drop_vlan_not_allowed"] == 2, 5)
        for g in guests:
            g.close()


def test_sources_from_the_uplink_that_nobody_can_have(tmp_path):
    """As from a guest: they are not learned, and the frame reaches nobody."""
    ports = Ports(tmp_path, a="vlan=10", u="")
    with Wire("af_packet") as wire, wire.switch(*ports.args()) as s:
        guests = ports.guests()
        s.wait_guests(2)
        wire.open()
        sources = [bytes.fromhex(mac) for mac in ("01005e000001", "ff" * 6, "00" * 6)]
        for source in sources:
            bare = b"\xff" * 6 + source + b"\x88\xb5" + bytes(46)
            wire.send(bare)
            wire.send(tagged(bare, 10))
        wait_for(lambda: s.telemetry("/vhost_switch/port")["rx_drop_source_invalid"] == 6, 5)
        for g in guests:
            assert not [f for f in g.poll() if f[6:12] in sources]
            g.close()
        assert not {row["mac"].replace(":", "") for row in s.telemetry("/vhost_switch/fdb").values()
                    } & {source.hex() for source in sources}


def test_link_down_is_counted_at_the_port_whatever_the_frames_way(tmp_path):
    ports = Ports(tmp_path, a="", off="link=down mac=02:00:00:00:00:0f rate-to=8k")
    with Wire("af_packet") as wire, wire.switch(*ports.args()) as s:
        a, off = ports.guests(features=F_CSUM)
        s.wait_guests(2)
        wire.open()
        hdr = struct.pack("<BBHHHHH", 1, 0, 0, 0, 14, 16, 0)
        to = "02:00:00:00:00:0f"
        a.send([a.frame(to, bytes(1400))] * 100)
        for _ in range(10):
            a.send([a.frame(to, bytes(1400))] * 10, hdr=hdr)
        assert sent_all(s, 128, 200)["tx_drop_link_down"] == 200
        wire.send(bytes.fromhex("02000000000f020000000077") + b"\x88\xb5" + bytes(46))
        wait_for(lambda: s.stats(129)["rx_drop_link_down"] == 201, 5)
        off.quiet(0.05)
        for g in (a, off):
            g.close()


def test_a_guest_comes_back_at_once(tmp_path):
    """A front end that dies and one that takes its place, before the switch has seen either."""
    ports = Ports(tmp_path, a="")
    with switch_of(ports) as s:
        for turn in range(50):
            a = ports.guest("a", size=16)
            if turn % 2:
                s.wait_guests(1)
            a.sock.close()
        a = ports.guest("a")
        s.wait_guests(1)
        assert s.telemetry("/vhost_switch/ports")["128"]["refused"] == 0
        a.close()


def test_frames_that_wait_are_taken_from_a_limit_once(tmp_path):
    """Those that are offered to a full ring in each round, until there is room."""
    ports = Ports(tmp_path, a="", b="rate-to=8M mac=02:00:00:00:00:bb")
    with switch_of(ports, "--rx-retry-num", "1000", "--rx-retry-delay", "10000") as s:
        a, b = ports.guest("a"), ports.guest("b", rx_buffers=16)
        s.wait_guests(2)
        publish(a, [a.frame("02:00:00:00:00:bb", bytes(986))] * 100)
        b.recv(16, refill=False)
        s.settle()
        b.rings[0].offer(range(16, 100))
        b.recv(84)
        assert consistent(s.stats(129))["rx_dropped"] == 0
        for g in (a, b):
            g.close()


def test_an_address_that_moved_away_is_not_the_ports_any_more(tmp_path):
    """Nor for its next frame, though the port has sent from no other address since."""
    ports = Ports(tmp_path, a="", b="", c="")
    with switch_of(ports) as s:
        a, b, c = ports.guests()
        s.wait_guests(3)
        mac = bytes.fromhex("020000000099")
        for turn in range(4):
            wait_for(lambda: all(r["age"] >= 1 for r in s.telemetry("/vhost_switch/fdb").values()),
                     5, "a second of silence")
            first, second, id_ = ((b, c, 130), (c, b, 129))[turn % 2]
            before = s.stats(id_)["tx_drop_mac_taken"]
            begin = time.monotonic()
            for g in (first, second):
                g.send([g.frame(BROADCAST, b"mine", src=mac)])
            after = s.stats(id_)["tx_drop_mac_taken"]
            assert after == before + 1 or time.monotonic() - begin > 0.9
        for g in (a, b, c):
            g.close()


def test_what_is_dropped_from_another_address_is_counted_once(tmp_path):
    """A request that cannot be, in a frame whose source has to be looked up: at the sender."""
    ports = Ports(tmp_path, a="", b="")
    with switch_of(ports, "--tx-csum", "1") as s:
        a, b = ports.guests(features=F_CSUM)
        s.wait_guests(2)
        beyond = struct.pack("<BBHHHHH", 1, 0, 0, 0, 14, 1000, 0)
        a.send([a.frame(b, src=bytes([2, 0, 0, 0, 0, i])) for i in range(5)], hdr=beyond)
        a.send([a.frame(b)])
        b.recv(1)
        st = consistent(s.stats(128))
        assert (st["tx_total"], st["tx_drop_offload"], st["rx_total"]) == (6, 5, 0)
        for g in (a, b):
            g.close()


def test_addresses_that_are_seen_while_the_switch_starts(tmp_path):
    """They are learned as others are: none of them is static, so all are forgotten some time."""
    ports = Ports(tmp_path, a="")
    runs = threading.Event()

    def talk(wire):
        for i in range(1, 20000):
            wire.send(b"\xff" * 6 + struct.pack(">HI", 0x0200, i) + b"\x88\xb5" + bytes(46))
            if runs.wait(0.002):
                return

    with Wire("af_packet") as wire:
        wire.open()
        thread = threading.Thread(target=talk, args=[wire])
        thread.start()
        try:
            with wire.switch(*ports.args()) as s:
                runs.set()
                wait_for(lambda: s.telemetry("/vhost_switch/fdb"), 5, "an address")
                known = [r for page in s.pages("/vhost_switch/fdb") for r in page.values()]
                assert {r["static"] for r in known} == {"no"}
        finally:
            runs.set()
            thread.join()


def test_a_source_without_room_is_counted_once_for_a_frame_that_waits(tmp_path):
    """The frame is looked at in each round until the ring has room or the time is up."""
    ports = Ports(tmp_path, a="learn=0", b="")
    with switch_of(ports, "--rx-retry-num", "1000", "--rx-retry-delay", "100") as s:
        a, b = ports.guest("a"), ports.guest("b", rx_buffers=0)
        s.wait_guests(2)
        b.send([b.frame(a)])
        a.send([a.frame(b)] * 3)
        st = consistent(s.stats(128))
        assert (st["tx_drop_guest_full"], st["fdb_full"]) == (3, 3)
        for g in (a, b):
            g.close()
