# SPDX-License-Identifier: BSD-3-Clause
"""Guests that send as fast as the switch takes it: tests/system/flood.c moves their frames."""

import os
import subprocess
from typing import NamedTuple

from harness import ROOT, cpus
from vhostuser import F_PACKED


class Count(NamedTuple):
    """Of a flow: frames, when that was, and how long the program did not run since the last."""

    sent: int
    arrived: int
    lost: int
    ns: int
    gap: int


class Flood:
    """guests: (vhostuser.Guest, domains) each, made with rx_buffers=0; evil=(which, frames)."""

    def __init__(self, guests, flows, size=64, evil=None):
        self.proc = subprocess.Popen(
            ["taskset", "-c", str(cpus()[1]), os.path.join(ROOT, "build/system/flood"), str(size)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for g, domains in guests:
            packed = int(bool(g.features & F_PACKED))
            self._say("guest", f"/proc/{os.getpid()}/fd/{g.memfd}", g.length, g.size,
                      g.rings[0].buf_len, packed, domains, g.mac.hex(":"))
            for ring in g.rings:
                self._say("ring", ring.desc, ring.avail, ring.used, ring.bufs)
        for flow in flows:
            self._say("flow", *flow)
        if evil:
            self._say("evil", *evil)

    def _say(self, *words):
        print(*words, file=self.proc.stdin)

    def _ask(self, *words):
        self._say(*words)
        line = self.proc.stdout.readline()
        assert line, f"the guests died: {self.proc.wait(10)}"
        return line.rstrip("\n")

    def go(self, *flows):
        """At once; the first frames of those make their senders known before there are more."""
        assert self._ask("go", *flows) == "ok"

    def hold(self, *flows):
        assert self._ask("hold", *flows) == "ok"

    def domains(self, guest, sees, sends):
        assert self._ask("domains", guest, sees, sends) == "ok"

    def count(self, flow):
        return Count(*map(int, self._ask("count", flow).split()))

    def all_right(self):
        """Assert that no frame came to who may not get it, or otherwise than it was sent."""
        n, _, text = self._ask("wrong").partition(" ")
        assert n == "0", f"{n} frames are wrong, the first: {text}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.proc.kill()
        self.proc.wait()
        self.proc.stdin.close()
        self.proc.stdout.close()
