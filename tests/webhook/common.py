"""What the scenarios of webhooks share: nginx as the endpoint, a receiver behind it, and the program as a process with its API."""

import atexit
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

USHER = os.environ["USHER"]
# How long anything is waited for: far more than it takes on a busy machine.
PATIENCE = 120


def until(what, condition, patience=PATIENCE):
    """Waits for a condition, and gives what it gave."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"it never came to this: {what() if callable(what) else what}")
        time.sleep(0.02)


def ends_within(seconds, name):
    """Ends this process after so long, and with it what it has started; so does SIGTERM."""

    def over(number, _):
        sys.exit(f"{name}: failed: " + ("stopped" if number == signal.SIGTERM else f"not done within {seconds} s"))

    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGTERM, over)
    signal.alarm(seconds)


def start(command, **how):
    """Starts a process that does not outlive this one, and holds none of its pipes."""
    process = subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **how})
    atexit.register(process.kill)
    return process


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Receiver:
    """Takes requests, and keeps the messages with the time at which each came, ms since the epoch."""

    def __init__(self, port=0, body=b"ok", body_seconds=0.0):
        receiver = self
        self.messages, self.times, self.lock = [], [], threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                at = time.time() * 1_000
                with receiver.lock:
                    for message in sent if isinstance(sent, list) else [sent]:
                        receiver.messages.append(message)
                        receiver.times.append(at)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if body_seconds:
                        self.wfile.flush()
                        time.sleep(body_seconds / len(body))

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *_):
                """A client that is gone is no matter."""

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def held(self):
        """What the messages add up to; each key came in order, and what came twice with one id."""
        held, last = set(), {}
        with self.lock:
            for message in self.messages:
                member = (message["audience_id"], message["key"])
                before = last.get(message["key"])
                assert before is None or before <= message["at"], f"{message} came after one of {before}"
                last[message["key"]] = message["at"]
                (held.add if message["type"] == "entry" else held.discard)(member)
        return held


class Nginx:
    """nginx in a folder of its own; `http` is the content of its block of that name."""

    def __init__(self, folder, http):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "nginx.conf").write_text(
            f"""
daemon off; master_process off; pid {self.folder}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000; client_max_body_size 8m; client_body_buffer_size 1m;
    client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
    fastcgi_temp_path {self.folder}/fastcgi; uwsgi_temp_path {self.folder}/uwsgi; scgi_temp_path {self.folder}/scgi;
    {http}
}}
"""
        )
        # No master: its worker would outlive one that is killed.
        command = ["nginx", "-p", str(self.folder), "-c", "nginx.conf"]
        self.process = start(command, stderr=(self.folder / "error.log").open("w"))

    def wait_for(self, port):
        def listens():
            assert self.process.poll() is None, f"nginx has ended: {(self.folder / 'error.log').read_text()}"
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        until(lambda: f"nginx listens: {(self.folder / 'error.log').read_text()}", listens)
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Job:
    """A job of `buyers` over followed events, with a sync `crm` that `to` describes, and its API."""

    def __init__(self, folder, to, more=""):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.events = (self.folder / "events.jsonl").open("a")
        self.number = 0
        (self.folder / "job.yaml").write_text(
            f"""
job: shop
sources: {{web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events: {{bought: {{source: web, type: track, name: Bought, model: users}}}}
audiences: {{buyers: {{model: users, where: {{performed: bought, within: 7d}}}}}}
syncs:
  crm: {{to: {to}}}
{more}
state: {{url: state}}
api: {{listen: "127.0.0.1:0"}}
"""
        )
        self.process, self.log = None, None

    def start(self):
        self.log = self.folder / "log"
        with self.log.open("w") as log:
            self.process = start([USHER, "run", "job.yaml"], cwd=self.folder, stderr=log, stdout=log)

        def is_live():
            text = self.log.read_text()
            assert self.process.poll() is None, f"usher has ended: {text}"
            return re.search(r"live after", text) and re.search(r"api on (\S+)", text)

        found = until(lambda: f"it is live: {self.log.read_text()}", is_live)
        self.url = found.group(1)
        return self

    def buy(self, users):
        for user in users:
            self.number += 1
            event = {"type": "track", "event": "Bought", "userId": user, "messageId": f"m{self.number}"}
            self.events.write(json.dumps({**event, "timestamp": int(time.time() * 1_000)}) + "\n")
        self.events.flush()

    def sync(self, name="crm"):
        with urllib.request.urlopen(f"{self.url}/v1/syncs") as answer:
            return next(sync for sync in json.load(answer)["syncs"] if sync["id"] == name)

    def attempts(self):
        with urllib.request.urlopen(f"{self.url}/v1/syncs/crm/attempts") as answer:
            return json.load(answer)["attempts"]

    def wait_until_delivered(self, changes, name="crm"):
        def is_delivered():
            sync = self.sync(name)
            return sync["delivered"] >= changes and sync["waiting"] == 0 and sync

        return until(lambda: f"{changes} are delivered: {self.sync(name)}\n{self.log.read_text()[-2000:]}", is_delivered)

    def memory(self):
        """Resident bytes."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * 4096

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log.read_text()
        self.events.close()
