# SPDX-License-Identifier: BSD-3-Clause
"""Guests that are introduced to a switch, exchange frames, and whose counters add up."""

import os
import struct
import time

from harness import wait_for


def consistent(stats):
    """Totals add up, and every drop has a reason."""
    for way in ("tx", "rx"):
        assert stats[f"{way}_total"] == stats[f"{way}_dropped"] + stats[f"{way}_successful"]
        reasons = sum(v for k, v in stats.items() if k.startswith(f"{way}_drop_"))
        assert stats[f"{way}_dropped"] == reasons
    return stats


def introduce(*guests):
    """Make the switch learn their addresses, and take away what that sends to the others."""
    for guest in guests:
        guest.announce()
    switch = guests[0].switch
    if switch:
        switch.wait_registered(*(guest.mac.hex(":") for guest in guests))
        switch.settle()
    else:
        time.sleep(0.1)
    for guest in guests:
        guest.poll()


def exchange(a, b, n=20):
    """Frames go both ways."""
    a.switch.settle()
    a.poll(), b.poll()  # what was sent to all
    for x, y in ((a, b), (b, a)):
        sent = [x.frame(y, os.urandom(40)) for _ in range(n)]
        x.send(sent)
        assert y.recv(n) == sent


def arp(kind, source, address, target, target_address):
    return struct.pack(">HHBBH", 1, 0x800, 6, 4, kind) + source + address + target + target_address


def ask(guest, mac, address, timeout=10, meanwhile=lambda: None):
    """Send one ARP request, as the first of a stack that knows nothing; returns its time."""
    guest.poll()
    begin = time.monotonic()
    guest.send([guest.frame("ff:ff:ff:ff:ff:ff", arp(1, guest.mac, bytes([192, 168, 77, 2]),
                                                     bytes(6), address), ethertype=0x806)])
    want = bytes.fromhex(mac.replace(":", ""))
    wait_for(lambda: meanwhile() or any(f[6:14] == want + b"\x08\x06" and f[28:32] == address
                                        for f in guest.poll()), timeout, "an answer")
    return time.monotonic() - begin


def answer(guest, address):
    """As a stack does that has nothing to say but what it is asked."""
    for frame in guest.poll():
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == address:
            guest.send([guest.frame(frame[6:12], arp(2, guest.mac, address, frame[6:12],
                                                     frame[28:32]), ethertype=0x806)])
