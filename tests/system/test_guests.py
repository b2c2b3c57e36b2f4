# SPDX-License-Identifier: BSD-3-Clause
"""Guest to guest in software (--vm2vm 1), frames compared byte by byte."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time

import pytest

from frames import BROADCAST, EXTENSIONS, data_of, ipv6_partial, tcp4
from harness import Switch, wait_for
from traffic import consistent, introduce
from vhostuser import F_MRG_RXBUF, GET_FEATURES, SEND_RARP, Guest


def test_unicast_both_ways_exact_and_in_order(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        for x, y in ((a, b), (b, a)):
            sent = [x.frame(y, os.urandom(n % 1400 + 1)) for n in range(0, 3000, 10)]
            got = []
            for i in range(0, len(sent), 100):  # a receive ring holds 256
                x.send(sent[i:i + 100])
                got += y.recv(len(sent[i:i + 100]))
            assert got == sent
        consistent(s.stats(1))
        assert consistent(s.stats(0))["tx_total"] == 301
        assert s.stats(1)["rx_successful"] == 301  # and the broadcast that introduced the other


def test_polled_rings_ask_for_no_kicks(guests):
    with Switch() as s:
        g = guests(s)
        for ring in g.rings:  # VRING_USED_F_NO_NOTIFY, virtio 1.1 2.6.8
            wait_for(lambda r=ring: r.words[r.used // 2] & 1, what="NO_NOTIFY")


def test_registered_line_and_fdb(guests):
    with Switch() as s:
        g = guests(s, mac="cc:bb:bb:bb:bb:bb")
        g.announce()
        s.wait_log("(0) MAC_ADDRESS cc:bb:bb:bb:bb:bb and VLAN_TAG 1000 registered")
        assert any(line.startswith("DATA: (0) MAC_ADDRESS") for line in s.lines)
        assert s.telemetry("/vhost_switch/fdb") == {"0": "cc:bb:bb:bb:bb:bb"}


def test_only_broadcasts_before_registration(guests):
    """Who has not sent yet has no address, and hears what may wake it: an ARP request."""
    with Switch() as s:
        a, b = guests(s, 2)
        a.announce()
        assert b.recv(1)[0][:6] == b"\xff" * 6
        a.send([a.frame(b, b"too early"), a.frame(BROADCAST, b"is anybody there")])
        assert b.recv(1)[0][14:20] == b"is any"
        b.quiet()
        st = consistent(s.stats(0))
        assert st["tx_drop_no_destination"] == 1 and st["tx_successful"] == 2
        b.announce()
        assert a.recv(1)[0][:6] == b"\xff" * 6


def test_tagged_and_short_and_to_self(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        tagged = a.frame(b, b"tagged", vlan=77)
        a.send([b"\x02" * 13, a.frame(a, b"me"), tagged])
        assert b.recv(1) == [tagged]
        a.quiet()
        st = consistent(s.stats(0))
        assert st["tx_drop_runt"] == 1 and st["tx_drop_to_self"] == 1


def test_flood_reaches_every_other_guest(guests):
    with Switch() as s:
        members = guests(s, 5)
        stranger = guests(s)
        introduce(*members)
        stranger.poll()
        for dst in (BROADCAST, "01:00:5e:00:00:01"):
            frames = [members[2].frame(dst, bytes([i])) for i in range(40)]
            members[2].send(frames)
            for g in members + [stranger]:
                if g is not members[2]:
                    assert g.recv(40) == frames
        members[2].quiet(0.1)
        assert consistent(s.stats(2))["tx_dropped"] == 0


def test_taken_mac_is_refused_and_accepted_once_free(guests):
    with Switch() as s:
        first = guests(s, mac="02:00:00:00:00:aa")
        second = guests(s, mac="02:00:00:00:00:aa")
        first.announce()
        s.wait_log("(0) MAC_ADDRESS 02:00:00:00:00:aa")
        for _ in range(3):
            second.announce()
        s.wait_log("(1) MAC_ADDRESS 02:00:00:00:00:aa refused: registered to another guest")
        first.quiet(0.1)
        assert sum("refused" in line for line in s.lines) == 1
        assert consistent(s.stats(1))["tx_drop_mac_taken"] == 3
        assert s.guests()["1"]["state"] == "refused"
        first.close()
        s.wait_guests(1)
        second.announce()
        s.wait_log("(1) MAC_ADDRESS 02:00:00:00:00:aa and VLAN_TAG 1001 registered")


@pytest.mark.parametrize("mac", ["01:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"])
def test_source_that_is_no_unicast_is_never_learned(guests, mac):
    with Switch() as s:
        g = guests(s, mac=mac)
        g.announce()
        wait_for(lambda: consistent(s.stats(0))["tx_drop_source_invalid"] == 1, what="the drop")
        assert s.guests()["0"]["state"] == "ready"
        g.send([g.frame(BROADCAST, src=bytes.fromhex("020000000001"))])
        s.wait_log("registered")


def test_id_and_vlan_are_reused_with_clean_counters(guests):
    with Switch() as s:
        a, b, c = guests(s, 3)
        introduce(a, b, c)
        b.close()
        s.wait_log("(1) guest left")
        d = guests(s)
        assert s.guests()["1"]["vlan"] == 1001
        assert consistent(s.stats(1))["tx_total"] == 0
        introduce(d)
        a.send([a.frame(d, b"hello")])
        assert d.recv(1)[0][14:19] == b"hello"


def test_full_ring_is_counted_and_hurts_nobody_else(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        lazy = guests(s, rx_buffers=10)
        lazy.send([lazy.frame(a, b"hi")])
        a.recv(1)
        a.send([a.frame(lazy, bytes([i])) for i in range(50)])
        assert len(lazy.recv(10, refill=False)) == 10
        a.send([a.frame(b, b"still here")])
        assert b.recv(1)
        st = consistent(s.stats(2))
        assert st["rx_successful"] == 10 and st["rx_drop_ring_full"] == 40
        assert consistent(s.stats(0))["tx_drop_guest_full"] == 40


def test_mergeable_jumbo_and_too_long_for_plain(guests):
    with Switch("--mergeable", "1") as s:
        a = guests(s, features=F_MRG_RXBUF, buf_len=10000)
        b = guests(s, features=F_MRG_RXBUF)
        plain = guests(s)
        introduce(a, b, plain)
        jumbo = a.frame(b, os.urandom(8986))
        a.send([jumbo, jumbo])
        assert b.recv(2) == [jumbo, jumbo]
        a.send([a.frame(plain, os.urandom(8986)), a.frame(plain, b"short")])
        assert plain.recv(1)[0][14:19] == b"short"
        assert consistent(s.stats(0))["tx_drop_guest_too_long"] == 1
        assert consistent(s.stats(2))["rx_drop_too_long"] == 1


def test_every_enabled_queue_pair_is_polled_and_fed(guests):
    with Switch() as s:
        a = guests(s, pairs=4)
        b = guests(s)
        introduce(a, b)
        wait_for(lambda: s.guests()["0"]["tx_rings"] == 4)
        for pair in range(4):
            a.send([a.frame(b, bytes([pair]))], pair=pair)
            assert b.recv(1)[0][14] == pair
        # UDP flows from different ports spread over the rings; each keeps to one
        def udp(port):
            ip = bytes.fromhex("4500001c00000000401100000a0000010a000002")
            return b.frame(a, ip + port.to_bytes(2, "big") + bytes([0, 9, 0, 8, 0, 0]),
                           ethertype=0x0800)
        b.send([udp(p) for p in range(64)] * 2)
        got = a.recv(128, headers=True)
        flows = {}
        for _, frame, pair in got:
            flows.setdefault(frame[34:36], set()).add(pair)
        assert all(len(pairs) == 1 for pairs in flows.values())
        assert len(set.union(*flows.values())) == 4


def test_rarp_announces_a_migrated_guest(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a)
        b.u64(SEND_RARP, int.from_bytes(b.mac, "little"))
        frame = a.recv(1)[0]
        assert frame[6:12] == b.mac and frame[12:14] == b"\x80\x35"
        s.wait_log("(1) MAC_ADDRESS")
        # that is its address, as if the guest had sent from it
        b.send([b.frame(a, b"beside", src=bytes.fromhex("020000000b0b"))])
        assert a.recv(1)[0][14:20] == b"beside"
        assert s.guests()["1"]["mac"] == b.mac.hex(":")


def test_several_sockets_and_dev_basename():
    s = Switch("--socket-file", "one", "--socket-file", "two", "--dev-basename", "three")
    with s:
        gs = []
        for i, name in enumerate(("one", "two", "three")):
            gs.append(Guest(os.path.join(s.dir, name), f"02:00:00:00:02:{i:02x}"))
            s.wait_guests(i + 1)
        assert not os.path.exists(os.path.join(s.dir, "vhost-net"))
        introduce(*gs)
        gs[0].send([gs[0].frame(gs[2], b"across")])
        assert gs[2].recv(1)[0][14:20] == b"across"
        for g in gs:
            g.close()


def test_a_socket_for_each_guest_there_can_be():
    """As with --client, where each QEMU serves one."""
    with Switch(*[a for i in range(128) for a in ("--socket-file", f"s{i}")], memory=1024) as s:
        assert len(os.listdir(s.dir)) == 128
        g = Guest(os.path.join(s.dir, "s127"))
        s.wait_guests(1)
        g.close()


def test_stopped_device_keeps_its_guest(guests):
    """Id, VLAN and MAC stay; what is for it meanwhile is dropped and counted."""
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        before = s.guests()["1"]
        b.stop()
        s.wait_path(1, "stopped")
        a.send([a.frame(b, b"nobody"), a.frame(BROADCAST, b"nobody")])
        wait_for(lambda: s.stats(1)["rx_drop_guest_stopped"] == 2)
        assert consistent(s.stats(0))["tx_drop_guest_stopped"] == 1
        b.start()
        s.wait_path(1, "running")
        after = s.guests()["1"]
        assert (after["mac"], after["vlan"]) == (before["mac"], before["vlan"])
        a.send([a.frame(b, b"back")])  # it has not sent since
        assert b.recv(1)[0][14:18] == b"back"
        b.send([b.frame(a, b"same")])
        assert a.recv(1)[0][14:18] == b"same"


def test_started_again_with_another_mac(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        old = b.frame(a)[6:12]
        b.stop()
        b.start()
        s.wait_path(1, "running")
        b.mac = bytes.fromhex("020000000a0b")
        introduce(b)
        a.poll()
        a.send([a.frame(b, b"new"), a.frame(old.hex(":"), b"old")])
        assert b.recv(1)[0][14:17] == b"new"
        b.quiet()
        assert s.guests()["1"]["mac"] == "02:00:00:00:0a:0b"
        assert consistent(s.stats(0))["tx_drop_no_destination"] == 1
        b.stop()
        b.start()
        s.wait_path(1, "running")
        b.send([b.frame(BROADCAST, src=a.mac)] * 2)  # one that is in use
        s.wait_lines(f"(1) MAC_ADDRESS {a.mac.hex(':')} refused: registered to another guest", 1)
        assert s.stats(1)["tx_drop_mac_taken"] == 2


def test_limit_of_guests_is_one_clear_line(guests):
    with Switch(memory=1024) as s:
        crowd = [Guest(s.sock, f"02:00:00:00:03:{i:02x}", size=64) for i in range(128)]
        s.wait_guests(128)
        extra = Guest(s.sock, "02:00:00:00:04:00", size=64)
        s.wait_log("guest refused: there can be 128 guests and all are connected")
        extra.close()
        for g in crowd:
            g.close()
        s.wait_guests(0)


def test_sixty_four_guests_all_pairs_talk(guests):
    with Switch(memory=1024) as s:
        crowd = guests(s, 64)
        introduce(*crowd)
        for i, g in enumerate(crowd):
            g.send([g.frame(to, bytes([i, j])) for j, to in enumerate(crowd) if j != i])
        for j, g in enumerate(crowd):
            got = g.recv(63)
            assert sorted(f[14] for f in got) == [i for i in range(64) if i != j]
            assert all(f[15] == j for f in got)


def test_statistics_into_a_pipe_have_no_control_codes(guests):
    with Switch("--stats", "1") as s:
        a, b = guests(s, 2)
        introduce(a, b)
        a.send([a.frame(b)] * 7)
        s.wait_log("Statistics for device 1")
        wait_for(lambda: any(l.split() == ["RX", "successful:", "8"] for l in list(s.lines)))
        assert s.has("Device statistics") and "\033" not in s.log()


@pytest.mark.parametrize("columns,lines", [(80, 24), (132, 50), (40, 10)])
def test_statistics_on_a_terminal(columns, lines):
    """Rates, totals and reasons, drawn over the last screen and no wider or higher than it."""
    s = Switch("--stats", "1", start=False)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    crowd = []
    with subprocess.Popen(s.args, cwd=s.dir, stdout=slave, stderr=subprocess.DEVNULL) as proc:
        os.close(slave)
        text, end = b"", time.monotonic() + 30
        while text.count(b"\033[J") < 6:
            assert time.monotonic() < end, text
            text += os.read(master, 65536)
            if not crowd and b"\033[J" in text:
                crowd = [Guest(s.sock, f"02:00:00:00:00:{i:02x}") for i in (1, 2)]
                introduce(*crowd)
            if crowd:
                crowd[0].send([crowd[0].frame(crowd[1]), crowd[0].frame("02:00:00:00:00:99")])
        proc.terminate()
        for g in crowd:
            g.close()
        assert proc.wait(20) == 0
    os.close(master)
    os.rmdir(s.dir)
    screens = [part.split(b"\033[H")[1] for part in text.split(b"\033[J")[:6]]
    assert b"\033[2J" not in text  # nothing is cleared: no flicker
    rows = screens[-1].decode().replace("\r", "").split("\n")
    assert len(rows) <= lines and all(row.endswith("\033[K") for row in rows)
    rows = [row[:-3] for row in rows]
    assert all(len(row) <= columns for row in rows)
    assert rows[0] == "Device statistics: 2 guests"
    if lines < 24:
        assert rows[-1].startswith("... and")
        return
    assert any(r.startswith("(0)  02:00:00:00:00:01  VLAN 1000  worker 0  queue pairs 1")
               for r in rows)
    assert any(re.fullmatch(r"     TX dropped: no_destination \d+.*", r) for r in rows)
    assert any(re.fullmatch(r"     TX +\d+ +\d[\d.]*k?/s +\d+ +\d+ +\d[\d.]*k?/s", r) for r in rows)
    assert sum(bool(re.search(r"^worker 0 +lcore \d+ +busy +\d+ %", r)) for r in rows) == 1


def test_a_screen_shows_guests_whole_and_says_how_many_more():
    """Whatever its height: the last guest is not cut without a word."""
    heights = range(17, 24)
    s = Switch("--stats", "1", start=False)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", heights[0], 100, 0, 0))
    with subprocess.Popen(s.args, cwd=s.dir, stdout=slave, stderr=subprocess.DEVNULL) as proc:
        crowd = [Guest(s.sock, f"02:00:00:00:00:{i:02x}", size=64, timeout=30) for i in range(4)]
        s.wait_guests(4)
        introduce(*crowd)
        for g in crowd:  # a line more for each, the last one too
            g.send([g.frame("02:00:00:00:00:99")])
        seen, text, end = {}, b"", time.monotonic() + 60
        while len(seen) < len(heights):
            assert time.monotonic() < end, seen.keys()
            text += os.read(master, 65536)
            *screens, text = text.split(b"\033[J")
            for screen in screens:
                rows = [r.removesuffix("\033[K") for r in
                        screen.split(b"\033[H")[1].decode().replace("\r", "").split("\n")]
                height = heights[len(seen)]
                if rows[0] == "Device statistics: 4 guests" and \
                        any("TX dropped" in r for r in rows):
                    seen[height] = rows
                    fcntl.ioctl(slave, termios.TIOCSWINSZ,
                                struct.pack("HHHH", height + 1, 100, 0, 0))
        for g in crowd:
            g.close()
        proc.terminate()
        assert proc.wait(20) == 0
    os.close(slave)
    os.close(master)
    os.rmdir(s.dir)
    for height, rows in seen.items():
        assert len(rows) <= height
        shown = [i for i, r in enumerate(rows) if r.startswith("(")]
        for i in shown:
            assert rows[i + 1].startswith("     TX ") and rows[i + 2].startswith("     RX ")
        more = [int(r.split()[2]) for r in rows if r.startswith("... and")]
        assert len(shown) + sum(more) == 4, rows
    assert not any(r.startswith("...") for r in seen[heights[-1]])


def test_offered_features_follow_the_options(guests):
    csum, guest_csum, mrg = 1 << 0, 1 << 1, 1 << 15
    tso = sum(1 << n for n in (7, 8, 9, 11, 12, 13))  # guest's and host's: TSO4, TSO6, ECN
    ufo = 1 << 10 | 1 << 14
    gso = 1 << 6  # legacy drivers: any segmentation, that of UDP too, if CSUM is offered
    for args, on in (((), gso), (("--tx-csum", "1"), csum | guest_csum),
                     (("--tso", "1"), csum | guest_csum | tso),
                     (("--mergeable", "1"), mrg | gso)):
        with Switch(*args) as s:
            g = guests(s)
            assert g.offered & (csum | guest_csum | tso | ufo | gso | mrg) == on
            g.close()


def test_partial_checksum_is_completed_for_who_cannot(guests):
    from scapy.all import IP, TCP, UDP, Ether, raw
    from vhostuser import F_CSUM, F_GUEST_CSUM
    with Switch("--tx-csum", "1") as s:
        a = guests(s, features=F_CSUM)
        plain, able = guests(s), guests(s, features=F_GUEST_CSUM)
        introduce(a, plain, able)
        for l4, off in ((TCP(sport=1, dport=2), 16), (UDP(sport=1, dport=2), 6)):
            for to in (plain, able):
                eth = Ether(dst=":".join(f"{b:02x}" for b in to.mac),
                            src=":".join(f"{b:02x}" for b in a.mac))
                good = raw(eth / IP(src="10.0.0.1", dst="10.0.0.2") / l4 / (b"data" * 50 + b"x"))
                at = 34 + off
                part = good[:at] + b"\x12\x34" + good[at + 2:]  # as a stack that trusts the NIC
                hdr = bytes([1, 0, 0, 0, 0, 0]) + (34).to_bytes(2, "little") + \
                    off.to_bytes(2, "little") + bytes(2)
                a.send([part], hdr=hdr)
                (got_hdr, got, _), = to.recv(1, headers=True)
                if to is plain:
                    assert got_hdr[0] == 0 and got == good
                else:
                    assert got_hdr[0] == 1 and got_hdr[6:10] == hdr[6:10]
                    assert got[:at] == good[:at] and got[at + 2:] == good[at + 2:]
        for i in range(3):
            assert consistent(s.stats(i))["tx_dropped"] <= 1


def test_unsegmented_tcp_is_segmented_for_who_cannot(guests):
    from scapy.all import IP, TCP, Ether, raw
    from vhostuser import F_CSUM, F_HOST_TSO4
    with Switch("--tso", "1") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=16384)
        plain = guests(s)
        introduce(a, plain)
        data = os.urandom(10000)
        eth = Ether(dst=":".join(f"{b:02x}" for b in plain.mac),
                    src=":".join(f"{b:02x}" for b in a.mac))
        big = raw(eth / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1, dport=2, seq=7) / data)
        hdr = bytes([1, 1]) + (54).to_bytes(2, "little") + (1000).to_bytes(2, "little") + \
            (34).to_bytes(2, "little") + (16).to_bytes(2, "little") + bytes(2)
        a.send([big], hdr=hdr)
        got, seq = b"", 7
        for frame in plain.recv(10):
            p = Ether(frame)
            sums = p[IP].chksum, p[TCP].chksum
            del p[IP].chksum, p[TCP].chksum
            again = Ether(raw(p))
            assert sums == (again[IP].chksum, again[TCP].chksum)
            assert p[TCP].seq == seq
            seq += 1000
            got += bytes(p[TCP].payload)
        assert got == data
        st = consistent(s.stats(0))
        assert st["tx_total"] == 2 and st["tx_successful"] >= 1


@pytest.mark.parametrize("mss,options", [
    (1448, 12), (500, 0), (216, 12), (48, 0), (36, 12), (8, 40)])
def test_small_segments_reach_who_cannot_and_who_can(guests, mss, options):
    """The least MSS of Linux is 48, less what TCP's options take of it."""
    from vhostuser import F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_HOST_TSO4
    with Switch("--tso", "1", "--mergeable", "1") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=4096)
        plain = guests(s)
        able = guests(s, features=F_GUEST_CSUM | F_GUEST_TSO4, buf_len=4096)
        introduce(a, plain, able)
        data = os.urandom(min(2000, 200 * mss))
        for to in (plain, able):
            frame, hdr = tcp4(a, to, data, mss=mss, options=b"\1" * options)
            a.send([frame], hdr=hdr)
        n = -(-len(data) // mss)
        got = b""
        for frame in plain.recv(n):
            got += data_of(frame, 7 + len(got))
        assert got == data
        (got_hdr, whole, _), = able.recv(1, headers=True)
        assert got_hdr[:6] == hdr[:6] and whole[54 + options:] == data
        plain.quiet()
        assert consistent(s.stats(0))["tx_dropped"] <= 1
        assert consistent(s.stats(1))["rx_dropped"] == 0


def test_a_frame_of_more_segments_than_the_ring_holds(guests):
    """Its segments follow as the guest empties its ring; later frames wait, in their order."""
    from vhostuser import F_CSUM, F_HOST_TSO4
    with Switch("--tso", "1", "--rx-retry-num", "1000", "--rx-retry-delay", "10000") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=66000)
        b = guests(s, size=64)
        introduce(a, b)
        data = os.urandom(64000)
        frame, hdr = tcp4(a, b, data, mss=48)
        a.send([frame], hdr=hdr)
        a.send([a.frame(b, b"after")])
        got, seq, others = b"", 7, []
        end = time.monotonic() + 20
        while not others and time.monotonic() < end:
            for f in b.poll():
                if f[12:14] == b"\x08\0":
                    got += data_of(f, seq + len(got))
                else:
                    others.append(f)
        assert got == data and len(others) == 1 and others[0][14:19] == b"after"
        wait_for(lambda: s.stats(1)["rx_successful"] >= 2, what="the frame's success")
        assert consistent(s.stats(0))["tx_drop_guest_full"] == 0
        assert consistent(s.stats(1))["rx_dropped"] == 0


def test_segments_without_end_are_refused(guests):
    """An MSS that no stack has is not even for a guest that segments by itself."""
    from vhostuser import F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_HOST_TSO4
    with Switch("--tso", "1", "--mergeable", "1") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=4096)
        plain = guests(s)
        able = guests(s, features=F_GUEST_CSUM | F_GUEST_TSO4, buf_len=4096)
        introduce(a, plain, able)
        for to in (plain, able):
            frame, hdr = tcp4(a, to, bytes(1000), mss=7)
            a.send([frame], hdr=hdr)
        able.quiet()
        plain.quiet()
        assert consistent(s.stats(0))["tx_drop_offload"] == 2


def test_segmentation_that_was_not_offered_does_no_harm(guests):
    """Without --tso a guest may still ask for it."""
    from vhostuser import F_CSUM
    with Switch("--tx-csum", "1") as s:
        a, b = guests(s, features=F_CSUM, buf_len=4096), guests(s)
        introduce(a, b)
        frame, hdr = tcp4(a, b, bytes(2000), mss=1000)
        a.send([frame], hdr=hdr)
        a.send([a.frame(b, b"after")])
        wait_for(lambda: any(f[14:19] == b"after" for f in b.poll()), what="the frame after")


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_checksum_after_ipv6_extension_headers(guests, kind):
    from vhostuser import F_CSUM, F_GUEST_CSUM
    with Switch("--tx-csum", "1") as s:
        a = guests(s, features=F_CSUM)
        plain, able = guests(s), guests(s, features=F_GUEST_CSUM)
        introduce(a, plain, able)
        for proto in (6, 17):
            for dst, to in ((plain.mac, [plain]), (able.mac, [able]),
                            (b"\x33\x33\0\0\0\1", [plain, able])):
                frame, hdr, good = ipv6_partial(a, dst, kind, proto)
                a.send([frame], hdr=hdr)
                for g in to:
                    (got_hdr, got, _), = g.recv(1, headers=True)
                    if to == [able]:
                        assert got == frame and got_hdr[:10] == hdr[:10]
                    else:
                        assert got == good and got_hdr[0] == 0
        for i in range(3):
            st = consistent(s.stats(i))
            assert st["rx_dropped"] == st["tx_drop_offload"] == 0


def test_guests_over_the_limit_wait_for_a_place():
    """In the order of arrival, one line each; whose rings stop, waits from then on."""
    with Switch(memory=1024) as s:
        crowd = [Guest(s.sock, f"02:00:00:00:05:{i:02x}", size=16, buf_len=1600, timeout=60)
                 for i in range(128)]
        s.wait_guests(128, 60)
        late = [Guest(s.sock, f"02:00:00:00:06:{i:02x}", size=16, buf_len=1600, timeout=60)
                for i in range(4)]
        wait_for(lambda: sum("all are connected" in line for line in s.lines) == 4, 30,
                 "four that wait")
        late[0].stop()
        late[0].start()  # the last one now
        late.pop(1).close()  # leaves without having been a guest
        late[1].message(GET_FEATURES, reply=True)
        for place, expected in ((7, late[1]), (100, late[2]), (3, late[0])):
            crowd[place].close()
            s.wait_guests(128, 60)
            wait_for(lambda p=place: str(p) in s.guests(), 20, f"guest {place}")
            expected.announce()
            mac = ":".join(f"{x:02x}" for x in expected.mac)
            wait_for(lambda p=place, m=mac: s.guests()[str(p)].get("mac") == m, 20,
                     f"{mac} as {place}")
        assert sum("all are connected" in line for line in s.lines) == 4
        for g in [g for i, g in enumerate(crowd) if i not in (3, 7, 100)] + late:
            g.close()
