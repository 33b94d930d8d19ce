#!/usr/bin/env python3
"""The kernel profiles of conf/: the seccomp list holds what agent and collector call, and nothing dangerous; AppArmor's compiles.

usage: test_profiles.py TAFFRAIL

A short life of both is traced: certificates, lines, rotation, questions at the admin endpoint, a stop; each call must be allowed. Where strace may not trace or
is not there, or apparmor_parser is not, that part is skipped by name.
"""

import glob
import json
import os
import shutil
import stat
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "integration"))
from harness import CriFile, House, PATIENCE, free_port, need, wait_until

CONF = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../conf")
ENOSYS = 38  # libc then takes the older call; EPERM would be the end for it
CLONE_NEW = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET of linux/sched.h
FAMILIES = {1, 2, 10, 16}  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
DANGEROUS = set("""acct add_key adjtimex bpf chroot clock_adjtime clock_settime clone3 delete_module fanotify_init finit_module
    fsconfig fsmount fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup kcmp kexec_file_load kexec_load
    keyctl lookup_dcookie mknod mknodat modify_ldt mount mount_setattr move_mount name_to_handle_at open_by_handle_at open_tree
    perf_event_open personality pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot
    request_key setdomainname sethostname setns settimeofday swapoff swapon syslog umount umount2 unshare userfaultfd
    vhangup""".split())


def read_profile():
    with open(os.path.join(CONF, "seccomp/taffrail.json"), encoding="utf-8") as file:
        return json.load(file)


def check_list(profile):
    """Returns the names of all calls that are allowed, with or without a condition."""
    need(profile["defaultAction"] == "SCMP_ACT_ERRNO" and profile["defaultErrnoRet"] == ENOSYS, "what is not listed is refused")
    free, bound = set(), {}
    for rule in profile["syscalls"]:
        need(rule["action"] == "SCMP_ACT_ALLOW", f"{rule['action']} in a list of what is allowed")
        for name in rule["names"]:
            need(name not in free, f"{name} is there twice")
            if rule.get("args"):
                bound.setdefault(name, []).extend(rule["args"])
            else:
                free.add(name)
    need(not free & set(bound), f"free and bound: {free & set(bound)}")
    need(not (free | set(bound)) & DANGEROUS, f"dangerous: {(free | set(bound)) & DANGEROUS}")
    need(set(bound) == {"clone", "socket"}, f"with conditions: {set(bound)}")
    need({arg["value"] for arg in bound["socket"]} == FAMILIES, "families of sockets")
    need([arg["value"] for arg in bound["clone"]] == [CLONE_NEW], "clone makes no namespaces")
    return free | set(bound)


def may_trace():
    return (shutil.which("strace") is not None
            and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode == 0)


def make_tracer(house):
    """A program that runs TAFFRAIL under strace, with the pid it would have; its counts go to a file of their own."""
    path = house.write("traced", f"#!/bin/sh\nexec strace -D -f -qq --signal=none -c -o {house.path('calls')}.$$ {house.binary} \"$@\"\n")
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
    return path


def called(house):
    names = set()
    for path in glob.glob(house.path("calls.*")):
        with open(path, encoding="utf-8") as file:
            for words in map(str.split, file):
                if len(words) in (5, 6) and words[0].replace(".", "").isdigit() and words[-1] != "total":
                    names.add(words[-1])
    return names


def calls_of_a_short_life(binary):
    with House(binary) as house:
        house.make_pki()
        port = free_port()
        for path, listen in ((house.configure_collector(), f"0.0.0.0:{port}"), (house.configure_agent(), f"unix:{house.path('admin.sock')}")):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"admin: {{listen: ['{listen}']}}\n")
        house.binary = make_tracer(house)
        collector, agent = house.start("collector"), house.start("agent")
        log = CriFile(house, "shop", "cart", "0001")
        log.write([f"line {number} password=hunter{number}" for number in range(200)])
        log.rotate()
        log.write([f"line {number}" for number in range(200, 400)])
        wait_until(lambda: house.stored_lines() >= 400, 30, lambda: f"{house.stored_lines()} lines\n{agent.tail()}")
        for path in ("/metrics", "/healthz", "/readyz"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10 * PATIENCE).read()
        house.binary = binary
        need(house.run("status", "--socket", f"unix:{house.path('admin.sock')}").stdout, "no status")
        for program in (agent, collector):
            need(program.stop() == 0, f"did not stop well\n{program.tail()}")
        wait_until(lambda: len(glob.glob(house.path("calls.*"))) == 2 and len(called(house)) > 30, 10, "no counts of calls")
        return called(house)


def check_apparmor():
    if shutil.which("apparmor_parser") is None:
        print("skipped: the AppArmor profile (no apparmor_parser)")
        return
    done = subprocess.run(["apparmor_parser", "-QKS", os.path.join(CONF, "apparmor/taffrail")], capture_output=True, check=False)
    need(done.returncode == 0 and len(done.stdout) > 1000, f"AppArmor: {done.stderr.decode()}")
    print("ok    the AppArmor profile compiles")


def main():
    allowed = check_list(read_profile())
    print(f"ok    {len(allowed)} calls, none that is dangerous")
    if may_trace():
        seen = calls_of_a_short_life(sys.argv[1])
        need({"execve", "openat2", "fdatasync", "epoll_wait"} <= seen, f"too few calls seen: {sorted(seen)}")
        missing = seen - allowed - {"clone3", "unshare"}  # libc goes on with clone; the sandbox tries what is refused
        need(not missing, f"called and not allowed: {sorted(missing)}")
        print(f"ok    {len(seen)} calls seen, all allowed")
    else:
        print("skipped: the calls of a short life (strace is not there or may not trace)")
    check_apparmor()


if __name__ == "__main__":
    main()
