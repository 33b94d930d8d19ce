#!/usr/bin/python3
"""test_sandbox.py TAFFRAIL PROBE - what the agent gives up (docs/sandbox.md), seen from outside and tried from inside.

An agent and a collector that run: every thread without an effective capability, with no_new_privs and a filter. The
probe confines itself by the same code, and tries what is refused; under filters that take one layer away, the others
hold, the agent warns, and with `required` it does not start. Another user than root with the one capability reads
root's logs, from a file capability and from `user`. Host names are looked up. Root.
"""

import errno
import os
import shutil
import signal
import struct
import subprocess
import sys

from harness import CriFile, Failed, House, PATIENCE, Program, free_port, need, process_file, wait_until

READ = 1 << 2  # CAP_DAC_READ_SEARCH, linux/capability.h
BEGIN = READ | 1 << 5 | 1 << 6 | 1 << 7  # and CAP_KILL, CAP_SETGID, CAP_SETUID
NOBODY = 65534
STRANGER = 65532
LAYERS = ("no_new_privs", "capabilities", "landlock", "seccomp")


def status_of(pid, thread):
    """Of a thread that has ended: nothing."""
    lines = process_file(pid, f"task/{thread}/status").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def resting_status(pid, thread):
    """Of a moment without a capability in effect: who opens logs has one for as long as each open takes."""
    found = {}

    def rests():
        found.clear()
        found.update(status_of(pid, thread))
        return not found or int(found["CapEff"], 16) == 0

    wait_until(rests, 1, lambda: f"in effect: {found['CapEff']}")
    return found


def check_confined(pid, uid=0, permitted=0):
    """Each thread: capset, no_new_privs and filters are a thread's. Main has no capability: the opener may have one."""
    threads = os.listdir(f"/proc/{pid}/task")
    need(len(threads) > 1, "the workers are not there yet")
    for thread in threads:
        status = resting_status(pid, thread) if permitted else status_of(pid, thread)
        if not status:
            continue  # it has ended meanwhile
        need(int(status["CapPrm"], 16) == permitted, f"permitted: {status['CapPrm']}")
        for name in ("CapEff", "CapInh", "CapAmb", *(("CapBnd",) if uid == 0 else ())):
            need(int(status[name], 16) == 0, f"{name}: {status[name]}")
        need((status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), f"{status}")
        need(status["Uid"].split() == [str(uid)] * 4, f"it runs as {status['Uid']}")
    for name in ("maps", "fd"):
        need(os.stat(f"/proc/{pid}/{name}").st_uid == 0, f"dumpable: {name} is not root's")
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        pages = [line.split()[1] for line in file]
    need(not any(page.startswith("rwx") for page in pages), "a page is writable and executable")
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        core = next(line for line in file if line.startswith("Max core file size"))
    need(core.split()[4:6] == ["0", "0"], core)


def check_parent(pid, uid=0, permitted=BEGIN):
    """It keeps what a main begins with, and has none of it in effect."""
    need(os.listdir(f"/proc/{pid}/task") == [str(pid)], "the parent has threads")
    status = status_of(pid, pid)
    need(int(status["CapPrm"], 16) == permitted, f"the parent's permitted: {status['CapPrm']}")
    need(int(status["CapInh"], 16) == READ, f"the parent's CapInh: {status['CapInh']}")  # a main may hand it on
    for name in ("CapEff", "CapAmb", *(("CapBnd",) if uid == 0 else ())):
        need(int(status[name], 16) == 0, f"the parent's {name}: {status[name]}")
    need(status["NoNewPrivs"] == "1" and status["Uid"].split() == [str(uid)] * 4, f"the parent: {status}")
    need(os.stat(f"/proc/{pid}/maps").st_uid == 0, "the parent is dumpable")
    open_files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]
    need(all(name.startswith(("socket:", "anon_inode:[signalfd]")) for name in open_files), f"the parent's files: {open_files}")


def check_running(house, _):
    """Agent and collector at work, the collector by its name."""
    house.make_pki()
    house.configure_collector()
    house.configure_agent(outputs=f"""  - forward:
      hosts: ["localhost:{house.port}"]
      tls: {house.tls("node-1")}
""")
    log = CriFile(house, "shop", "pay", "1111")
    log.write([f"line {i}" for i in range(100)])
    programs = [house.start(role) for role in ("collector", "agent")]
    wait_until(lambda: len(house.records()) == 100, 15, lambda: programs[1].tail())
    for program in programs:
        need('event=sandbox msg="4 of 4 layers on"' in program.text(), program.tail())
        check_confined(program.pid)
        check_parent(program.process.pid)
    for program in reversed(programs):
        need(program.stop() == 0, program.tail())
    with open(house.records_path, encoding="utf-8") as file:
        need(sum('"event":"sandbox","log":"all layers of the sandbox are on"' in line for line in file) == 2,
             "no audit record of the sandbox")
    for program in (house.start(role) for role in ("collector", "agent")):
        need(program.stop() == 0, program.tail())  # also with a spool and keys that are there
    print("ok    agent and collector work, confined; the collector's name is looked up")


def probe(house, binary, *outer, run=None, more=()):
    """{trial: result}"""
    for name in ("in", "out"):
        shutil.rmtree(house.path(name), ignore_errors=True)
        os.makedirs(house.path(name))
    with open(house.path("readable"), "w", encoding="utf-8") as file:
        file.write("x")
    words = [*outer, binary, "inside", f"read={house.path('readable')}", f"write={house.path('in')}",
             f"outside={house.path('out')}", f"connect={free_port()}", f"listen={free_port()}", *more]
    done = subprocess.run(words + ([f"run={run}"] if run else []), capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"the probe ended with {done.returncode}: {done.stderr}")
    return {name: int(result) for name, result in (line.split() for line in done.stdout.splitlines())}


FILES = {"open_shadow": errno.EACCES, "open_allowed": 0, "write_allowed": errno.EACCES, "make_inside": 0,
         "remove_inside": 0, "folder_inside": errno.EACCES, "link_inside": errno.EACCES, "make_outside": errno.EACCES,
         "open_shadow_raised": errno.EACCES}
PORTS = {"connect_allowed": errno.ECONNREFUSED, "connect_other": errno.EACCES, "listen_allowed": 0,
         "listen_other": errno.EACCES, "signal": errno.EPERM}
CALLS = {"socket_unix": 0, "socket_route": 0, "socket_uevent": errno.EPERM, "socket_packet": errno.EPERM,
         "socket_alg": errno.EPERM, "socket_hidden": errno.EPERM, "ptrace": errno.EPERM,
         "process_vm_readv": errno.EPERM, "io_uring": errno.EPERM, "keyctl": errno.EPERM, "unshare": errno.EPERM,
         "bpf": errno.EPERM, "userfaultfd": errno.EPERM, "mount": errno.EPERM, "execute": errno.EPERM}
MEMORY = {"map_both": errno.EACCES, "make_executable": errno.EACCES, "dumpable": 0}
UNLISTED = ("getppid", "getpriority", "umask", "setuid", "set_name", "ioctl", "fork")
RIGHTS = {"effective": 0, "effective_of_thread": 0, "raised": READ, "lowered": 0}


def need_trials(found, wanted):
    wrong = {name: (found[name], result) for name, result in wanted.items() if found[name] != result}
    need(not wrong, f"tried: (found, wanted) {wrong}")


def check_inside(house, binary):
    found = probe(house, binary)
    need(found["layers"] == 4, f"{found}")
    wanted = {**FILES, **CALLS, **RIGHTS, **MEMORY, **(PORTS if found["landlock"] >= 6 else {})}
    if found["memory"] == 1:  # no PR_SET_MDWE in this kernel
        wanted.update(map_both=errno.EPERM, make_executable=errno.EPERM)
    need_trials(found, wanted)
    print(f"ok    {len(wanted)} trials from inside, Landlock {found['landlock']}")


def check_strict(house, binary):
    """What mode normal lets through and is on no list; what is on the list by its arguments only."""
    found = probe(house, binary)
    need(found["calls"] == 1, f"mode normal: {found}")
    need_trials(found, dict.fromkeys(UNLISTED, 0))
    # What is refused is so before Landlock and the kernel are asked, so all is EPERM.
    wanted = {**FILES, **CALLS, **dict.fromkeys(UNLISTED, errno.EPERM), "link_inside": errno.EPERM,
              "map_both": errno.EPERM, "make_executable": errno.EPERM, "dumpable": errno.EPERM, "effective": errno.EPERM,
              "clone3": errno.ENOSYS, "namespace": errno.EPERM}
    found = probe(house, binary, more=["mode=strict"])
    need((found["layers"], found["calls"]) == (4, 2), f"mode strict: {found}")
    need_trials(found, wanted)
    wanted.update(fork=0, effective=0, set_name=0, dumpable=0, execute=errno.EACCES)
    found = probe(house, binary, run=shutil.which("ls"), more=["mode=strict"])
    need_trials(found, wanted)
    need_trials(probe(house, binary, run=os.path.realpath("/bin/true"), more=["mode=strict"]), {**wanted, "execute": 0})
    found = probe(house, binary, binary, "without", "seccomp", more=["mode=strict"])
    need((found["layers"], found["calls"]) == (3, 0), f"strict without seccomp: {found}")
    print(f"ok    mode strict: {len(wanted)} trials from inside; a program that is needed starts")


def check_program(house, binary):
    """Where a program is to be started, that one alone is."""
    need_trials(probe(house, binary, run=shutil.which("ls")), {**FILES, **CALLS, "execute": errno.EACCES})
    need_trials(probe(house, binary, run=os.path.realpath("/bin/true")), {**FILES, **CALLS, "execute": 0})
    print("ok    of programs, only the one that is needed")


def check_missing_layers(house, binary):
    """What one layer lacks, the others still refuse. Without no_new_privs the kernel takes no rules and no filter."""
    refused = {"landlock": {**CALLS, **RIGHTS, **MEMORY},
               "seccomp": {**FILES, **RIGHTS, **MEMORY, "execute": errno.EACCES},
               "capabilities": {**CALLS, **MEMORY, "open_shadow": errno.EACCES}}
    for layer, wanted in refused.items():
        found = probe(house, binary, binary, "without", layer)
        need(found["layers"] == 3, f"without {layer}: {found}")
        need_trials(found, wanted)
    found = probe(house, binary, binary, "without", "mdwe")
    need(found["layers"] == 4 and found["memory"] == 1, f"without mdwe: {found}")
    need_trials(found, {**CALLS, "map_both": errno.EPERM, "make_executable": errno.EPERM})
    print("ok    without a layer the others hold; seccomp stands in for PR_SET_MDWE")


def write_config(house, sandbox="{}", owner=0):
    """An agent with logs of root's, 0600 in a folder 0700, and a file of its own."""
    os.chmod(house.folder, 0o755)
    for name in ("own", "hidden/logs"):
        os.makedirs(house.path(name), exist_ok=True)
    os.chown(house.path("own"), owner, owner)
    os.chmod(house.path("hidden"), 0o700)
    with open(os.open(house.path("hidden/logs/a.log"), os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as log:
        log.write("hello\n")
    return house.write("own.yaml", f"""
inputs: [container: {{paths: [hidden/logs/*.log], format: plain}}]
spool: {{path: own/spool, keep_free: 0}}
sandbox: {sandbox}
outputs: [file: {{path: own/out.ndjson}}]
""")


def start(house, *words, wait="ready"):
    program = Program([*words], house.path("own.log"))
    house.programs.append(program)
    if wait:
        program.wait_event(wait)
    return program


def has_hello(house):
    path = house.path("own/out.ndjson")
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return '"log":"hello"' in file.read()


def check_required(house, binary):
    """The agent without a layer: a warning, or no start."""
    for layer in LAYERS:
        agent = start(house, binary, "without", layer, house.binary, "run", "-c", write_config(house))
        wait_until(lambda: has_hello(house), 15, agent.tail)
        need(agent.stop() == 0, agent.tail())
        need("event=sandbox-lacks " in agent.text() and f" layer={layer}" in agent.text(), agent.tail())
        need("layers on" in agent.text() and "4 of 4" not in agent.text(), agent.tail())
        shutil.rmtree(house.path("own"))

        config = write_config(house, "{required: true}")
        agent = start(house, binary, "without", layer, house.binary, "run", "-c", config, wait=None)
        need(agent.process.wait(60 * PATIENCE) == 3, agent.tail())
        need(f"own.yaml:4:1: error: sandbox.required: layer {layer} is missing: " in agent.text(), agent.tail())
        shutil.rmtree(house.path("own"))
    agent = start(house, house.binary, "run", "-c", write_config(house, "{required: true}"))
    need(agent.stop() == 0, agent.tail())
    print("ok    a layer that is missing is told, and with required there is no start")


def check_file_capability(house, _):
    """As in a container: another user, a binary that has CAP_DAC_READ_SEARCH permitted, a bounding set with it or not."""
    config = write_config(house, owner=STRANGER)
    binary = shutil.copy(house.binary, house.path("taffrail"))
    os.setxattr(binary, "security.capability", struct.pack("<5I", 0x02000000, READ, 0, 0, 0))  # VFS_CAP_REVISION_2
    words = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--inh-caps=-all"]
    agent = start(house, *words, "--bounding-set=-all", binary, "run", "-c", config)
    need(" reads_all_logs=false " in agent.text() and '"4 of 4 layers on"' in agent.text(), agent.tail())
    agent.wait_event("unreadable")
    need(not has_hello(house), "it read what it may not read")
    check_confined(agent.pid, STRANGER)
    need(agent.stop() == 0, agent.tail())
    agent = start(house, *words, "--bounding-set=-all,+dac_read_search", binary, "run", "-c", config)
    wait_until(lambda: has_hello(house), 15, agent.tail)
    need(" reads_all_logs=true " in agent.text() and '"4 of 4 layers on"' in agent.text(), agent.tail())
    check_confined(agent.pid, STRANGER)
    check_parent(agent.process.pid, STRANGER, permitted=READ)
    need(not agent.has_event("watches"), "no hints from the kernel")
    need(agent.stop() == 0, agent.tail())
    print("ok    another user reads root's logs by a file capability, and not without")


def check_user(house, _):
    """Root becomes another user, who reads root's logs and owns the rest."""
    agent = start(house, house.binary, "run", "-c", write_config(house, "{user: nobody}", owner=NOBODY))
    wait_until(lambda: has_hello(house), 15, agent.tail)
    check_confined(agent.pid, NOBODY)
    check_parent(agent.process.pid)
    pid = agent.pid
    agent.process.send_signal(signal.SIGHUP)  # the next one becomes that user too
    agent.wait_event("reload")
    wait_until(lambda: agent.text().count("event=ready ") == 2 and agent.pid != pid, 15, agent.tail)
    check_confined(agent.pid, NOBODY)
    need("0" not in status_of(agent.pid, agent.pid)["Groups"].split(), "it kept root's groups")
    need(agent.stop() == 0, agent.tail())
    need(os.stat(house.path("own/out.ndjson")).st_uid == NOBODY, "the output is not the user's")
    for user, reason in (("nobodyatall", "is no user of this machine"), ('""', "is empty")):
        agent = start(house, house.binary, "run", "-c", write_config(house, f"{{user: {user}}}"), wait=None)
        need(agent.process.wait(60 * PATIENCE) == 2, agent.tail())
        need("error: sandbox.user" in agent.text() and reason in agent.text(), agent.tail())
    words = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", house.binary, "run", "-c"]
    agent = start(house, *words, write_config(house, "{user: nobody}"), wait=None)
    need(agent.process.wait(60 * PATIENCE) == 2 and "only root may" in agent.text(), agent.tail())
    print("ok    root becomes the user that is written, who reads root's logs")


def replace(path, text):
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(f"{path}.new", path)


def check_names(house, _):
    """A file for names is replaced, in an /etc of the agent's own: it stops with 3, and works when started again."""
    house.make_pki()
    house.configure_collector()
    config = house.configure_agent(outputs=f"""  - forward:
      hosts: ["collector.invalid:{house.port}"]
      tls: {house.tls("node-1")[:-1]}, identity: "ip:127.0.0.1"}}
""")
    CriFile(house, "shop", "pay", "1111").write(["hello"])
    shutil.copytree("/etc", house.path("etc"), symlinks=True)
    for name in ("hosts", "resolv.conf", "nsswitch.conf"):
        if os.path.lexists(house.path("etc", name)):
            os.unlink(house.path("etc", name))
    replace(house.path("etc/nsswitch.conf"), "hosts: files\n")
    replace(house.path("etc/hosts"), "127.0.0.9 other\n")
    words = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', house.path("etc"), house.binary,
             "run", "-c", config]
    agent = start(house, *words)
    wait_until(lambda: "resolve: " in agent.text(), 15, agent.tail)
    need(not agent.has_event("sandbox-outdated"), "a name that is unknown is no replaced file")
    replace(house.path("etc/hosts"), "127.0.0.1 collector.invalid\n")
    need(agent.process.wait(60 * PATIENCE) == 3, agent.tail())
    need(agent.has_event("sandbox-outdated") and agent.has_event("stopped"), agent.tail())
    house.start("collector")
    agent = start(house, *words)
    wait_until(lambda: len(house.records()) == 1, 15, agent.tail)
    need(agent.stop() == 0, agent.tail())
    print("ok    where the file of names was replaced, the agent asks to be started again")


def check_folder(house, _):
    """A folder of logs, and one of a file output, is deleted and made again: it stops with 3, and a new start reads."""
    config = write_config(house)
    for made in ("hidden/logs", "own/files"):
        os.makedirs(house.path("own/files"), exist_ok=True)
        with open(config, encoding="utf-8") as file:
            text = file.read().replace("own/out", "own/files/out")
        replace(config, text)
        agent = start(house, house.binary, "run", "-c", config)
        wait_until(lambda: agent.has_event("output-up"), 15, agent.tail)
        shutil.rmtree(house.path(made))
        os.makedirs(house.path(made))
        with open(house.path("hidden/logs", f"{made.replace('/', '-')}.log"), "w", encoding="utf-8") as file:
            file.write("again\n")
        need(agent.process.wait(60 * PATIENCE) == 3, agent.tail())
        need(agent.has_event("sandbox-outdated") and agent.has_event("stopped"), agent.tail())
    agent = start(house, house.binary, "run", "-c", config)

    def count():
        path = house.path("own/files/out.ndjson")
        if not os.path.exists(path):
            return 0
        with open(path, encoding="utf-8") as file:
            return sum('"log":"again"' in line for line in file)

    wait_until(lambda: count() > 0, 15, agent.tail)
    need(agent.stop() == 0, agent.tail())
    print("ok    where a folder was made again, the agent asks to be started again")


def main():
    if os.geteuid() != 0:
        print("skip  not root")
        return
    binary = os.path.abspath(sys.argv[2])
    for check in (check_running, check_inside, check_strict, check_program, check_missing_layers, check_required,
                  check_file_capability, check_user, check_names, check_folder):
        with House(sys.argv[1]) as house:
            check(house, binary)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
