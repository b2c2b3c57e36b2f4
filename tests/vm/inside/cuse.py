# SPDX-License-Identifier: BSD-3-Clause
"""The CUSE way in, tested inside a VM whose kernel has CUSE. tests/vm/test_cuse.py runs this."""

import ctypes
import errno
import mmap
import os
import signal
import stat
import struct
import subprocess
import time

import pytest

import eventfd_link
import vhostnet as vn
from harness import APP, Switch, eal_args, wait_for
from vhostnet import DEVICE, Device, VhostNet
from vhostuser import Guest

TESTPMD = "/usr/bin/dpdk-testpmd"


@pytest.fixture(params=["pidfd_getfd", "eventfd_link"])
def taking(request):
    """Both ways of taking descriptors over."""
    if request.param == "pidfd_getfd":
        yield ()
        return
    eventfd_link.insert()
    yield ("--eventfd-link",)
    eventfd_link.remove()


def cuse_switch(*args, **kw):
    return Switch("--dev-basename", "usvhost", "--socket-file", "vhost-net", *args, **kw)


def descriptors(switch):
    """What the switch has open. Some may be closed while this looks."""
    found = []
    for fd in os.listdir(f"/proc/{switch.proc.pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{switch.proc.pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return sorted(found)


def settled_descriptors(switch):
    """The same once nothing comes and goes any more: a question to telemetry is a socket too."""
    last, now = None, descriptors(switch)
    while last != now:
        time.sleep(0.3)
        last, now = now, descriptors(switch)
    return now


def exchange(a, b, n=40):
    """Frames of many lengths both ways, compared byte by byte."""
    for x, y in ((a, b), (b, a)):
        sent = [x.frame(y, os.urandom(i * 37 % 1480 + 1)) for i in range(n)]
        x.send(sent)
        assert y.recv(n, timeout=20) == sent


def introduce(*guests):
    for g in guests:
        g.announce()
    time.sleep(0.3)
    for g in guests:
        g.poll()


def test_frames_both_ways_with_a_vhost_user_guest(taking):
    with cuse_switch(*taking) as s:
        mode = os.stat(DEVICE)
        assert stat.S_ISCHR(mode.st_mode) and os.major(mode.st_rdev) == 10
        a = VhostNet("02:00:00:00:00:0a")
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        # stop and go, as a driver that is reloaded: the guest leaves and comes again
        a.stop()
        s.wait_guests(1)
        a.start()
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        c = VhostNet("02:00:00:00:00:0c")
        s.wait_guests(3)
        introduce(c)
        b.poll()
        a.poll()
        exchange(a, c)
        for g in (a, b, c):
            g.close()
        s.wait_guests(0)


def test_mergeable_buffers_and_the_taps_name():
    with cuse_switch("--mergeable", "1") as s:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        import fcntl
        fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"guest7", 0x1002))  # TUNSETIFF
        a = VhostNet("02:00:00:00:00:0a", features=1 << 15, tap=tap)
        b = Guest(s.sock, "02:00:00:00:00:0b", features=1 << 15)
        s.wait_guests(2)
        introduce(a, b)
        big = b.frame(a, os.urandom(8000))
        b_ring = b.rings[1]
        assert b_ring.buf_len < len(big)
        exchange(a, b)
        assert s.has("starts its guest (guest7)")
        assert s.guests()["0"]["socket"].startswith("/run/vhost-switch-usvhost")
        a.close()
        b.close()
        os.close(tap)


def test_a_stopped_switch_leaves_no_device_and_a_killed_one_no_hindrance():
    with cuse_switch() as s:
        assert os.path.exists(DEVICE)
        second = subprocess.run([APP, *eal_args("second", "0", 64), "--", "-p", "0x0",
                                 "--dev-basename", "usvhost"], capture_output=True, text=True,
                                check=False)
        assert second.returncode == 1 and len(second.stderr.splitlines()) == 1
        assert "/dev/usvhost is there already" in second.stderr
    assert not os.path.exists(DEVICE) and not os.path.exists("/run/vhost-switch-usvhost.sock")
    s = cuse_switch()
    a = VhostNet()
    s.wait_guests(1)
    s.proc.kill()
    s.proc.wait()
    with pytest.raises(OSError):
        a.call(vn.GET_FEATURES, bytes(8))
    a.close()
    wait_for(lambda: not os.path.exists(DEVICE))
    with cuse_switch() as s:
        a, b = VhostNet("02:00:00:00:00:0a"), Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        a.close()
        b.close()


def test_stopped_while_guests_are_connected():
    s = cuse_switch()
    a = VhostNet("02:00:00:00:00:0a")
    s.wait_guests(1)
    s.stop()
    with pytest.raises(OSError) as e:
        a.call(vn.GET_FEATURES, bytes(8))
    assert e.value.errno in (errno.ENOTCONN, errno.ENODEV)
    a.close()


def test_clients_killed_at_every_step():
    with cuse_switch() as s:
        a, b = VhostNet("02:00:00:00:00:0a"), Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(2)
        introduce(a, b)
        before = settled_descriptors(s)
        for steps in range(18):
            child = os.fork()
            if child == 0:
                try:
                    VhostNet("02:00:00:00:00:0c", steps=steps)
                except BaseException:
                    pass
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            wait_for(lambda: descriptors(s) == before, what=f"descriptors back after step {steps}")
            s.wait_guests(2)
            if steps % 6 == 0:
                exchange(a, b, 5)
        exchange(a, b)
        a.close()
        b.close()


def refused(guest, command, data, error):
    with pytest.raises(OSError) as e:
        guest.call(command, data)
    assert e.value.errno == error, e.value


def test_out_of_order_and_nonsense():
    with cuse_switch() as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        a = VhostNet.__new__(VhostNet)
        a.steps, a.sock = None, Device()
        a.call(vn.GET_FEATURES, bytes(8))  # once answered, its connection has been accepted
        before = settled_descriptors(s)
        pair = lambda i, v: struct.pack("<Ii", i, v)  # noqa: E731
        # before VHOST_SET_OWNER
        for command in (vn.SET_VRING_NUM, vn.SET_VRING_BASE, vn.SET_VRING_KICK, vn.SET_VRING_CALL,
                        vn.SET_VRING_ERR, vn.NET_SET_BACKEND, vn.GET_VRING_BASE):
            refused(a, command, pair(0, 1), errno.EPERM)
        refused(a, vn.SET_VRING_ADDR, bytes(40), errno.EPERM)
        refused(a, vn.RESET_OWNER, b"", errno.EPERM)
        wait_for(lambda: sum("refused" in line for line in list(s.lines)) == 9, what="nine lines")
        a.call(vn.SET_OWNER)
        refused(a, vn.SET_OWNER, b"", errno.EBUSY)
        assert s.has("the last line about this guest")
        for i in (2, 3, 255, 256, 1 << 31):
            refused(a, vn.SET_VRING_NUM, struct.pack("<II", i, 256), errno.ENOBUFS)
            refused(a, vn.GET_VRING_BASE, struct.pack("<II", i, 0), errno.ENOBUFS)
            refused(a, vn.NET_SET_BACKEND, struct.pack("<Ii", i, 0), errno.ENOBUFS)
        for num in (0, 3, 65536, 0xffffffff):
            refused(a, vn.SET_VRING_NUM, struct.pack("<II", 0, num), errno.EINVAL)
        refused(a, vn.SET_VRING_BASE, struct.pack("<II", 0, 65536), errno.EINVAL)
        refused(a, vn.SET_FEATURES, b"\xff" * 8, errno.EOPNOTSUPP)
        refused(a, vn.SET_BACKEND_FEATURES, b"\1" + bytes(7), errno.EOPNOTSUPP)
        assert a.call(vn.GET_BACKEND_FEATURES, bytes(8)) == bytes(8)
        for command in (vn.SET_LOG_BASE, vn.ioc(2, 0x77, 8), 0x5401):
            refused(a, command, bytes(8), errno.ENOTTY)
        # descriptors: closed, negative, no eventfd
        for fd, error in ((999, errno.EBADF), (-2, errno.EBADF), (0, errno.EINVAL)):
            refused(a, vn.SET_VRING_KICK, pair(0, fd), error)
            refused(a, vn.SET_VRING_CALL, pair(1, fd), error)
        refused(a, vn.NET_SET_BACKEND, pair(0, 999), errno.EBADF)
        a.call(vn.SET_VRING_ERR, pair(0, -1))
        a.call(vn.NET_SET_BACKEND, pair(0, -1))
        a.call(vn.GET_VRING_BASE, pair(0, 0))
        wait_for(lambda: descriptors(s) == before, what="descriptors back")
        a.sock.close()
        c = VhostNet("02:00:00:00:00:0c")
        s.wait_guests(2)
        c.call(vn.RESET_OWNER)  # all forgotten
        s.wait_guests(1)
        refused(c, vn.SET_VRING_NUM, pair(0, 256), errno.EPERM)
        c.close()
        introduce(b)
        b.close()


def test_bad_memory():
    with cuse_switch() as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        a = VhostNet("02:00:00:00:00:0a", enable=False)
        before = settled_descriptors(s)
        shared, at = a.base, lambda n, *r: struct.pack("<II", n, 0) + b"".join(
            struct.pack("<QQQQ", *x, 0) for x in r)
        private = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE)
        private_at = ctypes.addressof(ctypes.c_char.from_buffer(private))
        refused(a, vn.SET_MEM_TABLE, at(1, (0, 1 << 20, private_at)), errno.EFAULT)
        s.wait_log("guest memory is not shared")
        refused(a, vn.SET_MEM_TABLE, at(0), errno.EINVAL)
        refused(a, vn.SET_MEM_TABLE, at(65) + bytes(65 * 32), errno.E2BIG)
        refused(a, vn.SET_MEM_TABLE, at(0xffffffff), errno.E2BIG)
        refused(a, vn.SET_MEM_TABLE, at(1, (0, 0, shared)), errno.EINVAL)
        refused(a, vn.SET_MEM_TABLE, at(1, (0, (1 << 64) - 4096, shared)), errno.EINVAL)
        refused(a, vn.SET_MEM_TABLE, at(1, ((1 << 64) - 4096, 1 << 20, shared)), errno.EINVAL)
        refused(a, vn.SET_MEM_TABLE, at(1, (0, 4096, 0x1000)), errno.EFAULT)
        # a mapping longer than its file would be a SIGBUS in the switch
        fd = os.memfd_create("short")
        os.ftruncate(fd, 1 << 20)
        short = mmap.mmap(fd, 1 << 20)
        os.ftruncate(fd, 4096)
        refused(a, vn.SET_MEM_TABLE,
                at(1, (0, 1 << 20, ctypes.addressof(ctypes.c_char.from_buffer(short)))),
                errno.EFAULT)
        # nine files
        maps = [mmap.mmap(-1, 1 << 16) for _ in range(18)][::2]
        refused(a, vn.SET_MEM_TABLE, at(9, *((i << 20, 1 << 16, ctypes.addressof(
            ctypes.c_char.from_buffer(m))) for i, m in enumerate(maps))), errno.E2BIG)
        wait_for(lambda: descriptors(s) == before, what="descriptors back")
        a.set_memory(0, a.length, a.base)
        a.start()
        s.wait_guests(2)
        introduce(a, b)
        exchange(a, b)
        # rings outside of memory: nobody's harm but its own
        c = VhostNet("02:00:00:00:00:0c", enable=False)
        c.base += 1 << 40
        try:
            c.start()
        except OSError:
            pass
        exchange(a, b)
        for g in (a, b, c):
            g.close()


def compat_ioctl(fd, command, data):
    """The ioctl of a 32-bit program, by int 0x80: returns minus errno."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, 54; mov ebx, edi; mov ecx, esi; int 0x80; pop rbx; ret (edx as it comes)
    code.write(bytes.fromhex("53b83600000089fb89f1cd805bc3"))
    low = mmap.mmap(-1, 4096)
    low.write(data)
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(
        ctypes.addressof(ctypes.c_char.from_buffer(code)))
    return call(fd, command, 0x1000)


def test_32_bit_ioctls_are_refused():
    with cuse_switch() as s:
        d = Device()
        assert compat_ioctl(d.fd, vn.GET_FEATURES, bytes(8)) == -errno.ENOTTY
        s.wait_log("32-bit ioctl")
        d.ioctl(vn.GET_FEATURES, bytes(8))
        d.close()


def wait_frame(guest, match, timeout=60):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        for frame in guest.poll():
            if match(frame):
                return frame
        time.sleep(0.01)
    raise TimeoutError("no such frame")


def test_testpmds_virtio_user(taking):
    """It swaps the MAC addresses of what it gets, and sends it back."""
    mac = "02:00:00:00:00:07"
    with cuse_switch(*taking) as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        s.wait_guests(1)
        p = subprocess.Popen(
            [TESTPMD, "-l", "0,1", "--file-prefix", "tp", "--no-pci", "-m", "256",
             "--single-file-segments", "--no-telemetry",
             "--vdev", f"net_virtio_user0,path={DEVICE},mac={mac},queue_size=256", "--",
             "--forward-mode=macswap", "--tx-first", "--total-num-mbufs=4096", "--auto-start"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            s.wait_guests(2, 60)
            s.wait_log(f"MAC_ADDRESS {mac} and VLAN_TAG 1001 registered", 60)
            introduce(b)
            frames = [b.frame(mac, os.urandom(i * 61 % 1400 + 50)) for i in range(20)]
            for f in frames:
                b.send([f])
                back = f[6:12] + f[:6] + f[12:]
                assert wait_frame(b, lambda x, want=back: x[12:14] == f[12:14]) == back
        finally:
            p.stdin.write("\n")
            out = p.communicate(timeout=30)[0]
        assert "Bye" in out, out
        s.wait_guests(1)
        b.close()


def dhcp_options(frame):
    """Of a frame that is a DHCP request in IPv4 (RFC 2131), else nothing."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != b"\x00\x43":
        return {}
    options, at = {}, 42 + 240
    while at + 1 < len(frame) and frame[at] != 255:
        length = frame[at + 1] if frame[at] else -1
        options[frame[at]] = frame[at + 2:at + 2 + length]
        at += 2 + length
    return options


def dhcp_offer(guest, asked, address=bytes([10, 0, 0, 9]), me=bytes([10, 0, 0, 1])):
    bootp = struct.pack(">BBBB4sHH4s4s4s4s16s64x128x4s", 2, 1, 6, 0, asked[46:50], 0, 0x8000, bytes(4),
                        address, me, bytes(4), asked[70:86], b"\x63\x82\x53\x63")
    bootp += bytes([53, 1, 2, 54, 4]) + me + bytes([51, 4, 0, 0, 2, 0, 1, 4, 255, 255, 255, 0, 255])
    udp = struct.pack(">HHHH", 67, 68, 8 + len(bootp), 0) + bootp
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, me, b"\xff" * 4)
    total = sum(struct.unpack(">10H", ip))
    ip = ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xffff) + ip[12:]
    return asked[6:12] + guest.mac + b"\x08\x00" + ip + udp


def test_a_nested_qemu_through_the_wrapper(taking):
    """QEMU knows of a vhost-net and nothing else. Its firmware asks for an address by DHCP, gets an
    offer from a vhost-user guest, and asks for what it was offered: frames both ways."""
    mac = "52:54:00:00:00:0e"
    with cuse_switch(*taking) as s:
        b = Guest(s.sock, "02:00:00:00:00:0b")
        introduce(b)
        with subprocess.Popen(
                ["/usr/bin/python3", "/qemu-wrap.py", "-nodefaults", "-display", "none", "-accel", "tcg",
                 "-m", "64", "-netdev", "tap,id=n,ifname=nested0,script=no,downscript=no,vhost=on",
                 "-device", f"virtio-net-pci,netdev=n,mac={mac},vectors=0,bootindex=1"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as qemu:
            try:
                s.wait_log("starts its guest (nested0)", 60)
                requested, end = None, time.monotonic() + 150
                while requested is None:
                    assert qemu.poll() is None, qemu.stdout.read()
                    assert time.monotonic() < end, s.log()
                    for frame in b.poll():
                        options = dhcp_options(frame)
                        if options.get(53) == b"\1":
                            assert frame[6:12].hex(":") == mac == frame[70:76].hex(":")
                            b.send([dhcp_offer(b, frame)])
                        elif options.get(53) == b"\3":
                            requested = options[50]
                    time.sleep(0.05)
                assert requested == bytes([10, 0, 0, 9])
                assert mac in s.telemetry("/vhost_switch/fdb").values()
                assert s.telemetry("/vhost_switch/stats,0")["rx_dropped"] == 0
            finally:
                qemu.kill()
        s.wait_guests(1)
        b.close()
