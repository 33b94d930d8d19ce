#!/usr/bin/python3
"""test_log_files.py TAFFRAIL [SCENARIO…] - what a file is, and what is none of ours.

Inode numbers that are used again, files that are replaced or share their start, a file that lost its
own tail, deleted files whose writer goes on, and planted links: each with the agent up, and where that
makes a difference also with the agent down meanwhile. Lines are numbered and counted at the collector.
"""

import base64
import concurrent.futures
import os
import signal
import sys
import time

from harness import CriFile, DockerFile, Failed, House, PlainFile, Stored, check_books, gzip_by_docker, gzip_by_kubelet, need, wait_until

RESCAN_S = 0.2
SAME_BYTES = 4096
INODE_TRIES = 2000
INPUTS = f"""  - container:
      name: pods
      paths: [../logs/pods/*/*/*.log]
      link_roots: [../logs/pods, ../logs/docker/containers]
      rescan: {RESCAN_S * 1000:.0f}ms
  - container: {{name: plain, paths: [../logs/plain/pods/*/*/*.log], format: plain, rescan: {RESCAN_S * 1000:.0f}ms}}
"""
SLOW = """  - container: {name: pods, paths: [../logs/pods/*/*/*.log], rescan: 200ms, max_rate: 64KiB/s}
"""


OTHERS = 12
CROWD_LINES = 2500
CROWD_BYTES = 1500  # of a line; of OTHERS files the spool has no room for half
CROWDED = f"""  - container: {{name: pods, paths: [../logs/pods/*/*/*.log], rescan: {RESCAN_S * 1000:.0f}ms, deleted: {{size: 1MiB, age: 1h}}}}
"""


def texts(name, first, end, filler=40):
    return [f"{name} line {number} " + "x" * filler for number in range(first, end)]


def random_texts(name, first, end):
    """Lines that gzip makes a quarter shorter at most."""
    return [f"{name} line {number} {base64.b64encode(os.urandom(CROWD_BYTES * 3 // 4)).decode()}" for number in range(first, end)]


class Scene:
    """One scenario's view of the house: its pods' names begin with its own name."""

    def __init__(self, house, name, is_down):
        self.house, self.name, self.is_down = house, name, is_down
        self.stored = Stored(house)
        self.collector = house.start("collector")
        self.agent = house.start("agent")

    def file(self, kind, part="a"):
        return kind(self.house, "shop", f"{self.name}-{part}", f"{len(self.name):04x}-{sum(self.name.encode()):08x}-{part}")

    def text(self, part, first, end):
        return texts(f"{self.name}-{part}", first, end)

    def arrived(self, part, end, timeout_s=15):
        """Waits until all lines below end are there."""
        lines = {f"{self.name}-{part}": end}
        wait_until(lambda: not self.stored.look().missing(lines), timeout_s,
                   lambda: f"{self.name}: {part}: missing {self.stored.missing(lines)[:5]}\n{self.agent.tail()}")

    def leave(self):
        """What follows happens while no agent runs, in the scenarios that are played so."""
        if self.is_down:
            need(self.agent.stop() == 0, self.agent.tail())

    def come_back(self):
        if self.is_down:
            self.agent = self.house.start("agent")

    def settle(self):
        """Time for what should not come; after that each doubled line would be seen."""
        time.sleep(4 * RESCAN_S)
        self.stored.look()

    def times(self, part, number):
        return self.stored.counts.get((f"{self.name}-{part}", number), 0)

    def need_times(self, part, first, end, allowed=(1,)):
        wrong = [(number, self.times(part, number)) for number in range(first, end) if self.times(part, number) not in allowed]
        need(not wrong, f"{self.name}: {part}: of lines {first} to {end}, allowed {allowed} times, these differ: {wrong[:8]}\n{self.agent.tail()}")

    def gaps(self, reason, part="a"):
        return [gap for gap in self.stored.gaps_of(f"{self.name}-{part}") if gap["reason"] == reason]

    def need_gap(self, reason, part="a"):
        wait_until(lambda: self.stored.look() and self.gaps(reason, part), 5, lambda: f"{self.name}: no gap {reason}\n{self.agent.tail()}")


def inode_used_again(scene):
    """The same number, another file: it is read from its start."""
    file = scene.file(PlainFile)
    file.write(scene.text("a", 0, 50))
    scene.arrived("a", 50)
    scene.leave()
    file.close()
    number = os.stat(file.path).st_ino
    os.unlink(file.path)
    for spare in range(INODE_TRIES):  # a file system takes its lowest free number, so hold what comes before
        hidden = f"{file.folder}/.{spare}"
        file.file = open(hidden, "ab", buffering=0)
        if os.fstat(file.file.fileno()).st_ino == number:
            break
        file.close()
        time.sleep(0 if scene.is_down else 0.005)  # the agent holds the old one for two scans
    else:
        raise Failed(f"{scene.name}: inode {number} was not used again in {INODE_TRIES} tries: this proves nothing")
    os.rename(hidden, file.path)
    file.write(scene.text("b", 0, 80))
    scene.come_back()
    scene.arrived("b", 80)
    scene.settle()
    scene.need_times("a", 0, 50)
    scene.need_times("b", 0, 80)


def common(scene):
    """Lines of SAME_BYTES at least, and their number."""
    count = SAME_BYTES // len(scene.text("same", 10, 11)[0]) + 10
    return scene.text("same", 0, count), count


def replaced_by_rename(scene):
    """Another file with the same first 4 KiB takes the name: it is another file."""
    file, (same, count) = scene.file(PlainFile), common(scene)
    file.write(same + scene.text("a", 0, 20))
    scene.arrived("a", 20)
    scene.leave()
    with open(f"{file.folder}/new", "ab", buffering=0) as new:
        new.write(b"".join(file.line(text) for text in same + scene.text("b", 0, 20)))
    os.rename(f"{file.folder}/new", file.path)
    scene.come_back()
    scene.arrived("b", 20)
    scene.settle()
    scene.need_times("same", 0, count, (2,))
    scene.need_times("a", 0, 20)
    scene.need_times("b", 0, 20)


def replaced_in_place(scene):
    """The same file with other bytes behind its first 4 KiB: told, and no byte of the new is passed over."""
    file, (same, count) = scene.file(PlainFile), common(scene)
    file.write(same + scene.text("a", 0, 20))
    scene.arrived("a", 20)
    scene.leave()
    with open(file.path, "wb", buffering=0) as new:
        new.write(b"".join(file.line(text) for text in same + scene.text("b", 0, 30)))
    scene.come_back()
    scene.arrived("b", 30)
    scene.settle()
    scene.need_gap("copytruncate")
    scene.need_times("same", 0, count, (1, 2))
    scene.need_times("a", 0, 20)
    scene.need_times("b", 0, 30)


def same_start(scene):
    """Two logs that begin alike, and one that was rotated and begins like its successor."""
    one, two, (same, count) = scene.file(PlainFile), scene.file(PlainFile, "b"), common(scene)
    one.write(same + scene.text("a", 0, 20))
    scene.arrived("a", 20)
    scene.leave()
    two.write(same + scene.text("b", 0, 20))
    one.rotate()
    one.write(same + scene.text("c", 0, 20))
    scene.come_back()
    for part in "bc":
        scene.arrived(part, 20)
    scene.settle()
    scene.need_times("same", 0, count, (3,))
    for part in "abc":
        scene.need_times(part, 0, 20)
    need(not scene.stored.gaps_of(f"{scene.name}-a"), f"{scene.name}: {scene.stored.gaps[:1]}")


def lost_tail(scene):
    """A file ends in the middle of a line that was read, then others follow: a gap tells, none of these is passed over."""
    file = scene.file(CriFile)
    file.write(scene.text("a", 0, 200))
    scene.arrived("a", 200)
    scene.leave()
    with open(file.path, "rb") as written:
        kept = len(b"".join(written.readlines()[:150])) + 60
    os.truncate(file.path, kept)
    file.write(scene.text("b", 0, 100))
    scene.come_back()
    name = f"{scene.name}-b line 0 ".encode()
    wait_until(lambda: scene.stored.look().has(f"{scene.name}-b", 99), 15, lambda: f"{scene.name}: the end is missing\n{scene.agent.tail()}")
    scene.settle()
    scene.need_gap("copytruncate")
    scene.need_times("a", 0, 200, (1, 2))
    scene.need_times("b", 1, 100)
    with open(scene.house.records_path, "rb") as stored:
        need(name in stored.read(), f"{scene.name}: the line behind the torn one is lost")


def rest(scene):
    """Until nothing is new any more, so that the agent only compares times."""
    time.sleep(5 * RESCAN_S + 1)


def folder_made_after_start(scene):
    """The fixed folder of a glob may come after the agent."""
    need(scene.agent.stop() == 0, scene.agent.tail())
    os.rmdir(scene.house.path("logs/plain/pods"))
    scene.agent = scene.house.start("agent")
    rest(scene)
    scene.file(PlainFile).write(scene.text("a", 0, 10))
    scene.arrived("a", 10, 10 * RESCAN_S)


def link_before_target(scene):
    """A pod's link may be there before the folder that it leads to."""
    uid = "00000000-0000-4000-8000-00000000000a"
    name = (uid.replace("-", "") * 8)[:64]
    pod = scene.house.path(f"logs/pods/shop_{scene.name}-a_{uid}/app")
    os.makedirs(pod)
    os.symlink(scene.house.path("logs/docker/containers", name, f"{name}-json.log"), f"{pod}/0.log")
    rest(scene)
    DockerFile(scene.house, "shop", f"{scene.name}-a", uid).write(scene.text("a", 0, 10))
    scene.arrived("a", 10, 10 * RESCAN_S)


def compressed(scene):
    """What was read is known in its compressed form: nothing is doubled, and no loss is told where there was none."""
    whole, part, copied = (scene.file(kind, name) for kind, name in zip((CriFile, DockerFile, PlainFile), "abc"))
    for name, file in zip("abc", (whole, part, copied)):
        file.write(scene.text(name, 0, 50))
    for name in "abc":
        scene.arrived(name, 50)
    scene.leave()
    part.write(scene.text("b", 50, 60))
    whole.rotate()
    part.rotate()
    with open(copied.path, "rb") as source, open(f"{copied.path}.1", "wb") as copy:
        copy.write(source.read())
    os.truncate(copied.path, 0)
    gzip_by_kubelet(f"{whole.path}.20261124-000001")
    gzip_by_docker(f"{part.path}.1")
    gzip_by_docker(f"{copied.path}.1")
    for name, file in zip("abc", (whole, part, copied)):
        file.write(scene.text(name, 60, 70))
    scene.come_back()
    for name in "abc":
        wait_until(lambda name=name: scene.stored.look().has(f"{scene.name}-{name}", 69), 10, lambda: f"{scene.name}: {scene.agent.tail()}")
    scene.settle()
    scene.need_times("a", 0, 50)
    scene.need_times("b", 0, 70)
    scene.need_times("c", 0, 50)
    for name in "ac":
        scene.need_times(name, 60, 70)
    need(not scene.stored.gaps, f"{scene.name}: gaps where nothing was lost: {scene.stored.gaps}\n{scene.agent.tail()}")


def copied_and_written(scene):
    """Lines written between copy and cut, and read: the copy is known though the position lies behind its end."""
    file = scene.file(CriFile)
    file.write(scene.text("a", 0, 50))
    scene.arrived("a", 50)
    with open(file.path, "rb") as source, open(f"{file.path}.1", "wb") as copy:
        copy.write(source.read())
    file.write(scene.text("a", 50, 60))
    scene.arrived("a", 60)
    os.truncate(file.path, 0)
    file.write(scene.text("b", 0, 10))
    scene.arrived("b", 10)
    scene.settle()
    scene.need_times("a", 0, 60)
    scene.need_times("b", 0, 10)


def deleted_and_written(scene):
    """What is written before and after the deletion arrives, as long as the writer does not rest for two scans."""
    need(scene.agent.stop() == 0, scene.agent.tail())
    rescan_s = 3 * RESCAN_S  # this test may stand still for a moment, too
    scene.house.configure_agent(spool=", sync: 20ms", inputs=INPUTS.replace(f"{RESCAN_S * 1000:.0f}ms", f"{rescan_s * 1000:.0f}ms"))
    scene.agent = scene.house.start("agent")
    file, big = scene.file(CriFile), scene.file(DockerFile, "b")
    file.write(scene.text("a", 0, 20))
    big.write(scene.text("b", 0, 1))
    scene.arrived("a", 20)
    scene.arrived("b", 1)
    big.write(texts(f"{scene.name}-b", 1, 2000, 3000))
    for each in (file, big):
        os.unlink(each.path)
    for number in range(20, 60):
        file.write(scene.text("a", number, number + 1))
        time.sleep(rescan_s / 4)
    scene.arrived("a", 60)
    scene.arrived("b", 2000)
    scene.settle()
    scene.need_times("a", 0, 60)
    scene.need_times("b", 0, 2000)
    need(not scene.stored.gaps, f"{scene.name}: {scene.stored.gaps[:1]}")


def deleted_in_a_crowd(scene):
    """Past its bound a deleted file is read before all others; let go, with its size, when there is no room even for that."""
    need(scene.agent.stop() == 0, scene.agent.tail())
    scene.house.configure_agent(spool=", sync: 20ms, max_size: 24MiB", inputs=CROWDED, agent="host: node-1, workers: 1")
    parts = [f"o{number}" for number in range(OTHERS)] + ["hurried", "late"]
    files = {part: scene.file(CriFile, part) for part in parts}
    for part, file in files.items():
        file.write(scene.text(part, 0, 1))
    scene.agent = scene.house.start("agent")
    for part in parts:
        scene.arrived(part, 1)

    need(scene.collector.stop() == 0, scene.collector.tail())
    os.kill(scene.agent.pid, signal.SIGSTOP)  # all of them begin to wait at the same moment
    for part in parts[:-1]:
        files[part].write(random_texts(f"{scene.name}-{part}", 1, CROWD_LINES))
    os.unlink(files["hurried"].path)
    os.kill(scene.agent.pid, signal.SIGCONT)
    scene.agent.wait_event("spool-full", 60)
    late = files["late"]
    begin = os.path.getsize(late.path)
    late.write(random_texts(f"{scene.name}-late", 1, CROWD_LINES))
    size = os.path.getsize(late.path) - begin
    os.unlink(late.path)
    scene.agent.wait_event("gap", 60)

    scene.collector = scene.house.start("collector")
    for part in parts[:-1]:
        scene.arrived(part, CROWD_LINES, 60)
    scene.need_gap("deleted", "late")
    scene.settle()
    for part in parts[:-1]:
        scene.need_times(part, 0, CROWD_LINES)
        need(not scene.gaps("deleted", part), f"{scene.name}: {part} was let go")
    scene.need_times("late", 0, 1)
    scene.need_times("late", 1, CROWD_LINES, (0,))
    told = [gap.get("bytes_max") for gap in scene.gaps("deleted", "late")]
    need(told == [size], f"{scene.name}: told {told}, lost {size}")


def planted_links(scene):
    """Nothing outside is read: by links to files and folders, hard links, or from where others may write."""
    house = scene.house
    outside, planted = house.path("outside/canary_x_1/app"), house.path("logs/pods")
    os.makedirs(outside)
    canary = os.path.join(outside, "0.log")
    with open(canary, "w", encoding="ascii") as file:
        file.write("".join(text + "\n" for text in scene.text("canary", 0, 100)))

    def folder(name):
        os.makedirs(f"{planted}/evil_{name}_1/app")
        return f"{planted}/evil_{name}_1/app/0.log"

    os.symlink(canary, folder("link"))
    os.symlink("../../../../outside/canary_x_1/app/0.log", folder("relative"))
    os.symlink(f"{planted}/evil_link_1/app/0.log", folder("chain"))
    os.symlink(f"{planted}/../../outside/canary_x_1/app/0.log", folder("dots"))
    os.symlink("/proc/self/environ", folder("magic"))
    os.symlink(folder("round"), f"{planted}/evil_round_1/app/1.log")
    os.symlink(f"{planted}/evil_round_1/app/1.log", f"{planted}/evil_round_1/app/0.log")
    os.link(canary, folder("hard"))
    os.mkfifo(folder("fifo"))
    os.symlink(os.path.dirname(outside), f"{planted}/evil_folder_1")
    os.makedirs(f"{planted}/evil_app_1")
    os.symlink(outside, f"{planted}/evil_app_1/app")
    writable = folder("writable")
    os.chmod(os.path.dirname(writable), 0o777)
    with open(writable, "w", encoding="ascii") as file:
        file.write("".join(text + "\n" for text in scene.text("canary", 0, 100)))
    if os.geteuid() == 0:
        foreign = folder("foreign")
        hidden = os.path.join(os.path.dirname(foreign), ".hidden")  # a look would open it before it is given away
        with open(hidden, "w", encoding="ascii") as file:
            file.write("".join(text + "\n" for text in scene.text("canary", 0, 100)))
        os.chown(hidden, 65534, 65534)
        os.rename(hidden, foreign)
    witness = scene.file(CriFile)
    for number in range(10):  # whatever is looked at, is looked at again and again meanwhile
        witness.write(scene.text("a", number, number + 1))
        time.sleep(RESCAN_S / 2)
    scene.arrived("a", 10)
    scene.settle()
    with open(house.records_path, "rb") as stored:
        need(b"canary" not in stored.read(), "a planted link was read")
    need(not scene.stored.others, f"something else was read: {scene.stored.others[:1]}")
    need(scene.agent.has_event("unreadable"), f"what is refused is not told\n{scene.agent.tail()}")


def cut_before_it_was_copied(scene):
    """The copy is shorter than the file was when it was last looked at: the gap is the difference."""
    need(scene.agent.stop() == 0, scene.agent.tail())
    scene.house.configure_agent(spool=", sync: 20ms", inputs=SLOW)
    file = scene.file(CriFile)
    file.write(texts(f"{scene.name}-a", 0, 600, 1000))
    scene.agent = scene.house.start("agent")
    scene.arrived("a", 10)
    with open(file.path, "rb") as whole:
        lines = whole.readlines()
    with open(f"{file.path}.1", "wb") as copy:
        copy.writelines(lines[:300])
    os.truncate(file.path, 0)
    file.write(scene.text("b", 0, 10))
    scene.arrived("a", 300)
    scene.arrived("b", 10)
    scene.settle()
    scene.need_times("a", 0, 300)
    scene.need_times("a", 300, 600, (0,))
    scene.need_times("b", 0, 10)
    scene.need_gap("copytruncate")
    lost = sum(map(len, lines[300:]))
    need(scene.gaps("copytruncate")[0].get("bytes_max") == lost, f"{scene.gaps('copytruncate')}, {lost} bytes are lost")


SCENARIOS = {  # name: also with the agent down
    inode_used_again: True,
    replaced_by_rename: True,
    replaced_in_place: True,
    same_start: True,
    lost_tail: True,
    compressed: True,
    copied_and_written: False,
    folder_made_after_start: False,
    link_before_target: False,
    deleted_and_written: False,
    deleted_in_a_crowd: False,
    planted_links: False,
    cut_before_it_was_copied: False,
}
ALONE = {inode_used_again, deleted_and_written}  # others would take the inode, or make the writer rest too long
AT_ONCE = 3


def play(binary, scenario, is_down):
    began = time.monotonic()
    with House(binary) as house:
        house.make_pki()
        house.configure_collector(spool=", sync: 20ms")
        house.configure_agent(spool=", sync: 20ms", inputs=INPUTS)
        os.makedirs(house.path("logs/plain/pods"))
        scene = Scene(house, scenario.__name__.replace("_", "-"), is_down)
        scenario(scene)
        for program in (scene.agent, scene.collector):
            need(program.stop() == 0, program.tail())
            check_books(program)
    print(f"ok    {scenario.__name__}, agent {'down' if is_down else 'up'} ({time.monotonic() - began:.1f} s)", flush=True)


def main(binary, *names):
    wanted = [(scenario, is_down) for scenario, both in SCENARIOS.items() for is_down in ((False, True) if both else (False,))
              if not names or scenario.__name__ in names]
    failures = []

    def judge(scenario, is_down):
        try:
            play(binary, scenario, is_down)
        except Failed as failed:
            failures.append(f"{scenario.__name__}, agent {'down' if is_down else 'up'}")
            print(f"FAIL  {failures[-1]}: {failed}", flush=True)

    for scenario, is_down in wanted:
        if scenario in ALONE:
            judge(scenario, is_down)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        done = [pool.submit(judge, *each) for each in wanted if each[0] not in ALONE]
    for each in done:
        each.result()  # raises what is no Failed
    need(not failures, f"{len(failures)} of {len(wanted)} scenarios: " + "; ".join(failures))
    print(f"{len(wanted)} scenarios: each file read for what it is")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
