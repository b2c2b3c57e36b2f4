# SPDX-License-Identifier: BSD-3-Clause
"""The process: closed descriptors, limits, signals, and the service manager."""

import itertools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess

import pytest

from harness import Switch, Wire, wait_for
from vhostuser import Guest


def status(proc):
    with open(f"/proc/{proc.pid}/status", encoding="ascii") as f:
        return f.read()


CLOSED = [" ".join(f"{fd}>&-" for fd in some) for n in (1, 2, 3)
          for some in itertools.combinations(range(3), n)]


@pytest.mark.parametrize("closed", CLOSED)
def test_started_with_closed_descriptors(closed):
    """Nothing that the switch opens or maps is written to as stderr, and it ends in order."""
    s = Switch(start=False)
    s.proc = subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *s.args], cwd=s.dir,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(s.sock), 60, "the socket")
        a = Guest(s.sock, "02:00:00:00:00:01")
        s.wait_guests(1)
        a.announce()
        for fd in map(int, re.findall(r"\d", closed)):
            assert os.readlink(f"/proc/{s.proc.pid}/fd/{fd}") == "/dev/null"
        a.close()
        s.proc.terminate()
        assert s.proc.wait(10) == 0
    finally:
        s.proc.kill()
        s.proc.wait()
        shutil.rmtree(s.dir)


@pytest.mark.parametrize("sig", [signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR],
                         ids=lambda s: s.name)
def test_a_signal_that_ends_it_in_order(guests, sig):
    s = Switch()
    guests(s).announce()
    s.stop(sig)


def test_signals_that_mean_nothing(guests):
    with Switch() as s:
        a, b = guests(s, 2)
        for sig in ("USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PIPE", "STKFLT", "XFSZ",
                    "TTIN", "TTOU"):
            s.proc.send_signal(getattr(signal, "SIG" + sig))
        for sig in (signal.SIGRTMIN, signal.SIGRTMIN + 7, signal.SIGRTMAX):
            s.proc.send_signal(sig)
        a.announce(), b.announce()
        a.send([a.frame(b, b"alive")])
        wait_for(lambda: any(f[14:19] == b"alive" for f in b.poll()))
        assert s.proc.poll() is None


def test_nohup_is_respected(guests):
    with Switch(wrap=["nohup"]) as s:
        s.proc.send_signal(signal.SIGHUP)
        guests(s).announce()
        wait_for(lambda: s.has("registered"))
        assert s.proc.poll() is None


def test_a_background_job_is_not_stopped_by_its_output(guests):
    """stty tostop: SIGTTOU stops a job in the background that writes to the terminal."""
    s = Switch("--stats", "1", start=False)
    job = f"stty tostop; set -m; {' '.join(s.args)} & jobs -p > {s.dir}/pid; wait; echo ended $?"
    with subprocess.Popen(["script", "-qec", f"bash -c '{job}'", "/dev/null"], cwd=s.dir, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as terminal:
        wait_for(lambda: os.path.exists(s.sock), 60, "the socket")
        a = Guest(s.sock, "02:00:00:00:00:01")
        s.wait_guests(1)
        wait_for(lambda: s.telemetry("/vhost_switch/log")["statistics"] > 1)
        a.close()
        with open(f"{s.dir}/pid", encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGTERM)
        text, _ = terminal.communicate(timeout=20)
    shutil.rmtree(s.dir)
    assert "ended 0" in text


def test_a_signal_during_the_start():
    """It waits for a link, up to nine seconds: SIGHUP ends that too."""
    with Wire("82599", plugged=False) as w:
        s = w.switch(start=False)
        s.proc = subprocess.Popen(s.args, cwd=s.dir, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, env=s.env, text=True)
        lines = []
        for line in s.proc.stdout:
            lines.append(line)
            if "waiting for link" in line:
                s.proc.send_signal(signal.SIGHUP)
        assert s.proc.wait(10) == 0
        shutil.rmtree(s.dir)
    text = "".join(lines)
    assert "waiting for link" in text and "mbufs are back in pool mbufs" in text


def test_the_limit_of_open_files_is_raised():
    soft, hard = 256, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    with Switch(wrap=["prlimit", f"--nofile={soft}:{hard}", "--"]) as s:
        with open(f"/proc/{s.proc.pid}/limits", encoding="ascii") as f:
            assert re.search(rf"Max open files +{hard} +{hard} ", f.read())


def test_too_few_descriptors_is_said():
    s = Switch(start=False, wrap=["prlimit", "--nofile=40:40", "--"])
    found = False
    for n in range(16, 40):
        s.args[1] = f"--nofile={n}:{n}"
        r = subprocess.run(s.args, cwd=s.dir, capture_output=True, text=True, timeout=60,
                           check=False)
        found |= "no file descriptors left: this process may have" in r.stderr
        if found or r.returncode == 0:
            break
    shutil.rmtree(s.dir)
    assert found, r.stderr


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_is_told(tmp_path, kind):
    name = str(tmp_path / "notify") if kind == "path" else f"@vhost-switch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(30)
        s = Switch(start=False, env={"NOTIFY_SOCKET": name})
        s.proc = subprocess.Popen(s.args, cwd=s.dir, env=s.env, stderr=subprocess.DEVNULL)
        assert manager.recv(100) == b"READY=1"
        Guest(s.sock, "02:00:00:00:00:01").close()  # the socket is there
        s.proc.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        assert s.proc.wait(10) == 0
        shutil.rmtree(s.dir)


def test_a_service_manager_that_hangs(tmp_path):
    """Its queue is full: the switch starts, says so, and ends in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        manager.bind(str(tmp_path / "notify"))
        other.connect(str(tmp_path / "notify"))
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.send(b"busy")
        s = Switch(env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        s.wait_log("cannot notify the service manager")
        s.stop(timeout=10)
