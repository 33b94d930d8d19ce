"""mock_kubernetes.py - an API server for one node's pods: list, watch, bookmarks, 410, 401, and worse.

It speaks as Kubernetes API concepts tells ("Efficient detection of changes"), over TLS, and only what a client
that lists and watches pods may ask. Each request is kept for the test to look at. Faults are attributes: a
test sets them while it runs.
"""

import http.server
import json
import ssl
import threading
import time
import urllib.parse


class MockApi:
    def __init__(self, certificate, key, port=0, token="token-1"):
        self.lock = threading.Condition()
        self.pods = {}            # uid: object
        self.version = 100
        self.events = []          # (version, type, object)
        self.oldest_version = 0   # watches from before this are 410 Gone
        self.tokens = {token}
        self.requests = []        # (kind, query, headers)
        self.bookmark_s = 0.2
        self.status = None        # of every answer, instead of 200
        self.list_body = None     # bytes of every list's answer
        self.watch_lines = []     # bytes, sent once, by the watch that runs
        self.watch_ends = 0       # raised: watches that run end, as they should
        self.watch_breaks = 0     # raised: the same, in the middle of a chunk
        self.watches = 0          # that run
        self.told_version = 0     # of the newest event or bookmark that a watch has sent
        self.server = self.make_server(port)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.is_closing = False
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def make_server(self, port):
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words):
                pass

            def do_GET(self):
                api.answer(self)

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a client that went away

        return Server(("127.0.0.1", port), Handler)

    def close(self):
        self.is_closing = True
        with self.lock:
            self.lock.notify_all()
        self.server.shutdown()
        self.server.server_close()

    # ---- what a test does ----

    def record(self, kind, item):
        with self.lock:
            self.version += 1
            item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
            if kind == "DELETED":
                self.pods.pop(item["metadata"]["uid"], None)
            else:
                self.pods[item["metadata"]["uid"]] = item
            self.events.append((self.version, kind, item))
            self.lock.notify_all()

    def add(self, item):
        self.record("MODIFIED" if item["metadata"]["uid"] in self.pods else "ADDED", item)

    def delete(self, uid):
        self.record("DELETED", self.pods[uid])

    def forget(self):
        """What happened so far is not known any more: a watch from there is 410 Gone."""
        with self.lock:
            self.version += 1
            self.oldest_version = self.version
            self.events = []

    def change(self, **attributes):
        with self.lock:
            for name, value in attributes.items():
                setattr(self, name, value)
            self.lock.notify_all()

    def count(self, kind):
        with self.lock:
            return sum(request[0] == kind for request in self.requests)

    # ---- what the server does ----

    def answer(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        kind = "watch" if query.get("watch") else "list"
        with self.lock:
            self.requests.append((kind, query, dict(handler.headers)))
            is_known = handler.headers.get("Authorization", "") in {f"Bearer {token}" for token in self.tokens}
        if self.status:
            self.send_status(handler, self.status)
        elif not is_known:
            self.send_status(handler, 401)
        elif url.path != "/api/v1/pods" or query.get("fieldSelector") != "spec.nodeName=node-1":
            self.send_status(handler, 403)
        elif kind == "list":
            self.send_list(handler)
        else:
            self.send_watch(handler, int(query["resourceVersion"]), int(query["timeoutSeconds"]))

    def send(self, handler, status, body):
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def send_status(self, handler, status):
        self.send(handler, status, json.dumps({"kind": "Status", "code": status, "reason": "Mock"}).encode())

    def send_list(self, handler):
        with self.lock:
            body = self.list_body or json.dumps(
                {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                 "metadata": {"resourceVersion": str(self.version)}, "items": list(self.pods.values())}).encode()
        self.send(handler, 200, body)

    def send_watch(self, handler, version, timeout_s):
        if version < self.oldest_version:
            self.send_status(handler, 410)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with self.lock:
            self.watches += 1
            ends, breaks = self.watch_ends, self.watch_breaks  # who sees that it runs may raise them at once
        try:
            is_whole = self.stream(handler.wfile, version, time.monotonic() + timeout_s, ends, breaks)
        finally:
            with self.lock:
                self.watches -= 1
        if is_whole:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.wfile.write(b"1000\r\n{\"type\":")
            handler.close_connection = True

    def stream(self, to, version, end, ends, breaks):
        while not self.is_closing and time.monotonic() < end:
            with self.lock:
                lines = [json.dumps({"type": kind, "object": item}).encode() + b"\n"
                         for at, kind, item in self.events if at > version]
                lines += self.watch_lines
                self.watch_lines = []
                version = max(version, self.version)
                if not lines:
                    if self.watch_ends != ends or self.watch_breaks != breaks:
                        return self.watch_breaks == breaks
                    if not self.lock.wait(self.bookmark_s):
                        lines = [json.dumps({"type": "BOOKMARK", "object": {
                            "kind": "Pod", "metadata": {"resourceVersion": str(version)}}}).encode() + b"\n"]
            for line in lines:
                to.write(b"%x\r\n%s\r\n" % (len(line), line))
            to.flush()
            if lines:
                self.change(told_version=version)
        return False


def pod(namespace, name, uid, labels=None, annotations=None, owners=None):
    metadata = {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2026-11-23T10:00:00Z"}
    if labels is not None:
        metadata["labels"] = labels
    if annotations is not None:
        metadata["annotations"] = annotations
    if owners is not None:
        metadata["ownerReferences"] = owners
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
