"""A server of the service that ``grpc_worker.py`` calls: it reports its load, and drains at its end.

    pip install trimtab
    python orders_server.py 15051

It answers ``/Orders/Get`` with its own address, in raw bytes, to need no generated code.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from trimtab.server import LoadReports, Readiness, serve_until_signal_blocking


def main(port: str) -> None:
    address = f"127.0.0.1:{port}"

    def get(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return address.encode()

    orders: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Get": grpc.unary_unary_rpc_method_handler(get)
    }
    one_each = [("grpc.so_reuseport", 0)]  # a second server on the port is an error
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[LoadReports()], options=one_each)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Orders", orders),))
    readiness = Readiness()
    readiness.add_to(server)
    server.add_insecure_port(address)
    server.start()
    readiness.ready = True
    print(f"orders answers at {address}", flush=True)
    serve_until_signal_blocking(server, readiness, propagation_s=1)


if __name__ == "__main__":
    main(sys.argv[1])
