# SPDX-License-Identifier: BSD-3-Clause
"""Every bad input: one line that names the option and what it accepts, exit 1, nothing touched."""

import grp
import os
import pwd
import re
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
    (["-p", "0x0", "--vm2vm", "3"], "invalid value '3' for --vm2vm: it accepts 0, 1 or 2"),
    (["-p", "0x0", "--vm2vm", "-1"], "invalid value '-1' for --vm2vm: it accepts"),
    (["-p", "0x0", "--vm2vm", "1x"], "invalid value '1x' for --vm2vm: it accepts"),
    (["-p", "0x0", "--vm2vm"], "--vm2vm needs a value: it accepts"),
    (["-p", "0x0", "--vm2vm", ""], "invalid value '' for --vm2vm: it accepts"),
    (["-p", "0x0", "--mergeable", "2"], "invalid value '2' for --mergeable: it accepts 0 or 1"),
    (["-p", "0x0", "--stats", "99999"], "invalid value '99999' for --stats: it accepts seconds"),
    (["-p", "0x0", "--stats", "18446744073709551617"],
     "invalid value '18446744073709551617' for --stats: it accepts seconds"),
    (["-p", "0x0", "--rx-retry", "2"], "invalid value '2' for --rx-retry: it accepts 0 or 1"),
    (["-p", "0x0", "--rx-retry-num", "1001"],
     "invalid value '1001' for --rx-retry-num: it accepts"),
    (["-p", "0x0", "--rx-retry-delay", "10001"],
     "invalid value '10001' for --rx-retry-delay: it accepts"),
    (["-p", "0x0", "--vlan-strip", "2"], "invalid value '2' for --vlan-strip: it accepts 0 or 1"),
    (["-p", "0x0", "--tso", "2"], "invalid value '2' for --tso: it accepts 0 or 1"),
    (["-p", "0x0", "--tx-csum", "2"], "invalid value '2' for --tx-csum: it accepts 0 or 1"),
    (["-p", "0x0", "--dcb", "3"], "invalid value '3' for --dcb: it accepts 0, 4 or 8"),
    (["-p", "0x0", "--dcb", "4"],
     "--dcb 4 needs a NIC with VMDQ and DCB, but -p 0x0 selects no NIC"),
    (["-p", "0x0", "--vm2vm", "2"],
     "--vm2vm 2 needs a NIC with an L2 switch, but -p 0x0 selects no NIC"),
    (["-p", "0x0", "--total-num-mbufs", "10"],
     "invalid value '10' for --total-num-mbufs: it accepts"),
    (["-p", "0x0", "--client=1"], "--client accepts no value"),
    (["-p", "0x0", "--nonsense"], "unknown option '--nonsense'"),
    (["-p", "0x0", "-z"], "unknown option '-z'"),
    (["-p", "0x0", "stray"], "'stray' is not an option"),
    (["-p", "0x3"],
     "invalid value '0x3' for -p: it accepts a hexadecimal port mask with exactly one bit"),
    (["-p", "zz"], "invalid value 'zz' for -p: it accepts"),
    (["-p", ""], "invalid value '' for -p: it accepts"),
    (["-p"], "-p needs a value: it accepts"),
    (["-P"], "-p is missing after"),
    (["-p", "0x0", "--socket-file", "x" * 108],
     "--socket-file has a socket path of 108 bytes: it accepts at most 107"),
    (["-p", "0x0", "--dev-basename", "y" * 200],
     "--dev-basename has a socket path of 200 bytes: it accepts at most 107"),
    (["-p", "0x0", "--socket-file", "a", "--socket-file", "a"], "--socket-file 'a' is given twice"),
    (["-p", "0x0", "--socket-file", "/run/a", "--socket-file", "/var/run/a"],
     "--socket-file '/var/run/a' is given twice"),
    (["-p", "0x0", "--socket-file", "/nonexistent/s"],
     "--socket-file '/nonexistent/s' is not in an existing directory"),
    (["-p", "0x0", "--socket-file", ""], "invalid value '' for --socket-file: it accepts"),
    (["-p", "0x0", "--socket-mode", "0888"],
     "invalid value '0888' for --socket-mode: it accepts permissions from 0 to 777"),
    (["-p", "0x0", "--socket-mode", "1777"], "invalid value '1777' for --socket-mode: it accepts"),
    (["-p", "0x0", "--socket-owner", "no-such-user"],
     "invalid value 'no-such-user' for --socket-owner: it accepts USER[:GROUP]"),
    (["-p", "0x0", "--socket-owner", "root:no-such-group"],
     "invalid value 'root:no-such-group' for --socket-owner: it accepts"),
    (["-p", "0x0", "--socket-owner", "root:"],
     "invalid value 'root:' for --socket-owner: it accepts"),
    (["-p", "0x0", "--socket-owner", "4294967295"],
     "invalid value '4294967295' for --socket-owner: it accepts"),
    (["-p", "0x0", "--socket-owner", ""], "invalid value '' for --socket-owner: it accepts"),
    (["-p", "0x0", "--client", "--socket-mode", "0666"], "with --client it creates none"),
]


WEB = ["-p", "0x0", "--port", "name=web,socket=web,vlan=10"]
# With what lies in ports.conf.
BAD_PORTS = [
    (["-p", "0x0", "--port", ""], None, "invalid value '' for --port: it accepts keys of a port"),
    (["-p", "0x0", "--config", ""], None, "invalid value '' for --config: it accepts a file with"),
    (["-p", "0x0", "--port"], None, "--port needs a value: it accepts"),
    (["-p", "0x0", "--port", "name=web,socket=web,vlan=5000"], None,
     "--port web vlan: invalid value '5000': it accepts 1 to 4094, or none"),
    (["-p", "0x0", "--port", "name=web,socket=web,trunk=1;x"], None,
     "--port web trunk: invalid value '1;x': it accepts VLANs from 1 to 4094 and ranges"),
    ([*WEB, *WEB[2:]], None, "--port web: the name is also that of --port web: it must be unique"),
    ([*WEB, "--socket-file", "./web"], None,
     "--port web socket 'web' is also that of --socket-file: it must be unique"),
    ([*WEB, "--dev-basename", "web"], None,
     "--port web socket 'web' is also that of --dev-basename: it must be unique"),
    (["-p", "0x0", "--client", "--port", "name=web,socket=/nonexistent/s"], None,
     "--port web socket '/nonexistent/s' is not in an existing directory"),
    (["-p", "0x0", "--config", "ports.conf"], "[port web]\nsocket=web\nvlan=5000\n",
     "ports.conf: [port web] vlan: invalid value '5000': it accepts 1 to 4094, or none"),
    (["-p", "0x0", "--config", "ports.conf"], "[port web]\nsocket=web\n; a comment?\n",
     "ports.conf:3: '; a comment?' is not KEY = VALUE: a line must be that"),
    (["-p", "0x0", "--config", "ports.conf"], "[port web]\nsocket=/nonexistent/s\n",
     "ports.conf: [port web] socket '/nonexistent/s' is not in an existing directory"),
    ([*WEB, "--config", "ports.conf"], "[port db]\nsocket=web\n",
     "ports.conf: [port db] socket: 'web' is also that of --port web: it must be unique"),
    (["-p", "0x0", "--config", "none.conf"], None,
     "--config none.conf cannot be read: No such file or directory"),
    (["-p", "0x0", "--config", "/"], None, "--config / is not a regular file: it must be one"),
]


@pytest.mark.parametrize("args,file,says", BAD_PORTS)
def test_bad_ports_are_one_line_and_exit_1(args, file, says, tmp_path):
    if file is not None:
        (tmp_path / "ports.conf").write_text(file)
    r = call(*args, cwd=tmp_path)
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"vhost-switch: {says}"), r.stderr
    assert r.stdout == "" and os.listdir(tmp_path) == (["ports.conf"] if file is not None else [])


def test_a_file_without_ports_is_no_error(tmp_path):
    (tmp_path / "ports.conf").write_text("# none yet\n[switch]\nmac-age = 60\n")
    with Switch("--socket-file", "s", "--config", "ports.conf", cwd=str(tmp_path)) as s:
        assert s.has("guests can connect to s")
    assert os.listdir(tmp_path) == ["ports.conf"]


@pytest.mark.parametrize("args,says", BAD, ids=lambda v: " ".join(v)[:40] if v is list else None)
def test_bad_input_is_one_line_and_exit_1(args, says, tmp_path):
    r = call(*args, cwd=tmp_path)
    assert r.returncode == 1
    lines = r.stderr.strip().splitlines()
    assert len(lines) == 1 and says in lines[0], r.stderr
    assert r.stdout == "" and os.listdir(tmp_path) == []


@pytest.mark.parametrize("args,says", [
    (["-p", "0x2"], "-p selects port 1, which does not exist"),
    (["-p", "0x1", "--vm2vm", "2"], "--vm2vm 2 needs a NIC with an L2 switch"),
    (["-p", "0x1", "--dcb", "8"], "--dcb 8 needs a NIC"),
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
                   "--total-num-mbufs", "--version", "--port KEY=VALUE,...", "--config FILE",
                   "--steering WAY", "trunk=LIST", "mac-age=SECONDS"):
        assert option in r.stdout


@pytest.mark.parametrize("before", [["--version"], ["-l", "0", "--", "--version"]])
def test_version(before):
    """Its own, DPDK's, and whether it has the character device."""
    r = call(before=before)
    assert r.returncode == 0 and r.stderr == ""
    own, dpdk, cuse = r.stdout.splitlines()
    assert re.fullmatch(r"vhost-switch \S+", own)
    assert re.fullmatch(r"DPDK \d+\.\d+\.\S+", dpdk)
    assert cuse in ("with CUSE", "without CUSE")


def test_no_arguments_at_all():
    r = call()
    assert r.returncode == 1 and "-p is missing after" in r.stderr


def test_a_file_that_is_no_socket_is_never_deleted(tmp_path):
    (tmp_path / "vhost-net").write_text("precious")
    r = call("-p", "0x0", cwd=tmp_path)
    assert r.returncode == 1 and "exists and is not a socket" in r.stderr
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
