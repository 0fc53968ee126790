#!/usr/bin/env python3
"""An example service that keeps its sessions in the unit group, without an SDK.

It reads a session through its Envoy. It announces a change in a header of its answer, and the filter hands
it to the companion. It holds no state of its own, so any instance of any unit continues a session.

    POST /login?user=ada    begins a session, with its id in the cookie `sid`
    POST /cart?add=shoes    adds to the session
    GET  /cart              shows it
    POST /logout            deletes it
"""

import argparse
import contextlib
import http.client
import json
import re
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

# An id becomes part of a header and of a path: nothing but what `token_urlsafe(32)` makes is one.
SID = re.compile(r"(?:^|;)\s*sid=([A-Za-z0-9_-]{43})\s*(?:;|$)")
COOKIE = "sid={}; Path=/; HttpOnly; SameSite=Lax"  # add `; Secure` where clients use https


class Sessions(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together; alone, the body could wait for a delayed ACK

    def do_GET(self):
        # On a kept connection, an unread body would be taken for the next request.
        self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            sid, session = self.read_session()
        except (OSError, http.client.HTTPException, ValueError) as error:
            # As "no session" it would log users out whenever the companion is away.
            self.log_error("cannot read the session: %r", error)
            self.send(503, {"error": "cannot read the session"}, {"retry-after": "1"})
        else:
            self.answer(sid, session)

    do_POST = do_GET

    def answer(self, sid, session):
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        match f"{self.command} {url.path}", query:
            case "GET /healthz", _:
                self.send(200, {"status": "ok"})
            case "POST /login", {"user": user}:
                # Always a new id: somebody else may have planted the one in the cookie.
                sid = secrets.token_urlsafe(32)
                self.store(sid, {"user": user, "cart": []}, {"set-cookie": COOKIE.format(sid)})
            case ("GET /cart" | "POST /cart" | "POST /logout"), _ if session is None:
                self.send(401, {"error": "no session: POST /login?user=ada"})
            case "GET /cart", _:
                self.send(200, session)
            case "POST /cart", {"add": item}:
                # Of two concurrent changes of a session the later one wins, and the other is lost.
                self.store(sid, session | {"cart": [*session["cart"], item]})
            case "POST /logout", _:
                update = {"x-unitring-update": f"sessions/{sid};delete"}
                self.send(200, {}, update | {"set-cookie": COOKIE.format("") + "; Max-Age=0"})
            case ("POST /login" | "POST /cart"), _:
                self.send(400, {"error": "a parameter is missing: /login?user=ada, /cart?add=shoes"})
            case _:
                self.send(404, {"error": "not found"})

    def read_session(self):
        """The id in the cookie, and the session of that id; None for what is not there."""
        sid = SID.search(self.headers.get("cookie", ""))
        if sid is None:
            return None, None
        # A connection for each read keeps the example short; a service of yours would keep some open.
        envoy = http.client.HTTPConnection(self.server.envoy, timeout=2)
        with contextlib.closing(envoy):
            envoy.request("GET", f"/v1/data/sessions/{sid[1]}")
            response = envoy.getresponse()
            body = response.read()
        if response.status not in (200, 404):
            raise OSError(f"{response.status} {response.reason}")
        return sid[1], json.loads(body) if response.status == 200 else None

    def store(self, sid, session, headers=None):
        """Answers with the new session. Because of `;body`, the answer's body becomes the record's value."""
        update = {"x-unitring-update": f"sessions/{sid};ttl=30m;body"}
        self.send(200, session, update | (headers or {}))

    def send(self, status, value, headers=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        if "transfer-encoding" in self.headers:  # a body of unknown length, which is not read
            self.send_header("connection", "close")
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        """Logs no request: Envoy has an access log, and health checks would fill this one."""


def address(url):
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.netloc:
        raise argparse.ArgumentTypeError(f"{url}: must be like http://127.0.0.1:10001")
    return parts.netloc


def main():
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, takes a free one")
    parser.add_argument("--envoy", type=address, default="http://127.0.0.1:10001",
                        help="where to read sessions, by default %(default)s: the internal listener of sessions.yaml")
    arguments = parser.parse_args()
    with ThreadingHTTPServer(("127.0.0.1", arguments.port), Sessions) as server:
        server.envoy = arguments.envoy
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
