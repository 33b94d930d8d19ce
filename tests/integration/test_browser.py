#!/usr/bin/env python3
"""The status page in a real browser: its policy lets it run, and it shows how a real agent stands.

usage: test_browser.py TAFFRAIL

Chromium is driven over a pipe (DevTools protocol: JSON, each message ended by NUL). The page is healthy; an output goes down;
the agent ends. On the way: nothing is refused by the policy, no address but the agent's is asked, nothing is stored, and at
320 px nothing is cut off. What the page shows of each state is looked at more closely by tests/test_page.js, without a browser.
"""

import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time

from harness import CriFile, Failed, House, PATIENCE, free_port, need, wait_until

ANSWER_S = 30 * PATIENCE


class Browser:
    """Headless Chromium with one tab. events has what it told unasked."""

    def __init__(self, program, folder):
        commands, self.commands = os.pipe()
        self.answers, answers = os.pipe()

        def take_descriptors():  # the browser reads from 3 and writes to 4
            moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (commands, answers)]
            os.dup2(moved[0], 3)
            os.dup2(moved[1], 4)

        with open(os.path.join(folder, "chromium.log"), "wb") as log:
            self.process = subprocess.Popen(
                [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", f"--user-data-dir={folder}/profile", "--remote-debugging-pipe", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=take_descriptors, close_fds=False)
        os.close(commands)
        os.close(answers)
        self.log = log.name
        self.rest, self.number, self.session, self.events = b"", 0, None, []

    def read(self, end):
        """One message."""
        while b"\0" not in self.rest:
            ready = select.select([self.answers], [], [], max(0, end - time.monotonic()))[0]
            data = os.read(self.answers, 1 << 16) if ready else b""
            if not data:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise Failed(f"the browser does not answer: {log.read()[-2000:]}")
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while True:
            answer = self.read(end)
            if answer.get("id") == self.number:
                need("error" not in answer, f"{method}: {answer}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url):
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Log", "Network", "Page", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def look(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        need("exceptionDetails" not in result, f"{expression}: {result}")
        return result["result"].get("value")

    def text(self, name):
        return self.look(f"document.getElementById('{name}')?.textContent ?? ''")

    def params_of(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)


def check_shown(browser, house):
    pod = CriFile(house, "shop", "pay-0", "6c1e2d3a-0000-4000-8000-000000000001")
    pod.write([f"line {number} password=hunter{number}22" for number in range(100)])
    wait_until(lambda: browser.text("state") == "Healthy", 20, lambda: f"not healthy: {browser.text('state')}")
    wait_until(lambda: "forwardup" in browser.text("outputs"), 20, lambda: f"the output is not shown: {browser.text('outputs')}")
    wait_until(lambda: "100" in browser.text("rules"), 20, lambda: f"100 redactions are not shown: {browser.text('rules')}")
    need(browser.text("books").startswith("Balanced"), browser.text("books"))
    need("node-1" in browser.look("document.title"), "the title")
    ink, paper = (browser.look(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    need(ink != paper and paper != "rgba(0, 0, 0, 0)", f"its style is not used: {ink} on {paper}")
    browser.call("Emulation.setDeviceMetricsOverride", width=320, height=640, deviceScaleFactor=1, mobile=False)
    width = browser.look("document.documentElement.scrollWidth")
    need(width <= 320, f"at 320 px it is {width} px wide")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    need(browser.look("getComputedStyle(document.body).backgroundColor") != paper, "dark is not dark")


def check_quiet(browser, origin):
    said = browser.params_of("Log.entryAdded") + browser.params_of("Runtime.exceptionThrown") + browser.params_of("Runtime.consoleAPICalled")
    said = [entry for entry in said if not re.search("ERR_(CONNECTION|EMPTY_RESPONSE)", json.dumps(entry))]  # the agent was ended
    need(not said, f"the browser complains: {said}")
    urls = {params["request"]["url"] for params in browser.params_of("Network.requestWillBeSent")}
    need(urls and all(url.startswith(origin) for url in urls), f"asked: {urls}")
    need(browser.look("document.cookie") == "" and browser.look("localStorage.length + sessionStorage.length") == 0, "something is stored")


def main():
    program = shutil.which("chromium")
    if program is None:
        print("skipped: the page in a browser (no chromium)")
        return
    with House(sys.argv[1]) as house:
        origin = f"http://127.0.0.1:{free_port()}/"
        house.make_pki()
        house.configure_collector()
        path = house.configure_agent()
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"admin: {{listen: ['{origin[7:-1]}']}}\n")
        collector, agent = house.start("collector"), house.start("agent")
        browser = Browser(program, house.folder)
        try:
            browser.open(origin)
            check_shown(browser, house)
            need(collector.stop() == 0, "the collector's stop")
            wait_until(lambda: "needs you" in browser.text("state") and "output-down" in browser.text("conditions"), 20,
                       lambda: f"output-down is not shown: {browser.text('state')}")
            need(agent.stop() == 0, "the agent's stop")
            wait_until(lambda: "does not answer" in browser.text("state"), 20, lambda: f"gone is not shown: {browser.text('state')}")
            check_quiet(browser, origin)
        finally:
            browser.close()
    print("the page runs by its policy, and shows healthy, degraded and gone")


if __name__ == "__main__":
    main()
