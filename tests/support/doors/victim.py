"""A server in a process of its own, to be killed or frozen."""

import sys

from harness.process import Process

VICTIM = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
sys.path.insert(0, sys.argv[1])
import echo_pb2, echo_pb2_grpc
class Echo(echo_pb2_grpc.EchoServicer):
    def Say(self, request, context):
        return echo_pb2.Reply(text=request.text, server="victim")
    def Count(self, request, context):
        yield echo_pb2.Reply(server="victim")
        sys.stdin.read()
    def Gather(self, requests, context):
        for request in requests:
            print("got", request.text, flush=True)
    def Talk(self, requests, context):
        self.Gather(requests, context)
        yield echo_pb2.Reply(server="victim")
server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
port = server.add_insecure_port("127.0.0.1:" + sys.argv[2])
server.start()
print("port", port, flush=True)
sys.stdin.read()
"""


class Victims:
    """Starts them; ends those that are left."""

    def __init__(self, echo):
        self._stubs = echo[0].__file__.rpartition("/")[0]
        self._started = []

    def start(self, port=0):
        """The process and its port."""
        process = Process("victim", [sys.executable, "-c", VICTIM, self._stubs, str(port)])
        self._started.append(process)
        return process, int(process.expect(r"port (\d+)", within=20)[1])

    def close(self):
        for process in self._started:
            process.kill()
