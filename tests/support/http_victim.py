"""An HTTP server in a process of its own, to be killed or frozen."""

import sys

from harness.process import Process

VICTIM = """
import sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        body = b'{"server": "victim"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *said):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print("port", server.server_port, flush=True)
sys.stdin.read()
"""


def start_victim():
    """The process and its port."""
    process = Process("victim", [sys.executable, "-c", VICTIM])
    return process, int(process.expect(r"port (\d+)", within=20)[1])
