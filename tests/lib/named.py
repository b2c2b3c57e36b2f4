# SPDX-License-Identifier: BSD-3-Clause
"""Named ports: a switch that has some, and their guests."""

import os
import signal

from harness import Switch, wait_for
from vhostuser import Guest


class Ports:
    """Sockets of named ports in a directory, the options for a switch, and a file of --config."""

    def __init__(self, directory, **ports):
        """port="keys" each, with ; or , between keys."""
        self.dir = str(directory)
        self.ports = dict(ports)
        self.config = os.path.join(self.dir, "ports.conf")

    def sock(self, name):
        return os.path.join(self.dir, name)

    def args(self):
        """As --port options."""
        return [a for name, keys in self.ports.items() for a in (
            "--port", ",".join([f"name={name}", f"socket={self.sock(name)}", *keys.split()]))]

    def write(self, switch=""):
        """As a file. Returns the options for it."""
        text = f"[switch]\n{switch}\n" if switch else ""
        for name, keys in self.ports.items():
            lines = "\n".join(key.replace("=", " = ", 1) for key in keys.split())
            text += f"[port {name}]\nsocket = {self.sock(name)}\n{lines}\n"
        with open(self.config, "w", encoding="ascii") as f:
            f.write(text)
        return ["--config", self.config]

    def guest(self, name, mac=None, **kw):
        number = list(self.ports).index(name) + 1
        mac = mac or f"52:54:00:00:{10 + number // 256:02x}:{number % 256:02x}"
        return Guest(self.sock(name), mac, **kw)

    def guests(self, *names, **kw):
        return [self.guest(name, **kw) for name in names or self.ports]


def reload(switch, ports, text, **kw):
    """Write the file and have it read again; text is what the log says of it."""
    n = sum("config: " in line for line in switch.lines)
    ports.write(**kw)
    switch.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: sum("config: " in line for line in switch.lines) > n, 20, "the reload")
    assert switch.has(f"config: {text}"), [x for x in switch.lines if "config: " in x]


def switch_of(ports, *args, **kw):
    return Switch(*ports.args(), *args, **kw)
