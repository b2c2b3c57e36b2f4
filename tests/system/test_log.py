# SPDX-License-Identifier: BSD-3-Clause
"""The log and the statistics: nobody waits for a reader, lines are limited, no loss is silent."""

import fcntl
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from contextlib import contextmanager

import pytest

from harness import Switch, wait_for
from vhostuser import Guest

F_SETPIPE_SZ = 1031
MAC = "02:00:00:00:07:%02x"


@contextmanager
def switch(*args, out=None, err=None, env=None, wrap=(), **popen):
    """A switch whose stdout and stderr are a test's; killed if the test does not end it."""
    s = Switch(*args, start=False, env=env, wrap=wrap)
    s.proc = subprocess.Popen(s.args, cwd=s.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                              env=s.env, **popen)
    try:
        wait_for(lambda: os.path.exists(s.sock) or s.proc.poll() is not None, 60, "a socket")
        assert s.proc.poll() is None
        yield s
    finally:
        s.proc.kill()
        s.proc.wait()
        shutil.rmtree(s.dir, ignore_errors=True)


def end(s, timeout=10):
    """It ends in time, with status 0, and nothing stays."""
    s.proc.terminate()
    assert s.proc.wait(timeout) == 0
    assert not os.path.exists(s.sock)


def small_pipe():
    r, w = os.pipe()
    fcntl.fcntl(w, F_SETPIPE_SZ, 4096)
    return r, w


def fill(w):
    """Leave no room in a pipe, whose other end nobody reads."""
    os.set_blocking(w, False)
    try:
        while os.write(w, b"." * 512):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(w, True)


def drain(fd):
    """Read all that comes into the list that is returned."""
    lines = []

    def run():
        with os.fdopen(fd, errors="replace") as f:
            try:
                lines.extend(iter(f.readline, ""))
            except OSError:
                pass  # the other end of the terminal is closed

    threading.Thread(target=run, daemon=True).start()
    return lines


def thieves(s, honest, n):
    """Guests with the MAC of another one: a line of the log for each, caused by a frame."""
    for _ in range(n):
        thief = Guest(s.sock, MAC % 99)
        thief.send([thief.frame("ff:ff:ff:ff:ff:ff", b"thief", src=honest.mac)], timeout=5)
        thief.close()


def exchange(a, b):
    a.send([a.frame(b, b"and on it goes")], timeout=5)
    wait_for(lambda: any(f[14:28] == b"and on it goes" for f in b.poll()))


@pytest.fixture
def pair():
    made = []

    def connect(s):
        for i in range(2):
            made.append(Guest(s.sock, MAC % i))
        s.wait_guests(2)
        for g in made:
            g.announce()
        wait_for(lambda: all(g["state"] == "registered" for g in s.guests().values()))
        return made

    yield connect
    for g in made:
        g.close()


@pytest.mark.parametrize("args", [(), ("--stats", "1")], ids=["log", "screen"])
def test_a_stopped_terminal(pair, args):
    master, slave = pty.openpty()
    seen = drain(master)
    with switch(*args, out=slave, err=slave) as s:
        a, b = pair(s)
        termios.tcflow(slave, termios.TCOOFF)
        before = s.telemetry("/vhost_switch/log")
        thieves(s, a, 3)
        exchange(a, b)
        if args:
            wait_for(lambda: s.telemetry("/vhost_switch/log")["statistics_lost"] > 0)
        # goes on where it was when the terminal does
        termios.tcflow(slave, termios.TCOON)
        wait_for(lambda: "".join(seen).count("refused: registered to another guest") == 3)
        wait_for(lambda: s.telemetry("/vhost_switch/log")["lines"] > before["lines"])
        termios.tcflow(slave, termios.TCOOFF)
        thieves(s, a, 1)
        end(s)
    termios.tcflow(slave, termios.TCOON)
    os.close(slave)


def test_pipes_that_nobody_reads(pair):
    (out_r, out_w), (err_r, err_w) = small_pipe(), small_pipe()
    with switch("--stats", "1", out=out_w, err=err_w) as s:
        fill(out_w), fill(err_w)
        a, b = pair(s)
        thieves(s, a, 2)
        exchange(a, b)
        end(s)
    for fd in (out_r, out_w, err_r, err_w):
        os.close(fd)


def test_what_is_lost_is_counted_and_told(pair):
    """Tables fill their half of the queue; the log goes on; then whole tables come."""
    out_r, out_w = small_pipe()
    err_r, err_w = os.pipe()
    log = drain(err_r)
    with switch("--stats", "1", out=out_w, err=err_w) as s:
        os.close(out_w), os.close(err_w)
        pair(s)
        crowd = [Guest(s.sock, MAC % (10 + i), size=16) for i in range(90)]
        s.wait_guests(92)
        wait_for(lambda: s.telemetry("/vhost_switch/log")["statistics_lost"] > 0, 60)
        for g in crowd:
            g.close()
        s.wait_guests(2)
        tables = drain(out_r)
        wait_for(lambda: re.search(r"CONFIG: \d+ blocks of statistics lost: nobody read them",
                                   "".join(log)))
        end(s)
    text = "".join(tables)
    head, tail = "Device statistics =====", "=" * 55 + "\n"
    assert text.startswith(head) and text.endswith(tail)
    assert text.count(head) == text.count(tail) - text.count("statistics " + tail) > 1
    rest = re.sub(r"(?m)^(Device statistics =+|=+|Statistics for device \d+ -+|[TR]X \w+: +\d+)$",
                  "", text)
    assert rest.strip() == ""


def test_a_log_in_a_file_has_the_time(tmp_path, pair):
    path = tmp_path / "log"
    with open(path, "w", encoding="utf-8") as f, switch("--stats", "1", out=f, err=f) as s:
        pair(s)
        wait_for(lambda: "Device statistics" in path.read_text())
        end(s)
    lines = [line for line in path.read_text().splitlines()
             if not re.match(r"Device statistics|Statistics for|=====|[TR]X ", line)]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[-+]\d\d:\d\d [A-Z_a-z]+:",
                        line), line
    assert re.search(r" CONFIG: all \d+ mbufs are back in pool mbufs$", lines[-1])


def test_a_full_disk(tmp_path, pair):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        with open(disk / "log", "wb", buffering=0) as f, switch(out=f, err=f) as s:
            a, b = pair(s)
            with open(disk / "ballast", "wb", buffering=0) as ballast:
                with pytest.raises(OSError):
                    while True:
                        ballast.write(b"." * 4096)
            f.write(b"." * (-f.tell() % 4096))  # and the last page of the log is full too
            thieves(s, a, 3)
            exchange(a, b)
            wait_for(lambda: s.telemetry("/vhost_switch/log")["lines_lost"] >= 3)
            (disk / "ballast").unlink()
            thieves(s, a, 1)
            wait_for(lambda: re.search(
                r"\n\S+ CONFIG: \d+ log lines lost: No space left on device\n",
                (disk / "log").read_text()))
            end(s)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_log_that_may_not_grow(tmp_path, pair):
    """RLIMIT_FSIZE, whose signal SIGXFSZ ends a process by default."""
    log = tmp_path / "log"
    with open(log, "wb") as f, switch(out=f, err=f) as s:
        a, b = pair(s)
        most = log.stat().st_size + 20
        subprocess.run(["prlimit", f"--pid={s.proc.pid}", f"--fsize={most}"], check=True)
        thieves(s, a, 2)
        exchange(a, b)
        wait_for(lambda: s.telemetry("/vhost_switch/log")["lines_lost"] > 0)
        end(s)
    assert log.stat().st_size == most


def test_a_reader_that_goes_and_comes_back(tmp_path, pair):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    w = os.open(fifo, os.O_WRONLY)
    os.set_blocking(first, True)
    with switch("--stats", "1", out=w, err=w) as s:
        os.close(w)
        a, b = pair(s)
        os.close(first)
        thieves(s, a, 2)
        exchange(a, b)
        wait_for(lambda: s.telemetry("/vhost_switch/log")["lines_lost"] > 0)
        lines = drain(os.open(fifo, os.O_RDONLY))
        thieves(s, a, 1)
        wait_for(lambda: re.search(r"CONFIG: \d+ log lines lost: Broken pipe", "".join(lines)))
        end(s)


def test_a_terminal_that_is_hung_up(pair):
    """Its session leader gets SIGHUP: it ends in order, though nothing can be written any more."""
    master, slave = pty.openpty()
    # not a leader of a process group, so setsid does not fork
    s = Switch("--stats", "1", start=False, wrap=["setsid", "--ctty"])
    s.proc = subprocess.Popen(s.args, cwd=s.dir, stdin=slave, stdout=slave, stderr=slave, env=s.env)
    try:
        os.close(slave)
        screen = b""
        while b"Device statistics" not in screen:
            screen += os.read(master, 4096)
        pair(s)
        os.close(master)
        assert s.proc.wait(10) == 0
        assert not os.path.exists(s.sock)
    finally:
        s.proc.kill()
        s.proc.wait()
        shutil.rmtree(s.dir, ignore_errors=True)


def test_the_journal_gets_priorities():
    """stderr is a stream to the journal if JOURNAL_STREAM says so, and only then."""
    for is_ours in (True, False):
        ours, journal = socket.socketpair()
        st = os.fstat(ours.fileno())
        env = {"JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino + (not is_ours)}"}
        with switch("--stats", "1", out=ours, err=ours, env=env) as s:
            ours.close()
            lines = drain(journal.detach())
            a = Guest(s.sock, MAC % 1)
            s.wait_guests(1)
            a.announce()
            wait_for(lambda: "registered\n" in "".join(lines))
            thieves(s, a, 1)
            wait_for(lambda: "TX successful" in "".join(lines))
            wait_for(lambda: "refused: registered to another guest" in "".join(lines))
            a.close()
            end(s)
        text = "".join(lines)
        info, warning = ("<6>", "<4>") if is_ours else ("", "")
        assert re.search(rf"(?m)^{info}CONFIG: all \d+ mbufs are back in pool mbufs$", text)
        assert re.search(rf"(?m)^{warning}DATA: \(1\) MAC_ADDRESS .* refused: ", text)
        assert re.search(r"(?m)^Device statistics ==", text)


@contextmanager
def syslog(tmp_path):
    """A /dev/log of the test's own, and what to put before a command that is to see it."""
    dev = tmp_path / "dev"
    dev.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.settimeout(10)
        script = (f"mount -t tmpfs none {dev} && "
                  f"cp -a /dev/null /dev/zero /dev/urandom /dev/random {dev} && "
                  f"touch {dev}/log && mount --bind {tmp_path}/log {dev}/log && "
                  f"mount --rbind {dev} /dev && "
                  'exec "$@"')
        yield daemon, ["unshare", "-m", "sh", "-c", script, "sh"]


def test_syslog_gets_each_line_and_may_hang(tmp_path, pair):
    with syslog(tmp_path) as (daemon, wrap), switch(err=subprocess.DEVNULL, wrap=wrap) as s:
        seen = []
        while not any("worker 0 runs" in line for line in seen):
            seen.append(daemon.recv(4096).decode())
        pid = s.proc.pid
        for line in seen:
            assert re.match(
                rf"<2[4-9]|<3[01]>\w\w\w [ \d]\d \d\d:\d\d:\d\d vhost-switch\[{pid}\]: \S", line)
        assert any(re.search(r"^<30>.*: CONFIG: guests can connect to vhost-net$", line)
                   for line in seen)
        # from now on nobody reads: the queue of the socket is full soon
        a, b = pair(s)
        thieves(s, a, 3)
        exchange(a, b)
        end(s)


def test_front_ends_cannot_flood_the_log(pair):
    r, w = os.pipe()
    log = drain(r)
    with switch(out=w, err=w) as s:
        os.close(w)
        a, b = pair(s)
        began, n = time.monotonic(), 0
        while time.monotonic() < began + 8:
            with socket.socket(socket.AF_UNIX) as fe:
                fe.connect(s.sock)
                for _ in range(100):  # GET_FEATURES, SET_OWNER, each a line of librte_vhost
                    fe.sendall(struct.pack("<III", 1, 1, 0) + struct.pack("<III", 3, 1, 0))
                    fe.recv(64)
                    n += 2
                # a message that is refused, a line of the switch's own
                fe.sendall(struct.pack("<IIIQ", 12, 1, 8, 1 << 40))
        took = time.monotonic() - began
        exchange(a, b)
        counted = s.telemetry("/vhost_switch/log")
        end(s)
    wait_for(lambda: any("mbufs are back in pool" in line for line in list(log)))
    lines = list(log)
    told = re.findall(
        r"(?m)^CONFIG: (\d+) (?:log lines|warnings) that begin with \S+ suppressed", "".join(lines))
    assert sum(map(int, told)) >= counted["lines_suppressed"]
    assert n > 2000 and counted["lines_suppressed"] > n - 700
    assert sum("VHOST_" in line for line in lines) < 600 + 64 + 8 * (took + 5)
    assert len(lines) < 600 + 2 * 64 + 12 * (took + 5)


def test_what_is_queued_is_written_before_a_crash():
    """The pipe is full until the process crashes; lines that are in memory alone come even so."""
    r, w = small_pipe()
    fill(w)
    with switch(out=w, err=w) as s:
        os.close(w)
        wait_for(lambda: s.telemetry("/vhost_switch/workers")["0"]["rounds"] > 0)
        s.proc.send_signal(signal.SIGABRT)
        log = drain(r)
        assert s.proc.wait(10) == -signal.SIGABRT
        wait_for(lambda: "worker 0 runs" in "".join(log))
