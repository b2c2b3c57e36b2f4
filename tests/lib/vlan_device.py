#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for `ip link add link PARENT name NAME type vlan id VID`, for kernels without 802.1Q.

A TAP whose frames get the tag and leave by a packet socket on PARENT, and the other way round. As a
VLAN device does, it leaves checksums and TCP segmentation to the device below it: both sides have
virtio-net headers that say what is yet to be done.
"""

import fcntl
import os
import select
import signal
import socket
import struct
import sys

HDR = struct.Struct("<BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR = 263, 8, 15
TUNSETIFF, TUNSETOFFLOAD = 0x400454ca, 0x400454d0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 1, 2
VLAN_VALID = 0x10  # TP_STATUS_VLAN_VALID


def moved(data, by):
    """The header of a frame whose IP header begins that much later."""
    flags, gso, hdr_len, size, start, off = HDR.unpack_from(data)
    return HDR.pack(flags, gso, hdr_len + by if hdr_len else 0, size,
                    start + by if flags & 1 else 0, off)


def to_wire(data, vid):
    return moved(data, 4) + data[10:22] + struct.pack(">HH", 0x8100, vid) + data[22:]


def from_wire(sock, vid):
    """A frame of the VLAN without its tag, or None."""
    data, ancillary, _, addr = sock.recvmsg(1 << 17, 256)
    if addr[2] == socket.PACKET_OUTGOING:
        return None
    for level, kind, aux in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci = struct.unpack_from("=IIIHHH", aux)
            if status & VLAN_VALID:
                return data if tci & 0xfff == vid else None
    if data[22:24] == b"\x81\0" and struct.unpack_from(">H", data, 24)[0] & 0xfff == vid:
        return moved(data, -4) + data[10:22] + data[26:]
    return None


def main():
    name, parent, vid = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(),
                                            IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    wire.bind((parent, 0))
    print("ready", flush=True)
    while True:
        for ready in select.select([tap, wire], [], [])[0]:
            try:
                if ready is tap:
                    wire.send(to_wire(os.read(tap, 1 << 17), vid))
                    continue
                frame = from_wire(wire, vid)
                if frame is not None:
                    os.write(tap, frame)
            except OSError as e:
                print(f"{name}: {e}", flush=True)


if __name__ == "__main__":
    main()
