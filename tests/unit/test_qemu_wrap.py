# SPDX-License-Identifier: BSD-3-Clause
"""qemu-wrap.py: command lines in, command lines out."""

import fcntl
import importlib.machinery
import importlib.util
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from tree import ROOT

WRAPPER = os.path.join(ROOT, "qemu-wrap.py")
OFF = "csum=off,gso=off,guest_tso4=off,guest_tso6=off,guest_ecn=off"


@pytest.fixture
def qw(monkeypatch, tmp_path):
    """The wrapper, on a machine with no hugetlbfs; each open of its device gives a number."""
    loader = importlib.machinery.SourceFileLoader("qemu_wrap", WRAPPER)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("qemu_wrap", loader))
    loader.exec_module(module)
    module.us_vhost_path = "/dev/null"
    module.MOUNTS = str(tmp_path / "mounts")
    module.POOLS = str(tmp_path / "pools")
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    numbers = iter(range(40, 80))
    monkeypatch.setattr(module, "open_us_vhost", lambda: next(numbers))
    return module


@pytest.fixture
def huge(qw, tmp_path, monkeypatch):
    """Mounts a hugetlbfs: huge(name, free, total) in 2 MB pages; returns its folder."""
    pages = {}

    def mount(name, free=4096, total=4096, kb=2048):
        folder = tmp_path / name
        folder.mkdir()
        pool = tmp_path / f"pools/hugepages-{kb}kB"
        pool.mkdir(parents=True, exist_ok=True)
        for file, number in (("free_hugepages", free), ("nr_hugepages", total),
                             ("nr_overcommit_hugepages", 0)):
            (pool / file).write_text(f"{number}\n")
        pages[str(folder)] = kb << 10
        escaped = str(folder).replace(" ", "\\040")
        with open(qw.MOUNTS, "a", encoding="utf-8") as f:
            f.write(f"huge {escaped} hugetlbfs rw,relatime,pagesize=2M 0 0\n")
        return str(folder)

    real = os.statvfs

    def statvfs(path):
        if path not in pages:
            return real(path)
        return type("Result", (), {"f_bsize": pages[path]})

    monkeypatch.setattr(os, "statvfs", statvfs)
    return mount


MEMFD_128 = ["-object", "memory-backend-memfd,id=us-vhost-memory,size=128M,share=on",
             "-machine", "memory-backend=us-vhost-memory"]


def hugepages(folder, size, path=True, prealloc=True):
    return ([*(["-mem-path", folder] if path else []), *(["-mem-prealloc"] if prealloc else []),
             "-object", f"memory-backend-file,id=us-vhost-memory,size={size},mem-path={folder},"
             "share=on", "-numa", "node,memdev=us-vhost-memory"])


HISTORICAL = ["-machine", "pc-i440fx-1.4,accel=kvm,usb=off", "-cpu", "SandyBridge",
              "-smp", "4,sockets=4,cores=1,threads=1", "-netdev", "tap,id=hostnet1,vhost=on",
              "-device", "virtio-net-pci,netdev=hostnet1,id=net1", "-hda", "disk.img", "-m", "4096"]


def historical(memory):
    args = list(HISTORICAL)
    args[7] = "tap,id=hostnet1,vhost=on,vhostfd=40"
    args[9] += "," + OFF
    return args + memory


def test_the_historical_call_with_hugepages(qw, huge):
    folder = huge("huge")
    assert qw.wrap(HISTORICAL) == historical(hugepages(folder, "4096M"))


def test_the_historical_call_without_hugepages(qw):
    assert qw.wrap(HISTORICAL) == historical([
        "-object", "memory-backend-memfd,id=us-vhost-memory,size=4096M,share=on",
        "-machine", "memory-backend=us-vhost-memory"])


def test_the_example_of_the_guide(qw):
    with open(os.path.join(ROOT, "doc/qemu-wrap.rst"), encoding="utf-8") as f:
        blocks = re.findall(r"^    (qemu\S+ .*\n(?:     .*\n)*)", f.read(), re.M)
    # in the second one an argument is broken after a comma
    given, got = (shlex.split(re.sub(r",\n +", ",", b.replace("\\\n", ""))) for b in blocks[:2])
    assert given[0] == "qemu-wrap.py" and got[0] == "qemu-system-x86_64"
    assert qw.wrap(given[1:]) == [a.replace("vhostfd=3", "vhostfd=40") for a in got[1:]]


def test_several_nics_in_any_order(qw):
    args = qw.wrap(["-device", "virtio-net-pci,netdev=b,mac=52:54:00:00:00:02",
                    "-netdev", "tap,id=a,script=no,vhost=on", "-netdev", "user,id=c",
                    "--device", "virtio-net-pci,netdev=c", "-netdev", "type=tap,vhost=on,id=b",
                    "-device", "virtio-net-pci,mac=52:54:00:00:00:01,netdev=a",
                    "-netdev", "tap,id=d,vhost=off", "-device", "virtio-net-pci,netdev=d",
                    "-device", "e1000,netdev=e", "-netdev", "tap,id=e"])
    assert args == [
        "-device", "virtio-net-pci,netdev=b,mac=52:54:00:00:00:02," + OFF,
        "-netdev", "tap,id=a,script=no,vhost=on,vhostfd=40", "-netdev", "user,id=c",
        "--device", "virtio-net-pci,netdev=c", "-netdev", "type=tap,vhost=on,id=b,vhostfd=41",
        "-device", "virtio-net-pci,mac=52:54:00:00:00:01,netdev=a," + OFF,
        "-netdev", "tap,id=d,vhost=off", "-device", "virtio-net-pci,netdev=d",
        "-device", "e1000,netdev=e", "-netdev", "tap,id=e", *MEMFD_128]


def test_ids_are_compared_whole(qw):
    args = qw.wrap(["-netdev", "tap,id=net1,vhost=on", "-device", "virtio-net-pci,netdev=net11",
                    "-device", "virtio-net-pci,id=net1", "-device", "virtio-net,netdev=net1"])
    assert args[2:8] == ["-device", "virtio-net-pci,netdev=net11", "-device",
                         "virtio-net-pci,id=net1", "-device", "virtio-net,netdev=net1," + OFF]


@pytest.mark.parametrize("given, got", [
    ("tap,id=a,vhost", "tap,id=a,vhost=on,vhostfd=40"),
    ("tap,vhost=on,id=a", "tap,vhost=on,id=a,vhostfd=40"),
    ("tap,id=a,vhost=on,vhostfd=28", "tap,id=a,vhost=on,vhostfd=40"),
    ("tap,id=a,vhostfd=28,fd=27", "tap,id=a,fd=27,vhost=on,vhostfd=40"),
    ("tap,id=a,vhostforce=on", "tap,id=a,vhostforce=on,vhost=on,vhostfd=40"),
    ("tap,id=a,vhost=off,vhostfd=28", None),
    ("tap,id=a,vhostforce=off", None),
    ("tap,id=vhost=on", None),
    ("vhost-user,id=a,chardev=vhost", None),
    ("tap,id=a,vhost=on,queues=2", "tap,id=a,vhost=on,queues=2,vhostfds=40:41"),
    ("tap,id=a,fds=7:8:9,vhost=on,vhostfds=4:5:6",
     "tap,id=a,fds=7:8:9,vhost=on,vhostfds=40:41:42"),
    ("tap,id=a,vhost=on,script=/a b/c,,d,,,ifname=x",
     "tap,id=a,vhost=on,script=/a b/c,,d,,,ifname=x,vhostfd=40"),
])
def test_netdevs(qw, given, got):
    args = qw.wrap(["-netdev", given])
    assert args == (["-netdev", got, *MEMFD_128] if got else ["-netdev", given])


def test_a_descriptor_of_the_switchs_device_stays(qw, tmp_path, monkeypatch):
    qw.us_vhost_path = "/nonexistent"
    fd, other = os.open("/dev/null", os.O_RDWR), os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for given, got in ((f"vhostfd={fd}", f"vhostfd={fd}"), (f"vhostfd={other}", "vhostfd=40"),
                       (f"vhostfds={fd}:{fd}", f"vhostfds={fd}:{fd}"),
                       (f"vhostfds={fd}:{other}", "vhostfds=41:42")):
        assert qw.wrap(["-netdev", f"tap,id=a,vhost=on,{given}"])[1] == f"tap,id=a,vhost=on,{got}"
    # the kernel's vhost-net makes way
    monkeypatch.setattr(qw, "VHOST_NET", os.stat("/dev/null").st_rdev)
    assert qw.wrap(["-netdev", f"tap,id=a,vhost=on,vhostfd={fd}"])[1] == \
        "tap,id=a,vhost=on,vhostfd=43"
    os.close(fd)
    os.close(other)


def test_what_a_device_has_already_stays(qw):
    args = qw.wrap(["-device", "virtio-net-pci,csum=off,netdev=a,gso=on,guest_ecn=off",
                    "-netdev", "tap,id=a,vhost=on"])
    assert args[1] == "virtio-net-pci,csum=off,netdev=a,gso=on,guest_ecn=off," \
        "guest_tso4=off,guest_tso6=off"


def test_what_was_wrapped_once_is_not_wrapped_again(qw, huge):
    fd = os.open("/dev/null", os.O_RDWR)
    qw.open_us_vhost = lambda: fd
    once = qw.wrap(HISTORICAL)
    assert qw.wrap(once) == once
    huge("huge")
    once = qw.wrap(HISTORICAL)
    assert qw.wrap(once) == once
    os.close(fd)


@pytest.mark.parametrize("args", [
    [], ["disk.img"], ["-m", "1G", "-netdev", "user,id=a", "-device", "virtio-net-pci,netdev=a"],
    ["-append", "a=b,vhost=on  c=\"d e\" $HOME `ls`", "-name", "a b,,c"],
    ["-device", "{\"driver\": \"virtio-net-pci\" , \"netdev\":\"a\"}", "-netdev", "{ broken"],
    ["-machine", "q35,accel=tcg,,", "-object", "memory-backend-ram,id=r,size=1G", "-netdev"],
])
def test_all_else_is_passed_on_untouched(qw, huge, args):
    huge("huge")
    assert qw.wrap(args) == args


@pytest.mark.parametrize("probe", [
    ["-version"], ["-help"], ["-h"], ["--version"], ["-device", "help"],
    ["-device", "virtio-net-pci,help"], ["-machine", "?"], ["-cpu", "help"],
    ["-S", "-no-user-config", "-nodefaults", "-nographic", "-machine", "none,accel=kvm:tcg",
     "-qmp", "unix:/x,server=on,wait=off", "-pidfile", "/y", "-daemonize"],
])
def test_calls_that_start_no_guest_stay_as_they_are(qw, probe):
    qw.emul_opts_user = "-nodefaults"
    qw.us_vhost_path = "/nonexistent"
    qw.use_huge_all = 1
    given = ["-netdev", "tap,id=a,vhost=on", *probe]
    assert qw.wrap(given) == given
    assert qw.wrap(["-netdev", "tap,id=a,vhost=on", "-append", "help"])[4:] != []


def test_libvirts_json(qw):
    """As libvirt 9.0 starts a domain without memoryBacking."""
    args = qw.wrap([
        "-machine", "pc-q35-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram",
        "-m", "size=1048576k",
        "-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":1073741824}',
        "-netdev", '{"type":"tap","fd":"31","vhost":true,"vhostfd":"33","id":"hostnet0"}',
        "-device", '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","gso":true}',
        "-netdev", '{"type":"user","id":"hostnet1"}'])
    assert args[::2] == ["-machine", "-m", "-object", "-netdev", "-device", "-netdev"]
    assert json.loads(args[5]) == {"qom-type": "memory-backend-memfd", "id": "pc.ram",
                                   "size": 1073741824, "share": True}
    assert json.loads(args[7]) == {"type": "tap", "fd": "31", "vhost": True, "vhostfd": "40",
                                   "id": "hostnet0"}
    assert json.loads(args[9]) == {
        "driver": "virtio-net-pci", "netdev": "hostnet0", "id": "net0", "gso": True, "csum": False,
        "guest_tso4": False, "guest_tso6": False, "guest_ecn": False}
    assert args[11] == '{"type":"user","id":"hostnet1"}'


def memory_only(qw, *args):
    """What becomes of memory options beside a netdev with vhost."""
    got = qw.wrap(["-netdev", "tap,id=a,vhost=on", *args])
    assert got[:2] == ["-netdev", "tap,id=a,vhost=on,vhostfd=40"]
    return got[2:]


@pytest.mark.parametrize("given", [
    ["-object", "memory-backend-memfd,id=m,size=1G,share=on", "-machine", "q35,memory-backend=m"],
    ["-object", "memory-backend-memfd,id=m,size=1G", "-M", "memory-backend=m"],
    ["-object", "memory-backend-file,id=m,size=1G,mem-path=/dev/shm,share=on", "-numa",
     "node,memdev=m"],
    ["-object", '{"qom-type":"memory-backend-file","id":"m","mem-path":"/x","share":true,"size":1}',
     "-numa", "node,nodeid=0,cpus=0-1,memdev=m"],
])
def test_shared_memory_stays(qw, huge, capsys, given):
    huge("huge")
    assert memory_only(qw, *given) == given
    assert capsys.readouterr().err == ""


def test_private_backends_in_use_become_shared(qw, huge):
    folder = huge("huge")
    assert memory_only(
        qw, "-object", "memory-backend-ram,id=ram-node0,size=1G,host-nodes=0,policy=bind",
        "-object", f"memory-backend-file,id=ram-node1,size=1G,mem-path={folder}",
        "-object", "memory-backend-ram,id=dimm,size=1G",
        "-object", "memory-backend-ram,id=x,size=1G",
        "-numa", "node,nodeid=0,memdev=ram-node0", "-numa", "node,nodeid=1,memdev=ram-node1",
        "-numa", "dist,src=0,dst=1,val=20", "-device", "pc-dimm,id=d,memdev=dimm",
        "-device", "ivshmem-plain,memdev=x") == [
            "-object", "memory-backend-memfd,id=ram-node0,size=1G,host-nodes=0,policy=bind,"
            "share=on",
            "-object", f"memory-backend-file,id=ram-node1,size=1G,mem-path={folder},share=on",
            "-object", "memory-backend-memfd,id=dimm,size=1G,share=on",
            "-object", "memory-backend-ram,id=x,size=1G",
            "-numa", "node,nodeid=0,memdev=ram-node0", "-numa", "node,nodeid=1,memdev=ram-node1",
            "-numa", "dist,src=0,dst=1,val=20", "-device", "pc-dimm,id=d,memdev=dimm",
            "-device", "ivshmem-plain,memdev=x"]


def test_what_cannot_be_shared_is_told(qw, tmp_path, capsys):
    template = tmp_path / "template"
    template.write_bytes(b"x")
    for given, told in (
            (["-object", "memory-backend-memfd,id=m,size=1G,share=off", "-machine",
              "memory-backend=m"], "share=off"),
            (["-object", f"memory-backend-file,id=m,size=1G,mem-path={template}", "-machine",
              "memory-backend=m"], "no share=on"),
            (["-numa", "node,mem=1G"], "no memdev=")):
        qw.open_us_vhost = lambda: 40
        assert memory_only(qw, *given) == given
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1


@pytest.mark.parametrize("given, size", [
    ([], "128M"), (["-m", "2048"], "2048M"), (["-m", "2G"], "2048M"), (["-m", "1.5g"], "1536M"),
    (["-m", "size=512,slots=2,maxmem=2G"], "512M"), (["-m", "1048576k,maxmem=4G"], "1024M"),
    (["-m", "100k"], "106496"), (["-m", "1G", "-m", "256"], "256M"),
    (["-m", "slots=2,maxmem=2G"], "128M"), (["-m", "1073741824B"], "1024M"),
])
def test_size_of_memory(qw, given, size):
    assert memory_only(qw, *given) == [
        *given, "-object", f"memory-backend-memfd,id=us-vhost-memory,size={size},share=on",
        "-machine", "memory-backend=us-vhost-memory"]


def test_a_size_that_is_none(qw):
    with pytest.raises(qw.Failure, match="-m lots"):
        memory_only(qw, "-m", "lots")


def test_mem_path_and_prealloc_that_are_given(qw, huge):
    huge("other")
    assert memory_only(qw, "-mem-path", "/mnt/a,b c", "-m", "64") == [
        "-mem-path", "/mnt/a,b c", "-m", "64", "-mem-prealloc", "-object",
        "memory-backend-file,id=us-vhost-memory,size=64M,mem-path=/mnt/a,,b c,share=on",
        "-numa", "node,memdev=us-vhost-memory"]
    qw.open_us_vhost = lambda: 40
    assert memory_only(qw, "-mem-prealloc", "-mem-path", "/mnt/huge") == [
        "-mem-prealloc", "-mem-path", "/mnt/huge",
        *hugepages("/mnt/huge", "128M", path=False, prealloc=False)]


def test_which_hugetlbfs(qw, huge, tmp_path):
    huge("empty", 0, 0, kb=32 << 20)
    huge("large pages", 2, 2, kb=1 << 20)
    small = huge("too small", 10, 100, kb=4)
    assert qw.hugepage_folder(1 << 29) == small
    large = huge("with space,comma", 512, 1024)
    assert qw.hugepage_folder(1 << 29) == large
    assert qw.hugepage_folder(4096) == small
    assert qw.hugepage_folder(1 << 30) == str(tmp_path / "large pages")
    assert memory_only(qw, "-m", "512M")[2:6] == [
        "-mem-path", large, "-mem-prealloc", "-object"]
    qw.hugetlbfs_dir = "/mnt/huge"
    assert qw.hugepage_folder(1 << 30) == "/mnt/huge"


def test_an_empty_pool_is_no_hugepages(qw, huge, tmp_path):
    huge("empty", 0, 0)
    assert qw.hugepage_folder(1 << 30) is None
    huge("busy", 0, 100, kb=4)
    assert qw.hugepage_folder(1 << 30) == str(tmp_path / "busy")
    assert qw.hugepage_folder(4095) is None
    qw.MOUNTS = "/dev/null"
    assert memory_only(qw) == MEMFD_128


def test_options_of_the_user(qw):
    qw.emul_opts_user = "-name 'a b' -nodefaults"
    qw.emul_opts_user_vhost = "-object memory-backend-memfd,id=m,size=1G -machine memory-backend=m"
    assert qw.wrap(["-m", "1G"]) == ["-m", "1G", "-name", "a b", "-nodefaults"]
    assert memory_only(qw, "-m", "1G") == [
        "-m", "1G", "-object", "memory-backend-memfd,id=m,size=1G", "-machine", "memory-backend=m",
        "-name", "a b", "-nodefaults"]


def test_hugepages_for_all(qw, huge):
    qw.use_huge_all = 1
    assert qw.wrap(["-m", "1G"]) == ["-m", "1G"]
    folder = huge("huge")
    assert qw.wrap(["-m", "1G"]) == ["-m", "1G", "-mem-path", folder, "-mem-prealloc"]
    backend = ["-machine", "memory-backend=m", "-object", "memory-backend-ram,id=m,size=1G"]
    assert qw.wrap(backend) == backend
    qw.use_huge_all = 0
    assert qw.wrap(["-m", "1G"]) == ["-m", "1G"]


def test_a_socket(qw, tmp_path):
    path = str(tmp_path / "a,b")
    qw.us_vhost_path = path
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        escaped = path.replace(",", ",,")
        assert qw.wrap(["-device", "virtio-net-pci,netdev=a", "-netdev",
                        "tap,id=a,ifname=x,vhost=on,vhostfd=7", "-netdev", "tap,id=b"]) == [
                            "-device", "virtio-net-pci,netdev=a," + OFF,
                            "-chardev", f"socket,id=us-vhost-a,path={escaped}",
                            "-netdev", "vhost-user,id=a,chardev=us-vhost-a",
                            "-netdev", "tap,id=b", *MEMFD_128]
        args = qw.wrap(["-netdev", '{"type":"tap","fds":"3:4","vhost":true,"id":"h"}'])
        assert args[:3] == ["-chardev", f"socket,id=us-vhost-h,path={escaped}", "-netdev"]
        assert json.loads(args[3]) == {"type": "vhost-user", "id": "h", "chardev": "us-vhost-h",
                                       "queues": 2}


# The program itself, with a QEMU that tells how it was started.

@pytest.fixture
def emulator(tmp_path):
    path = tmp_path / "fake qemu"
    path.write_text(f"""#!{sys.executable}
import json, os, sys
fds = {{fd: os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
       if os.path.lexists("/proc/self/fd/" + fd)}}
print(json.dumps([os.getpid(), sys.argv, fds]), flush=True)
if "-sleep" in sys.argv:
    sys.stdin.read()
sys.exit(37)
""")
    path.chmod(0o755)
    return str(path)


def environment(emulator, **more):
    return dict(os.environ, QEMU_WRAP_EMUL_PATH=emulator, QEMU_WRAP_US_VHOST_PATH="/dev/zero",
                PYTHONDONTWRITEBYTECODE="1", **more)


def test_it_becomes_qemu(emulator):
    with subprocess.Popen([WRAPPER, "-netdev", "tap,id=a,vhost=on", "-name", "$(id) 'x' \"y\" *"],
                          stdout=subprocess.PIPE, env=environment(emulator)) as p:
        pid, argv, fds = json.loads(p.stdout.read())
    assert p.returncode == 37 and pid == p.pid
    assert argv[0] == emulator and argv[4] == "$(id) 'x' \"y\" *"
    prefix, _, fd = argv[2].rpartition("=")
    assert prefix == "tap,id=a,vhost=on,vhostfd" and fds[fd] == "/dev/zero"
    assert list(fds.values()).count("/dev/zero") == 1


def test_signals_are_qemus(emulator):
    with subprocess.Popen([WRAPPER, "-sleep"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=environment(emulator)) as p:
        assert json.loads(p.stdout.readline())[1][1:] == ["-sleep"]
        p.send_signal(signal.SIGTERM)
        assert p.wait(10) == -signal.SIGTERM


def test_descriptors_of_the_caller_are_handed_on(emulator, tmp_path):
    with open(tmp_path / "a file", "wb") as f:
        fd = fcntl.fcntl(f, fcntl.F_DUPFD, 30)
        r = subprocess.run([WRAPPER, "-netdev", f"tap,fd={fd},id=a,vhost=on,vhostfd={fd}"],
                           stdout=subprocess.PIPE, env=environment(emulator), pass_fds=[fd],
                           check=False)
        os.close(fd)
    _, argv, fds = json.loads(r.stdout)
    assert argv[2].startswith(f"tap,fd={fd},id=a,vhost=on,vhostfd=")
    assert argv[2] != f"tap,fd={fd},id=a,vhost=on,vhostfd={fd}"
    assert fds[str(fd)] == str(tmp_path / "a file")


@pytest.mark.parametrize("more, told", [
    ({"QEMU_WRAP_US_VHOST_PATH": "/nonexistent"}, "us_vhost_path /nonexistent: No such file"),
    ({"QEMU_WRAP_EMUL_PATH": "/nonexistent"}, "emul_path /nonexistent: No such file"),
    ({"QEMU_WRAP_EMUL_OPTS_USER": "'"}, "emul_opts_user: No closing quotation"),
])
def test_failures_are_one_line(emulator, more, told):
    r = subprocess.run([WRAPPER, "-netdev", "tap,id=a,vhost=on"], capture_output=True, text=True,
                       env={**environment(emulator), **more}, check=False)
    assert r.returncode == 1 and r.stdout == ""
    assert told in r.stderr and r.stderr.count("\n") == 1


def test_help_names_each_setting_and_what_it_is(qw, emulator):
    r = subprocess.run([WRAPPER, "--help"], capture_output=True, text=True, check=True,
                       env=environment(emulator))
    assert "usage: qemu-wrap.py QEMU-ARGS" in r.stdout
    defaults = {name: getattr(qw, name) for name in qw.SETTINGS} | {"us_vhost_path": "/dev/usvhost"}
    for name, value in defaults.items():
        assert f"\n{name} ({value if value != '' else 'empty'})\n" in r.stdout
    # QEMU's own help is what it gives with one dash
    r = subprocess.run([WRAPPER, "-help"], capture_output=True, text=True, check=False,
                       env=environment(emulator))
    assert json.loads(r.stdout)[1][1:] == ["-help"]
