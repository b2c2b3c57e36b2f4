# SPDX-License-Identifier: BSD-3-Clause
"""make install, what it installs, and that --help, guide and man page say the same."""

import os
import re
import shutil
import subprocess

import pytest

from harness import APP, ROOT, Switch

CUSE_APP = os.path.join(ROOT, "build/cuse/app/vhost-switch")


def make(*args):
    subprocess.run(["make", "-s", "-C", ROOT, *args], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Where it is installed, to be used from there."""
    path = tmp_path_factory.mktemp("prefix")
    make("install", f"PREFIX={path}")
    return path


def test_destdir(tmp_path):
    make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr")
    files = {os.path.relpath(os.path.join(d, f), tmp_path) for d, _, names in os.walk(tmp_path)
             for f in names}
    assert files >= {"usr/bin/vhost-switch", "usr/share/man/man1/vhost-switch.1",
                     "usr/bin/qemu-wrap.py", "usr/share/man/man1/qemu-wrap.py.1",
                     "usr/share/vhost-switch/vhost-switch.default",
                     "usr/share/vhost-switch/ports.conf",
                     "usr/share/bash-completion/completions/vhost-switch",
                     "usr/lib/systemd/system/vhost-switch.service"}
    unit = (tmp_path / "usr/lib/systemd/system/vhost-switch.service").read_text()
    assert "ExecStart=/usr/bin/vhost-switch $EAL_OPTIONS -- $OPTIONS" in unit and "@" not in unit \
        .replace("@system-service", "")
    for name in files:
        mode = os.stat(tmp_path / name).st_mode & 0o777
        assert mode == (0o755 if "/bin/" in name else 0o644), name


def unit_values(prefix, key):
    text = (prefix / "lib/systemd/system/vhost-switch.service").read_text()
    return re.findall(rf"^{key}=(.*)$", text, re.M)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_unit_is_understood(prefix):
    """verify reports on stderr what it does not understand; the other units here may be odd."""
    r = subprocess.run(["systemd-analyze", "verify", "--man=no",
                        str(prefix / "lib/systemd/system/vhost-switch.service")],
                       capture_output=True, text=True, timeout=60, check=False)
    assert not [line for line in r.stderr.splitlines() if "vhost-switch" in line], r.stderr


@pytest.mark.parametrize("arguments,reads", [
    ((b"-p", b"0x0", b"--config", b"/etc/ports"), True), ((b"--", b"--config=ports"), True),
    ((b"-p", b"0x0", b"--socket-file", b"/run/a--config"), False)])
def test_a_reload_is_refused_without_a_file(arguments, reads, prefix, tmp_path):
    """Its first line looks for the option, and the signal comes after it."""
    look, signal = unit_values(prefix, "ExecReload")
    assert signal == "/bin/kill -HUP $MAINPID"
    (tmp_path / "cmdline").write_bytes(b"\0".join((b"vhost-switch", *arguments, b"")))
    command = look.replace("/proc/${MAINPID}/cmdline", str(tmp_path / "cmdline")).split()
    assert (subprocess.run(command, check=False).returncode == 0) == reads


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="sheds privileges")
def test_the_units_capabilities_are_enough(prefix, tmp_path):
    """Under the unit's own set and command line, with a TAP as uplink and a socket given away."""
    keep = " ".join(unit_values(prefix, "CapabilityBoundingSet")).lower().split()
    bounding = "-all," + ",".join("+" + c.removeprefix("cap_") for c in keep)
    defaults = dict(re.findall(r'^Environment="(\w+)=(.*)"$', "\n".join(
        f"Environment={v}" for v in unit_values(prefix, "Environment")), re.M))
    options = defaults["OPTIONS"].replace("/run/vhost-switch/", str(tmp_path) + "/")
    options = options.replace("-p 0x0", "-p 0x1")
    switch = Switch(cwd=str(tmp_path), start=False)
    switch.args = ["setpriv", "--no-new-privs", f"--bounding-set={bounding}",
                   f"--inh-caps={bounding}", str(prefix / "bin/vhost-switch"),
                   *defaults["EAL_OPTIONS"].split(), "--file-prefix", switch.prefix,
                   "--vdev", "net_tap0,iface=vsunit0", "--", *options.split(),
                   "--socket-owner", "nobody", "--socket-mode", "0600"]
    switch.start()
    assert os.stat(tmp_path / "sock").st_mode & 0o777 == 0o600
    with open(f"/proc/{switch.proc.pid}/status", encoding="ascii") as f:
        assert re.search(r"CapBnd:\s+(\w+)", f.read()).group(1) != "000001ffffffffff"
    switch.stop()


def complete(prefix, *words):
    """What bash offers for the last word."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
              '_vhost_switch; printf "%s\\n" "${COMPREPLY[@]}"')
    r = subprocess.run(["bash", "-c", script, "bash",
                        str(prefix / "share/bash-completion/completions/vhost-switch"),
                        str(prefix / "bin/vhost-switch"), *words],
                       capture_output=True, text=True, timeout=20, check=True)
    assert r.stderr == ""
    return r.stdout.split()


def test_completion(prefix, tmp_path):
    assert "--in-memory" in complete(prefix, "--in")
    assert "--version" in complete(prefix, "--ver")
    assert complete(prefix, "--", "--ver") == ["--version"]
    assert complete(prefix, "-l", "0", "--", "--vm2") == ["--vm2vm"]
    assert complete(prefix, "--", "--vm2vm", "") == ["0", "1", "2"]
    assert complete(prefix, "--", "--dcb", "") == ["0", "4", "8"]
    assert complete(prefix, "--", "--tso", "") == ["0", "1"]
    assert complete(prefix, "--", "--steering", "") == ["auto", "vmdq", "software"]
    assert complete(prefix, "--", "--mirror-port", "") == []
    assert complete(prefix, "--", "--rx-retry-num", "") == []
    assert complete(prefix, "--", "--socket-owner", "nobod") == ["nobody"]
    (tmp_path / "some.sock").touch()
    assert complete(prefix, "--", "--socket-file", str(tmp_path / "so")) == [
        str(tmp_path / "some.sock")]
    assert complete(prefix, "--", "--config", str(tmp_path / "so")) == [
        str(tmp_path / "some.sock")]
    options = complete(prefix, "--", "-")
    assert sorted(options) == sorted(set(options)) and len(options) == len(help_table(APP))


def test_completion_of_keys(prefix, tmp_path):
    """Words as bash breaks them, at "=" too."""
    (tmp_path / "some.sock").touch()
    assert complete(prefix, "--", "--port", "na") == ["name="]
    assert complete(prefix, "--", "--port", "name", "=", "web,s") == [
        "web,socket=", "web,source-check=", "web,storm="]
    assert complete(prefix, "--", "--port", "name", "=", "web,mode", "=") == ["server", "client"]
    assert complete(prefix, "--", "--port", "link", "=", "d") == ["down"]
    assert complete(prefix, "--", "--port", "vlan", "=", "") == []
    assert complete(prefix, "--", "--port", "name=web,link=d") == ["name=web,link=down"]
    assert complete(prefix, "--", "--port", "socket", "=", str(tmp_path / "so")) == [
        str(tmp_path / "some.sock")]
    assert set(complete(prefix, "--", "--port", "")) == {f"{key}=" for key in help_keys()} - {
        "mac-age=", "flood-unknown="}
    assert complete(prefix, "--", "--port", "name", "=", "web", "--vm2") == ["--vm2vm"]


def help_table(app):
    """--help as {option: (value, what it accepts and its default)}."""
    text = subprocess.run([app, "--help"], capture_output=True, text=True, check=True).stdout
    rows, last = {}, None
    for line in text.splitlines():
        m = re.match(r"  (-\S+)(?: (\S+))?(?: .*|$)", line)
        if m:
            last = m.group(1)
            rows[last] = [m.group(2) or "", ""]
        elif line.startswith(" " * 25 + "accepts ") and last:
            rows[last][1] = line.strip()
    return rows


def guide_table():
    """doc/options.inc as {option: (value, its first paragraph)}."""
    with open(os.path.join(ROOT, "doc/options.inc"), encoding="utf-8") as f:
        text = f.read()
    return {m.group(1): (m.group(2) or "", " ".join(m.group(3).split())) for m in
            re.finditer(r"^\.\. option:: (-\S+)(?: (\S+))?\n\n((?:   \S.*\n)+)", text, re.M)}


@pytest.mark.parametrize("app", [APP, CUSE_APP], ids=["plain", "cuse"])
def test_the_guide_says_what_help_says(app):
    if not os.path.exists(app):
        pytest.skip("not built")
    guide = guide_table()
    told = help_table(app)
    assert len(told) > 15
    assert set(told) <= set(guide)
    for option, (value, accepts) in told.items():
        assert guide[option][0] == value, option
        for part in accepts.removeprefix("accepts ").split("; "):
            assert part in guide[option][1], f"{option}: --help says '{accepts}'"


def test_the_guide_has_no_option_more():
    if not os.path.exists(CUSE_APP):
        pytest.skip("not built")
    assert set(guide_table()) == set(help_table(APP)) | set(help_table(CUSE_APP))


def help_keys():
    """The keys of --help as {key: (value, what it accepts and its default)}."""
    text = subprocess.run([APP, "--help"], capture_output=True, text=True, check=True).stdout
    return {m.group(1): (m.group(2), m.group(3)) for m in
            re.finditer(r"^ {4}([a-z-]+)=(\S+) .*\n {26}accepts (.*)$", text, re.M)}


def guide_keys():
    """doc/port_keys.inc as {key: (value, its first paragraph)}."""
    with open(os.path.join(ROOT, "doc/port_keys.inc"), encoding="utf-8") as f:
        text = f.read()
    return {m.group(1): (m.group(2), " ".join(m.group(3).split())) for m in
            re.finditer(r"^``([a-z-]+)=(\S+)``\n((?:   \S.*\n)+)", text, re.M)}


def test_the_guide_has_the_keys_of_help():
    guide, told = guide_keys(), help_keys()
    assert list(guide) == list(told) and len(told) == 18
    for key, (value, accepts) in told.items():
        assert guide[key][0] == value, key
        for part in accepts.split("; "):
            assert part in guide[key][1], f"{key}: --help says '{accepts}'"


def test_the_man_page_has_every_key(prefix):
    page = man_page(prefix, "vhost-switch.1")
    for key, (value, accepts) in guide_keys().items():
        assert re.search(rf"^\.B {re.escape(f'{key}={value}')}$", page, re.M), key
        assert accepts[:60] in page, key


def man_page(prefix, name):
    """The source of a man page, without what makes it print well."""
    page = (prefix / "share/man/man1" / name).read_text()
    return re.sub(r"\\f[BIRP]", "", page.replace("\\-", "-").replace("\\(aq", "'"))


def test_the_man_page_has_every_option(prefix):
    page = man_page(prefix, "vhost-switch.1")
    for option, (value, accepts) in guide_table().items():
        assert re.search(rf"^\.B {re.escape((option + ' ' + value).strip())}$", page, re.M), option
        assert accepts.replace("``", "").split(";")[0][:60] in page, option
    for heading in ("NAME", "SYNOPSIS", "SIGNALS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
        assert re.search(rf"^\.SH {heading}$", page, re.M)


def test_the_wrappers_man_page_says_what_its_help_says(prefix):
    told = subprocess.run([prefix / "bin/qemu-wrap.py", "--help"], capture_output=True, text=True,
                          check=True).stdout
    page = " ".join(man_page(prefix, "qemu-wrap.py.1").split())
    settings = re.findall(r"^(\w+ \(.*\))\n((?:   .*\n)+)", told, re.M)
    assert len(settings) == 6
    for name, text in settings:
        assert f"{name} {' '.join(text.split())}" in page, name
    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "SETTINGS", "EXIT STATUS", "EXAMPLES"):
        assert f".SH {heading} " in page or f'.SH "{heading}" ' in page, heading


def test_without_cuse_there_is_no_trace_of_it():
    """Neither the library nor the options."""
    from harness import APP  # pylint: disable=import-outside-toplevel
    linked = subprocess.run(["ldd", APP], capture_output=True, text=True, check=True).stdout
    assert "librte_vhost" in linked and "fuse" not in linked
    text = subprocess.run([APP, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--dev-basename" in text and "cuse" not in text.lower()
    with open(APP, "rb") as f:
        assert b"/dev/cuse" not in f.read()
