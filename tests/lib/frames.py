# SPDX-License-Identifier: BSD-3-Clause
"""Frames and addresses that tests of more than one kind send."""

import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
OUTSIDE = "02:00:00:00:ee:01"


def tagged(frame, vlan):
    return frame[:12] + struct.pack(">HH", 0x8100, vlan) + frame[12:]


def to_guest(guest, payload, vlan, dst=None):
    frame = guest.frame(dst or guest, payload, src=bytes.fromhex(OUTSIDE.replace(":", "")))
    return (frame if vlan is None else tagged(frame, vlan)), frame


def ones(data):
    """One's complement sum (RFC 1071)."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def tcp4(src, dst, data, seq=7, mss=0, options=b""):
    """A frame of unsegmented TCP over IPv4 and its virtio-net header."""
    length = 40 + len(options) + len(data)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 1, 0x4000, 64, 6, 0,
                     b"\x0a\0\0\1", b"\x0a\0\0\2")
    ip = ip[:10] + struct.pack(">H", ~ones(ip) & 0xffff) + ip[12:]
    tcp = struct.pack(">HHIIBBHHH", 1, 2, seq, 0, (5 + len(options) // 4) << 4, 0x18, 1000, 0, 0)
    tcp += options
    return dst.mac + src.mac + b"\x08\0" + ip + tcp + data, \
        struct.pack("<BBHHHHH", 1, 1, 54 + len(options), mss, 34, 16, 0)


def data_of(frame, seq):
    """The payload of a finished segment that begins at this number."""
    ip = frame[14:]
    length = struct.unpack(">H", ip[2:4])[0]
    assert length == len(ip) or len(frame) == 60  # padding
    tcp = ip[20:length]
    assert ones(ip[:20]) == 0xffff
    assert ones(ip[12:20] + struct.pack(">HH", 6, len(tcp)) + tcp) == 0xffff
    assert struct.unpack(">I", tcp[4:8])[0] == seq
    return tcp[(tcp[12] >> 4) * 4:]


# next header, its bytes, the offset in them of the next header's number, the real destination
EXTENSIONS = {
    "hop-by-hop": (0, bytes([0, 0, 1, 4, 0, 0, 0, 0]), 0, None),
    "destination options": (60, bytes([0, 0, 1, 4, 0, 0, 0, 0]), 0, None),
    "routing": (43, bytes([0, 2, 4, 1, 0, 0, 0, 0]) + bytes(15) + b"\x99", 0, bytes(15) + b"\x99"),
    "several": (0, bytes([60, 0, 1, 4, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0]), 8, None),
    "long": (60, bytes([0, 99, 1, 255]) + bytes(796), 0, None),
    "atomic fragment": (44, bytes(8), 0, None),
    "authentication": (51, bytes([0, 4, 0, 0]) + bytes(20), 0, None),
}


def ipv6_partial(src, dst_mac, kind, proto):
    """A frame whose checksum a driver left partial, its virtio-net header, and it finished."""
    number, body, last, final = EXTENSIONS[kind]
    body = body[:last] + bytes([proto]) + body[last + 1:]
    at = 16 if proto == 6 else 6
    a6, b6 = (bytes.fromhex("20010db8") + bytes(11) + last_byte for last_byte in (b"\1", b"\2"))
    rest = struct.pack(">IIBBHHH", 1, 2, 0x50, 0x18, 9, 0, 0) if proto == 6 else \
        struct.pack(">HH", 59, 0)
    l4 = struct.pack(">HH", 53, 1024) + rest + b"q" * 51
    pseudo = ones(a6 + (final or b6) + struct.pack(">IHBB", len(l4), 0, 0, proto))
    head = dst_mac + src.mac + b"\x86\xdd" + struct.pack(
        ">IHBB", 6 << 28, len(body) + len(l4), number, 64) + a6 + b6 + body
    right = ~ones(struct.pack(">H", pseudo) + l4) & 0xffff
    frame, good = (head + l4[:at] + struct.pack(">H", n) + l4[at + 2:] for n in (pseudo, right))
    return frame, struct.pack("<BBHHHHH", 1, 0, 0, 0, len(head), at, 0), good
