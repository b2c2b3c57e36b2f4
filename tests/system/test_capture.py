# SPDX-License-Identifier: BSD-3-Clause
"""Watching traffic: a guest's on the mirror port, the uplink's with dpdk-dumpcap."""

import os
import shutil
import signal
import subprocess

import pytest
from scapy.utils import rdpcap

from frames import BROADCAST, OUTSIDE, tagged
from harness import Switch, Wire, cpus, wait_for
from named import Ports, switch_of
from traffic import introduce
from vhostuser import F_MRG_RXBUF


def captured(path):
    return [bytes(p) for p in rdpcap(str(path))]


@pytest.mark.parametrize("lcores", ["one worker", "two workers"])
def test_one_guest_on_the_mirror_port(guests, tmp_path, lcores):
    where = str(cpus()[0]) if lcores == "one worker" else f"(0-2)@{cpus()[0]}"
    file = tmp_path / "guest.pcap"
    with Switch("--mirror-port", "0x1", "--mergeable", "1", vdev=[f"net_pcap0,tx_pcap={file}"],
                lcores=where) as s:
        a, b, c = guests(s, 3, features=F_MRG_RXBUF, size=64, buf_len=9216)
        introduce(a, b, c)
        a.send([a.frame(b, b"before")])
        b.recv(1)
        assert s.telemetry("/vhost_switch/mirror") == {
            "present": "yes", "port": 0, "guest": "off", "frames": 0, "lost": 0}
        assert s.telemetry("/vhost_switch/mirror,1")["guest"] == "1"
        seen = []

        def saw(*frames):
            """The copy is made when the guest has the frame already."""
            seen.extend(frames)
            wait_for(lambda: s.telemetry("/vhost_switch/mirror")["frames"] == len(seen))

        def exchange(x, y, frame, watched):
            x.send([frame])
            assert y.recv(1) == [frame]
            if watched:
                saw(frame)

        for i, size in enumerate((1, 60, 500, 1486, 5000)):
            exchange(a, b, a.frame(b, bytes([i]) * size), True)
            exchange(b, a, b.frame(a, bytes([i + 100]) * size), True)
            exchange(a, c, a.frame(c, b"not of b's business"), False)
        # what the switch drops, its guest has sent even so
        lost = b.frame("02:00:00:00:99:99", b"for nobody")
        b.send([lost])
        wait_for(lambda: s.stats(1)["tx_drop_no_destination"] == 1)
        saw(lost)
        everybody = c.frame("ff:ff:ff:ff:ff:ff", b"for everybody")
        c.send([everybody])
        a.recv(1)
        b.recv(1)
        saw(everybody)
        assert s.telemetry("/vhost_switch/mirror,off")["frames"] == len(seen)
        exchange(a, b, a.frame(b, b"afterwards"), False)
        for answer in ("/vhost_switch/mirror,x", "/vhost_switch/mirror,128"):
            assert s.telemetry(answer) is None
        assert s.telemetry("/vhost_switch/mirror")["lost"] == 0
    assert captured(file) == seen


@pytest.mark.parametrize("pairs", [1, 2])
def test_a_port_is_mirrored_with_the_tags_that_it_gets(tmp_path, pairs):
    ports = Ports(tmp_path, a="vlan=10", t="trunk=10;20", n="vlan=10 trunk=20")
    file = tmp_path / "guest.pcap"
    with switch_of(ports, "--mirror-port", "0x1", vdev=[f"net_pcap0,tx_pcap={file}"]) as s:
        a, t, n = ports.guests(pairs=pairs)
        s.wait_guests(3)
        seen = []
        for guest, number in ((t, 129), (n, 130)):
            s.telemetry(f"/vhost_switch/mirror,{number}")
            guest.poll()
            a.send([a.frame(BROADCAST, b"all"), a.frame(guest, b"one"), a.frame(BROADCAST, vlan=0)])
            sent = guest.frame(a, b"out", vlan=10) if guest is t else guest.frame(a, b"out")
            guest.send([sent])
            seen += guest.recv(3) + [sent]
            wait_for(lambda: s.telemetry("/vhost_switch/mirror")["frames"] == len(seen))
        for g in (a, t, n):
            g.close()
    assert sorted(captured(file)) == sorted(seen)
    assert {f[12:14] for f in seen[:4]} == {b"\x81\0"}


def test_a_port_that_is_down_is_mirrored_and_not_learned_from(tmp_path):
    ports = Ports(tmp_path, down="link=down")
    file = tmp_path / "guest.pcap"
    with switch_of(ports, "--mirror-port", "0x1", vdev=[f"net_pcap0,tx_pcap={file}"]) as s:
        g, = ports.guests()
        s.wait_guests(1)
        s.telemetry("/vhost_switch/mirror,128")
        frames = [g.frame(BROADCAST, bytes([i]), src=bytes([2, 0, 0, 0, 0, i])) for i in range(20)]
        g.send(frames)
        wait_for(lambda: s.telemetry("/vhost_switch/mirror")["frames"] == 20)
        st = s.stats(128)
        assert (st["tx_drop_link_down"], st["fdb_full"]) == (20, 0)
        assert not s.telemetry("/vhost_switch/fdb")
        g.close()
    assert captured(file) == frames


def test_the_next_guest_is_mirrored_from_its_first_frame(guests, tmp_path):
    with Wire("tap") as w:
        file = tmp_path / "live.pcap"
        with Switch("--mirror-port", "0x1", vdev=w.vdev) as s:
            w.open()
            s.telemetry("/vhost_switch/mirror,1")
            dump = subprocess.Popen(["tcpdump", "-Z", "root", "-U", "-n", "-i", w.far, "-w", file],
                                    stderr=subprocess.PIPE, text=True)
            assert any("listening on" in line for line in iter(dump.stderr.readline, ""))
            a, b = guests(s, 2)
            introduce(a, b)
            question, answer = a.frame(b, b"question"), b.frame(a, b"answer")
            a.send([question])
            b.recv(1)
            b.send([answer])
            a.recv(1)
            wait_for(lambda: s.telemetry("/vhost_switch/mirror")["frames"] >= 3)
            wait_for(lambda: os.path.getsize(file) > 24 and answer in captured(file))
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=10)
        frames = captured(file)
        assert frames[0][6:12] == a.mac and frames[-2:] == [question, answer]
        assert all(b.mac in (f[:6], f[6:12]) or f[0] & 1 for f in frames)


@pytest.mark.parametrize("args,line", [
    (["--mirror-port", "0x1", "-p", "0x1"], "--mirror-port selects the port of -p"),
    (["--mirror-port", "0x4"], "--mirror-port selects port 2, which does not exist: EAL found 1"),
    (["--mirror-port", "0x3"], "invalid value '0x3' for --mirror-port: "
                               "it accepts a hexadecimal port mask with exactly one bit"),
])
def test_a_mirror_port_that_cannot_be(args, line):
    s = Switch(*args, vdev=["net_null0"], start=False)
    r = subprocess.run(s.args, cwd=s.dir, capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode == 1 and r.stderr.count("vhost-switch: ") == 1 and line in r.stderr
    assert not os.path.exists(s.sock)
    shutil.rmtree(s.dir)


def test_dumpcap_on_the_uplink(guests, tmp_path, hugetlbfs):
    file = tmp_path / "uplink.pcapng"
    with Wire("af_packet") as w, w.switch(huge=hugetlbfs, memory=256) as s:
        a = guests(s)
        w.open()
        a.announce()
        w.recv(1)
        dump = subprocess.Popen(
            ["dpdk-dumpcap", f"--file-prefix={s.prefix}", "-i", "net_af_packet0", "-c", "6",
             "-w", file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda: os.path.exists(file), 30, "the capture file")
        out = a.frame(OUTSIDE, b"going out")
        came = tagged(bytes(a.mac) + bytes.fromhex(OUTSIDE.replace(":", "")) + b"\x88\xb5coming in"
                      + bytes(50), 1000)
        # It says nothing when it is ready. Tags that the NIC handles are there in pcapng alone.
        for _ in range(100):
            a.send([out])
            w.send(came)
            a.recv(1)
            if dump.poll() is not None:
                break
        text, _ = dump.communicate(timeout=20)
        frames = captured(file)
        assert dump.returncode == 0 and len(frames) == 6, text
        assert set(frames) == {tagged(out, 1000), came}, text


def dumpcap(s, *args):
    return subprocess.Popen(
        ["dpdk-dumpcap", f"--file-prefix={s.prefix}", "-i", "net_af_packet0", *args],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_capture_after_one_that_was_killed(guests, tmp_path, hugetlbfs):
    """And one that runs is not taken from its owner."""
    with Wire("af_packet") as w, w.switch(huge=hugetlbfs, memory=256) as s:
        a = guests(s)

        def send():
            a.send([a.frame(OUTSIDE, bytes(500))] * 20)

        def is_growing(file):
            send()
            return file.exists() and file.stat().st_size > 3000

        first = dumpcap(s, "-w", tmp_path / "first")
        wait_for(lambda: is_growing(tmp_path / "first"), 30, "a capture")
        refused = dumpcap(s, "-c", "1", "-w", tmp_path / "refused")
        text, _ = refused.communicate(timeout=20)
        assert refused.returncode != 0 and first.poll() is None, text
        first.kill()
        first.wait()
        s.wait_log("capture at net_af_packet0 ended")
        again = dumpcap(s, "-c", "20", "-w", tmp_path / "again")
        wait_for(lambda: send() or again.poll() is not None, 30, "the end of the capture")
        assert again.returncode == 0, again.communicate()[0]
        assert len(captured(tmp_path / "again")) == 20


def test_the_uplink_stays_promiscuous_after_a_capture(guests, tmp_path, hugetlbfs):
    """dpdk-dumpcap ends promiscuous mode when it ends; software steering cannot do without."""
    with Wire("af_packet") as w, w.switch(huge=hugetlbfs, memory=256) as s:
        a = guests(s)
        dump = dumpcap(s, "-c", "5", "-w", tmp_path / "file")
        wait_for(lambda: a.send([a.frame(OUTSIDE, bytes(500))]) or dump.poll() is not None, 30)
        assert dump.returncode == 0
        wait_for(lambda: s.telemetry("/ethdev/info,0")["promiscuous"] == 1)
