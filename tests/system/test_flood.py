# SPDX-License-Identifier: BSD-3-Clause
"""Named ports at full speed: domains stay apart, limits are kept, nobody is heard who may not be.

FLOOD_FRAMES=100000000 FLOOD_SECONDS=60, EVIL_FRAMES=10000000 and SLICES=200, or "make soak", for
more of each.
"""

import itertools
import os
import socket
import statistics
import time

import pytest

from flood import Flood
from harness import Switch, Wire, wait_for
from named import Ports, reload, switch_of
from traffic import consistent
from vhostuser import F_PACKED

FLOOD_FRAMES = int(os.environ.get("FLOOD_FRAMES", "1000000"))
FLOOD_SECONDS = float(os.environ.get("FLOOD_SECONDS", "2"))
EVIL_FRAMES = int(os.environ.get("EVIL_FRAMES", "200000"))
SLICES = int(os.environ.get("SLICES", "10"))
VLAN10, VLAN20 = 1, 2  # as domains of Flood

pytestmark = pytest.mark.alone

# what becomes of a port meanwhile; the domains that it sees, and in which its frames may be seen
TURNS = [("vlan=20", VLAN20, VLAN20), ("vlan=10 isolated=yes", VLAN10, VLAN10),
         ("vlan=10 trunk=20", VLAN10 | VLAN20, VLAN10), ("vlan=20 link=down", 0, 0),
         ("vlan=20 rate=10M storm=1000", VLAN20, VLAN20), ("trunk=10;20", VLAN10 | VLAN20, 0),
         ("vlan=10 learn=0 flood=no", VLAN10, VLAN10)]


def all_arrive(flood, *flows):
    """Hold flows, and wait for what is under way; returns how many frames each had."""
    flood.hold(*flows)

    def counts():
        now = [flood.count(flow) for flow in flows]
        return all(c.arrived + c.lost == c.sent for c in now) and now
    now = wait_for(counts, 10, f"all frames: {[flood.count(flow) for flow in flows]}")
    assert not any(c.lost for c in now), now
    return [c.arrived for c in now]


def test_two_domains_at_full_speed_while_a_port_changes(tmp_path):
    """The same two MACs in both; a fifth port goes from one to the other, and sends as well."""
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", c="vlan=20", d="vlan=20", e="vlan=10")
    macs = dict(a="02:00:00:00:00:01", b="02:00:00:00:00:02",
                c="02:00:00:00:00:01", d="02:00:00:00:00:02", e="02:00:00:00:00:05")
    with Switch(*ports.write(), memory=1024) as s:
        guests = [ports.guest(name, mac, rx_buffers=0, features=F_PACKED * (name in "cd"))
                  for name, mac in macs.items()]
        s.wait_guests(5)
        domains = [VLAN10, VLAN10, VLAN20, VLAN20, VLAN10]
        flows = [(0, 1, 128, "mixed"), (1, 0, 128, "mixed"), (2, 3, 128, "mixed"),
                 (3, 2, 128, "mixed"), (4, 4, -4, "broadcast")]
        with Flood(zip(guests, domains), flows) as flood:
            flood.go(0, 1, 2, 3, 4)
            begin = last = time.monotonic()

            def arrived():
                return sum(flood.count(i).arrived for i in range(4))
            for turn, (keys, sees, sends) in enumerate(itertools.cycle(TURNS)):
                flood.domains(4, VLAN10 | VLAN20, VLAN10 | VLAN20)
                ports.ports["e"] = keys
                if turn % 2:
                    ports.ports["new"] = "vlan=10 mac=02:00:00:00:0e:0e"
                gone = not turn % 2 and ports.ports.pop("new", None) is not None
                reload(s, ports, f"{turn % 2} port{'s' * (turn % 2 == 0)} added, {int(gone)} "
                       "removed, 1 changed")
                s.lines.clear()
                s.settle()
                flood.domains(4, sees, sends)
                before = arrived()
                wait_for(lambda: arrived() > before, 300, "frames after a reload")
                wait_for(lambda: turn < len(TURNS) or time.monotonic() >= last + 1, 600)
                last = time.monotonic()
                flood.all_right()
                if turn >= len(TURNS) and arrived() >= FLOOD_FRAMES and (
                        time.monotonic() >= begin + FLOOD_SECONDS):
                    break
            flood.hold(4)
            frames = all_arrive(flood, 0, 1, 2, 3)
            took = time.monotonic() - begin
            flood.all_right()
            print(f"{turn + 1} reloads, {frames} frames in {took:.1f} s")
            assert flood.count(4).sent > 0
        for i in range(4):
            st = consistent(s.stats(128 + i))
            assert st["rx_dropped"] == 0, st
        for g in guests:
            g.close()


@pytest.mark.parametrize("keys", ["vlan=10", "trunk=10;20"], ids=["access", "trunk"])
def test_frames_of_a_hostile_guest_reach_nobody(keys, tmp_path):
    """Not one of random sources and VLANs; and its neighbours do not lose one."""
    ports = Ports(tmp_path, evil=f"{keys} mac=02:00:00:00:00:ee learn=0 source-check=yes",
                  a="vlan=10 mac=02:00:00:00:00:01 learn=0 source-check=yes",
                  b="vlan=10 mac=02:00:00:00:00:02 learn=0 source-check=yes",
                  c="vlan=20", t="trunk=all", u="")
    macs = ["02:00:00:00:00:ee", "02:00:00:00:00:01", "02:00:00:00:00:02",
            "02:00:00:00:00:03", "02:00:00:00:00:04", "02:00:00:00:00:05"]
    with Wire("af_packet") as wire, wire.switch(*ports.args(), memory=1024) as s:
        guests = [ports.guest(name, mac, rx_buffers=0) for name, mac in zip(ports.ports, macs)]
        s.wait_guests(6)
        wire.open()
        with Flood(((g, 3) for g in guests), [(1, 2, 64, "unicast"), (2, 1, 64, "unicast")],
                   evil=(0, EVIL_FRAMES)) as flood:
            flood.go(0, 1)
            wait_for(lambda: min(flood.count(i).arrived for i in (0, 1)) > 1, 5, "frames")
            wire.recv(2)  # the first of each flow
            before = s.telemetry("/vhost_switch/port")["tx_successful"]
            assert before == 2
            first, begin = sum(flood.count(i).arrived for i in (0, 1)), time.monotonic()
            flood.go("evil")
            wait_for(lambda: flood.count("evil").sent == EVIL_FRAMES, 600, "the switch to take all")
            took = time.monotonic() - begin
            frames = sum(all_arrive(flood, 0, 1)) - first
            flood.all_right()
            assert flood.count("evil").arrived == 0 and frames > 0
        print(f"{EVIL_FRAMES} frames in {took:.1f} s, and {frames} of its neighbours")
        st = consistent(s.stats(128))
        assert st["tx_total"] == st["tx_dropped"] == EVIL_FRAMES, st
        for why in ("source_not_allowed", "vlan_not_allowed", "mac_taken"):
            assert st[f"tx_drop_{why}"] > EVIL_FRAMES / 1000, st
        assert s.telemetry("/vhost_switch/port")["tx_successful"] == before
        for i in (129, 130):
            st = consistent(s.stats(i))
            assert st["tx_dropped"] == st["rx_dropped"] == 0, st
        wire.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:  # what this machine itself sends by IPv6 does not count
                frame, _, _, addr = wire.sock.recvmsg(2048, 256)
                assert addr[2] == socket.PACKET_OUTGOING or frame[12:14] == b"\x86\xdd", frame.hex()
        for g in guests:
            g.close()


def rate_of(flood, flow, seconds):
    """Frames a second that arrive of a flow, by the clock of its guests; they are never held up
    for as long as a bucket holds."""
    for _ in range(20):
        begin = end = flood.count(flow)
        gap = 0
        while end.ns < begin.ns + seconds * 1e9:
            time.sleep(seconds / 20)
            end = flood.count(flow)
            gap = max(gap, end.gap)
        if gap < 50e6:
            return (end.arrived - begin.arrived) * 1e9 / (end.ns - begin.ns)
    raise AssertionError("this machine is too busy")


# keys of the sender, those of the receiver, frames a second, window and kind of the flow, what is
# counted at the sender, and at the receiver
LIMITS = [("rate=8M", "", 8e6 / 8 / 60, 1000, "unicast", None, None),
          ("frames=20000", "", 20000, 1000, "unicast", None, None),
          ("storm=10000", "", 10000, -1000, "broadcast", "tx_drop_storm", None),
          ("", "rate-to=8M", 8e6 / 8 / 60, -1000, "unicast", "tx_drop_rate", "rx_drop_rate"),
          ("", "rate-to=8M", 8e6 / 8 / 60, -1000, "broadcast", None, "rx_drop_rate")]


def test_limits_are_kept(tmp_path):
    """Within 5 %, of guests that send all they can; what has to wait is not lost."""
    ports = Ports(tmp_path)
    macs = [f"02:00:00:00:00:{i:02x}" for i in range(2 * len(LIMITS))]
    for i, (keys, keys_to, *_) in enumerate(LIMITS):
        ports.ports.update({f"a{i}": f"vlan={10 * (i + 1)} mac={macs[2 * i]} {keys}",
                            f"b{i}": f"vlan={10 * (i + 1)} mac={macs[2 * i + 1]} {keys_to}"})
    with switch_of(ports) as s:
        guests = [ports.guest(name, mac, rx_buffers=0, size=1024)
                  for name, mac in zip(ports.ports, macs)]
        s.wait_guests(len(guests))
        with Flood(((g, 1 << i // 2) for i, g in enumerate(guests)),
                   [(2 * i, 2 * i + 1, *limit[3:5]) for i, limit in enumerate(LIMITS)]) as flood:
            for i, (keys, keys_to, expected, window, *_) in enumerate(LIMITS):
                flood.go(i)
                for _ in range(40):  # another one only if this machine had no time for them
                    rate_of(flood, i, 0.1)  # its bucket is empty after that
                    rate = rate_of(flood, i, SLICES / 20)
                    print(f"{keys or keys_to}: {rate:.0f} a second, "
                          f"{100 * rate / expected - 100:+.2f} %")
                    if rate == pytest.approx(expected, rel=0.05):
                        break
                assert rate == pytest.approx(expected, rel=0.05), keys or keys_to
                flood.hold(i)
                if window > 0:
                    all_arrive(flood, i)
            flood.all_right()
        for i, (*_, window, _, why, why_to) in enumerate(LIMITS):
            for n, way, reason in ((2 * i, "tx", why), (2 * i + 1, "rx", why_to)):
                st = consistent(s.stats(128 + n))
                assert window < 0 or st[f"{way}_dropped"] == 0, (LIMITS[i], st)
                assert not reason or st[reason] > 0, (LIMITS[i], st)
        for g in guests:
            g.close()


def test_a_limited_flooder_is_not_noticed(tmp_path):
    """By an unlimited pair: less than 3 % of its rate, in slices with and without by turns."""
    macs = [f"02:00:00:00:00:0{i}" for i in range(4)]
    ports = Ports(tmp_path, **{name: f"vlan=10 mac={mac}" for name, mac in zip("xyzw", macs)})
    ports.ports["z"] += " rate=10M"
    with switch_of(ports) as s:
        guests = [ports.guest(name, mac, rx_buffers=0) for name, mac in zip("xyzw", macs)]
        s.wait_guests(4)
        with Flood(((g, VLAN10) for g in guests),
                   [(0, 1, 192, "unicast"), (2, 3, 32, "mixed")]) as flood:
            flood.go(0, 1)
            without, changes = [], []
            for _ in range(40 * SLICES):
                all_arrive(flood, 1)
                rate = rate_of(flood, 0, 0.05)
                before = flood.count(1).arrived
                flood.go(1)
                beside = rate_of(flood, 0, 0.05)
                if rate > 0 and flood.count(1).arrived > before:
                    without.append(rate)
                    changes.append(beside / rate - 1)
                if len(changes) >= 2 * SLICES and abs(statistics.median(changes)) < 0.03:
                    break  # later only if this machine is too busy
            change = statistics.median(changes)
            print(f"{statistics.median(without) / 1e6:.2f} million frames a second, "
                  f"{100 * change:+.2f} % beside one that floods, {len(changes)} times")
            assert abs(change) < 0.03
            all_arrive(flood, 0, 1)
            flood.all_right()
        for i in range(4):
            assert consistent(s.stats(128 + i))["tx_dropped"] == 0
        for g in guests:
            g.close()
