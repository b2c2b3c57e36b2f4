# SPDX-License-Identifier: BSD-3-Clause
"""Named ports while they change: nothing of a port that stays is lost, and nothing is left."""

import os
import resource
import socket
import struct
import threading
import time

import pytest

from frames import BROADCAST
from harness import APP, ROOT, Switch, wait_for
from named import Ports, reload
from traffic import consistent
from vhostuser import Guest

# How many reloads: more by hand, RELOADS=10000.
RELOADS = int(os.environ.get("RELOADS", "16"))

# How often a port goes while somebody connects to it.
GOES = int(os.environ.get("GOES", "50"))


def descriptors(s):
    return len(os.listdir(f"/proc/{s.proc.pid}/fd"))


def resident_mb(s):
    with open(f"/proc/{s.proc.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def send_numbered(g, to, first, n):
    g.send([g.frame(to, struct.pack("<I", first + i)) for i in range(n)])
    return first + n


def numbers(g):
    return [struct.unpack_from("<I", f, 14)[0] for f in g.poll()]


def test_512_ports(tmp_path):
    """All in one VLAN but two, which are alone in theirs."""
    ports = Ports(tmp_path, **{f"p{i}": f"vlan={2000 + i if i in (3, 400) else 7}"
                               for i in range(512)})
    with Switch(*ports.write(), memory=1024) as s:
        guests = ports.guests(size=16, buf_len=1600, timeout=60)
        s.wait_guests(512, 60)
        guests[100].announce()
        for i, g in enumerate(guests):
            if i not in (3, 100, 400):
                g.recv(1)
        guests[511].send([guests[511].frame(guests[100], b"the last one")])
        assert guests[100].recv(1) == [guests[511].frame(guests[100], b"the last one")]
        guests[3].quiet(0.05)
        guests[400].quiet(0)
        ports.ports["p3"] = ports.ports["p400"] = "vlan=9"
        reload(s, ports, "0 ports added, 0 removed, 2 changed")
        guests[3].announce()
        guests[400].recv(1)
        for g in guests:
            assert not g.poll()
            g.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_two_domains_stay_apart_and_whole_while_ports_change(workers, tmp_path):
    """Each frame that is sent arrives once, in order, in its own domain; others come and go."""
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", c="vlan=20", d="vlan=20", e="vlan=10")
    lcores = None if workers == 1 else "0@0,1@0,2@1"
    with Switch(*ports.write(), "--rx-retry-num", "1000", "--rx-retry-delay", "1000",
                lcores=lcores) as s:
        a, b, c, d, e = ports.guests()
        s.wait_guests(5)
        for g in (a, b, c, d):
            g.announce()
        for g in (b, a, d, c, e):
            g.poll()
        sent = {a: 0, c: 1 << 31}
        got = {b: [], d: []}
        for turn in range(RELOADS):
            for x, y in ((a, b), (c, d)):
                sent[x] = send_numbered(x, y, sent[x], 100)
            if turn % 2:
                ports.ports.update(e="vlan=20", new="vlan=10 mac=02:00:00:00:0e:0e")
                text = "1 port added, 0 removed, 1 changed"
            else:
                ports.ports.update(e="vlan=10 isolated=yes")
                gone = ports.ports.pop("new", None) is not None
                text = f"0 ports added, {int(gone)} removed, 1 changed"
            reload(s, ports, text)
            s.lines.clear()
            e.send([e.frame(BROADCAST, b"\xee\xee\xee\xee")])
            for y in (b, d):
                got[y] += [n for n in numbers(y) if n != 0xeeeeeeee]
        s.settle()
        for y, x, first in ((b, a, 0), (d, c, 1 << 31)):
            got[y] += [n for n in numbers(y) if n != 0xeeeeeeee]
            assert got[y] == list(range(first, sent[x])), "lost, doubled or of the other domain"
        for i in (0, 2):
            assert consistent(s.stats(128 + i))["tx_dropped"] == 0
        for g in (a, b, c, d, e):
            g.close()


@pytest.mark.parametrize("build", ["app", "asan"])
def test_reloads_leave_nothing_behind(build, tmp_path):
    """Guests and ports come and go; descriptors and memory stay as they are after a quarter of the
    turns, and each mbuf is back at the end. AddressSanitizer finds what is lost and is told to keep
    only 8 MiB of what is freed from use; it has a record of each thread that there was, and
    telemetry has one for each request."""
    ports = Ports(tmp_path, stays="vlan=10", comes="vlan=10 mac=02:00:00:00:00:01")
    kept = {"ASAN_OPTIONS": "quarantine_size_mb=8:thread_local_quarantine_size_kb=64"}
    app = APP if build == "app" else os.path.join(ROOT, "build/asan/vhost-switch")
    growth = 2 if build == "app" else 5 + RELOADS / 500  # MiB
    with Switch(*ports.write(), app=app, memory=1024, env=kept) as s:
        stays = ports.guest("stays")
        s.wait_log("port stays: guest connected")
        begin, seen = time.monotonic(), []
        for turn in range(RELOADS):
            comes = ports.guest("comes", pairs=1 + 3 * (turn % 3 == 0), size=64,
                                packed_at=0x8000 if turn % 4 > 1 else None)
            s.wait_guests(2)
            stays.announce()
            comes.recv(1)
            comes.announce()
            stays.recv(1)
            ports.ports["comes"] = f"vlan=10 offload={('no', 'yes')[turn % 2]}"
            reload(s, ports, "1 port added, 1 removed, 0 changed")
            s.wait_guests(1)
            comes.close()
            s.lines.clear()
            if (turn + 1) % (RELOADS // 8) == 0:
                s.settle()
                seen.append((descriptors(s), resident_mb(s)))
                print(f"{turn + 1} reloads in {time.monotonic() - begin:.0f} s: "
                      "%d descriptors, %.1f MiB" % seen[-1], flush=True)
        fds, resident = seen[1]
        wait_for(lambda: descriptors(s) <= fds, 10, f"the descriptors to be closed: {seen}")
        assert max(later for _, later in seen[2:]) < resident + growth, seen
        stays.close()


def test_front_ends_that_connect_while_their_port_goes(tmp_path):
    """None becomes a guest of the historical sockets, and the count of those is as it was."""
    ports = Ports(tmp_path, stays="vlan=10", goes="vlan=10")
    end = threading.Event()

    def connect():
        while not end.is_set():
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    sock.connect(ports.sock("goes"))
                    sock.settimeout(0.001)
                    sock.recv(1)
                except OSError:
                    pass
    with Switch(*ports.write(), "--socket-file", str(tmp_path / "all")) as s:
        threads = [threading.Thread(target=connect) for _ in range(4)]
        for t in threads:
            t.start()
        try:
            for _ in range(GOES):
                keys = ports.ports.pop("goes")
                reload(s, ports, "0 ports added, 1 removed, 0 changed")
                ports.ports["goes"] = keys
                reload(s, ports, "1 port added, 0 removed, 0 changed")
                s.lines.clear()
        finally:
            end.set()
            for t in threads:
                t.join()
        guests = [Guest(str(tmp_path / "all"), f"52:54:00:00:00:{i:02x}") for i in range(2)]
        s.wait_guests(2)
        guests[0].announce()
        guests[1].recv(1)
        assert sorted(s.guests()) == ["0", "1"]
        for g in guests:
            g.close()


def test_a_static_address_without_a_guest_is_not_flooded(tmp_path):
    ports = Ports(tmp_path, a="", b="", away="mac=02:00:00:00:00:aa")
    with Switch(*ports.args()) as s:
        a, b = ports.guests("a", "b")
        s.wait_guests(2)
        a.send([a.frame("02:00:00:00:00:aa", b"for one who is away")])
        b.quiet(0.1)
        assert consistent(s.stats(128))["tx_drop_guest_stopped"] == 1
        away = ports.guest("away")
        s.wait_guests(3)
        a.send([a.frame("02:00:00:00:00:aa", b"for one who is back")])
        assert away.recv(1) == [a.frame("02:00:00:00:00:aa", b"for one who is back")]
        for g in (a, b, away):
            g.close()


def test_an_attack_on_the_fdb(tmp_path):
    """One guest sends from ever new sources: the others' addresses stay, the log is short."""
    ports = Ports(tmp_path, evil="", good="", other="")
    with Switch(*ports.args()) as s:
        evil, good, other = ports.guests()
        s.wait_guests(3)
        good.announce()
        other.announce()
        begin, n = time.monotonic(), 0
        lines, memory = len(s.lines), resident_mb(s)
        frame = bytearray(evil.frame(BROADCAST, b"new"))
        while time.monotonic() < begin + 3:
            frames = []
            for _ in range(64):
                n += 1
                frame[6:12] = b"\x02" + n.to_bytes(5, "big")
                frames.append(bytes(frame))
            evil.send(frames)
            good.poll(), other.poll()
        good.send([good.frame(other, b"still")])
        wait_for(lambda: good.frame(other, b"still") in other.poll(), 5, "the frame")
        assert not [f for f in evil.poll() if f[14:19] == b"still"]
        of_evil = [r for r in s.telemetry("/vhost_switch/fdb").values() if r["port"] == "evil"]
        assert len(of_evil) <= 8 and s.stats(128)["fdb_full"] > 0
        assert len(s.lines) - lines <= 2 + (time.monotonic() - begin)
        assert resident_mb(s) < memory + 5
        for g in (evil, good, other):
            g.close()


def test_a_socket_that_could_not_be_made_is_made_by_the_next_reload(tmp_path):
    ports = Ports(tmp_path, a="")
    with Switch(*ports.write()) as s:
        used = {int(fd) for fd in os.listdir(f"/proc/{s.proc.pid}/fd")}
        free = sorted(set(range(len(used) + 3)) - used)[2]
        limits = resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE, (free + 1, limits[1]))
        ports.ports.update(b="", c="", d="")  # each needs two descriptors, and keeps one
        reload(s, ports, "3 ports added, 0 removed, 0 changed")
        assert s.has("port d: cannot make the vhost-user socket") and s.has("Too many open files")
        resource.prlimit(s.proc.pid, resource.RLIMIT_NOFILE, limits)
        reload(s, ports, "0 ports added, 0 removed, 0 changed")
        ports.guest("d").close()


SLOW = ("--rx-retry-num", "1000", "--rx-retry-delay", "10000")


@pytest.mark.parametrize("change", ["vlan=20", "link=down"])
def test_what_waits_for_a_port_that_is_changed_is_dropped_and_counted(change, tmp_path):
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10")
    with Switch(*ports.write(), *SLOW) as s:
        a, b = ports.guest("a"), ports.guest("b", rx_buffers=1)
        s.wait_guests(2)
        a.send([a.frame(BROADCAST, b"waits")] * 6)
        ports.ports["b"] = change
        reload(s, ports, "0 ports added, 0 removed, 1 changed")
        b.recv(1)
        b.rings[0].offer(range(1, 16))
        s.settle()
        b.quiet(0)
        st = consistent(s.stats(129))
        assert (st["rx_total"], st["rx_successful"], st["rx_drop_ring_full"]) == (6, 1, 5)
        for g in (a, b):
            g.close()


def test_nothing_of_a_vlan_waits_for_a_port_that_has_left_it(tmp_path):
    """Nor what is flooded while a reload that takes its time goes on."""
    ports = Ports(tmp_path, a="vlan=10", b="vlan=10", **{
        f"m{i}": f"trunk=1000-3999 mac=02:00:00:00:00:{i:02x}" for i in range(16)})
    with Switch(*ports.write(), *SLOW) as s:
        a, b = ports.guest("a"), ports.guest("b", rx_buffers=0)
        s.wait_guests(2)
        done = threading.Event()

        def flood():
            while not done.is_set():
                a.send([a.frame(BROADCAST, b"VLAN 10")])
        sender = threading.Thread(target=flood)
        sender.start()
        ports.ports.update(b="vlan=20", **{
            f"m{i}": f"trunk=1000-3999 mac=02:00:00:00:01:{i:02x}" for i in range(16)})
        reload(s, ports, "0 ports added, 0 removed, 17 changed")
        done.set()
        sender.join()
        b.rings[0].offer(range(256))
        s.settle()
        b.quiet(0)
        consistent(s.stats(129))
        for g in (a, b):
            g.close()
