# SPDX-License-Identifier: BSD-3-Clause
"""Guests that come, are killed and come back while their neighbours flood them."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness import APP, ROOT, Switch, cpus, wait_for
from vhostuser import Guest

ASAN = os.path.join(ROOT, "build/asan/vhost-switch")

# A guest in a process of its own, to be killed: learns, then floods everybody.
VICTIM = """
import sys
sys.path.insert(0, {path!r})
from vhostuser import Guest
g = Guest({sock!r}, {mac!r}, size=64)
g.announce()
print("up", flush=True)
while True:
    g.send([g.frame("ff:ff:ff:ff:ff:ff", b"flood"), g.frame({peer!r}, b"flood")] * 8)
    g.poll()
"""


def flood(guest, targets, stop):
    frames = [guest.frame(t, b"flood" * 20) for t in targets] + \
        [guest.frame("ff:ff:ff:ff:ff:ff", b"all")]
    while not stop.is_set():
        guest.send(frames * 4)
        guest.poll()


ONE = str(cpus()[0])
TWO = f"0@{cpus()[0]},1@{cpus()[0]},2@{cpus()[1]}"  # two workers


@pytest.mark.parametrize("app,lcores", [(APP, ONE), (APP, TWO), (ASAN, ONE), (ASAN, TWO)],
                         ids=["plain", "plain-2-workers", "asan", "asan-2-workers"])
def test_guests_killed_under_load(app, lcores):
    macs = [f"02:00:00:00:05:{i:02x}" for i in range(4)]
    with Switch("--rx-retry-delay", "1", app=app, lcores=lcores) as s:
        peers = [Guest(s.sock, f"02:00:00:00:06:{i:02x}", size=64) for i in range(2)]
        s.wait_guests(2)
        stop = threading.Event()
        threads = [threading.Thread(target=flood, args=(p, macs + [peers[1 - i]], stop))
                   for i, p in enumerate(peers)]
        for t in threads:
            t.start()
        try:
            left = 200 if app == ASAN else 60
            while left > 0:
                procs = []
                for mac in macs:
                    code = VICTIM.format(path=os.path.join(ROOT, "tests/lib"), sock=s.sock,
                                         mac=mac, peer="02:00:00:00:06:00")
                    procs.append(subprocess.Popen([sys.executable, "-c", code],
                                                  stdout=subprocess.PIPE, text=True))
                for p in procs:
                    assert p.stdout.readline() == "up\n"
                s.telemetry("/vhost_switch/stats")
                s.telemetry("/vhost_switch/guests")
                for p in procs:
                    p.send_signal(signal.SIGKILL)
                    p.wait()
                    p.stdout.close()
                left -= len(procs)
                assert s.proc.poll() is None, s.log()
        finally:
            stop.set()
            for t in threads:
                t.join()
        s.wait_guests(2)
        a, b = peers
        a.poll(), b.poll()
        a.send([a.frame(b, b"alive")])
        wait_for(lambda: any(f[14:19] == b"alive" for f in b.poll()))
        for p in peers:
            p.close()
        s.wait_guests(0)
    assert "AddressSanitizer" not in s.log() and "runtime error" not in s.log()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_stop_under_load(sig):
    s = Switch("--stats", "1")
    a, b = Guest(s.sock, "02:00:00:00:00:01"), Guest(s.sock, "02:00:00:00:00:02")
    s.wait_guests(2)
    a.announce(), b.announce()
    # fill a's ring and let the switch stop in the middle of it
    ring = a.rings[1]
    for i in range(200):
        frame = bytes(12) + a.frame(b, b"last words")
        a.mem[ring.buf(i):ring.buf(i) + len(frame)] = frame
        ring.set_desc(i, len(frame))
    ring.offer(range(200))
    s.stop(sig)
    a.close(), b.close()


def test_client_mode_connects_and_reconnects(tmp_path):
    path = str(tmp_path / "qemu.sock")
    with Switch("--client", "--socket-file", path) as s:
        for turn in range(2):
            server = socket.socket(socket.AF_UNIX)
            server.bind(path)
            server.listen()
            server.settimeout(15)
            conn, _ = server.accept()
            g = Guest(None, "02:00:00:00:00:01", sock=conn)
            s.wait_guests(1)
            g.announce()
            wait_for(lambda n=turn + 1: sum("registered" in line for line in list(s.lines)) == n,
                     what="the line, which the control loop writes while the guest is there")
            g.close()
            server.close()
            os.unlink(path)
            s.wait_guests(0)
            assert sum("registered" in line for line in s.lines) == turn + 1
        os.path.exists(path)


def test_garbage_on_the_socket_harms_nobody_else():
    with Switch() as s:
        a, b = Guest(s.sock, "02:00:00:00:00:01"), Guest(s.sock, "02:00:00:00:00:02")
        s.wait_guests(2)
        for junk in (b"\xff" * 64, b"", os.urandom(300),
                     b"\x05\0\0\0\x01\0\0\0\x08\0\0\0" + b"\xff" * 8):
            with socket.socket(socket.AF_UNIX) as bad:
                bad.connect(s.sock)
                bad.sendall(junk)
                time.sleep(0.05)
        a.announce(), b.announce()
        a.send([a.frame(b, b"fine")])
        wait_for(lambda: any(f[14:18] == b"fine" for f in b.poll()))
        a.close(), b.close()
