# SPDX-License-Identifier: BSD-3-Clause
"""Named ports: which frames go where, with which tag, between guests and the uplink."""

import os
import signal
import struct
import time

import pytest

from frames import BROADCAST, OUTSIDE, tagged
from harness import Switch, Wire, wait_for
from named import Ports, reload, switch_of
from traffic import consistent
from vhostuser import (DESC_WRITE, F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_HOST_TSO4, F_MRG_RXBUF,
                       HDR_LEN, Guest)

KINDS = ["af_packet", "tap", "82599"]
ALL = dict(a="vlan=10", b="vlan=10", c="vlan=20", t="trunk=10;20;100-199", n="vlan=10 trunk=20;30",
           u="", v="", every="trunk=all")


def is_ours(frame):
    """And not what a kernel sends when an interface comes up."""
    return (frame[16:18] if frame[12:14] == b"\x81\0" else frame[12:14]) == b"\x88\xb5"


def has_arrived(guest, frames):
    """These frames, whatever their order; what is too many, the next call finds."""
    got = []
    if not frames:
        time.sleep(0.05)
    wait_for(lambda: got.extend(filter(is_ours, guest.poll())) or len(got) >= len(frames), 5,
             f"{len(frames)} frames")
    assert sorted(got) == sorted(frames), [f.hex() for f in got]


# who sends, with which tag; who gets it, with which tag; its tag on the uplink, 0: none
FLOODS = [
    ("a", None, {"b": None, "t": 10, "n": None, "every": 10}, 10),
    ("a", 0, {"b": None, "t": 10, "n": None, "every": 10}, 10),
    ("c", None, {"t": 20, "n": 20, "every": 20}, 20),
    ("t", 10, {"a": None, "b": None, "n": None, "every": 10}, 10),
    ("t", 20, {"c": None, "n": 20, "every": 20}, 20),
    ("t", 150, {"every": 150}, 150),
    ("n", None, {"a": None, "b": None, "t": 10, "every": 10}, 10),
    ("n", 0, {"a": None, "b": None, "t": 10, "every": 10}, 10),
    ("n", 30, {"every": 30}, 30),
    ("u", None, {"v": None}, 0),
    ("every", 4094, {}, 4094),
    ("every", 20, {"c": None, "t": 20, "n": 20}, 20),
]
REFUSED = [("a", 10), ("a", 20), ("u", 1), ("t", None), ("t", 0), ("t", 30), ("n", 10), ("n", 100),
           ("every", None), ("every", 4095)]


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_who_gets_a_frame_and_how_it_is_tagged(kind, tmp_path):
    ports = Ports(tmp_path, **ALL)
    wire = Wire(kind) if kind else None
    with (wire.switch(*ports.args()) if wire else switch_of(ports)) as s:
        guests = dict(zip(ALL, ports.guests()))
        s.wait_guests(len(ALL))
        if wire:
            wire.open()
            assert s.has("steering by VMDQ" if kind == "82599" else "steering by software")
        for name, tag, receivers, outside in FLOODS:
            frame = guests[name].frame(BROADCAST, os.urandom(60), vlan=tag)
            bare = frame[:12] + frame[16:] if tag is not None else frame
            guests[name].send([frame])
            for other, form in receivers.items():
                has_arrived(guests[other], [bare if form is None else tagged(bare, form)])
            if wire:
                assert wire.recv(1) == [tagged(bare, outside) if outside else bare]
            # and the other way: from outside
            if wire:
                bare = BROADCAST_BYTES + bytes.fromhex("020000000077") + bare[12:]
                wire.send(tagged(bare, outside) if outside else bare)
                has_arrived(guests[name], [bare if tag in (None, 0) else tagged(bare, tag)])
                for other, form in receivers.items():
                    has_arrived(guests[other], [bare if form is None else tagged(bare, form)])
        for name, tag in REFUSED:
            guests[name].send([guests[name].frame(BROADCAST, b"refused", vlan=tag)])
        for g in guests.values():
            has_arrived(g, [])
        for i, name in enumerate(ALL):
            n = sum(name == who for who, _ in REFUSED)
            assert consistent(s.stats(128 + i))["tx_drop_vlan_not_allowed"] == n
        if wire:
            wire.quiet()
    for g in guests.values():
        g.close()
    if wire:
        wire.close()


BROADCAST_BYTES = b"\xff" * 6


def test_the_same_mac_in_two_domains(tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", c="vlan=20", d="vlan=20")
    with switch_of(ports) as s:
        a, c = (ports.guest(n, "52:54:00:00:00:01") for n in "ac")
        b, d = (ports.guest(n, "52:54:00:00:00:02") for n in "bd")
        s.wait_guests(4)
        for g in (a, b, c, d):
            g.announce()
        for g in (a, b, c, d):
            g.recv(1)
        for x, y in ((a, b), (b, a), (c, d), (d, c)):
            x.send([x.frame(y, b"in my own domain")])
            has_arrived(y, [x.frame(y, b"in my own domain")])
        for g in (a, b, c, d):
            g.quiet(0.05)
            g.close()


@pytest.mark.parametrize("size", [60, 300, 1518, 9000])
@pytest.mark.parametrize("form", ["plain", "mergeable", "pieces"])
def test_a_tag_comes_and_goes_in_one_copy(size, form, tmp_path):
    """Access to trunk and back, exact, at all lengths; frames in pieces, and over buffers."""
    ports = Ports(tmp_path, a="vlan=10", t="trunk=10;20")
    features = F_MRG_RXBUF if form == "mergeable" else 0
    with switch_of(ports) as s:
        a, t = ports.guests("a", "t", features=features, buf_len=10000, enable=False)
        for g in (a, t):
            for i in range(g.size if form == "mergeable" else 0):
                g.rings[0].set_desc(i, 2048, DESC_WRITE)
            g.start()
        s.wait_guests(2)
        a.announce()
        assert t.recv(1)[0][12:16] == b"\x81\0\0\x0a"
        t.send([t.frame(BROADCAST, b"me", vlan=10)])
        a.recv(1)
        for n in range(20):
            data = os.urandom(size - 18 - n)
            bare, with_tag = a.frame(t, data), t.frame(a, data, vlan=10)
            for x, y, out, arrives in ((a, t, bare, tagged(bare, 10)),
                                       (t, a, with_tag, with_tag[:12] + with_tag[16:])):
                if form == "pieces":
                    send_pieces(x, out)
                else:
                    x.send([out])
                assert y.recv(1) == [arrives]
        st = consistent(s.stats(128))
        assert st["tx_direct"] >= 20 and st["tx_dropped"] == 0
        a.close()
        t.close()


def send_pieces(g, frame):
    """A chain: the header, five bytes, nine bytes, and the rest."""
    ring = g.rings[1]
    cuts = [0, 5, 14, len(frame)]
    heads = [g.free_tx[1].pop() for _ in range(4)]
    at = ring.buf(heads[0])
    g.mem[at:at + 12] = bytes(12)
    ring.set_desc(heads[0], 12, 1, heads[1])
    for k in range(3):
        piece = frame[cuts[k]:cuts[k + 1]]
        at = ring.buf(heads[k + 1])
        g.mem[at:at + len(piece)] = piece
        ring.set_desc(heads[k + 1], len(piece), 1 if k < 2 else 0, heads[k + 2] if k < 2 else 0)
    ring.offer([heads[0]])
    wait_for(lambda: ring.take(), 5, "the chain to be taken")
    g.free_tx[1] += heads


def test_what_a_frame_asks_for_moves_with_its_tag(tmp_path):
    """Offsets in the virtio-net header are those of the frame that arrives."""
    ports = Ports(tmp_path, a="vlan=10", t="trunk=10;20", plain="vlan=10")
    able = F_CSUM | F_GUEST_CSUM | F_HOST_TSO4 | F_GUEST_TSO4 | F_MRG_RXBUF
    with switch_of(ports) as s:
        from frames import tcp4
        a, t = ports.guests("a", "t", features=able, buf_len=8192)
        plain = ports.guest("plain")
        assert a.features & able == able  # offload=yes, whatever the historical options say
        s.wait_guests(3)
        for g, tag in ((a, None), (plain, None), (t, 10)):
            g.send([g.frame(BROADCAST, b"me", vlan=tag)])
        for g in (a, t, plain):
            g.recv(2)
        frame, hdr = tcp4(a, t, os.urandom(3000), mss=1000)
        a.send([frame], hdr=hdr)
        (got_hdr, got, _), = t.recv(1, headers=True)
        assert got == tagged(frame, 10)
        flags, kind, hdr_len, mss, start, off = struct.unpack_from("<BBHHHH", got_hdr)
        assert (flags, kind, hdr_len, mss, start, off) == (1, 1, 58, 1000, 38, 16)
        frame, hdr = tcp4(t, a, os.urandom(3000), mss=1000)
        hdr = struct.pack("<BBHHHHH", 1, 1, 58, 1000, 38, 16, 0)
        t.send([tagged(frame, 10)], hdr=hdr)
        (got_hdr, got, _), = a.recv(1, headers=True)
        assert got == frame
        assert struct.unpack_from("<BBHHHH", got_hdr) == (1, 1, 54, 1000, 34, 16)
        frame, hdr = tcp4(t, plain, os.urandom(3000), mss=1000)
        t.send([tagged(frame, 10)], hdr=struct.pack("<BBHHHHH", 1, 1, 58, 1000, 38, 16, 0))
        data = b"".join(f[54:] for f in plain.recv(3))
        assert data == frame[54:]
        for g in (a, t, plain):
            g.close()


def test_isolated_link_flood_and_reserved(tmp_path):
    ports = Ports(tmp_path, one="isolated=yes", two="isolated=yes", free="", off="link=down",
                  dumb="flood=no")
    with switch_of(ports) as s:
        one, two, free, off, dumb = ports.guests()
        s.wait_guests(5)
        for g in (one, two, free, off, dumb):
            g.announce()
        assert len(one.recv(2)) == len(two.recv(2)) == 2 and len(free.recv(3)) == 3
        dumb.recv(3)
        off.quiet(0.05)
        one.send([one.frame(two, b"no"), one.frame(free, b"yes"), one.frame(off, b"down")])
        has_arrived(free, [one.frame(free, b"yes")] + [one.frame(off, b"down")])  # unknown: flooded
        two.quiet(0.05)
        free.send([free.frame(OUTSIDE, b"unknown"), free.frame("01:80:c2:00:00:0e", b"LLDP"),
                   free.frame("01:80:c2:00:00:10", b"not reserved")])
        for g in (one, two):
            has_arrived(g, [free.frame(OUTSIDE, b"unknown"),
                            free.frame("01:80:c2:00:00:10", b"not reserved")])
        has_arrived(dumb, [free.frame("01:80:c2:00:00:10", b"not reserved")])
        off.quiet(0.05)
        st = consistent(s.stats(128))
        assert st["tx_drop_isolated"] == 1
        assert consistent(s.stats(130))["tx_drop_reserved_address"] == 1
        assert consistent(s.stats(131))["tx_drop_link_down"] == 1
        for g in (one, two, free, off, dumb):
            g.close()


def test_addresses_are_static_learned_and_move(tmp_path):
    ports = Ports(tmp_path, a="mac=02:00:00:00:00:aa learn=2", b="", c="")
    with switch_of(ports) as s:
        a, b, c = ports.guests()
        s.wait_guests(3)
        # known before it has sent
        b.send([b.frame("02:00:00:00:00:aa", b"static")])
        has_arrived(a, [b.frame("02:00:00:00:00:aa", b"static")])
        c.quiet(0.05)
        # nobody else may use it
        c.send([c.frame(BROADCAST, b"thief", src=bytes.fromhex("0200000000aa"))])
        a.quiet(0.05)
        assert consistent(s.stats(130))["tx_drop_mac_taken"] == 1
        # an address that moves: at once, unless its port has just sent from it
        mac = bytes.fromhex("020000000099")
        b.send([b.frame(BROADCAST, b"mine", src=mac)])
        a.recv(1), c.recv(1)
        c.send([c.frame(BROADCAST, b"too early", src=mac)])
        a.quiet(0.05)
        wait_for(lambda: s.stats(130)["tx_drop_mac_taken"] == 2, 5)

        def moved():
            c.send([c.frame(BROADCAST, b"moved", src=mac)])
            return s.stats(130)["tx_successful"] > 0
        wait_for(moved, 5, "the address to move")
        a.poll(), b.poll()
        a.send([a.frame("02:00:00:00:00:99", b"to its new port")])
        has_arrived(c, [a.frame("02:00:00:00:00:99", b"to its new port")])
        b.quiet(0.05)
        fdb = s.telemetry("/vhost_switch/fdb")
        rows = {(r["mac"], r["port"], r["static"]) for r in fdb.values()}
        assert ("02:00:00:00:00:aa", "a", "yes") in rows
        assert ("02:00:00:00:00:99", "c", "no") in rows
        assert all(r["domain"] == "untagged" for r in fdb.values())
        for g in (a, b, c):
            g.close()


def test_one_guest_a_port(tmp_path):
    ports = Ports(tmp_path, a="vlan=10")
    with switch_of(ports) as s:
        a = ports.guest("a")
        s.wait_log("(128) port a: guest connected")
        for _ in range(3):
            with pytest.raises((ConnectionError, OSError)):
                Guest(ports.sock("a"), timeout=5)
        wait_for(lambda: s.telemetry("/vhost_switch/ports")["128"]["refused"] == 3, 5)
        s.wait_lines("a second connection was refused", 1)
        a.close()
        s.wait_log("(128) port a: guest left")
        a = ports.guest("a")
        s.wait_lines("(128) port a: guest connected", 2)
        a.close()


def test_historical_guests_beside_ports(tmp_path):
    """They stay one domain of their own, and are not given the VLAN of a port."""
    ports = Ports(tmp_path, a="vlan=1000", b="vlan=1002")
    with Wire("af_packet") as wire, wire.switch(*ports.args(), "--socket-file",
                                                str(tmp_path / "old")) as s:
        old = [Guest(str(tmp_path / "old"), f"52:54:00:00:0b:{i:02x}") for i in range(3)]
        a, b = ports.guests()
        s.wait_guests(5)
        wire.open()
        for g in old:
            g.announce()
        s.wait_registered("52:54:00:00:0b:00", "52:54:00:00:0b:01", "52:54:00:00:0b:02")
        tags = [struct.unpack(">H", f[14:16])[0] for f in wire.recv(3)]
        assert sorted(tags) == [1001, 1003, 1004]
        for g in old:
            assert len(g.recv(2)) == 2
        a.quiet(0.05)
        b.quiet(0.05)
        a.send([a.frame(old[0], b"another domain")])
        assert wire.recv(1) == [tagged(a.frame(old[0], b"another domain"), 1000)]
        old[0].quiet(0.05)
        for g in (*old, a, b):
            g.close()


def test_reload_adds_removes_and_changes(tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", gone="vlan=10", other="vlan=20")
    with Switch(*ports.write()) as s:
        a, b, gone, other = ports.guests()
        s.wait_guests(4)
        a.announce()
        for g in (b, gone):
            g.recv(1)
        reload(s, ports, "0 ports added, 0 removed, 0 changed")
        del ports.ports["gone"]
        ports.ports.update(b="vlan=20", new="vlan=10", other="vlan=20 offload=no")
        reload(s, ports, "2 ports added, 2 removed, 1 changed")
        assert s.guests()["129"]["vlan"] == 20
        s.wait_log("port gone: guest left")
        s.wait_log("port other: guest left")
        assert not os.path.exists(tmp_path / "gone") and os.path.exists(tmp_path / "other")
        with pytest.raises((ConnectionError, OSError)):
            gone.message(15, reply=True)
        new, other2 = ports.guest("new"), ports.guest("other", "52:54:00:00:0a:77")
        assert not other2.offered & (F_CSUM | F_MRG_RXBUF)
        s.wait_guests(4)
        a.send([a.frame(BROADCAST, b"domain 10")])
        has_arrived(new, [a.frame(BROADCAST, b"domain 10")])
        b.quiet(0.05)
        b.send([b.frame(BROADCAST, b"domain 20")])
        has_arrived(other2, [b.frame(BROADCAST, b"domain 20")])
        a.quiet(0.05)
        for g in (a, b, gone, other, new, other2):
            g.close()


@pytest.mark.parametrize("bad,text", [
    ("vlan=5000", "[port b] vlan"), ("colour=red", "colour"), ("mode=both", "[port b] mode")])
def test_a_bad_reload_changes_nothing(bad, text, tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10")
    with Switch(*ports.write()) as s:
        a, b = ports.guests()
        s.wait_guests(2)
        ports.ports.update(b=bad, c="vlan=10")
        reload(s, ports, "nothing changed: ")
        line, = [x for x in s.lines if "nothing changed" in x]
        assert text in line and ports.config in line
        a.send([a.frame(BROADCAST, b"as before")])
        has_arrived(b, [a.frame(BROADCAST, b"as before")])
        assert not os.path.exists(tmp_path / "c")
        a.close()
        b.close()


def test_sighup_without_a_file_ends_in_order(tmp_path):
    with switch_of(Ports(tmp_path, a="")) as s:
        s.proc.send_signal(signal.SIGHUP)
        assert s.proc.wait(20) == 0
        wait_for(lambda: s.has("mbufs are back in pool"), 5)


def test_source_check_keeps_to_the_ports_addresses(tmp_path):
    ports = Ports(tmp_path, a="mac=02:00:00:00:00:aa learn=0 source-check=yes",
                  b="learn=2 source-check=yes", c="learn=2")
    with switch_of(ports) as s:
        a, b, c = ports.guests()
        s.wait_guests(3)
        good = a.frame(BROADCAST, b"mine", src=bytes.fromhex("0200000000aa"))
        a.send([a.frame(BROADCAST, b"not mine"), good])
        has_arrived(c, [good])
        assert consistent(s.stats(128))["tx_drop_source_not_allowed"] == 1
        for g, dropped in ((b, 2), (c, 0)):  # the first two are learned
            frames = [g.frame(BROADCAST, b"%d" % i, src=b"\x02\0\0\0" + g.mac[5:] + bytes([i]))
                      for i in range(4)]
            g.send(frames)
            has_arrived(a, frames[:4 - dropped])
            id_ = 129 if g is b else 130
            assert consistent(s.stats(id_))["tx_drop_source_not_allowed"] == dropped
            (c if g is b else b).poll()
        assert s.stats(130)["fdb_full"] == 2
        # one that is silent for two seconds gives way
        late = c.frame(BROADCAST, b"late", src=b"\x02\0\0\0\x03\x99")

        def learned():
            c.send([late])
            return any(r["mac"] == "02:00:00:00:03:99"
                       for r in s.telemetry("/vhost_switch/fdb").values())
        wait_for(learned, 10, "the new address")
        for g in (a, b, c):
            g.close()


def send_at_once(g, frames):
    """So that they are one burst."""
    ring = g.rings[1]
    heads = [g.free_tx[1].pop() for _ in frames]
    for head, frame in zip(heads, frames):
        g.mem[ring.buf(head) + HDR_LEN:ring.buf(head) + HDR_LEN + len(frame)] = frame
        ring.set_desc(head, HDR_LEN + len(frame))
    ring.offer(heads)
    g.send([])  # wait for them


def test_a_guest_without_a_port_may_change_its_mac(guests):
    """When its own is silent; not that of c, which sends from it in the middle of its bursts."""
    with Switch() as s:
        a, b, c = guests(s, 3)
        for g in (a, b, c):
            g.announce()
        s.wait_registered(*(":".join(f"{x:02x}" for x in g.mac) for g in (a, b, c)))
        new = bytes.fromhex("020000000abc")
        send_at_once(a, [a.frame(b), a.frame(b, b"another one beside it", src=new)])
        b.poll()
        assert s.telemetry("/vhost_switch/fdb")["0"] == ":".join(f"{x:02x}" for x in a.mac)

        def moved():
            a.send([a.frame(b, b"from now on", src=new)])
            send_at_once(c, [c.frame(b, src=b"\x02\0\0\0\x0a\xbd"), c.frame(b)])
            b.poll()
            return s.telemetry("/vhost_switch/fdb").get("0") == "02:00:00:00:0a:bc"
        wait_for(moved, 10, "the new MAC")
        b.poll()
        send_at_once(c, [c.frame(b, src=b"\x02\0\0\0\x0a\xbd"), c.frame(b)])
        s.settle()
        assert s.telemetry("/vhost_switch/fdb")["2"] == c.mac.hex(":")
        b.send([b.frame("02:00:00:00:0a:bc", b"to the new one")])
        assert any(f[14:28] == b"to the new one" for f in a.recv(1))


def test_what_the_wire_may_not_say(tmp_path):
    """VLAN 4095 is in no tag, and no VLAN leads to a port's guest by its number."""
    ports = Ports(tmp_path, a="", b="vlan=10")
    with Wire("af_packet") as wire, wire.switch(*ports.args()) as s:
        a, b = ports.guests()
        s.wait_guests(2)
        wire.open()
        bare = BROADCAST_BYTES + bytes.fromhex("020000000077") + b"\x88\xb5" + bytes(46)
        for vlan in (4095, 1000 + 128, 1000 + 129, 11):
            wire.send(tagged(bare, vlan))
        wait_for(lambda: s.telemetry("/vhost_switch/port")["rx_drop_no_guest"] == 4, 5)
        has_arrived(a, [])
        has_arrived(b, [])
        for g in (a, b):
            g.close()


def test_a_storm_of_frames_that_ask_for_something(tmp_path):
    ports = Ports(tmp_path, a="storm=1", b="")
    with switch_of(ports) as s:
        a, b = ports.guests(features=F_CSUM)
        s.wait_guests(2)
        hdr = struct.pack("<BBHHHHH", 1, 0, 0, 0, 14, 16, 0)
        a.send([a.frame(BROADCAST, bytes(60))] * 20, hdr=hdr)
        assert 1 <= len(b.poll()) <= 3
        assert consistent(s.stats(128))["tx_drop_storm"] >= 17
        for g in (a, b):
            g.close()
