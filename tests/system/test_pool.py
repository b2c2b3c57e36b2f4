# SPDX-License-Identifier: BSD-3-Clause
"""The mbuf pool: large enough for what ports keep in their rings, and whole at the end."""

import re
import shutil
import socket
import subprocess

import pytest

from frames import OUTSIDE
from harness import Switch, Wire, wait_for

AF_XDP = 44


def has_af_xdp():
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW).close()
    except OSError:
        return False
    return True


def refusal(switch):
    """The line that refuses the start, and the number in it."""
    r = subprocess.run(switch.args, cwd=switch.dir, capture_output=True, text=True, timeout=60,
                       check=False)
    shutil.rmtree(switch.dir)
    assert r.returncode == 1
    lines = [line for line in r.stderr.splitlines() if line.startswith("vhost-switch:")]
    assert len(lines) == 1, r.stderr
    return re.search(r"--total-num-mbufs must be at least (\d+) here, not 1024: rings",
                     lines[0]).group(1)


@pytest.mark.parametrize("kind", ["tap", "af_packet"])
def test_a_pool_that_rings_would_empty_is_refused(guests, kind):
    """With the number that the line names all frames go through."""
    with Wire(kind) as w:
        least = refusal(w.switch("--total-num-mbufs", "1024", start=False))
        with w.switch("--total-num-mbufs", least) as s:
            a = guests(s)
            w.open()
            a.announce()
            w.recv(1)
            for i in range(10):
                a.send([a.frame(OUTSIDE, bytes([i]))] * 50)
                w.recv(50)


def test_a_mirror_ports_rings_count():
    vdev = ["net_tap0,iface=vspool0"]
    least = refusal(Switch("--mirror-port", "0x1", "--total-num-mbufs", "1024", vdev=vdev,
                           start=False))
    with Switch("--mirror-port", "0x1", "--total-num-mbufs", least, vdev=vdev):
        pass


def test_without_ports_any_pool_will_do(guests):
    with Switch("--total-num-mbufs", "1024") as s:
        a, b = guests(s, 2)
        a.announce(), b.announce()
        a.send([a.frame(b, b"fits")])
        wait_for(lambda: any(f[14:18] == b"fits" for f in b.poll()))


@pytest.mark.skipif(not has_af_xdp(), reason="this kernel has no AF_XDP")
def test_what_af_xdp_keeps_is_not_missing(guests):
    """Its fill ring is never given back; frames that it has not sent yet are."""
    with Wire("af_xdp") as w, w.switch() as s:
        a = guests(s)
        w.open()
        a.announce()
        for i in range(20):
            a.send([a.frame(OUTSIDE, bytes([i]))] * 50)
        s.stop()
        assert s.has("its driver keeps 2048 mbufs of its own rings")


@pytest.mark.parametrize("device", ["net_null0", "net_ring0"])
def test_ports_of_other_drivers_keep_nothing(guests, device):
    with Switch(vdev=[device], port="0x1") as s:
        a = guests(s)
        a.announce()
        for i in range(20):
            a.send([a.frame(OUTSIDE, bytes([i]))] * 50)
        s.stop()
        assert not s.has("its driver keeps")
