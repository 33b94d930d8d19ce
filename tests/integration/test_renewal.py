#!/usr/bin/python3
"""test_renewal.py TAFFRAIL - certificates are renewed without a signal, and taken over (docs/reload.md, "Certificates that are renewed").

While a pod writes, agent and collector get another authority, certificates and keys, the agent at first half a key. The collector takes
its own over; the agent refuses, works on with the old ones, and takes the whole key over. Each line arrives exactly once.
"""

import os
import sys
import threading
import time

from harness import Failed, House, need, wait_until
from test_admin import metrics_of, status_of
from test_reload import Scene, count_events

LOOK_S = 10   # TF_TLS_LOOK_MS of include/taffrail/tls.h
RENEW_S = 60  # RENEW_MS of agent/commands/run.c
SLACK_S = 30


def renewals(scene, role):
    metrics = metrics_of(scene.admin(role))
    return [metrics[f'taffrail_certificate_reloads_total{{result="{result}"}}'] for result in ("taken", "refused")]


def make_new_set(house):
    """In a folder of its own, with the names that the old files have."""
    house.run("pki", "init", "--name", "Demo", house.path("new"))
    house.run("pki", "collector", house.path("new"), "127.0.0.1", "localhost")
    house.run("pki", "agent", house.path("new"), "node-2")
    for kind in ("pem", "key"):
        os.rename(house.path("new", f"node-2.{kind}"), house.path("new", f"node-1.{kind}"))


def renew(house, *names):
    for name in names:
        os.rename(house.path("new", name), house.path("pki", name))
        time.sleep(0.1)  # one after the other


def line_of(program, event):
    return next(line for line in program.text().splitlines() if f" event={event} " in line)


def renewed(scene, house):
    make_new_set(house)
    with open(house.path("new/node-1.key"), encoding="ascii") as file:
        key = file.read()
    house.write("new/node-1.key", key[:len(key) // 2])
    renew(house, "127.0.0.1.pem", "127.0.0.1.key", "node-1.pem", "node-1.key", "ca.pem")
    begun = time.monotonic()
    for program, event in ((scene.collector, "reload"), (scene.agent, "reload-refused")):
        wait_until(lambda: count_events(program, event) > 0, 2 * LOOK_S + SLACK_S,  # pylint: disable=cell-var-from-loop
                   lambda: f"no {event}\n{program.tail()}")  # pylint: disable=cell-var-from-loop
    wait_until(lambda: count_events(scene.collector, "ready") == 2, SLACK_S, scene.collector.tail)
    line = line_of(scene.collector, "reload")
    need('msg="certificates changed: ' in line and "/pki/ca.pem" in line and " changed=nothing " in line, line)
    wait_until(lambda: " refused=1 " in scene.agent.text(), SLACK_S, scene.agent.tail)
    text = scene.agent.text()
    need("node-1.key is not a private key in PEM" in text and "1 error; the old configuration goes on" in text, scene.agent.tail())
    need(count_events(scene.agent, "start") == 1 and count_events(scene.agent, "reload") == 0, scene.agent.tail())
    need(renewals(scene, "collector") == [1, 0] and renewals(scene, "agent") == [0, 1], f"{renewals(scene, 'agent')}")
    pid = scene.agent.pid

    house.write("pki/node-1.key", key)
    wait_until(lambda: count_events(scene.agent, "reload") > 0, RENEW_S + SLACK_S, scene.agent.tail)
    need(time.monotonic() - begun > RENEW_S, "two reloads in a minute")
    wait_until(lambda: count_events(scene.agent, "ready") == 2, SLACK_S, scene.agent.tail)
    need(scene.agent.pid != pid and renewals(scene, "agent") == [1, 1], f"{renewals(scene, 'agent')}")
    need(status_of(scene.admin())["reloads"] == {"taken": 1, "refused": 1, "certificates": {"taken": 1, "refused": 1}}, "status")


def under_load(house):
    scene = Scene(house)
    is_over = threading.Event()
    need(renewals(scene, "agent") == [0, 0], "no zeros from the start")

    def write():
        while not is_over.wait(0.05):
            scene.write(20)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        renewed(scene, house)
    finally:
        is_over.set()
        writer.join()
    scene.end()
    need({record.get("identity") for record in house.records()} == {"spiffe://demo/node/node-1", "spiffe://demo/node/node-2"},
         "the next main proves another identity")
    with open(house.records_path, encoding="utf-8") as file:
        audit = [line for line in file if '"event":"reload' in line]
    need(any("certificates changed: " in line and '"event":"reload"' in line for line in audit), f"{audit}")
    return f"{scene.lines} lines"


def main():
    with House(sys.argv[1]) as house:
        print(f"ok    renewed certificates are taken over without a signal, half a key is not: {under_load(house)}")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
