# SPDX-License-Identifier: BSD-3-Clause
"""Guests that only ever answer are reached after the switch was killed and started again.

VMs do the same in vm/test_quiet_vm.py.
"""

import itertools
import os

import pytest

from harness import Switch
from named import Ports
from traffic import answer, ask
from vhostuser import Guest, Listener

KINDS = list(itertools.product((False, True), (1, 4)))  # packed, queue pairs


class Quiet:
    """A guest at a socket, which it serves itself if the switch is the client."""

    def __init__(self, path, mac, client, packed=False, pairs=1):
        self.path, self.address = path, bytes([192, 168, 77, mac])
        self.listener = Listener(path) if client else None
        self.kind = {"pairs": pairs, "packed_at": 0x8000 if packed else None, "size": 64}
        self.mac = f"02:00:00:00:00:{mac:02x}"
        self.guest = None

    def connect(self):
        """For the first time or again."""
        if self.guest is None:
            self.guest = self.listener.guest(self.mac, **self.kind) if self.listener else \
                Guest(self.path, self.mac, **self.kind)
        else:
            self.guest.reconnect(self.listener.accept() if self.listener else
                                 Guest.connect(self.path))

    def close(self):
        if self.guest:
            self.guest.close()
        if self.listener:
            self.listener.close()


@pytest.mark.parametrize("place", ["server", "client", "ports"])
def test_the_first_request_is_answered_after_a_kill(place, tmp_path):
    """Split and packed, one queue pair and four; at named ports in either mode at once."""
    modes = {"server": [False], "client": [True], "ports": [False, True]}[place]
    guests = []
    for client, (packed, pairs) in itertools.product(modes, KINDS):
        n = len(guests) + 1
        path = str(tmp_path / (f"q{n}" if place != "server" else "all"))
        guests.append(Quiet(path, n, client, packed, pairs))
    if place == "ports":
        ports = Ports(tmp_path, **{f"q{n}": f"vlan=10 mode={('server', 'client')[bool(q.listener)]}"
                                   for n, q in enumerate(guests, 1)}, b="vlan=10")
        b, args = Quiet(ports.sock("b"), 99, False), ports.args()
    else:
        b = Quiet(str(tmp_path / ("b" if modes[0] else "all")), 99, modes[0])
        args = ["--client"] * modes[0] + [
            a for path in dict.fromkeys(q.path for q in (*guests, b))
            for a in ("--socket-file", path)]
    s = Switch(*args, memory=1024)
    try:
        for turn in range(3):
            for q in (*guests, b):
                q.connect()
            s.wait_guests(len(guests) + 1)
            s.settle()
            for q in guests:
                assert ask(b.guest, q.mac, q.address, meanwhile=lambda: [
                    answer(other.guest, other.address) for other in guests] and None), turn
            for q in guests:
                assert not q.guest.poll()
            if turn < 2:
                s.proc.kill()
                s.proc.wait()
                s.lines.clear()
                for path in {q.path for q in (*guests, b) if not q.listener}:
                    if os.path.exists(path):
                        os.unlink(path)
                s.start()
    except BaseException:
        print(s.log())
        raise
    finally:
        for q in (*guests, b):
            q.close()
        s.stop()
