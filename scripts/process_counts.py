#!/usr/bin/env python3
"""Counts what the whole broker spends on one delivery, as `scripts/count-instructions --process`.

    scripts/count-instructions --process [--binaries FOLDER] [words of a setting...]

For each setting: user instructions (all threads, by valgrind's callgrind), system calls and context
switches (by perf, without valgrind) per delivery, acknowledgements included. Each is counted in a
short and in a long run of the load generator and the difference is divided by the deliveries
between, so that starting, connecting and stopping are left out. The broker runs on CPU 0 and the
load on CPU 1 where there are two.

Instructions under valgrind depend a little on timing, since a slow broker handles more at once:
compare two programs by runs side by side (1 to 2 %). System calls depend on it a lot.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What the load generator is asked for, without --duration.
SETTINGS = {
    **{
        f"1 -> 1000, window 8, QoS {qos}": f"fanout --subscribers 1000 --window 8 --qos {qos}"
        for qos in (0, 1, 2)
    },
    **{
        f"200 pairs, window 8, QoS {qos}": f"pairs --pairs 200 --window 8 --qos {qos}"
        for qos in (0, 1, 2)
    },
    **{
        f"500 -> 1, window 8, QoS {qos}": "fanin --publishers 500 --subscribers 1 --window 8"
        f" --qos {qos}"
        for qos in (0, 1, 2)
    },
}
SHORT_S, LONG_S = 2, 8
CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
EVENTS = ["raw_syscalls:sys_enter", "context-switches"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--binaries", type=pathlib.Path, help="folder with both programs")
    parser.add_argument("words", nargs="*", help="only settings with all of these words")
    arguments = parser.parse_args()
    for program in ("valgrind", "taskset"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing")
    folder = arguments.binaries or build()
    has_perf = can_count_system_calls()
    if not has_perf:
        print("NOT COUNTED: system calls and context switches (perf stat cannot, here)")
    print(f"{'per delivery':<30} {'instructions':>12} {'system calls':>12} {'switches':>9}")
    for name, load in SETTINGS.items():
        if all(word in f"{name} {load}" for word in arguments.words):
            print(row(folder, name, load, has_perf), flush=True)


def build():
    command = ["cargo", "build", "--release", "--quiet", "--workspace", "--bins"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / "target/release"


def can_count_system_calls():
    command = ["perf", "stat", "-x,", "-e", ",".join(EVENTS), "true"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return False
    return result.returncode == 0 and "not supported" not in result.stderr


def row(folder, name, load, has_perf):
    instructions, = per_delivery(folder, load, instructions_of)
    calls, switches = per_delivery(folder, load, system_calls_of) if has_perf else (None, None)
    text = f"{name:<30} {instructions:>12.0f} "
    return text + (f"{calls:>12.4f} {switches:>9.5f}" if has_perf else f"{'-':>12} {'-':>9}")


def per_delivery(folder, load, count):
    """The difference between a long and a short run, by the deliveries between them."""
    short, short_deliveries = count(folder, f"{load} --duration {SHORT_S}")
    long, long_deliveries = count(folder, f"{load} --duration {LONG_S}")
    between = long_deliveries - short_deliveries
    if between <= 0:
        sys.exit(f"{load}: a run of {LONG_S} s delivers no more than one of {SHORT_S} s")
    return [(more - less) / between for less, more in zip(short, long)]


def instructions_of(folder, load):
    broker = start(folder, CALLGRIND)
    said = end(broker, lambda address: run_load(folder, load, address))
    return [int(re.search(r"Collected : (\d+)", said)[1])], deliveries(said)


def system_calls_of(folder, load):
    broker = start(folder, [])
    counts = []

    def watch(address):
        command = ["perf", "stat", "-x,", "-e", ",".join(EVENTS), "-p", str(broker.pid)]
        perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        run_load(folder, load, address)
        perf.send_signal(signal.SIGINT)
        rows = [line.split(",") for line in perf.communicate()[1].splitlines()]
        found = {cells[2]: cells[0] for cells in rows if len(cells) > 2}
        counts.extend(int(found[event]) for event in EVENTS)

    said = end(broker, watch)
    return counts, deliveries(said)


def deliveries(said):
    """What the broker's counters say when it stops."""
    return sum(int(count) for count in re.findall(r"deliveries_sent_qos\d=(\d+)", said))


def start(folder, tool):
    """Starts the broker under a tool."""
    options = ["--listen", "127.0.0.1:0", "--cores", "1", "--inflight-count-max", "65535"]
    command = [*on_cpu(0), *tool, folder / "ringmq", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(broker, use):
    """Has the broker used at its address, then ends it; returns what it said on standard error."""
    try:
        use(broker.stdout.readline().split()[-1])
    finally:
        broker.terminate()
        said = broker.communicate(timeout=120)[1]
    return said


def run_load(folder, load, address):
    options = ["--broker", address, "--connect-timeout", "60"]
    command = [*on_cpu(1), folder / "ringmq-loadgen", *load.split(), *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"the load generator failed:\n{result.stdout}{result.stderr}")


def on_cpu(number):
    return ["taskset", "-c", str(number)] if (os.cpu_count() or 1) > 1 else []


if __name__ == "__main__":
    main()
