# SPDX-License-Identifier: BSD-3-Clause
"""What dpdk-telemetry.py gets: all of it, valid JSON, and no answer to what was not asked."""

import json
import os
import re
import time

import pytest

from harness import Switch, Wire, cpus, wait_for
from named import Ports
from vhostuser import Guest

OF_GUESTS = ("guests", "stats", "paths", "fdb")
GUEST_MAX = 128  # main.h


def test_answers_for_all_guests_by_pages():
    with Switch(memory=1024) as s:
        crowd = [Guest(s.sock, f"02:00:00:00:05:{i:02x}", size=16, buf_len=512, timeout=30)
                 for i in range(GUEST_MAX)]
        s.wait_guests(GUEST_MAX, 60)
        assert list(s.guests()) == [str(i) for i in range(GUEST_MAX)]
        assert [g["vlan"] for g in s.guests().values()] == list(range(1000, 1000 + GUEST_MAX))
        for g in crowd:
            g.announce()
        wait_for(lambda: len(s.telemetry("/vhost_switch/fdb")) == GUEST_MAX, what="all in the FDB")
        for name in OF_GUESTS:
            pages = list(s.pages(f"/vhost_switch/{name}"))
            assert [i for page in pages for i in page] == [str(i) for i in range(GUEST_MAX)]
            for page in pages[:-1]:  # each but the last is full: one more would not have fitted
                text = len(json.dumps(page, separators=(",", ":")))
                entry = max(len(json.dumps(v, separators=(",", ":"))) for v in page.values())
                assert 16384 - 256 - entry < text < 16384
        stats = list(s.pages("/vhost_switch/stats"))
        assert len(stats) > 1 and all(page[i]["tx_total"] == 1 for page in stats for i in page)
        # between two pages guests may leave: the next one begins where it would have
        first = s.telemetry("/vhost_switch/stats")
        start = int(first.pop("cut").removeprefix("from="))
        assert list(first) == [str(i) for i in range(start)]
        for i in (0, start):
            crowd[i].close()
        wait_for(lambda: len(s.guests()) == GUEST_MAX - 2, what="two that have left")
        assert next(iter(s.telemetry(f"/vhost_switch/stats,from={start}"))) == str(start + 1)
        assert s.telemetry(f"/vhost_switch/stats,{start}") == {}
        last = GUEST_MAX - 1
        assert list(s.telemetry(f"/vhost_switch/stats,from={last}")) == [str(last)]
        for g in crowd:
            if not g.mem.closed:
                g.close()


NO_NUMBER = ["abc", "1x", "x1", "1,0", "-1", "+1", " 1", "1 ", "1.0", "0x1", "1e1", ",1", "128",
             "4294967296", "18446744073709551616", "9" * 900, "from", "from=", "from=x", "from=-1",
             "from=128", "from=0,1", "From=0", "\u0661"]


def test_a_parameter_that_is_no_number_is_refused(guests):
    with Switch("--mirror-port", "0x1", vdev=["net_null0,no-rx=1"]) as s:
        guests(s, 2)
        for name in (*OF_GUESTS, "workers", "mirror", "port", "log"):
            for parameter in NO_NUMBER:
                assert s.telemetry(f"/vhost_switch/{name},{parameter}") is None, (name, parameter)
        for parameter in ("0", "off", "from=0"):
            assert s.telemetry(f"/vhost_switch/port,{parameter}") is None
            assert s.telemetry(f"/vhost_switch/log,{parameter}") is None
        assert s.telemetry("/vhost_switch/mirror")["guest"] == "off"
        assert s.telemetry("/vhost_switch/mirror,from=0") is None
        for name in OF_GUESTS[:3]:
            both = s.telemetry(f"/vhost_switch/{name}")
            assert list(both) == ["0", "1"]
            assert s.telemetry(f"/vhost_switch/{name},1").keys() == both["1"].keys()
            assert list(s.telemetry(f"/vhost_switch/{name},from=1")) == ["1"]
            assert s.telemetry(f"/vhost_switch/{name},127") == {}
            assert s.telemetry(f"/vhost_switch/{name},from=2") == {}
        assert s.telemetry("/vhost_switch/workers,0").keys() == \
            s.telemetry("/vhost_switch/workers")["0"].keys()
        assert s.telemetry("/vhost_switch/workers,1") is None
        assert s.telemetry("/vhost_switch/workers,from=1") is None


@pytest.mark.parametrize("name,shown", [
    (b'a"quoted"\\one', b'a"quoted"\\one'),
    (b"caf\xc3\xa9", b"caf\\xc3\\xa9"),
    (b"\xff\n\t\x01\x7f", b"\\xff\\x0a\\x09\\x01\\x7f"),
    (b"{},:[]\\u0041", b"{},:[]\\u0041")])
def test_odd_socket_names_are_valid_json(guests, name, shown):
    s = Switch(start=False)
    path = os.fsencode(s.dir) + b"/" + name
    s.args += ["--dev-basename", path]
    s.sock = path
    s.start()
    with s:
        guests(s)
        assert s.telemetry("/vhost_switch/guests,0")["socket"] == f"{s.dir}/" + shown.decode()
        assert s.telemetry("/vhost_switch/guests")["0"]["socket"] == f"{s.dir}/" + shown.decode()


def test_a_long_odd_name_is_cut_with_dots(guests):
    s = Switch(start=False)
    s.sock = os.fsencode(s.dir) + b"/" + b"\xc3\xa4" * 30
    s.args += ["--dev-basename", s.sock]
    s.start()
    with s:
        guests(s)
        text = s.telemetry("/vhost_switch/guests")["0"]["socket"]
        assert re.fullmatch(re.escape(s.dir) + r"/(\\x(c3|a4))+\.\.\.", text) and len(text) > 120


def test_help_says_what_a_command_accepts():
    with Wire("tap") as w, w.switch() as s:
        names = [c for c in s.telemetry("/") if c.startswith("/vhost_switch/")]
        assert {n.split("/")[2] for n in names} == {*OF_GUESTS, "ports", "port", "workers",
                                                    "mirror", "log"}
        for name in names:
            text = s.telemetry(f"/help,{name}")[name]
            assert "arameter" in text, text


def workers(switch):
    """What telemetry says of each worker once all that was sent is counted."""
    switch.settle()
    return switch.telemetry("/vhost_switch/workers")


def grown(before, after, worker, key):
    return after[worker][key] - before[worker][key]


def test_workers_are_told_as_they_are(guests):
    """Two workers of lcores 4 and 7; guests go to the one with fewer of them."""
    with Switch(lcores=f"0@{cpus()[0]},4@{cpus()[0]},7@{cpus()[1]}") as s:
        assert {i: w["guests"] for i, w in workers(s).items()} == {"0": 0, "1": 0}
        crowd = guests(s, 3)
        first = workers(s)
        assert list(first) == ["0", "1"]
        for w in first.values():
            assert list(w) == ["lcore", "guests", "rounds", "cycles", "busy_cycles"]
        assert [w["lcore"] for w in first.values()] == [4, 7]
        assert [w["guests"] for w in first.values()] == [2, 1]
        assert [g["worker"] for g in s.guests().values()] == [0, 1, 0]

        # no frame moves: time passes for both alike, all of it in idle rounds
        time.sleep(1)
        idle = workers(s)
        for i in idle:
            assert grown(first, idle, i, "rounds") >= 2
            assert grown(first, idle, i, "busy_cycles") == 0
            assert 0 <= idle[i]["busy_cycles"] < idle[i]["cycles"]
        both = [grown(first, idle, i, "cycles") for i in idle]
        assert min(both) > 0.7 * max(both), both

        # guest 1 is the only one of worker 1: what it sends costs that worker's time alone
        for _ in range(50):
            crowd[1].announce()
        sent = workers(s)
        assert grown(idle, sent, "1", "busy_cycles") > 0
        assert grown(idle, sent, "0", "busy_cycles") == 0
        for i in sent:
            assert 0 <= grown(idle, sent, i, "busy_cycles") <= grown(idle, sent, i, "cycles")

        alone = s.telemetry("/vhost_switch/workers,1")
        assert (alone["lcore"], alone["guests"]) == (7, 1)
        assert alone["rounds"] >= sent["1"]["rounds"]
        assert list(s.telemetry("/vhost_switch/workers,from=1")) == ["1"]
        crowd[0].close()
        s.wait_guests(2)
        assert [w["guests"] for w in workers(s).values()] == [1, 1]


def test_the_main_lcore_works_where_it_is_the_only_one(guests):
    with Switch(lcores=f"5@{cpus()[0]}") as s:
        guests(s)
        (name, worker), = workers(s).items()
        assert (name, worker["lcore"], worker["guests"]) == ("0", 5, 1)


def test_addresses_of_one_port(tmp_path):
    ports = Ports(tmp_path, a="vlan=10 mac=02:00:00:00:00:aa", b="vlan=20", c="")
    with Switch(*ports.args(), "--socket-file", str(tmp_path / "all")) as s:
        guests = [*ports.guests(), Guest(str(tmp_path / "all"), "52:54:00:00:00:01")]
        s.wait_guests(4)
        for g in guests:
            g.announce()
        s.wait_registered("52:54:00:00:00:01")
        wait_for(lambda: len(s.telemetry("/vhost_switch/fdb")) == 5, what="all in the FDB")
        found = {n: {(row["port"], row["mac"])
                     for row in s.telemetry(f"/vhost_switch/fdb,{n}").values()}
                 for n in (128, 129, 130, 131, 639, 640, 65534)}
        assert found == {
            128: {("a", "02:00:00:00:00:aa"), ("a", guests[0].mac.hex(":"))},
            129: {("b", guests[1].mac.hex(":"))}, 130: {("c", guests[2].mac.hex(":"))},
            131: set(), 639: set(), 640: set(), 65534: set()}
        assert s.telemetry("/vhost_switch/fdb,0") == {"0": "52:54:00:00:00:01"}
        assert len(s.telemetry("/vhost_switch/fdb,from=130")) == 2
        for g in guests:
            g.close()
