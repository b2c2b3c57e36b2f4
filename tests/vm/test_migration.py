# SPDX-License-Identifier: BSD-3-Clause
"""A VM moves from one QEMU to another on the same switch, while two guests flood it.

With one queue pair, and with four that all get a part of the flood and large frames to segment.
"""

import os
import struct
import threading
import time

from types import SimpleNamespace

import pytest

from frames import tcp4
from harness import Switch, cpus, wait_for
from vhostuser import F_CSUM, F_HOST_TSO4, Guest
from vm import Qmp, Vm

MAC = "52:54:00:00:00:01"
MEMORY = 128  # MB
SCRIPT = """
i=0; while [ $i -lt 1200 ]; do
  echo "tick $i $(cat /sys/class/net/eth0/statistics/rx_packets)"; sleep 0.1; i=$((i+1))
done
"""


class Flood(threading.Thread):
    """Two guests: both send to the VM as fast as they can, and to each other, checked."""

    def __init__(self, a, b, flows):
        super().__init__(daemon=True)
        self.a, self.b, self.flows = a, b, flows
        self.stopped, self.error, self.exchanged = False, None, 0

    def segmented(self, x):
        """Unsegmented TCP to the VM, of another flow each."""
        vm = SimpleNamespace(mac=bytes.fromhex(MAC.replace(":", "")))
        frames = [tcp4(x, vm, bytes(3000), mss=1000) for _ in range(self.flows)]
        return [f[:36] + struct.pack(">H", port) + f[38:] for port, (f, _) in enumerate(frames)], \
            frames[0][1]

    def run(self):
        try:
            while not self.stopped:
                for x, y in ((self.a, self.b), (self.b, self.a)):
                    number = struct.pack("<Q", self.exchanged)
                    if self.flows:
                        frames, hdr = self.segmented(x)
                        x.send(frames, hdr=hdr)
                    x.send([x.frame(MAC, bytes(200)) for _ in range(15)] +
                           [x.frame(y, number + os.urandom(100))] +
                           [x.frame(MAC, bytes(1000)) for _ in range(15)])
                    got = [f for f in y.recv(1) if f[6:12] == x.mac]
                    assert [f[14:22] for f in got] == [number], "lost, doubled or altered"
                    self.exchanged += 1
        except (AssertionError, TimeoutError, OSError) as e:
            self.error = e


def ticks(machine):
    """(number, frames received) that the VM printed, the latest last."""
    return [tuple(map(int, line.split()[1:])) for line in list(machine.lines)
            if line.startswith("tick ") and len(line.split()) == 3]


@pytest.mark.parametrize("pairs", [1, 4])
def test_a_flooded_vm_migrates(tmp_path, pairs):
    def start(name, *extra):
        return Vm(name, SCRIPT, s.sock, MAC, cpus=str(cpus()[1]), memory=MEMORY, smp=pairs,
                  device=",mq=on" if pairs > 1 else "", netdev=f",queues={pairs}", extra=[
                      "-qmp", f"unix:{tmp_path}/{name}.qmp,server=on,wait=off", *extra])

    with Switch("--mergeable", "1", "--tso", "1", "--tx-csum", "1") as s:
        a, b = (Guest(s.sock, f"02:00:00:00:00:0{x}", features=F_CSUM | F_HOST_TSO4, buf_len=4096)
                for x in "ab")
        s.wait_guests(2)
        machines, flood, talks = [], Flood(a, b, 8 if pairs > 1 else 0), []
        try:
            machines.append(start("source"))
            s.wait_guests(3, 60)
            source = machines[0]
            wait_for(lambda: MAC in s.telemetry("/vhost_switch/fdb").values(), 60, "the VM's MAC")
            a.announce()
            b.announce()
            time.sleep(0.2)
            a.poll()
            b.poll()
            flood.start()
            wait_for(lambda: ticks(source) and ticks(source)[-1][1] > 1000, 60, "frames in the VM")
            assert s.path(2) == "running"
            machines.append(start("target", "-S", "-incoming", f"unix:{tmp_path}/move"))
            target = machines[1]
            talks = [Qmp(f"{tmp_path}/{n}.qmp") for n in ("source", "target")]
            old, new = talks
            old("migrate-set-parameters", **{"max-bandwidth": 1 << 30, "downtime-limit": 500})
            before = flood.exchanged
            assert s.telemetry("/vhost_switch/guests,2")["rx_rings"] == pairs
            old("migrate", uri=f"unix:{tmp_path}/move")
            seen = set()
            wait_for(lambda:
                     seen.add(s.telemetry("/vhost_switch/guests,2").get("features", 0) >> 26 & 1)
                     or old("query-migrate")["status"] == "completed", 90, "the end of migration")
            assert 1 in seen  # VHOST_F_LOG_ALL: writes were logged
            info = old("query-migrate")
            print(f"downtime {info['downtime']} ms, {info['total-time']} ms in all, "
                  f"{info['ram']['dirty-sync-count']} passes, {flood.exchanged - before} exchanges "
                  "of the others meanwhile")
            # both are stopped now: what one had and the other has
            for qmp, name in ((old, "source"), (new, "target")):
                qmp("pmemsave", val=0, size=MEMORY << 20, filename=f"{tmp_path}/{name}.mem")
            with open(tmp_path / "source.mem", "rb") as x, open(tmp_path / "target.mem", "rb") as y:
                differs = [i for i in range(MEMORY << 8)
                           if x.read(4096) != y.read(4096)]
            assert not differs, f"{len(differs)} pages differ: {differs[:20]}"
            last = ticks(source)[-1]
            old("quit")
            source.wait(20)
            new("cont")
            wait_for(lambda: ticks(target) and ticks(target)[-1][0] > last[0] + 3 and
                     ticks(target)[-1][1] > last[1] + 1000, 60, "the VM going on, with frames")
            assert MAC in s.telemetry("/vhost_switch/fdb").values()
            assert flood.exchanged > before
            flood.stopped = True
            flood.join()
            assert flood.error is None, flood.error
        except BaseException:
            for machine in machines:
                print(machine.log()[-2000:])
            print(flood.error)
            raise
        finally:
            flood.stopped = True
            for talk in talks:
                talk.close()
            for machine in machines:
                machine.kill()
        a.close()
        b.close()
        s.wait_guests(0)
