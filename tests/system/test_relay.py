# SPDX-License-Identifier: BSD-3-Clause
"""Connections, messages and descriptors of front ends that keep to no rule: nobody else waits.

Two guests go on exchanging frames while others misbehave.
"""

import array
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

from harness import Switch, wait_for
from messages import ask, is_hung_up, region, table
from traffic import exchange, introduce
from vhostuser import (GET_FEATURES, GET_VRING_BASE, SET_FEATURES, SET_MEM_TABLE, SET_OWNER,
                       SET_PROTOCOL_FEATURES, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE,
                       SET_VRING_KICK, SET_VRING_NUM, Guest)

RESET_OWNER, SET_LOG_BASE, SET_LOG_FD, SET_VRING_ERR, SET_STATUS = 4, 6, 7, 14, 39
F_PACKED = 1 << 34
LONG = 15 * 60


def dial(s):
    sock = Guest.connect(s.sock, 10)
    sock.settimeout(10)
    return sock


def message(request, payload=b"", flags=1, size=None):
    return struct.pack("<III", request, flags, len(payload) if size is None else size) + payload


def send(sock, data, fds=(), flags=0):
    anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], anc, flags)


def answer_takes(s):
    """Seconds until another front end has its answer."""
    with dial(s) as sock:
        began = time.monotonic()
        send(sock, message(GET_FEATURES))
        assert len(sock.recv(20, socket.MSG_WAITALL)) == 20
        return time.monotonic() - began


@pytest.fixture
def pair(guests):
    """A switch, and two guests that can talk before and after."""
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        yield s, a, b
        a.poll(), b.poll()
        exchange(a, b)
        assert answer_takes(s) < 3


def freeze(s):
    s.proc.send_signal(signal.SIGSTOP)

    def stopped():
        tasks = os.listdir(f"/proc/{s.proc.pid}/task")
        return all(open(f"/proc/{s.proc.pid}/task/{t}/stat", encoding="ascii").read()
                   .rsplit(")", 1)[1].split()[0] == "T" for t in tasks)

    wait_for(stopped)


def lingering():
    """A TCP socket whose close() takes as long as the other end likes."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    sock = socket.create_connection(listener.getsockname())
    other, _ = listener.accept()
    sock.setblocking(False)
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LONG))
    return sock, (other, listener)


def in_a_queue(sock):
    """A socket that has another one unread in its queue."""
    near, far = socket.socketpair()
    send(far, b"x", [sock.fileno()])
    sock.close()
    far.close()
    return near


@pytest.mark.parametrize("where", ["refused", "KICK", "unread", "out of band", "queue", "excess"])
def test_a_descriptor_that_takes_long_to_close(pair, where):
    s, a, b = pair
    sock, keep = lingering()
    evil = dial(s)
    freeze(s)  # our own close() comes first
    if where == "refused":
        send(evil, message(SET_VRING_NUM, struct.pack("<II", 0, 256), flags=9), [sock.fileno()])
    elif where == "KICK":
        send(evil, message(SET_VRING_NUM, struct.pack("<II", 0, 256)))
        send(evil, message(SET_VRING_KICK, struct.pack("<Q", 0)), [sock.fileno()])
    elif where == "unread":
        send(evil, message(77))
        send(evil, message(GET_FEATURES), [sock.fileno()])
    elif where == "out of band":
        send(evil, b"x", [sock.fileno()], socket.MSG_OOB)
        send(evil, message(GET_FEATURES))
    elif where == "queue":
        sock = in_a_queue(sock)
        send(evil, message(GET_FEATURES), [sock.fileno()])
    else:
        send(evil, message(GET_FEATURES), [sock.fileno()] * 200)
    sock.close()
    s.proc.send_signal(signal.SIGCONT)
    exchange(a, b)
    assert answer_takes(s) < 3
    evil.close()
    for k in keep:
        k.close()


def test_many_descriptors_that_take_long_to_close(pair):
    """More than there are threads for it."""
    s, a, b = pair
    keep = []
    freeze(s)
    for _ in range(80):
        sock, more = lingering()
        near = in_a_queue(sock)
        evil = dial(s)
        send(evil, message(GET_FEATURES), [near.fileno()])
        near.close()
        keep += [evil, *more]
    s.proc.send_signal(signal.SIGCONT)
    exchange(a, b)
    assert answer_takes(s) < 3
    for k in keep:
        k.close()


def test_a_planted_connection_is_nobody_s(pair, tmp_path):
    """A connection by a socket of the same name, as a descriptor, in the switch."""
    s, _, _ = pair
    os.chdir(tmp_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.basename(s.sock))
    listener.listen(1)
    mine = socket.socket(socket.AF_UNIX)
    mine.connect(os.path.basename(s.sock))
    planted, _ = listener.accept()
    evil = dial(s)
    assert_refused(evil, SET_VRING_ERR, struct.pack("<Q", 0), [planted.fileno()])
    silent = dial(s)
    send(silent, message(SET_FEATURES, size=8))  # and no payload
    assert answer_takes(s) < 3


def assert_refused(sock, request, payload=b"", fds=()):
    send(sock, message(request, payload, flags=9), fds)
    head = struct.unpack("<III", sock.recv(12, socket.MSG_WAITALL))
    assert head == (request, 5, 8)
    assert struct.unpack("<Q", sock.recv(8, socket.MSG_WAITALL))[0] == 1


def test_headers_without_payloads(pair):
    """Many at once: each waits by itself."""
    s, _, _ = pair
    crowd = [dial(s) for _ in range(40)]
    for sock in crowd:
        send(sock, message(SET_FEATURES, size=8))
    assert answer_takes(s) < 3
    for sock in crowd:
        sock.close()


def test_a_message_in_single_bytes(pair):
    s, _, _ = pair
    with dial(s) as sock:
        for byte in message(SET_PROTOCOL_FEATURES, struct.pack("<Q", 8)) + message(GET_FEATURES):
            send(sock, bytes([byte]))
        assert sock.recv(12, socket.MSG_WAITALL) == struct.pack("<III", GET_FEATURES, 5, 8)


def test_idle_connections_cost_nothing(pair):
    s, _, _ = pair
    idle = []
    began = time.monotonic()
    for _ in range(200):
        sock = dial(s)
        send(sock, message(SET_OWNER) + message(GET_FEATURES))
        assert len(sock.recv(20, socket.MSG_WAITALL)) == 20
        idle.append(sock)
    took = time.monotonic() - began
    assert took < 10, took
    assert answer_takes(s) < 2
    for sock in idle:
        sock.close()


SIZES = {
    "short state": (SET_VRING_NUM, struct.pack("<I", 0)),
    "long u64": (SET_FEATURES, bytes(16)),
    "none": (SET_VRING_ENABLE, b""),
    "a payload for none": (GET_FEATURES, bytes(8)),
    "a table without its second region": (SET_MEM_TABLE, struct.pack("<II", 2, 0) + bytes(32)),
    "half a number": (SET_STATUS, bytes(4)),
}


@pytest.mark.parametrize("what", SIZES)
def test_a_size_that_does_not_fit_the_request(pair, what):
    """Or what is missing would be taken from the last message, of any front end."""
    s, _, _ = pair
    with dial(s) as sock:
        assert_refused(sock, *SIZES[what])
    s.wait_lines("payload size does not match the request", 1)


@pytest.mark.parametrize("split", [4, 12])
def test_descriptors_in_the_middle_of_a_message(pair, split):
    s, a, _ = pair
    with dial(s) as sock:
        data = message(SET_VRING_CALL, struct.pack("<Q", 0))
        send(sock, data[:split])
        time.sleep(0.05)
        send(sock, data[split:], [a.fds[1]])
        assert is_hung_up(sock)
    s.wait_log("descriptors arrived in the middle of the message")


def test_every_descriptor_of_a_broken_message_is_closed(pair):
    """Of an unknown type with the first bytes, more with the next: two lots to close at once."""
    s, _, _ = pair

    def open_now():
        return len(os.listdir(f"/proc/{s.proc.pid}/fd"))

    answer_takes(s)
    before = open_now()
    pipe, memory = os.pipe(), os.memfd_create("more")
    data = message(SET_MEM_TABLE, bytes(8 + 32))
    for _ in range(50):
        with dial(s) as sock:
            send(sock, data[:12], [pipe[1]])
            time.sleep(0.005)
            send(sock, data[12:], [memory] * 3)
            assert is_hung_up(sock)
    wait_for(lambda: open_now() <= before, what=f"{before} descriptors")
    for fd in (*pipe, memory):
        os.close(fd)


def test_a_later_message_s_descriptors_stay_with_it(pair):
    """Several messages at once; the kernel shows the descriptors of the second with the first."""
    s, a, _ = pair
    with dial(s) as sock:
        send(sock, message(SET_OWNER))
        send(sock, message(GET_FEATURES))
        send(sock, message(SET_VRING_CALL, struct.pack("<Q", 0), flags=9), [a.fds[1]])
        send(sock, message(SET_VRING_ERR, struct.pack("<Q", 0), flags=9), [a.fds[0]])
        assert struct.unpack("<III", sock.recv(20, socket.MSG_WAITALL)[:12])[0] == GET_FEATURES
        for request in (SET_VRING_CALL, SET_VRING_ERR):
            assert sock.recv(20, socket.MSG_WAITALL) == struct.pack("<IIIQ", request, 5, 8, 0)


def test_a_log_with_an_offset(pair):
    s, a, b = pair
    log = os.memfd_create("log", os.MFD_ALLOW_SEALING)
    os.ftruncate(log, (1 << 30) + 4096)
    for offset in (4096, 1 << 30):
        assert ask(a, SET_LOG_BASE, struct.pack("<QQ", 4096, offset), [log])
    s.wait_lines("offset of the dirty log is not zero", 1)
    os.close(log)


@pytest.mark.parametrize("base", [256, 32767, 256 | 1 << 15])
def test_a_place_beyond_the_end_of_a_packed_ring(pair, guests, base):
    s, _, _ = pair
    evil = guests(s, features=F_PACKED, enable=False)
    assert not ask(evil, SET_VRING_NUM, struct.pack("<II", 0, 256))
    assert ask(evil, SET_VRING_BASE, struct.pack("<II", 0, base))
    assert not ask(evil, SET_VRING_BASE, struct.pack("<II", 1, base))  # no size yet
    assert not ask(evil, SET_VRING_NUM, struct.pack("<II", 1, 256))
    assert ask(evil, SET_VRING_KICK, struct.pack("<Q", 1), [evil.memfd])
    assert ask(evil, SET_VRING_KICK, struct.pack("<Q", 1 | 0x100))


def test_rings_of_a_connection_have_a_bound(pair):
    s, _, _ = pair
    with dial(s) as sock:
        for i in range(2):
            send(sock, message(SET_VRING_NUM, struct.pack("<II", i, 32768)))
        assert_refused(sock, SET_VRING_NUM, struct.pack("<II", 2, 1))
        send(sock, message(GET_VRING_BASE, struct.pack("<II", 1, 0)))  # its entries are free again
        assert len(sock.recv(20, socket.MSG_WAITALL)) == 20
        send(sock, message(SET_VRING_NUM, struct.pack("<II", 2, 1024), flags=9))
        assert sock.recv(20, socket.MSG_WAITALL) == struct.pack("<IIIQ", SET_VRING_NUM, 5, 8, 0)


def test_reset_owner_disables_rings_and_forgets_nothing(pair):
    s, a, b = pair
    before = int(s.telemetry("/eal/heap_info,0")["Free_size"])
    for _ in range(20):
        assert not ask(b, RESET_OWNER, b"")
        a.send([a.frame(b, b"not yet")])
        b.quiet(0.02)
        for i in range(2):
            assert not ask(b, SET_VRING_ENABLE, struct.pack("<II", i, 1))
    assert before - int(s.telemetry("/eal/heap_info,0")["Free_size"]) < 65536


@pytest.fixture
def full_tmpfs(tmp_path):
    """A file whose pages cannot be had, since its file system is full."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", tmp_path], check=True)
    fd = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
    fill = os.open(tmp_path / "fill", os.O_RDWR | os.O_CREAT)
    os.write(fill, bytes(8192))
    yield fd
    os.close(fd)
    os.close(fill)
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize("rings", ["in use", "to come"])
def test_memory_whose_pages_cannot_be_had(pair, guests, full_tmpfs, rings):
    """librte_vhost reads from new memory while it carries out the message that brings it."""
    s, _, _ = pair
    evil = guests(s, enable=rings == "in use")
    more = evil.length + (64 << 20)  # not where the old memory was
    os.ftruncate(full_tmpfs, more)
    ask(evil, SET_MEM_TABLE, table(region(evil, size=more)), [full_tmpfs])
    if rings == "in use":
        s.wait_log("(2) disabled: its memory file was truncated")
    else:
        evil.start()
        s.wait_log("disabled")


def test_memory_that_comes_and_goes(pair, guests):
    """Truncated at any moment of the messages that bring it, and two devices with the same file."""
    s, _, _ = pair
    evil, twin = guests(s, 2)
    fd = os.memfd_create("memory")
    evil.fds.append(fd)
    for n in range(300):
        os.ftruncate(fd, evil.length)
        ask(evil, SET_MEM_TABLE, table(region(evil, size=evil.length - 4096 * (n % 2))), [fd])
        os.ftruncate(fd, 0)
    ask(twin, SET_MEM_TABLE, table(region(twin)), [twin.memfd])
    assert s.proc.poll() is None


def test_a_front_end_that_gives_up_is_logged(pair):
    s, _, _ = pair
    with dial(s) as sock:
        send(sock, message(SET_OWNER) + message(GET_FEATURES))
        assert len(sock.recv(20, socket.MSG_WAITALL)) == 20
    s.wait_log(f"front end at {os.path.basename(s.sock)}: "
               "left before its rings were ready, after message 1")
    with dial(s):
        pass  # a mere look is not
    assert answer_takes(s) < 3


def test_silent_connections_are_closed_after_a_while(pair):
    s, _, _ = pair
    silent, greeted = dial(s), dial(s)
    send(greeted, message(SET_OWNER))
    silent.settimeout(20)
    assert silent.recv(1) == b""
    greeted.setblocking(False)
    with pytest.raises(BlockingIOError):  # a VM may take its time to start
        greeted.recv(1)


def test_more_connections_than_there_can_be(guests):
    """The next one waits; the oldest that is no guest makes room after ten seconds."""
    with Switch() as s:
        a, b = guests(s, 2)
        introduce(a, b)
        crowd = [dial(s) for _ in range(254)]
        for sock in crowd:
            send(sock, message(SET_OWNER) + message(GET_FEATURES))
            assert len(sock.recv(20, socket.MSG_WAITALL)) == 20
        late = dial(s)
        late.settimeout(20)
        send(late, message(GET_FEATURES))
        s.wait_lines("front ends have to wait until they can connect: 256 are open", 1)
        exchange(a, b)
        assert len(late.recv(20, socket.MSG_WAITALL)) == 20
        assert is_closed(crowd[0]) and not is_closed(crowd[-1])
        for sock in crowd:
            sock.close()
        late.close()


def is_closed(sock):
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def test_no_descriptors_left(guests):
    """It is said once, nothing spins, and all goes on when there are some again."""
    limit = ("prlimit", "--nofile=200:200")
    with Switch(wrap=limit) as s:
        a, b = guests(s, 2)
        introduce(a, b)
        crowd = []
        for _ in range(60):
            crowd.append(dial(s))
            send(crowd[-1], message(SET_OWNER))
        s.wait_log("no file descriptors left")
        exchange(a, b)
        before = cpu_seconds(s, "relay") + cpu_seconds(s, "vhost-events")
        time.sleep(0.5)
        assert cpu_seconds(s, "relay") + cpu_seconds(s, "vhost-events") - before < 0.2
        for sock in crowd:
            sock.close()
        wait_for(lambda: answer_takes(s) < 3, 10)
        exchange(a, b)
        assert sum("no file descriptors left" in line for line in s.lines) <= 2


def cpu_seconds(s, name):
    """CPU time of the thread of that name."""
    total = 0
    for task in os.listdir(f"/proc/{s.proc.pid}/task"):
        with open(f"/proc/{s.proc.pid}/task/{task}/stat", encoding="ascii") as f:
            stat = f.read()
        if f"({name})" in stat:
            total += sum(map(int, stat.rsplit(")", 1)[1].split()[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def test_client_mode_by_another_name_of_the_path(tmp_path):
    """Nothing depends on how the path is written."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "real" / "qemu.sock"))
    listener.listen(2)
    listener.settimeout(10)
    with Switch("--client", "--socket-file", str(tmp_path / "link" / "qemu.sock")) as s:
        sock, _ = listener.accept()
        sock.settimeout(20)
        assert sock.recv(1) == b""  # silent for ten seconds
        sock, _ = listener.accept()
        send(sock, message(GET_FEATURES))
        assert len(sock.recv(20, socket.MSG_WAITALL)) == 20
        sock.close()
        assert s.proc.poll() is None
        listener.close()
