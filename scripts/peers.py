"""The brokers that are measured: how each is configured, started and stopped.

Settings are comparable: TCP_NODELAY wherever there is a switch for it, nothing on disk, no limit on
messages in flight or queued that a benchmark could meet, no log. What a broker stores anyway
(nats-server keeps QoS 1 in JetStream) goes to memory.
"""

import math
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BROKER_CORE, LOAD_CORE = "0", "1"

CONFIGS = {
    "mosquitto": """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
persistence false
log_type error
""",
    # A filter that ends in # counts twice, and all of a session have 65,535 in flight. Unasked it has
    # 1,000 subscriptions above QoS 0.
    "nats": """\
listen: "127.0.0.1:-1"
server_name: bench
max_connections: 100000
jetstream {{
    store_dir: "{scratch}", max_memory_store: 4G, max_file_store: 4G
    limits: {{ default_max_consumers: 1000000 }}
}}
mqtt {{ listen: "127.0.0.1:{port}", max_ack_pending: 30000, consumer_memory_storage: true }}
""",
    "rumqttd": """\
id = 0
[router]
max_connections = 20000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 1048576
    max_inflight_count = 500
    dynamic_filters = true
""",
    # Unasked it allows 16 in flight and 1000 queued.
    "rmqtt": """\
log.to = "off"
mqtt.max_sessions = 0
node.busy.check_enable = false
[listener.tcp.bench]
addr = "127.0.0.1:{port}"
nodelay = true
max_connections = 100000
max_handshaking_limit = 100000
max_inflight = 65535
max_mqueue_len = 1000000
max_subscriptions = 0
""",
    "aedes": """\
import {{ Aedes }} from '{root}/target/peers/node_modules/aedes/aedes.js';
import {{ createServer }} from 'node:net';
const broker = await Aedes.createBroker({{ concurrency: 1000 }});
createServer({{ noDelay: true }}, broker.handle).listen({port}, '127.0.0.1', 1000);
""",
}

CONFIGS["mosquitto-newest"] = CONFIGS["mosquitto"]

# Without a limit in flight, as mosquitto has none: one subscriber takes what 500 publish.
RINGMQ = ("{binaries}/ringmq --listen 127.0.0.1:{port} --log-level error"
          " --inflight-count-max 65535")

# How each broker is started on {port}; {config} is its file from CONFIGS.
COMMANDS = {
    "mosquitto": "mosquitto -c {config}",
    "ringmq": f"{RINGMQ} --cores 1",
    "ringmq-2-cores": f"{RINGMQ} --cores 2",
    "ringmq-2-shards": f"{RINGMQ} --cores 2",
    "ringmq-slow-core": f"{RINGMQ} --cores 1",
    "ringmq-2-slow-cores": f"{RINGMQ} --cores 2",
    "mosquitto-newest": "{root}/target/peers/bin/mosquitto-newest -c {config}",
    "ceiling": "{binaries}/examples/ceiling 127.0.0.1:{port}",
    "rumqttd": "{root}/target/peers/bin/rumqttd -q -c {config}",
    "rmqtt": "{root}/target/peers/bin/rmqttd -f {config}",
    "nats": "{root}/target/peers/bin/nats-server -c {config}",
    "aedes": "node {config}",
}
# Shares core 1 with the load, since two cores are all there are. Two shards on the one core of the
# broker show what dividing the work costs, everything else being the same.
ON_BOTH_CORES = ("ringmq-2-cores", "ringmq-2-slow-cores")
# Each executor has a part of its core, as if that were slow, and the load all that it needs: so
# two shards have twice what one has, and the load is the limit of neither.
ON_SLOW_CORES = ("ringmq-slow-core", "ringmq-2-slow-cores")
SLOW_SHARE, SLOW_PERIOD_US = 0.3, 5000
CPU_CONTROLLER = pathlib.Path("/sys/fs/cgroup/cpu")


class Failed(Exception):
    """A broker that does not do what it is asked for."""


class Broker:
    """A broker process on its core, from start to stop."""

    def __init__(self, name, options):
        self.name, self.port = name, free_port()
        shm = pathlib.Path("/dev/shm")
        self.scratch = tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)
        self.command = self.command_line(options)
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.groups = set()
        try:
            self.wait_until_it_listens()
            if name in ON_SLOW_CORES:
                self.slow_down()
        except Failed:
            self.stop()
            raise

    def command_line(self, options):
        suffix = {"rumqttd": ".toml", "rmqtt": ".toml", "aedes": ".mjs"}.get(self.name, ".conf")
        config = pathlib.Path(self.scratch.name, self.name + suffix)
        words = {"port": self.port, "config": config, "root": ROOT, "binaries": options.binaries,
                 "scratch": self.scratch.name}
        if self.name in CONFIGS:
            config.write_text(CONFIGS[self.name].format(**words))
        cores = f"{BROKER_CORE},{LOAD_CORE}" if self.name in ON_BOTH_CORES else BROKER_CORE
        program, *arguments = options.commands[self.name].format(**words).split()
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
        if not found:
            self.scratch.cleanup()
            raise Failed(f"{program} is not here; scripts/bench-peers-setup installs peers")
        return ["taskset", "-c", cores, found, *arguments]

    def wait_until_it_listens(self):
        for _ in range(400):
            if self.process.poll() is not None:
                raise Failed(f"it ended with {self.process.returncode}")
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
        raise Failed("it does not listen")

    def slow_down(self):
        """Allows each executor, that is each thread with a core of its own, a part of it."""
        try:
            for thread in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
                cores = os.sched_getaffinity(int(thread.name))
                if len(cores) == 1:
                    group = CPU_CONTROLLER / f"ringmq-bench-{min(cores)}"
                    self.groups.add(group)
                    group.mkdir(exist_ok=True)
                    quota_us = int(SLOW_PERIOD_US * SLOW_SHARE)
                    group.joinpath("cpu.cfs_period_us").write_text(str(SLOW_PERIOD_US))
                    group.joinpath("cpu.cfs_quota_us").write_text(str(quota_us))
                    group.joinpath("tasks").write_text(thread.name)
        except OSError as error:
            raise Failed(f"slow cores need the cpu controller of cgroup v1, as root: {error}")

    def cpu_s(self):
        """CPU seconds of all threads so far; user and system time are fields 14 and 15."""
        try:
            text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return math.nan
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for group in self.groups:
            if group.is_dir():
                group.rmdir()
        self.scratch.cleanup()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
