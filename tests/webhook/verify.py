"""Runs a job whose webhook is verified by others' libraries: `standardwebhooks` and `svix`, in Python and in Node.

A proxy of receivers takes each request, verifies it here with the Python libraries and passes it to a receiver in Node, which
verifies it with those of npm. Secrets are rotated on the way: old, old and new, new. A body that is changed must be refused.

    python verify.py USHER NODE_RECEIVER_FOLDER
"""

import http.client
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import standardwebhooks
import svix.webhooks

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
PATIENCE = 60

JOB = """
job: shop
sources: {{web: {{file: {{path: events.jsonl, follow: true}}, format: segment}}}}
models: {{users: {{key: user_id, members: any}}}}
events: {{bought: {{source: web, type: track, name: Bought, model: users}}}}
audiences: {{buyers: {{name: "Käufer \\"heute\\"", model: users, where: {{performed: bought, within: 7d}}}}}}
syncs: {{crm: {{to: {{webhook: {{url: "http://127.0.0.1:{port}/hook", secret: [{secrets}], {more}}}}}}}}}
state: {{url: state}}
"""


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secret = OLD
    node = None
    verified = []
    wrong = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            for library in (standardwebhooks.Webhook, svix.webhooks.Webhook):
                library(Receiver.secret).verify(body.decode(), headers)
                try:
                    library(Receiver.secret).verify(body.decode() + " ", headers)
                    raise AssertionError("a body that was changed is taken")
                except (standardwebhooks.WebhookVerificationError, svix.webhooks.WebhookVerificationError):
                    pass
            if Receiver.node:
                to_node = http.client.HTTPConnection("127.0.0.1", Receiver.node)
                passed = {name: value for name, value in headers.items() if name.startswith("webhook-")}
                to_node.request("POST", "/?secret=" + ("new" if Receiver.secret == NEW else "old"), body, passed)
                answer = to_node.getresponse()
                if answer.status != 204:
                    raise AssertionError(f"node answers {answer.status}: {answer.read().decode()}")
            Receiver.verified.append(headers["webhook-id"])
        except Exception as error:  # noqa: BLE001: whatever is wrong is reported
            Receiver.wrong.append(f"{type(error).__name__}: {error}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def until(holds, what):
    since = time.monotonic()
    while not holds():
        if time.monotonic() - since > PATIENCE:
            sys.exit(f"it never came to this: {what}; verified {len(Receiver.verified)}, wrong {Receiver.wrong[:3]}")
        time.sleep(0.02)


def main():
    usher, folder = sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    node = None
    if folder:
        node = subprocess.Popen(["node", str(folder / "receiver.mjs"), OLD, NEW], stdout=subprocess.PIPE, text=True)
        Receiver.node = int(node.stdout.readline())
    work = pathlib.Path(tempfile.mkdtemp())
    events = work / "events.jsonl"
    events.touch()
    number = 0
    for secrets, expects, more in [
        ([OLD], OLD, ""),
        ([NEW, OLD], OLD, "batch: {changes: 7, wait: 50ms}"),
        ([NEW, OLD], NEW, ""),
        ([NEW], NEW, ""),
    ]:
        Receiver.secret = expects
        listed = ", ".join(f'"{secret}"' for secret in secrets)
        (work / "job.yaml").write_text(JOB.format(port=server.server_port, secrets=listed, more=more))
        environment = {**os.environ, "USHER_LOG": "warn"}
        process = subprocess.Popen([usher, "run", "job.yaml"], cwd=work, env=environment)
        before = len(Receiver.verified)
        with events.open("a") as file:
            for _ in range(20):
                number += 1
                event = {"type": "track", "event": "Bought", "userId": f"ü-{number}", "messageId": str(number),
                         "timestamp": int(time.time() * 1000)}
                file.write(json.dumps(event) + "\n")
        least = 1 if more else 20
        until(lambda: len(Receiver.verified) + len(Receiver.wrong) >= before + least, "requests come")
        process.terminate()
        if process.wait(PATIENCE) != 0:
            sys.exit("usher ends with an error")
    if node:
        node.terminate()
    if Receiver.wrong:
        sys.exit(f"{len(Receiver.wrong)} requests are not verified: {Receiver.wrong[:3]}")
    print(f"webhook-verify: ok: {len(Receiver.verified)} requests verified by standardwebhooks and svix{', in Node too' if node else ''}")


main()
