"""Envoy as an edge: on trimtab, beside the same Envoy on a headless Service's DNS with round robin.

Real Envoys, real servers at addresses of their own, a real `trimtab serve` and a DNS server that says
what a headless Service's would: the ready pods, TTL 5 s (Envoy asks as often by default). Both edges
have the same routes, retries and limits. Three phases, open loop, the peers in turn in each round: equal
pods; one of them three times slower; and a rollout, in which each new pod is three times slower for its
first seconds and each old one ends a few seconds after it was taken away.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio
import yaml

from machine import publish
from slow_pod import METHOD, SERVICE_S, SLOWER, Seen, Work, load, passed, quantile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from harness.control_plane import ControlPlane, free_addresses
from harness.dns import Dns, asking
from harness.envoy import Envoy
from harness.ports import free_port
from trimtab.control.config import Address
from trimtab.control.edge.envoy import envoy_config
from trimtab.control.edge.model import Edge, Route

PODS = 6
SERVICE = "work.shop:8080"
GAP_S, COLD_S, GRACE_S = 1.5, 3.0, 4.0
PEERS = ("trimtab: least request, slow start", "headless DNS: round robin")
DRAW = 0.1  # of p99: less is within what rounds differ by
PHASES = ("equal pods", "one slow", "rollout")


class Fleet:
    """The pods: servers at 127.0.1.N, and what Kubernetes would say of them."""

    def __init__(self, manifests: Path, port: int) -> None:
        self._path = manifests / "work.yaml"
        self._port = port
        self._numbers = itertools.count(1)
        self.ready: dict[str, tuple[Work, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, *, cold: bool = False) -> None:
        number = next(self._numbers)
        host = f"127.0.{1 + number // 250}.{1 + number % 250}"
        work, server = Work(number), grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(work.do)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("trimtab.bench.Work", {"Do": handler}),)
        )
        server.add_insecure_port(f"{host}:{self._port}")
        await server.start()
        self.ready[host] = (work, server)
        if cold:
            work.seconds = SERVICE_S * SLOWER
            self._later(self._warm(work))
        self._tell()

    async def drop_oldest(self) -> None:
        _, server = self.ready.pop(next(iter(self.ready)))
        self._tell()
        self._later(self._end(server))

    def slow_down(self, factor: float) -> None:
        work, _ = next(iter(self.ready.values()))
        work.seconds = SERVICE_S * factor

    async def stop(self) -> None:
        await asyncio.gather(*self._tasks)
        for _, server in self.ready.values():
            await server.stop(None)

    async def _warm(self, work: Work) -> None:
        await passed(COLD_S)
        work.seconds = SERVICE_S

    async def _end(self, server: Any) -> None:
        await passed(GRACE_S)
        await server.stop(2.0)

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        meta = {"name": "work", "namespace": "shop"}
        port = {"name": "grpc", "port": 8080}
        labels = {"kubernetes.io/service-name": "work"}
        documents = [
            {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [port]}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**meta, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "grpc", "port": self._port}],
                "endpoints": [{"addresses": [host]} for host in self.ready],
            },
        ]
        draft = self._path.with_suffix(".draft")
        draft.write_text(yaml.safe_dump_all(documents))
        draft.replace(self._path)


def edges(server: str, dns_port: int, port: int) -> tuple[list[str], list[str]]:
    """Both bootstraps, and where they listen."""
    host, _, number = server.rpartition(":")
    texts, targets = [], []
    for peer in PEERS:
        listener = Address("127.0.0.1", free_port())
        edge = Edge((listener,), (Route(SERVICE, timeout_s=0.0),), Address("127.0.0.1", 0))
        node = {"id": peer.partition(":")[0], "cluster": "edge"}
        config = envoy_config(edge, Address(host, int(number)), node, endpoints_only=False)
        if peer == PEERS[1]:
            del config["dynamic_resources"], config["cluster_manager"]
            config["static_resources"]["clusters"] = [by_dns(config, dns_port, port)]
        texts.append(json.dumps(config))
        targets.append(str(listener))
    return texts, targets


def by_dns(config: dict[str, Any], dns_port: int, port: int) -> dict[str, Any]:
    (control_plane,) = config["static_resources"]["clusters"]
    place = {"socket_address": {"address": "work.shop.svc", "port_value": port}}
    return {
        **control_plane,
        "name": SERVICE,
        "type": "STRICT_DNS",
        "lb_policy": "ROUND_ROBIN",
        "dns_lookup_family": "V4_ONLY",
        "typed_dns_resolver_config": asking(dns_port),
        "load_assignment": {
            "cluster_name": SERVICE,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        },
    }


async def one_peer(fleet: Fleet, target: str, args: Any, random: Random) -> dict[str, Seen]:
    own = ("grpc.use_local_subchannel_pool", 1)
    async with grpc.aio.insecure_channel(target, options=[own]) as channel:
        stubs = [channel.unary_unary(METHOD)]
        await load(stubs, args.rate, 1.0, random)
        found = {PHASES[0]: await load(stubs, args.rate, args.seconds, random)}
        fleet.slow_down(SLOWER)
        found[PHASES[1]] = await load(stubs, args.rate, args.seconds, random)
        fleet.slow_down(1.0)

        async def roll() -> None:
            for _ in range(PODS):
                await fleet.add(cold=True)
                await fleet.drop_oldest()
                await passed(GAP_S)

        rolling = asyncio.create_task(roll())
        lasting = PODS * GAP_S + GRACE_S + 2.0
        found[PHASES[2]] = await load(stubs, args.rate, lasting, random)
        await rolling
    return found


async def measure(args: Any) -> str:
    found: dict[str, list[dict[str, Seen]]] = {peer: [] for peer in PEERS}
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        (manifests := directory / "manifests").mkdir()
        fleet = Fleet(manifests, port)
        for _ in range(PODS):
            await fleet.add()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Dns(lambda: fleet.ready), local_addr=("127.0.0.1", 0)
        )
        plane = ControlPlane(free_addresses(), manifests)
        await asyncio.to_thread(plane.start)
        texts, targets = edges(plane.address, transport.get_extra_info("sockname")[1], port)
        envoys = [Envoy(f"edge-{n}", text, directory) for n, text in enumerate(texts)]
        try:
            for envoy in envoys:
                await asyncio.to_thread(envoy.wait_ready)
                await asyncio.to_thread(envoy.wait_cluster, SERVICE, 15)
            for number in range(args.rounds):
                for at in Random(number).sample(range(len(PEERS)), len(PEERS)):
                    random = Random(number)
                    seen = await one_peer(fleet, targets[at], args, random)
                    found[PEERS[at]].append(seen)
                    print(
                        number, PEERS[at], {p: s.failed for p, s in seen.items()}, file=sys.stderr
                    )
        finally:
            for part in (*envoys, plane):
                await asyncio.to_thread(part.stop)
            transport.close()
            await fleet.stop()
    return f"{table(found)}\n\n{verdict(found)}"


def median_ms(runs: list[dict[str, Seen]], phase: str, q: float) -> float:
    return statistics.median(quantile(run[phase].latencies, q) for run in runs) * 1e3


def verdict(found: dict[str, list[dict[str, Seen]]]) -> str:
    """Whether equal pods tell the two apart."""
    ours, theirs = (median_ms(found[peer], PHASES[0], 0.99) for peer in PEERS)
    apart = max(ours, theirs) / min(ours, theirs) - 1
    figures = f"p99 of {ours:.0f} ms on trimtab and of {theirs:.0f} ms over DNS"
    if apart <= DRAW:
        return f"Equal pods are a draw ({figures}): with nothing to avoid, in turn is as good."
    return f"Equal pods: {figures}, {apart:.0%} apart."


def table(found: dict[str, list[dict[str, Seen]]]) -> str:
    rows = ["| | phase | requests | failed | p50 | p99 | p99.9 |", "|---|---|---|---|---|---|---|"]
    for peer, runs in found.items():
        for phase in PHASES:
            seen = [run[phase] for run in runs]
            shown = [f"{median_ms(runs, phase, q):.0f} ms" for q in (0.5, 0.99, 0.999)]
            failed = sum(s.failed for s in seen)
            total = failed + sum(len(s.latencies) for s in seen)
            rows.append(f"| {peer} | {phase} | {total} | {failed} | {' | '.join(shown)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", metavar="FILE", help="write the page to FILE as well")
    parser.add_argument("--rate", type=float, default=450.0, help="requests/s in total")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the first two phases")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    body = asyncio.run(measure(args))
    about = " ".join((__doc__ or "").split())
    note = (
        f"{PODS} pods, {args.rate:g} requests/s, {args.rounds} rounds (medians; failures in all)."
    )
    publish("Envoy at the edge", f"{about}\n\n{note}\n\n{body}", args.write, "grpcio")


if __name__ == "__main__":
    main()
