# SPDX-License-Identifier: BSD-3-Clause
"""Every bad input: one line that names the option and what it takes, exit 1, nothing touched."""

import grp
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from harness import APP, Switch, eal_args, cpus


def call(*app_args, eal=(), cwd=None, before=()):
    args = [APP, *before]
    if app_args:
        args += [*eal_args("vs-cli", str(cpus()[0]), 512, eal), "--", *app_args]
    return subprocess.run(args, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


BAD = [
    (["-p", "0x0", "--vm2vm", "3"], "--vm2vm takes 0, 1 or 2, not '3'"),
    (["-p", "0x0", "--vm2vm", "-1"], "--vm2vm takes"),
    (["-p", "0x0", "--vm2vm", "1x"], "--vm2vm takes"),
    (["-p", "0x0", "--vm2vm"], "--vm2vm takes"),
    (["-p", "0x0", "--vm2vm", ""], "--vm2vm takes"),
    (["-p", "0x0", "--mergeable", "2"], "--mergeable takes 0 or 1"),
    (["-p", "0x0", "--stats", "99999"], "--stats takes seconds"),
    (["-p", "0x0", "--stats", "18446744073709551617"], "--stats takes seconds"),
    (["-p", "0x0", "--rx-retry", "2"], "--rx-retry takes 0 or 1"),
    (["-p", "0x0", "--rx-retry-num", "1001"], "--rx-retry-num takes"),
    (["-p", "0x0", "--rx-retry-delay", "10001"], "--rx-retry-delay takes"),
    (["-p", "0x0", "--vlan-strip", "2"], "--vlan-strip takes 0 or 1"),
    (["-p", "0x0", "--tso", "2"], "--tso takes 0 or 1"),
    (["-p", "0x0", "--tx-csum", "2"], "--tx-csum takes 0 or 1"),
    (["-p", "0x0", "--dcb", "3"], "--dcb takes 0, 4 or 8"),
    (["-p", "0x0", "--dcb", "4"], "--dcb 4 takes a NIC"),
    (["-p", "0x0", "--vm2vm", "2"], "--vm2vm 2 takes a NIC"),
    (["-p", "0x0", "--total-num-mbufs", "10"], "--total-num-mbufs takes"),
    (["-p", "0x0", "--client=1"], "--client takes no value"),
    (["-p", "0x0", "--nonsense"], "unknown option '--nonsense'"),
    (["-p", "0x0", "-z"], "unknown option '-z'"),
    (["-p", "0x0", "stray"], "'stray' is no option"),
    (["-p", "0x3"], "-p takes a hexadecimal port mask with exactly one bit"),
    (["-p", "zz"], "-p takes"),
    (["-p", ""], "-p takes"),
    (["-p"], "-p takes"),
    (["-P"], "-p is required"),
    (["-p", "0x0", "--socket-file", "x" * 108], "--socket-file takes a socket path of at most"),
    (["-p", "0x0", "--dev-basename", "y" * 200], "--dev-basename takes a socket path of at most"),
    (["-p", "0x0", "--socket-file", "a", "--socket-file", "a"], "--socket-file takes each path"),
    (["-p", "0x0", "--socket-file", "/run/a", "--socket-file", "/var/run/a"],
     "--socket-file takes each path"),
    (["-p", "0x0", "--socket-file", "/nonexistent/s"], "--socket-file takes a path in an existing"),
    (["-p", "0x0", "--socket-file", ""], "--socket-file takes"),
    (["-p", "0x0", "--socket-mode", "0888"], "--socket-mode takes permissions from 0 to 777"),
    (["-p", "0x0", "--socket-mode", "1777"], "--socket-mode takes"),
    (["-p", "0x0", "--socket-owner", "no-such-user"], "--socket-owner takes USER[:GROUP]"),
    (["-p", "0x0", "--socket-owner", "root:no-such-group"], "--socket-owner takes"),
    (["-p", "0x0", "--socket-owner", "root:"], "--socket-owner takes"),
    (["-p", "0x0", "--socket-owner", "4294967295"], "--socket-owner takes"),
    (["-p", "0x0", "--socket-owner", ""], "--socket-owner takes"),
    (["-p", "0x0", "--client", "--socket-mode", "0666"], "with --client there are none"),
]


@pytest.mark.parametrize("args,says", BAD, ids=lambda v: " ".join(v)[:40] if v is list else None)
def test_bad_input_is_one_line_and_exit_1(args, says, tmp_path):
    r = call(*args, cwd=tmp_path)
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and says in lines[0], r.stderr
    assert r.stdout == "" and os.listdir(tmp_path) == []


@pytest.mark.parametrize("args,says", [
    (["-p", "0x2"], "-p takes the mask of an existing port: port 1 is not there"),
    (["-p", "0x1", "--vm2vm", "2"], "--vm2vm 2 takes a NIC with an L2 switch"),
    (["-p", "0x1", "--dcb", "8"], "--dcb 8 takes a NIC"),
])
def test_bad_port_is_refused_before_it_is_started(args, says, tmp_path):
    r = call(*args, cwd=tmp_path, eal=["--vdev", "net_null0,no-rx=1"])
    assert r.returncode == 1
    assert sum(line.startswith("vhost-switch:") and says in line
               for line in r.stderr.splitlines()) == 1, r.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("before", [["--help"], ["-l", "0", "--", "--help"]])
def test_help(before):
    r = call(before=before)
    assert r.returncode == 0 and r.stderr == ""
    for option in ("-p MASK", "-P", "--dev-basename", "--socket-file", "--client", "--vm2vm",
                   "--mergeable", "--stats", "--rx-retry", "--rx-retry-num", "--rx-retry-delay",
                   "--socket-owner", "--socket-mode", "--vlan-strip", "--tso", "--tx-csum", "--dcb",
                   "--total-num-mbufs"):
        assert option in r.stdout


def test_no_arguments_at_all():
    r = call()
    assert r.returncode == 1 and "-p is required" in r.stderr


def test_a_file_that_is_no_socket_is_never_deleted(tmp_path):
    (tmp_path / "vhost-net").write_text("precious")
    r = call("-p", "0x0", cwd=tmp_path)
    assert r.returncode == 1 and "--dev-basename takes a vhost-user socket" in r.stderr
    assert (tmp_path / "vhost-net").read_text() == "precious"


def test_a_socket_in_use_is_refused_and_a_stale_one_replaced(tmp_path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "vhost-net"))
    server.listen()
    r = call("-p", "0x0", cwd=tmp_path)
    assert r.returncode == 1 and "in use by a running server" in r.stderr
    assert os.path.exists(tmp_path / "vhost-net")
    server.close()
    with Switch(cwd=str(tmp_path)) as s:
        assert s.has("guests can connect to vhost-net")


@pytest.mark.skipif(os.getuid() != 0, reason="gives files away")
@pytest.mark.parametrize("options,owner,mode", [
    ([], None, 0o755),
    (["--socket-mode", "0660"], None, 0o660),
    (["--socket-owner", "nobody"], ("nobody", None), 0o755),
    (["--socket-owner", "nobody:nogroup", "--socket-mode", "600"], ("nobody", "nogroup"), 0o600),
    (["--socket-owner", "65534:7", "--socket-mode", "0"], (65534, 7), 0),
], ids=["default", "mode", "user", "both", "numbers"])
def test_owner_and_mode_of_sockets(options, owner, mode, tmp_path):
    before = os.umask(0o022)
    try:
        with Switch("--socket-file", str(tmp_path / "a"), "--socket-file", str(tmp_path / "b"),
                    *options) as s:
            for name in "ab":
                st = os.stat(tmp_path / name)
                assert stat.S_IMODE(st.st_mode) == mode, s.log()
                uid, gid = (owner or (None, None))
                uid = pwd.getpwnam(uid).pw_uid if isinstance(uid, str) else uid
                gid = grp.getgrnam(gid).gr_gid if isinstance(gid, str) else gid
                assert st.st_uid == (os.getuid() if uid is None else uid)
                assert st.st_gid == (os.getgid() if gid is None else gid)
    finally:
        os.umask(before)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_who_may_connect():
    """What the options are for: QEMU runs as another user than the switch."""
    directory = tempfile.TemporaryDirectory(prefix="vhost-switch-")
    os.chmod(directory.name, 0o711)
    path = os.path.join(directory.name, "s")
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for options, may in ((["--socket-mode", "0600"], False),
                         (["--socket-mode", "0660", "--socket-owner", "root:nogroup"], True),
                         (["--socket-mode", "0600", "--socket-owner", "nobody"], True)):
        with Switch("--socket-file", path, *options) as s:
            r = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                                sys.executable, "-c", connect, path],
                               stderr=subprocess.PIPE, text=True, check=False)
            assert (r.returncode == 0) == may, r.stderr + s.log()
    directory.cleanup()
