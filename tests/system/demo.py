#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""make demo: a newcomer's first minute with vhost-switch.

An embedded uplink and two small Linux VMs that ping each other through the switch; where QEMU
cannot be had, two guests without a VM. Then the rate of the switch alone. Ends by itself and cleans
up, Ctrl-C included.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))

import harness  # noqa: E402
import vhostuser  # noqa: E402
import vm  # noqa: E402

MACS = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
SCRIPT = """
ip addr add 192.168.77.{me}/24 dev eth0
echo VM {me} is up
i=0; until ping -c 1 -W 1 192.168.77.{peer} >/dev/null 2>&1 || [ $i -ge 60 ]; do i=$((i+1)); done
ping -c {count} -i 0.2 192.168.77.{peer}
{last}
"""
BUFFER = 2048
START = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


def with_vms(switch):
    seen = []

    def console(name, line):
        if "bytes from" in line or "packets" in line or "is up" in line:
            say(f"{name}: {line}")
        m = re.search(r"(\d+) packets received", line)
        if m:
            seen.append(int(m.group(1)))

    machines = [vm.Vm(f"vm{i + 1}", SCRIPT.format(me=i + 1, peer=2 - i, count=6, last="sleep 8"),
                      switch.sock, MACS[i], cpus=str(harness.cpus()[1]), memory=128, say=console)
                for i in range(2)]
    say("two Linux VMs are booting under QEMU; that takes a few seconds. QEMU emulates their CPUs, "
        "so their pings take the time of the emulation, not of the switch")
    try:
        harness.wait_for(lambda: len(seen) == 2 or any(m.proc.poll() for m in machines), 120,
                         "pings from both VMs")
        time.sleep(1.2)  # for one more table of statistics
    except TimeoutError:
        print("\n".join(m.log() for m in machines))
        raise
    finally:
        for m in machines:
            m.kill()
    return (f"{sum(seen)} of 12 pings were answered between two Linux VMs",
            len(seen) == 2 and all(seen))


def without_vms(switch):
    say("QEMU is not to be had: two guests without a VM exchange frames instead")
    a, b = (vhostuser.Guest(switch.sock, mac) for mac in MACS)
    switch.wait_guests(2)
    a.announce()
    b.recv(1)
    b.announce()
    a.recv(1)
    count = 0
    for _ in range(20):
        a.send([a.frame(b, os.urandom(1000)) for _ in range(50)])
        count += len(b.recv(50))
    time.sleep(1.2)
    a.close()
    b.close()
    return f"{count} of 1000 frames crossed between two guests", count == 1000


def describe(guest, mac):
    """A guest as bench/drain.c wants it."""
    lines = [("guest", f"/proc/{os.getpid()}/fd/{guest.memfd}", guest.length, guest.size,
              BUFFER, mac), *(("ring", r.desc, r.avail, r.used, r.bufs) for r in guest.rings)]
    return "".join(" ".join(map(str, line)) + "\n" for line in lines)


def rate(switch, size):
    """
    Frames a second between two guests that cost next to nothing: the best fifth of a second that is
    measured. None where other programs had the CPUs for so long that frames were late each time.
    """
    guests = {mac: vhostuser.Guest(switch.sock, mac, buf_len=BUFFER, rx_buffers=0) for mac in MACS}
    drain = subprocess.Popen(["taskset", "-c", str(harness.cpus()[1]),
                              os.path.join(harness.ROOT, "build/bench/drain"), str(size), "plain"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def run(warm, ms):
        drain.stdin.write(f"run {warm} {ms}\n")
        return [float(word) for word in drain.stdout.readline().split()]

    try:
        drain.stdout.readline()  # "ready"
        for mac, guest in guests.items():
            drain.stdin.write(describe(guest, mac))
        for _ in range(20):  # until the switch knows both
            frames, bad, _ = run(100, 100)
            if frames and not bad:
                break
        fifths = [run(50, 200) for _ in range(5)]
        return max((frames / seconds for frames, bad, seconds in fifths if frames and not bad),
                   default=None)
    finally:
        drain.kill()
        drain.wait()
        for guest in guests.values():
            guest.close()
        switch.wait_guests(0)


def rates(switch):
    """What the demo ends with."""
    if len(set(harness.cpus())) < 2:
        return "no rate: that needs two CPUs, one for the switch and one for the guests"
    say("two guests that cost next to nothing exchange frames for a second; its best fifth counts")
    told = []
    for size in (64, 1518):
        pps = rate(switch, size)
        told.append(f"{size} bytes: {pps / 1e6:.1f} Mpps, {pps * size * 8 / 1e9:.1f} Gbit/s"
                    if pps else f"{size} bytes: no rate, other programs use the two CPUs")
    return "one worker between two guests, " + "; ".join(told)


def clean(switch):
    """Leave no process, and no file in /tmp and in EAL's /run/dpdk."""
    if switch.proc is not None and switch.proc.poll() is None:
        switch.proc.terminate()
        switch.proc.wait(30)
    shutil.rmtree(switch.dir, ignore_errors=True)
    runtime = harness.runtime_dir()
    shutil.rmtree(os.path.join(runtime, switch.prefix), ignore_errors=True)
    if os.path.isdir(runtime) and not os.listdir(runtime):
        os.rmdir(runtime)


def show_table(switch):
    """The last whole table of statistics that has both guests."""
    text = "\n".join(switch.lines)
    tables = [t for t in re.findall(r"Device statistics =+\n.*?\n=+", text, re.S)
              if "for device 1" in t]
    if tables:
        print(tables[-1], flush=True)


def show():
    switch = None

    def interrupted(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    code = 1
    try:
        huge = harness.hugepages()
        say(f"{huge} hugepages of 2 MB are free" + ("" if huge else ": 4 KB pages will do"))
        switch = harness.Switch("--stats", "1", vdev=["net_null0,no-rx=1"], port="0x1", start=False,
                                app=os.path.abspath(sys.argv[1]), memory=128, huge=huge >= 64)
        say("starting: " + " ".join(["vhost-switch", *switch.args[1:]]))
        switch.start()
        say(f"the switch runs; guests connect to {switch.sock}")
        use_vms = shutil.which("qemu-system-x86_64") and os.path.exists("/bin/busybox")
        if use_vms:
            vm.kernel(say)
        what, good = (with_vms if use_vms else without_vms)(switch)
        for line in switch.lines:
            if line.startswith("DATA:"):
                print(line)
        show_table(switch)
        switch.wait_guests(0)
        fast = rates(switch)
        switch.stop()
        say(f"demo {'succeeded' if good else 'FAILED'}: {what}, "
            "and every mbuf came back to the pool.")
        say(fast)
        code = 0 if good else 1
    except KeyboardInterrupt:
        say("interrupted; cleaning up")
        code = 130
    except (TimeoutError, AssertionError) as error:
        say(f"demo FAILED: {error}")
    finally:
        if switch is not None:
            clean(switch)
    return code


def main():
    with harness.reserved_hugepages(128):
        return show()


if __name__ == "__main__":
    sys.exit(main())
