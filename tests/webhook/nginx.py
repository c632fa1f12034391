"""A real nginx before the receiver: `limit_req` answers 429, an upstream that is down 502, a slow body, TLS by a private CA."""

import pathlib
import subprocess
import sys
import tempfile
import time

from common import Job, Nginx, Receiver, ends_within, free_port, until

KEYS = [f"u-{number}" for number in range(200)]
HELD = {("buyers", key) for key in KEYS}
# All scenarios together take half a minute.
BOUND = 300
RETRY = "retry: {first: 50ms, most: 1s}"


def run(folder, to, receiver, check):
    job = Job(folder, f"{{webhook: {{{to}, {RETRY}}}}}").start()
    job.buy(KEYS)
    check(job)
    sync = job.wait_until_delivered(len(KEYS))
    counts = {name: sync[name] for name in ("committed", "delivered", "superseded", "dead_letters")}
    assert counts == {"committed": len(KEYS), "delivered": len(KEYS), "superseded": 0, "dead_letters": 0}, sync
    assert receiver.held() == HELD, receiver.held() ^ HELD
    attempts = sync["attempts"]
    job.stop()
    return {name: attempts[name] for name in ("delivered", "failed", "throttled", "refused")}


def limited(folder):
    port, receiver = free_port(), Receiver()
    http = f"""
        limit_req_zone $binary_remote_addr zone=all:1m rate=100r/s;
        server {{ listen 127.0.0.1:{port}; location / {{
            limit_req zone=all burst=5 nodelay; limit_req_status 429; proxy_pass http://127.0.0.1:{receiver.port}; }} }}
    """
    nginx = Nginx(folder / "nginx", http).wait_for(port)
    attempts = run(folder / "job", f'url: "http://127.0.0.1:{port}/hook"', receiver, lambda job: None)
    assert attempts["throttled"] > 0 and attempts["failed"] == 0, attempts
    nginx.stop()
    return attempts


def upstream_down(folder):
    port, upstream = free_port(), free_port()
    http = f"""server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}"""
    nginx = Nginx(folder / "nginx", http).wait_for(port)
    receivers = []

    def check(job):
        until("the sync is open", lambda: job.sync()["state"] == "open")
        assert any(attempt["status"] == 502 for attempt in job.attempts()), job.attempts()[:3]
        receivers.append(Receiver(upstream))

    class Later:
        def held(self):
            return receivers[0].held()

    attempts = run(folder / "job", f'url: "http://127.0.0.1:{port}/hook"', Later(), check)
    assert attempts["failed"] >= 5, attempts
    nginx.stop()
    return attempts


def slow_bodies(folder):
    port, receiver = free_port(), Receiver(body=b"slow" * 4, body_seconds=3)
    http = f"""server {{ listen 127.0.0.1:{port}; location / {{
        proxy_buffering off; proxy_pass http://127.0.0.1:{receiver.port}; }} }}"""
    nginx = Nginx(folder / "nginx", http).wait_for(port)
    # The status has settled a request: what is slow behind it is left after the timeout.
    attempts = run(folder / "job", f'url: "http://127.0.0.1:{port}/hook", timeout: 2s, concurrency: 64', receiver, lambda job: None)
    assert len(receiver.messages) == len(KEYS) and attempts["failed"] == 0, (len(receiver.messages), attempts)
    nginx.stop()
    return attempts


def private_ca(folder):
    port, receiver = free_port(), Receiver()
    folder.mkdir()

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=usher test CA", "-days", "2")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    signs = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2"]
    openssl("x509", "-req", "-in", "server.csr", *signs, "-out", "server.pem")
    http = f"""server {{ listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
        location / {{ proxy_pass http://127.0.0.1:{receiver.port}; }} }}"""
    nginx = Nginx(folder / "nginx", http).wait_for(port)
    url = f'url: "https://localhost:{port}/hook"'
    # Nobody else's certificate is taken.
    stranger = Job(folder / "stranger", f"{{webhook: {{{url}, {RETRY}}}}}").start()
    stranger.buy(KEYS[:1])
    until("it is not trusted", lambda: "certificate" in (stranger.sync()["last_error"] or "").lower())
    assert not receiver.messages
    stranger.stop()
    attempts = run(folder / "job", f"{url}, ca: {folder}/ca.pem", receiver, lambda job: None)
    assert attempts["failed"] == 0, attempts
    nginx.stop()
    return attempts


def main():
    scenarios = {scenario.__name__: scenario for scenario in (limited, upstream_down, slow_bodies, private_ca)}
    names = sys.argv[1:] or list(scenarios)
    if unknown := [name for name in names if name not in scenarios]:
        sys.exit(f"webhook-nginx: there is no scenario {unknown[0]}; there are {', '.join(scenarios)}")
    ends_within(BOUND, "webhook-nginx")
    for name in names:
        with tempfile.TemporaryDirectory(prefix="webhook-nginx-") as folder:
            since = time.monotonic()
            attempts = scenarios[name](pathlib.Path(folder) / name)
            print(f"{name}: {attempts}; {time.monotonic() - since:.0f} s", flush=True)
    print(f"webhook-nginx: ok: {len(names)} scenarios, {len(KEYS)} changes each, 0 lost, in order")


if __name__ == "__main__":
    main()
