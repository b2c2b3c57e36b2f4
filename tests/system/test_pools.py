# SPDX-License-Identifier: BSD-3-Clause
"""Named ports on an 82599: pools and filters of the card follow ports, guests and the FDB."""

import os
import re
import struct
import subprocess
import threading
import time

import pytest

from card import OWN, filters, queues, received, vlans
from frames import BROADCAST, OUTSIDE, tagged
from harness import APP, ROOT, Wire, wait_for
from named import Ports, reload
from traffic import consistent
from vhostuser import Guest

ASAN = os.path.join(ROOT, "build/asan/vhost-switch")
TWO_WORKERS = "0@0,1@0,2@1"
FAR = bytes.fromhex(OUTSIDE.replace(":", ""))


@pytest.fixture
def wire():
    with Wire("82599") as w:
        yield w


class Cable:
    """The far end: frames to a guest, and by which queues of the card they came."""

    def __init__(self, s, wire):
        self.s, self.wire = s, wire.open()

    def send(self, to, vlan, form, payload=None):
        """
        One frame to a guest, or to the address that is given with it: the guest gets it once, with
        the tag of form. Returns the receive queues that it used.
        """
        guest, mac = to if isinstance(to, tuple) else (to, to)
        bare = guest.frame(mac, payload or os.urandom(40), src=FAR)
        before = queues(self.s)
        self.wire.send(bare if vlan is None else tagged(bare, vlan))
        assert guest.recv(1) == [bare if form is None else tagged(bare, form)]
        return received(before, queues(self.s))


def quiet(*guests):
    for g in guests:
        g.quiet(0)


def close(*guests):
    for g in guests:
        g.close()


def show(g):
    return g.mac.hex()


def introduce(s, guests, n=None):
    """Each sends a frame and gets its filter; nobody keeps what was flooded."""
    for g in guests:
        g.send([g.frame(OUTSIDE, b"me", vlan=getattr(g, "tag", None))])
    wait_for(lambda: len(filters(s)) == (len(guests) if n is None else n), 5, "the filters")
    s.settle()
    for g in guests:
        g.poll()


def pool_of(s, name):
    text, = (p["steering"] for p in s.telemetry("/vhost_switch/ports").values()
             if p["name"] == name)
    return 0 if text == "software" else int(re.fullmatch(r"vmdq pool (\d+)", text)[1])


# VLANs on the uplink, and how a guest has their frames; None: no tag
PORTS = dict(a="vlan=10", b="vlan=10", d="vlan=10", e="vlan=10", c="vlan=20",
             t="trunk=10;20;30;100-109", n="vlan=40 trunk=50")
FORMS = {"a": {10: None}, "b": {10: None}, "d": {10: None}, "e": {10: None}, "c": {20: None},
         "t": {10: 10, 20: 20, 30: 30, 105: 105}, "n": {40: None, 50: 50}}


@pytest.mark.parametrize("lcores", [None, TWO_WORKERS], ids=["1 worker", "2 workers"])
@pytest.mark.parametrize("options", [(), ("--vlan-strip", "0"), ("--dcb", "8"), ("--dcb", "4")],
                         ids=" ".join)
def test_unicast_comes_by_the_ports_own_pool(options, lcores, wire, tmp_path):
    ports = Ports(tmp_path, **PORTS)
    per_pool = {"8": 8, "4": 4}.get(options[1] if "--dcb" in options else None, 2)
    with wire.switch(*ports.args(), *options, lcores=lcores) as s:
        assert s.has("steering by VMDQ") and not s.has("steered in software")
        guests = dict(zip(PORTS, ports.guests()))
        guests["t"].tag = 30
        s.wait_guests(len(PORTS))
        cable = Cable(s, wire)
        introduce(s, guests.values())
        wire.recv(len(PORTS))
        pools = {name: pool_of(s, name) for name in PORTS}
        assert sorted(pools.values()) == list(range(1, len(PORTS) + 1))
        assert filters(s) == {show(g): 1 << pools[name] for name, g in guests.items()}
        assert vlans(s)[10] == 1 | sum(1 << pools[name] for name in "abdet")
        quiet(*guests.values())
        for name, forms in FORMS.items():
            for vlan, form in forms.items():
                # the address of a trunk was seen in one VLAN, and its filter is for all of them
                if name == "t" and vlan != 30:
                    guests[name].send([guests[name].frame(OUTSIDE, b"here too", vlan=vlan)])
                    wire.recv(1)
                    wait_for(lambda v=vlan: any(r["port"] == "t" and r["domain"] == str(v) for r in
                             s.telemetry("/vhost_switch/fdb").values()), 5, "the address")
                assert cable.send(guests[name], vlan, form) == {per_pool * pools[name]: 1}
                quiet(*guests.values())
                payload = os.urandom(60)
                guests[name].send([guests[name].frame(OUTSIDE, payload, vlan=form)])
                assert wire.recv(1) == [tagged(guests[name].frame(OUTSIDE, payload), vlan)]
        # the port of the address is not in this VLAN: unknown there, so flooded, and once
        frame = guests["a"].frame("52:54:00:00:0a:01", b"elsewhere", src=FAR)
        before = queues(s)
        wire.send(tagged(frame, 20))
        assert guests["c"].recv(1) == [frame]
        assert guests["t"].recv(1) == [tagged(frame, 20)]
        assert received(before, queues(s)) == {0: 1}
        quiet(*guests.values())
        wire.quiet(0)
        close(*guests.values())


def test_broadcast_comes_by_the_default_pool_once(wire, tmp_path):
    ports = Ports(tmp_path, **PORTS, u="")
    with wire.switch(*ports.args()) as s:
        guests = dict(zip(ports.ports, ports.guests()))
        guests["t"].tag = 30
        s.wait_guests(len(guests))
        Cable(s, wire)
        introduce(s, guests.values())
        for to in (BROADCAST, "01:00:5e:00:00:fb", "02:00:00:00:99:99"):
            for vlan, names in ((10, "abde"), (None, "u")):
                before = queues(s)
                frame = guests["a"].frame(to, b"to all", src=FAR)
                wire.send(tagged(frame, vlan) if vlan else frame)
                for name in names:
                    assert guests[name].recv(1) == [frame]
                if vlan:
                    assert guests["t"].recv(1) == [tagged(frame, vlan)]
                assert received(before, queues(s)) == {0: 1}
        quiet(*guests.values())
        close(*guests.values())


@pytest.mark.parametrize("options", [(), ("--dcb", "8")], ids=" ".join)
def test_untagged_ports_have_pools_unless_with_classes(options, wire, tmp_path):
    ports = Ports(tmp_path, u="", v="", a="vlan=10")
    with wire.switch(*ports.args(), *options) as s:
        says = "ports u, v: steered in software, the NIC's pools do not accept untagged frames"
        assert s.has(says) == bool(options)
        u, v, a = ports.guests()
        s.wait_guests(3)
        cable = Cable(s, wire)
        introduce(s, (u, v, a), 1 if options else 3)
        for g, name in ((u, "u"), (v, "v")):
            pool = pool_of(s, name)
            assert (pool == 0) == bool(options)
            assert cable.send(g, None, None) == {2 * pool: 1}
            assert cable.send(g, 0, None) == {2 * pool: 1}  # a priority tag
        # of nobody's domain: the tag does not belong to the port of the address
        before = s.telemetry("/vhost_switch/port")["rx_drop_no_guest"]
        wire.send(tagged(u.frame(u, b"another VLAN", src=FAR), 11))
        wait_for(lambda: s.telemetry("/vhost_switch/port")["rx_drop_no_guest"] == before + 1, 5)
        quiet(u, v, a)
        close(u, v, a)


def test_an_untagged_port_that_a_reload_adds_is_steered_in_software(wire, tmp_path):
    ports = Ports(tmp_path, a="vlan=10")
    with wire.switch(*ports.write()) as s:
        ports.ports["u"] = ""
        reload(s, ports, "1 port added, 0 removed, 0 changed")
        s.wait_log("port u: steered in software, the NIC's pools do not accept untagged frames")
        a, u = ports.guests()
        s.wait_guests(2)
        cable = Cable(s, wire)
        introduce(s, (a, u), 1)
        assert cable.send(u, None, None) == {0: 1}
        assert cable.send(a, 10, None) == {2 * pool_of(s, "a"): 1}
        close(a, u)


@pytest.mark.parametrize("others,uses_pools", [({}, True), ({"u": ""}, False)],
                         ids=["tagged", "with an untagged port"])
def test_the_same_mac_in_two_vlans(others, uses_pools, wire, tmp_path):
    """Where pools accept untagged frames, these would come twice: then the MAC has no filter."""
    ports = Ports(tmp_path, a="vlan=10", b="vlan=20", c="vlan=10", **others)
    with wire.switch(*ports.args()) as s:
        a, b = (ports.guest(name, "52:54:00:00:00:01") for name in "ab")
        c, *rest = ports.guests("c", *others)
        s.wait_guests(3 + len(rest))
        cable = Cable(s, wire)
        introduce(s, (a, b, c, *rest), 2 if uses_pools else 2)
        for g, name, vlan in ((a, "a", 10), (b, "b", 20)):
            pool = pool_of(s, name)
            assert pool > 0
            assert cable.send(g, vlan, None) == {2 * pool if uses_pools else 0: 1}
        if uses_pools:
            assert filters(s)[show(a)] == 1 << pool_of(s, "a") | 1 << pool_of(s, "b")
        for g in rest:
            frame = g.frame(a, b"unknown here", src=FAR)
            wire.send(frame)
            assert g.recv(1) == [frame]
        quiet(a, b, c, *rest)
        # the one that is left gets a filter for itself
        b.close()
        wait_for(lambda: filters(s).get(show(a)) == 1 << pool_of(s, "a"), 5, "its own filter")
        assert cable.send(a, 10, None) == {2 * pool_of(s, "a"): 1}
        close(a, c, *rest)


def test_a_mac_that_two_pools_would_get_is_in_no_filter(wire, tmp_path):
    ports = Ports(tmp_path, t="trunk=10;20", a="vlan=10", b="vlan=20")
    with wire.switch(*ports.write()) as s:
        t, a = (ports.guest(name, "52:54:00:00:00:01") for name in "ta")
        b = ports.guest("b")
        t.tag = 20
        s.wait_guests(3)
        cable = Cable(s, wire)
        introduce(s, (t, a, b), 1)
        assert cable.send(t, 20, 20) == {0: 1}
        assert cable.send(a, 10, None) == {0: 1}
        quiet(t, a, b)
        # apart, each may have its own
        ports.ports["t"] = "trunk=20;30"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        wait_for(lambda: len(filters(s)) == 2, 5, "the filter")
        assert cable.send(t, 20, 20) == {2 * pool_of(s, "t"): 1}
        assert cable.send(a, 10, None) == {2 * pool_of(s, "a"): 1}
        # and together again
        ports.ports["t"] = "trunk=10;20"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        wait_for(lambda: len(filters(s)) == 1, 5, "the filter")
        assert cable.send(t, 20, 20) == {0: 1}
        assert cable.send(a, 10, None) == {0: 1}
        quiet(t, a, b)
        close(t, a, b)


def test_the_cards_own_address_is_a_guests(wire, tmp_path):
    own = ":".join(OWN[4 + i:6 + i] for i in range(0, 12, 2))
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10")
    with wire.switch(*ports.args()) as s:
        a, b = ports.guest("a", own), ports.guest("b")
        s.wait_guests(2)
        cable = Cable(s, wire)
        introduce(s, (a, b), 1)
        assert cable.send(a, 10, None) == {0: 1}
        quiet(a, b)
        close(a, b)


@pytest.mark.parametrize("options,pools", [(("--dcb", "8"), 15), ((), 63)], ids=str)
def test_more_ports_than_pools(options, pools, wire, tmp_path):
    n, per_pool = pools + 11, 128 // (pools + 1)
    ports = Ports(tmp_path, **{f"p{i}": f"vlan={10 + i % 4}" for i in range(n)})
    with wire.switch(*ports.write(), *options) as s:
        names = ", ".join(f"p{pools + i}" for i in range(8))
        assert s.has(f"ports {names} and 3 more: steered in software, "
                     "all of the NIC's pools are taken")
        guests = ports.guests(size=128)
        s.wait_guests(n)
        cable = Cable(s, wire)
        introduce(s, guests, pools)
        wire.recv(n)
        for i, g in enumerate(guests):
            used = {per_pool * (i + 1) if i < pools else 0: 1}
            assert cable.send(g, 10 + i % 4, None) == used
            g.send([g.frame(OUTSIDE, b"out")])
            assert wire.recv(1) == [tagged(g.frame(OUTSIDE, b"out"), 10 + i % 4)]
        # a pool that becomes free is given to a port that has none
        lines = len(s.lines)
        del ports.ports["p3"]
        reload(s, ports, "0 ports added, 1 removed, 0 changed")
        s.wait_guests(n - 1)
        wait_for(lambda: filters(s).get(show(guests[pools])) == 1 << 4, 5, "the filter")
        assert cable.send(guests[pools], 10 + pools % 4, None) == {per_pool * 4: 1}
        assert cable.send(guests[pools + 1], 10 + (pools + 1) % 4, None) == {0: 1}
        assert not any("steered in software" in line for line in s.lines[lines:])
        close(*guests)


def test_vlans_that_have_no_room(wire, tmp_path):
    """63 VLANs fit. A port whose VLANs do not is steered in software as a whole."""
    ports = Ports(tmp_path, first="vlan=5", every="trunk=all", many="trunk=100-163",
                  fits="trunk=100-160", over="trunk=200;201", shared="vlan=100 trunk=101")
    with wire.switch(*ports.write()) as s:
        assert s.has("ports every, many, over: steered in software, "
                     "the NIC's VLAN filters have no room for all VLANs")
        guests = dict(zip(ports.ports, ports.guests()))
        tags = dict(first=None, every=300, many=163, fits=160, over=201, shared=None)
        for name, tag in tags.items():
            guests[name].tag = tag
        s.wait_guests(6)
        cable = Cable(s, wire)
        introduce(s, guests.values(), 3)
        for name, vlan in dict(tags, first=5, shared=100).items():
            assert (pool_of(s, name) == 0) == (name in ("every", "many", "over"))
            assert cable.send(guests[name], vlan, tags[name]) == {2 * pool_of(s, name): 1}
        assert len(vlans(s)) == 62 and 300 not in vlans(s)
        # other VLANs take the place of those that are no more, and all VLANs still come in
        ports.ports["fits"] = "trunk=1000-1058"
        ports.ports["over"] = "trunk=160"
        reload(s, ports, "0 ports added, 0 removed, 2 changed")
        wait_for(lambda: pool_of(s, "over") > 0, 5, "its pool")
        guests["fits"].tag, guests["over"].tag = 1058, 160
        introduce(s, guests.values(), 4)
        assert len(vlans(s)) == 63
        for name, vlan, form in (("fits", 1058, 1058), ("over", 160, 160), ("many", 163, 163),
                                 ("every", 300, 300), ("first", 5, None), ("shared", 100, None)):
            assert cable.send(guests[name], vlan, form) == {2 * pool_of(s, name): 1}
        for vlan in (101, 110, 130, 159):  # some of them have lost their filter
            guests["every"].send([guests["every"].frame(OUTSIDE, b"here", vlan=vlan)])
            assert cable.send(guests["every"], vlan, vlan) == {0: 1}
        # nobody has to have all of it
        ports.ports["every"] = "vlan=7"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        close(*guests.values())


def test_more_addresses_than_filters(wire, tmp_path):
    def macs(n):
        return [f"02:00:00:00:{n:02x}:{i:02x}" for i in range(64)]
    ports = Ports(tmp_path, a="vlan=10 mac=" + ";".join(macs(1)),
                  b="vlan=10 mac=" + ";".join(macs(2)), c="vlan=20")
    with wire.switch(*ports.args()) as s:
        c = ports.guest("c")
        s.wait_guests(1)
        cable = Cable(s, wire)
        introduce(s, [c], 1)  # static addresses are there with their guest
        a, b = ports.guests("a", "b")
        s.wait_guests(3)
        s.wait_log("all 127 MAC filters are in use, other addresses are steered in software")
        wait_for(lambda: len(filters(s)) == 127, 5, "127 filters")
        in_software = 0
        for g, name, n in ((a, "a", 1), (b, "b", 2)):
            for mac in macs(n):
                used = cable.send((g, mac), 10, None)
                assert used in ({2 * pool_of(s, name): 1}, {0: 1})
                in_software += used == {0: 1}
        assert in_software == 2
        assert cable.send(c, 20, None) == {2 * pool_of(s, "c"): 1}  # which was there first
        quiet(a, b, c)
        b.close()
        wait_for(lambda: len(filters(s)) == 65, 5, "65 filters")
        for mac in macs(1):
            assert cable.send((a, mac), 10, None) == {2 * pool_of(s, "a"): 1}
        assert sum("MAC filters are in use" in line for line in s.lines) == 1
        close(a, c)


def test_filters_follow_an_address_that_moves_ages_and_goes(wire, tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", c="vlan=10 learn=1")
    with wire.switch(*ports.write("mac-age=4")) as s:
        a, b, c = ports.guests()
        s.wait_guests(3)
        cable = Cable(s, wire)
        mac = bytes.fromhex("020000000a99")
        pools = {name: pool_of(s, name) for name in "abc"}

        def says(g, name, src=mac):
            """Sends until its pool has the address, or the FDB leaves it to another."""
            def is_there():
                g.send([g.frame(OUTSIDE, b"mine", src=src)])
                return filters(s).get(src.hex()) == 1 << pools[name]
            wait_for(is_there, 10, f"the filter of {name}")
            for x in (a, b, c):
                x.poll()

        says(a, "a")
        assert cable.send((a, mac.hex(":")), 10, None) == {2 * pools["a"]: 1}
        says(b, "b")
        assert cable.send((b, mac.hex(":")), 10, None) == {2 * pools["b"]: 1}
        wait_for(lambda: mac.hex() not in filters(s), 15, "its age")
        # c has room for one, which gives way to the next
        first, second = bytes.fromhex("020000000c01"), bytes.fromhex("020000000c02")
        says(c, "c", first)
        says(c, "c", second)
        assert first.hex() not in filters(s)
        c.close()
        wait_for(lambda: second.hex() not in filters(s), 5, "its departure")
        close(a, b)


def test_priorities_become_classes(wire, tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", t="trunk=20;30", soft="trunk=all")
    with wire.switch(*ports.args(), "--dcb", "8", lcores=TWO_WORKERS) as s:
        a, b, t, soft = ports.guests()
        t.tag, soft.tag = 20, 77
        s.wait_guests(4)
        cable = Cable(s, wire)
        introduce(s, (a, b, t, soft), 3)
        wire.recv(4)
        for g, name, vlan, tag in ((a, "a", 10, None), (t, "t", 20, 20), (soft, "soft", 77, 77)):
            pool = pool_of(s, name)
            for priority in range(8):
                pcp = priority << 13
                # an access port's guest sees no tag, and so no priority
                form = None if tag is None and pcp == 0 else tag
                if tag is None:
                    bare = g.frame(g, b"in", src=FAR)
                    before = queues(s)
                    wire.send(tagged(bare, vlan | pcp))
                    got, = g.recv(1)
                    assert got in (bare, tagged(bare, pcp))
                    assert received(before, queues(s)) == {8 * pool + priority: 1}
                else:
                    assert cable.send(g, vlan | pcp, form | pcp) == {8 * pool + priority: 1}
                before = queues(s)
                payload = os.urandom(60)
                g.send([g.frame(OUTSIDE, payload, vlan=pcp | (tag or 0))])
                assert wire.recv(1) == [tagged(g.frame(OUTSIDE, payload), vlan | pcp)]
                key = f"tx_{8 * pool + priority}"
                assert queues(s)[key] == before.get(key, 0) + 1
        quiet(a, b, t, soft)
        close(a, b, t, soft)


@pytest.mark.parametrize("app,lcores,by", [
    (APP, None, "the wire"), (ASAN, TWO_WORKERS, "the wire"),
    (ASAN, TWO_WORKERS, "the card's switch")],
                         ids=["by the wire", "by the wire, ASan", "by the card's switch, ASan"])
def test_nothing_is_lost_or_doubled_while_ports_change(app, lcores, by, wire, tmp_path):
    """
    Two ports stay and get numbered frames from the wire, or from two others, while more come,
    change, and go. Some are always on the way, and no more than the least of the rings on it has
    room for.
    """
    ports = Ports(tmp_path, a="vlan=10", b="vlan=20", e="vlan=10", x="vlan=10", y="vlan=20")
    options = ("--vm2vm", "2") if by == "the card's switch" else ()
    with wire.switch(*ports.write(), *options, app=app, lcores=lcores) as s:
        a, b, e, x, y = ports.guests(size=1024)
        s.wait_guests(5)
        Cable(s, wire)
        introduce(s, (a, b, e, x, y))
        e.poll()
        end, sent, got = threading.Event(), [0], {a: [], b: []}

        def collect():
            for g, numbers in got.items():
                numbers += [struct.unpack_from("<I", f, 14)[0] for f in g.poll()
                            if f[:6] == g.mac]
            return min(len(numbers) for numbers in got.values())

        def traffic():
            while not end.is_set():
                for _ in range(8 if collect() > sent[0] - 56 else 0):
                    number = struct.pack("<I", sent[0])
                    for g, peer, vlan in ((a, x, 10), (b, y, 20)):
                        if options:
                            peer.send([peer.frame(g, number)])
                        else:
                            wire.send(tagged(g.frame(g, number, src=FAR), vlan))
                    sent[0] += 1
                time.sleep(0.001)
        thread = threading.Thread(target=traffic)
        thread.start()
        try:
            for turn in range(6 if options else 12):
                ports.ports["e"] = ("vlan=20", "trunk=all", "vlan=10")[turn % 3]
                ports.ports.pop("new", None)
                if turn % 2:
                    ports.ports["new"] = "trunk=10;20;30 mac=02:00:00:00:0e:0e"
                reload(s, ports, f"{turn % 2} port{'' if turn % 2 else 's'} added, "
                       f"{int(turn > 0 and not turn % 2)} removed, 1 changed")
                if turn % 2:
                    new = ports.guest("new")
                    new.send([new.frame(OUTSIDE, b"new", vlan=30)])
                e.poll()
        finally:
            end.set()
            thread.join()
        try:
            wait_for(lambda: collect() >= sent[0], 5, "the last frames")
        except (AssertionError, TimeoutError):
            print(s.telemetry("/vhost_switch/port"), s.stats(128), s.stats(129))
        for numbers in got.values():
            wrong = [(i, n) for i, n in enumerate(numbers) if n != i]
            assert not wrong and len(numbers) == sent[0], (len(numbers), sent[0], wrong[:20])
        missed = s.telemetry("/vhost_switch/port")
        assert missed["rx_missed"] == missed["rx_q0_errors"] == 0
        for i in (128, 129):
            assert consistent(s.stats(i))["rx_dropped"] == 0
        used = queues(s)
        for name in "ab":
            assert (used.get(f"rx_{2 * pool_of(s, name)}", 0) == sent[0])
        close(a, b, e, x, y, new)


def test_historical_guests_have_the_pools_that_are_left(wire, tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=1001")
    with wire.switch(*ports.args(), "--socket-file", str(tmp_path / "old")) as s:
        old = [Guest(str(tmp_path / "old"), f"52:54:00:00:0b:{i:02x}") for i in range(2)]
        a, b = ports.guests()
        s.wait_guests(4)
        cable = Cable(s, wire)
        introduce(s, (a, b, *old))
        tags = {f[6:12]: struct.unpack(">H", f[14:16])[0] for f in wire.recv(4)}
        assert sorted(tags[g.mac] for g in old) == [1000, 1002]
        for g in old:
            used = cable.send(g, tags[g.mac], None)
            assert {2 * filters(s)[show(g)].bit_length() - 2: 1} == used and 0 not in used
        quiet(a, b, *old)
        old[0].close()
        wait_for(lambda: len(filters(s)) == 3, 5, "its departure")
        close(a, b, old[1])


class Card:
    """Frames between ports with --vm2vm 2: by the card's switch, or by a copy."""

    def __init__(self, s, wire):
        self.s, self.wire = s, wire

    def send(self, g, frame, *arrivals, out=None):
        """
        A frame of a guest: each of arrivals is who gets it and as what, and out is what leaves by
        the wire. Returns the receive queues of the card that it used.
        """
        before = queues(self.s)
        g.send([frame])
        for to, arrived in arrivals:
            assert to.recv(1) == [arrived]
        if out is not None:
            assert self.wire.recv(1) == [out]
        self.s.settle()
        return received(before, queues(self.s))


@pytest.mark.parametrize("lcores", [None, TWO_WORKERS], ids=["1 worker", "2 workers"])
@pytest.mark.parametrize("options", [(), ("--dcb", "8")], ids=" ".join)
def test_the_cards_switch_is_between_ports(options, lcores, wire, tmp_path):
    ports = Ports(tmp_path, **PORTS, every="trunk=all", far="vlan=10 isolated=yes",
                  near="vlan=10 isolated=yes", down="vlan=20",
                  many="vlan=20 learn=0 mac=52:54:00:00:0a:0c",
                  **({} if options else {"u": "", "v": ""}))
    per_pool = 8 if options else 2
    with wire.switch(*ports.write(), "--vm2vm", "2", *options, lcores=lcores) as s:
        guests = dict(zip(ports.ports, ports.guests()))
        guests["t"].tag, guests["every"].tag = 20, 20
        s.wait_guests(len(guests))
        cable, card = Cable(s, wire), Card(s, wire)
        introduce(s, guests.values(), len(guests) - 1)
        wire.recv(len(guests))
        a, b, c, t, n, every, far, near, down, many = (guests[name] for name in (
            "a", "b", "c", "t", "n", "every", "far", "near", "down", "many"))
        t.send([t.frame(OUTSIDE, b"here too", vlan=10)])
        wire.recv(1)
        s.settle()
        for g in guests.values():
            g.poll()

        def load(number):
            return bytes([number]) * 60

        def own(name, tci=0):
            return {per_pool * pool_of(s, name) + (tci >> 13 if options else 0): 1}
        assert card.send(a, a.frame(b, load(1)), (b, a.frame(b, load(1)))) == own("b")
        assert card.send(b, b.frame(t, load(2)), (t, tagged(b.frame(t, load(2)), 10))) == own("t")
        assert card.send(t, t.frame(c, load(3), vlan=20), (c, t.frame(c, load(3)))) == own("c")
        assert card.send(far, far.frame(a, load(4)), (a, far.frame(a, load(4)))) == own("a")
        tci = 5 << 13
        frame = t.frame(c, load(5), vlan=20 | tci)
        got = t.frame(c, load(5))
        before = queues(s)
        t.send([frame])
        assert c.recv(1)[0] in (got, tagged(got, tci))
        assert received(before, queues(s)) == own("c", tci)
        if not options:
            u, v = guests["u"], guests["v"]
            assert card.send(u, u.frame(v, load(6)), (v, u.frame(v, load(6)))) == own("v")
        # a port without a pool is reached by a copy, and reaches others by the card
        got = tagged(c.frame(every, load(7)), 20)
        assert card.send(c, c.frame(every, load(7)), (every, got)) == {}
        got = every.frame(c, load(8))
        assert card.send(every, every.frame(c, load(8), vlan=20), (c, got)) == own("c")
        # floods are copied, and come back to nobody
        for to in (BROADCAST, "01:00:5e:00:00:fb", "02:00:00:00:99:99"):
            frame = a.frame(to, load(9))
            bare = [(g, frame) for g in (b, guests["d"], guests["e"], far, near)]
            with_tag = [(g, tagged(frame, 10)) for g in (t, every)]
            used = card.send(a, frame, *bare, *with_tag, out=tagged(frame, 10))
            assert used == {}
        # who is outside has none of it, and gets what is for the outside
        frame = a.frame(OUTSIDE, load(10), src=None)
        wire.send(tagged(a.frame(BROADCAST, b"me", src=FAR), 10))
        for x in ("a", "b", "d", "e", "far", "near", "t", "every"):
            guests[x].recv(1)
        assert card.send(a, frame, out=tagged(frame, 10)) == {}
        assert cable.send(b, 10, None) == own("b")
        # apart, link down, and a source that is not learned: the card has no part in these
        drops = s.stats(128 + list(ports.ports).index("far"))["tx_drop_isolated"]
        assert card.send(far, far.frame(near, load(11))) == {}
        assert s.stats(128 + list(ports.ports).index("far"))["tx_drop_isolated"] == drops + 1
        frame = many.frame(c, load(12), src=bytes.fromhex("020000000d01"))
        assert card.send(many, frame, (c, frame)) == {}
        assert "02:00:00:00:0d:01" not in str(list(s.pages("/vhost_switch/fdb")))
        ports.ports["down"] = "vlan=20 link=down"
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        assert card.send(c, c.frame(down, load(13))) == {}
        assert s.stats(128 + list(ports.ports).index("c"))["tx_drop_link_down"] == 1
        quiet(*guests.values())
        wire.quiet(0)
        close(*guests.values())


def test_an_address_that_is_outside_too_is_not_the_cards(wire, tmp_path):
    """The card would keep from the wire what is for the same address in another VLAN."""
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", c="vlan=20")
    with wire.switch(*ports.args(), "--vm2vm", "2") as s:
        a, b, c = ports.guests()
        s.wait_guests(3)
        Cable(s, wire)
        card = Card(s, wire)
        introduce(s, (a, b, c))
        wire.recv(3)
        wire.send(tagged(c.frame(BROADCAST, b"I too", src=b.mac), 20))
        c.recv(1)
        wait_for(lambda: show(b) not in filters(s), 5, "its filter to go")
        s.settle()
        frame = c.frame(b, b"to the one outside")
        assert card.send(c, frame, out=tagged(frame, 20)) == {}
        frame = a.frame(b, b"to the port")
        assert card.send(a, frame, (b, frame)) == {}
        quiet(a, b, c)
        wire.quiet(0)
        close(a, b, c)


def test_historical_guests_beside_ports_with_the_cards_switch(wire, tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10")
    with wire.switch(*ports.args(), "--socket-file", str(tmp_path / "old"), "--vm2vm", "2") as s:
        old = [Guest(str(tmp_path / "old"), f"52:54:00:00:0b:{i:02x}") for i in range(3)]
        a, b = ports.guests()
        s.wait_guests(5)
        Cable(s, wire)
        card = Card(s, wire)
        introduce(s, (a, b, *old))
        tags = {f[6:12]: struct.unpack(">H", f[14:16])[0] for f in wire.recv(5)}
        for x, y in zip(old, old[1:]):
            pool = filters(s)[show(y)].bit_length() - 1
            assert card.send(x, x.frame(y, b"1"), (y, x.frame(y, b"1"))) == {2 * pool: 1}
            frame = x.frame(BROADCAST, b"2")
            used = card.send(x, frame, *((g, frame) for g in old if g != x),
                             out=tagged(frame, tags[x.mac]))
            assert used == {}
        # unknown to each other, whatever the card has in its filters
        frame = old[0].frame(a, b"3")
        card.send(old[0], frame)
        quiet(a, b, *old)
        close(a, b, *old)


def refused(kind, *options):
    with Wire(kind) as wire:
        s = wire.switch(*options, start=False)
        r = subprocess.run(s.args, cwd=s.dir, capture_output=True, text=True, timeout=60,
                           check=False)
        os.rmdir(s.dir)
    assert r.returncode == 1
    line, = (x for x in (r.stdout + r.stderr).splitlines() if "vhost-switch:" in x)
    return line


def test_steering_that_the_port_cannot_do_is_refused(tmp_path):
    args = Ports(tmp_path, a="vlan=10").args()
    assert "--vm2vm 2 needs a NIC" in refused("tap", *args, "--vm2vm", "2")
    assert "--steering software was given" in refused("82599", *args, "--vm2vm", "2",
                                                      "--steering", "software")
    assert "--steering vmdq needs VMDQ" in refused("tap", *args, "--steering", "vmdq")
    assert "--dcb 8 needs a NIC" in refused("tap", *args, "--dcb", "8")
    assert "--steering software was given" in refused("82599", *args, "--dcb", "8",
                                                      "--steering", "software")


@pytest.mark.parametrize("way,says", [
    ("vmdq", "steering by VMDQ"), ("auto", "steering by VMDQ"),
    ("software", "steering by software (not by the NIC's VMDQ)")])
def test_steering_may_be_chosen(way, says, wire, tmp_path):
    ports = Ports(tmp_path, a="vlan=10")
    with wire.switch(*ports.args(), "--steering", way) as s:
        assert s.has(says)
        a = ports.guest("a")
        s.wait_guests(1)
        cable = Cable(s, wire)
        introduce(s, [a], int(way != "software"))
        assert cable.send(a, 10, None) == {0 if way == "software" else 2: 1}
        steering = s.telemetry("/vhost_switch/ports")["128"]["steering"]
        assert steering == ("software" if way == "software" else "vmdq pool 1")
        a.close()
