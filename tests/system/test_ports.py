# SPDX-License-Identifier: BSD-3-Clause
"""What ports can send, and what their link is: a batch is not punished for one of its frames."""

import array
import fcntl
import os
import signal
import socket
import struct
import subprocess

import pytest

from frames import BROADCAST, OUTSIDE, tagged
from harness import Switch, Wire, inside, wait_for
from traffic import consistent, introduce
from vhostuser import F_CSUM, F_HOST_TSO4, HDR_LEN

KINDS = ["af_packet", "tap", "pcap"]


def publish(guest, frames, hdr=bytes(HDR_LEN)):
    """All frames at once, so that they are one burst."""
    ring = guest.rings[1]
    heads = [guest.free_tx[1].pop() for _ in frames]
    for head, frame in zip(heads, frames):
        at = ring.buf(head)
        guest.mem[at:at + HDR_LEN + len(frame)] = hdr + frame
        ring.set_desc(head, HDR_LEN + len(frame))
    ring.offer(heads)
    guest._reclaim(1, 5, all_of_them=True)


def ip(*args, netns=None):
    subprocess.run([*(inside(netns) if netns else ()), "ip", *args], check=True)


def port(s):
    return s.telemetry("/vhost_switch/port")


def link_is(s, state):
    wait_for(lambda: port(s)["link"] == state, 5, f"link {state}")


def small(guest, n):
    return [guest.frame(OUTSIDE, b"small %d" % i) for i in range(n)]


def expect_some(s, wire, guest, frames, good, why):
    """Of these frames the good ones reach the wire, the others are counted for one reason."""
    before, sent = s.stats(0), port(s)
    publish(guest, frames)
    assert wire.recv(len(good)) == [tagged(f, 1000) if f[12:14] != b"\x81\0" else f for f in good]
    after = consistent(s.stats(0))
    lost = len(frames) - len(good)
    assert after["tx_successful"] == before["tx_successful"] + len(good)
    assert after[f"tx_drop_{why}"] == before[f"tx_drop_{why}"] + lost
    assert after["tx_dropped"] == before["tx_dropped"] + lost
    assert port(s)["tx_dropped"] == sent["tx_dropped"] + lost
    assert port(s)["tx_successful"] == sent["tx_successful"] + len(good)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [(), ("--mergeable", "1", "--tx-csum", "1")], ids=str)
def test_a_long_frame_costs_no_other(kind, options, guests):
    with Wire(kind) as wire, wire.switch(*options) as s:
        a = guests(s, buf_len=10000)
        wire.open()
        introduce(a)
        wire.recv(1)
        good = small(a, 5)
        longest = a.frame(OUTSIDE, bytes(1486) + b"the end.")  # 1508, and the tag
        own_tag = a.frame(OUTSIDE, bytes(1500), vlan=5)  # 1518 with a tag of its own
        long = [a.frame(OUTSIDE, bytes(n)) for n in (1510, 2100, 3000, 9000)]
        expect_some(s, wire, a, [long[0], good[0], long[2], long[1], good[1], longest, own_tag,
                                 *good[2:], long[3]],
                    [good[0], good[1], longest, own_tag, *good[2:]], "uplink_too_long")
        # a broadcast, whose counter follows the wire's copy
        b = guests(s, buf_len=4096)
        introduce(b)
        assert wire.recv(1)[0][6:12] == b.mac
        a.recv(1)
        publish(a, [a.frame(BROADCAST, bytes(1600)), good[0]])
        assert wire.recv(1) == [tagged(good[0], 1000)]
        assert len(b.recv(1)[0]) == 1614


@pytest.mark.parametrize("kind", ["af_packet", "pcap"])
def test_the_mtu_is_the_kernels_of_the_moment(kind, guests):
    with Wire(kind) as wire, wire.switch() as s:
        a = guests(s, buf_len=10000)
        wire.open()
        introduce(a)
        wire.recv(1)
        good = small(a, 2)
        frame = a.frame(OUTSIDE, bytes(1886))  # 1900: more than 1500 and less than af_packet's ring
        expect_some(s, wire, a, [good[0], frame, good[1]], good, "uplink_too_long")
        for name in (wire.near, wire.far):
            ip("link", "set", name, "mtu", "9000")

        def passes():
            publish(a, [frame])
            try:
                return wire.recv(1, 0.2)
            except TimeoutError:
                return None
        assert wait_for(passes, 5, "the new MTU") == [tagged(frame, 1000)]
        if kind == "af_packet":  # and what its ring has no room for
            expect_some(s, wire, a, [good[0], a.frame(OUTSIDE, bytes(2005)), good[1]], good,
                        "uplink_too_long")
        else:
            jumbo = a.frame(OUTSIDE, bytes(8900))
            expect_some(s, wire, a, [good[0], jumbo, good[1]], [good[0], jumbo, good[1]],
                        "uplink_too_long")
        ip("link", "set", wire.near, "mtu", "1000")
        frame = a.frame(OUTSIDE, bytes(1001))
        wait_for(lambda: publish(a, [frame]) or s.stats(0)["tx_drop_uplink_too_long"] > 2, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_over_the_mtu_are_dropped_and_others_sent(kind, guests):
    """An unsegmented TCP frame is as long as its segments."""
    with Wire(kind) as wire, wire.switch("--tso", "1", "--tx-csum", "1") as s:
        a = guests(s, features=F_CSUM | F_HOST_TSO4, buf_len=10000)
        wire.open()
        introduce(a)
        wire.recv(1)
        wire.ETH_TEST = 0x0800
        data = os.urandom(5000)
        head = struct.pack(">BBHHHBBHII", 0x45, 0, 40 + len(data), 1, 0x4000, 64, 6, 0, 1, 2)
        tcp = struct.pack(">HHIIBBHHH", 1, 2, 0, 0, 0x50, 0x10, 999, 0, 0)
        frame = bytes.fromhex(OUTSIDE.replace(":", "")) + a.mac + b"\x08\0" + head + tcp + data
        for mss, lost in ((1480, 1), (1460, 0), (9000, 1), (1249, 0)):
            before = s.stats(0)
            publish(a, [frame], hdr=struct.pack("<BBHHHHH", 1, 1, 54, mss, 34, 16, 0))
            if not lost:
                got = wire.recv(-(-len(data) // mss))
                # the last of 1249 has 4 bytes, and padding
                assert b"".join(f[58:18 + struct.unpack(">H", f[20:22])[0]] for f in got) == data
                assert min(len(f) for f in got) >= 60
            after = consistent(s.stats(0))
            assert after["tx_drop_uplink_too_long"] == before["tx_drop_uplink_too_long"] + lost
            assert after["tx_successful"] == before["tx_successful"] + 1 - lost


@pytest.mark.parametrize("kind", [*KINDS, "82599"])
def test_short_frames_are_padded_with_zeros(kind, guests):
    with Wire(kind) as wire, wire.switch() as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        own = bytes.fromhex(OUTSIDE.replace(":", "")) + a.mac
        short = [own + b"\x88\xb5" + b"x" * n for n in (0, 1, 2, 3, 41, 45, 46)]
        short += [own + b"\x81\0\0\7\x88\xb5" + b"y" * n for n in (0, 41, 42)]
        publish(a, [a.frame(OUTSIDE, b"\xff" * 1400)] * 40)  # something to be stale
        wire.recv(40)
        publish(a, short)
        for frame, got in zip(short, wire.recv(len(short))):
            sent = frame if frame[12:14] == b"\x81\0" else tagged(frame, 1000)
            assert got[:len(sent)] == sent and not any(got[len(sent):])
            assert len(got) >= 60
        # between guests nothing is added
        publish(a, [b.mac + f[6:] for f in short])
        assert b.recv(len(short)) == [b.mac + f[6:] for f in short]


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_that_is_down_is_said_and_nothing_waits_for_it(kind, guests):
    with Wire(kind) as wire, wire.switch() as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        wire.recv(2)
        for _ in range(2):
            # of a veth pair the far end, so that the near end has no carrier
            ip("link", "set", wire.far, "down")
            link_is(s, "down")
            before = consistent(s.stats(0))
            publish(a, [*small(a, 10), a.frame(b, b"neighbour")])
            assert b.recv(1)[0][14:23] == b"neighbour"
            after = consistent(s.stats(0))
            assert after["tx_drop_link_down"] == before["tx_drop_link_down"] + 10
            assert after["tx_successful"] == before["tx_successful"] + 1
            ip("link", "set", wire.far, "up")
            link_is(s, "up")
            wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # "down" was its last news
            for frame in small(a, 3):  # each leaves by itself, and nothing old before it
                publish(a, [frame])
                assert wire.recv(1) == [tagged(frame, 1000)]
            wire.quiet(0.1)
        assert sum("port 0: link down" in line for line in s.lines) == 2


@pytest.fixture
def namespace():
    name = f"vsports{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.parametrize("what", ["delete", "move"])
@pytest.mark.parametrize("kind", ["af_packet", "pcap"])
def test_an_interface_that_is_gone_is_said(kind, what, guests, namespace):
    with Wire(kind) as wire, wire.switch() as s:
        a = guests(s)
        introduce(a)
        if what == "delete":
            ip("link", "del", wire.near)
        else:
            ip("link", "set", wire.near, "netns", namespace)
        link_is(s, "down")
        s.wait_log(f"link down, interface {wire.near} is gone")
        publish(a, small(a, 3))
        assert s.stats(0)["tx_drop_link_down"] == 3
        if what == "move":  # its sockets do not come back with it
            ip("link", "set", wire.near, "netns", str(os.getpid()), netns=namespace)
            ip("link", "set", wire.near, "up")
            publish(a, small(a, 3))
            assert port(s)["link"] == "down"


def test_a_tap_in_another_namespace(guests, namespace):
    with Wire("tap") as wire, wire.switch() as s:
        a = guests(s)
        ip("link", "set", wire.far, "netns", namespace)
        link_is(s, "down")
        ip("link", "set", wire.far, "up", netns=namespace)
        link_is(s, "up")
        introduce(a)
        publish(a, small(a, 3))
        assert consistent(s.stats(0))["tx_dropped"] == 0
        ip("link", "set", wire.far, "down", netns=namespace)
        link_is(s, "down")
        ip("link", "del", wire.far, netns=namespace)
        s.wait_log(f"link down, interface {wire.far} is gone")
        assert s.stats(0)["tx_successful"] >= 3


def test_a_mirror_port_that_is_down_loses_what_it_gets(guests):
    with Wire("af_packet") as wire, Switch("--mirror-port", "0x1", vdev=wire.vdev) as s:
        a, b = guests(s, 2)
        wire.open()
        introduce(a, b)
        s.telemetry("/vhost_switch/mirror,0")
        publish(a, [a.frame(b, b"seen")])
        assert wire.recv(1)[0][14:18] == b"seen"
        ip("link", "set", wire.near, "down")
        s.wait_log("mirror port 0: link down")
        publish(a, [a.frame(b, b"not seen")])
        mirror = s.telemetry("/vhost_switch/mirror")
        assert (mirror["frames"], mirror["lost"]) == (1, 1)
        ip("link", "set", wire.near, "up")
        wait_for(lambda: "link up" in s.log().split("link down")[-1])
        publish(a, [a.frame(b, b"again")])
        assert wire.recv(1)[0][14:19] == b"again"


@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("mergeable", [False, True])
def test_a_frame_that_a_guest_has_no_buffer_for_costs_no_other(pairs, mergeable, guests):
    from vhostuser import F_MRG_RXBUF
    with Switch("--mergeable", "1") as s:
        a = guests(s, buf_len=10000)
        b = guests(s, pairs=pairs, size=4, buf_len=HDR_LEN + 1518,
                   features=F_MRG_RXBUF if mergeable else 0)
        introduce(a, b)
        limit = 4 * (HDR_LEN + 1518) - HDR_LEN if mergeable else 1518
        for length in (limit + 1, limit + 100, 9000):
            long = a.frame(b, bytes(length - 14))
            for turn in range(2):  # first of a burst, and in the middle
                before = consistent(s.stats(1))
                frames = [a.frame(b, b"A"), a.frame(b, b"B")]
                frames.insert(turn, long)
                publish(a, frames)
                assert sorted(f[14:15] for f in b.recv(2)) == [b"A", b"B"]
                after = consistent(s.stats(1))
                assert after["rx_dropped"] == before["rx_dropped"] + 1
                # there might have been more buffers for it, of a ring with one in use
                if not (turn and mergeable):
                    assert after["rx_drop_too_long"] == before["rx_drop_too_long"] + 1
        publish(a, [a.frame(b, bytes(1518 - 14))])
        assert len(b.recv(1)[0]) == 1518


def test_frames_that_overrun_a_pool_of_the_card_are_counted(guests):
    with Wire("82599") as wire, wire.switch() as s:
        a = guests(s)
        wire.open()
        introduce(a)
        wire.recv(1)
        assert port(s)["rx_q0_errors"] == 0
        frames, n = [tagged(a.frame(a, b"%d" % i, src=bytes.fromhex("020000000001")), 1000)
                     for i in range(400)], 400
        s.proc.send_signal(signal.SIGSTOP)
        wire.send(*frames)
        s.proc.send_signal(signal.SIGCONT)
        wait_for(lambda: port(s)["rx"] + port(s)["rx_q0_errors"] >= n, 10, "all frames")
        assert port(s)["rx_q0_errors"] == s.telemetry("/ethdev/xstats,1")["rx_q0_errors"] > 0
        assert port(s)["rx"] + port(s)["rx_q0_errors"] == n


SIOCETHTOOL, ETHTOOL_GTXCSUM, ETHTOOL_GGRO, ETHTOOL_SGRO = 0x8946, 0x16, 0x2b, 0x2c


def offload(interface, command, value=0):
    """Ask the kernel whether an offload of an interface is on, or tell it."""
    value = array.array("I", [command, value])
    with socket.socket() as s:
        fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sP16x", interface.encode(),
                                                value.buffer_info()[0]))
    return value[1]


@pytest.mark.parametrize("merging", [True, False])
def test_what_the_kernel_leaves_to_a_card_is_disabled_while_a_veth_pair_is_used(merging):
    with Wire("af_packet") as w:
        offload(w.near, ETHTOOL_SGRO, merging)

        def state():
            return offload(w.near, ETHTOOL_GGRO), offload(w.far, ETHTOOL_GTXCSUM)

        assert state() == (merging, 1)
        with w.switch() as s:
            assert state() == (0, 0)
            assert s.has(f"transmit offloads disabled for {w.far}, the other end of {w.near}")
            assert s.has(f"merging of TCP segments disabled for {w.near}") == merging
        assert state() == (merging, 1)
