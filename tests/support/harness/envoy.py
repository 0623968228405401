"""A real Envoy in front of the servers, with several ways to learn of them.

At its listener ``tests`` a request's header ``x-cluster`` names the cluster it goes to. Other
listeners get their routes from the control plane.
"""

import json
import os
import urllib.request
from pathlib import Path

from harness.client import Road
from harness.process import Process
from harness.waiting import Unmet, eventually

ROOT = Path(__file__).parents[3]
API_TYPE = {"sotw": "GRPC", "delta": "DELTA_GRPC"}
READY_WITHIN_S = 12  # less than the 15 s after which Envoy starts without an answer


def envoy_binary():
    """The real Envoy, which lives in a virtual environment of its own."""
    venv = Path(os.environ.get("TRIMTAB_ENVOY_VENV") or ROOT / ".cache" / "envoy")
    found = sorted(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise AssertionError(f"there is no Envoy in {venv}: `make test` puts it there")
    return found[0]


class Envoy:
    """One Envoy process with a bootstrap of YAML or JSON text."""

    def __init__(self, name, bootstrap, directory):
        self.name = name
        config = directory / f"{name}.yaml"
        admin = directory / f"{name}.admin"
        config.write_text(bootstrap)
        command = [envoy_binary(), "-c", config, "--admin-address-path", admin]
        # One worker: a test of several Envoys runs on two cores.
        command += ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        self._process = Process(name, command)
        self._admin_file = admin

    @property
    def pid(self):
        return self._process.pid

    def wait_ready(self):
        """Wait until it takes requests."""

        def live():
            if not self._process.running:
                raise AssertionError(f"{self.name} ended\n{self._process.tail()}")
            if not self._admin_file.exists() or not self._admin_file.read_text():
                return Unmet("no admin page")
            state = json.loads(self.get("/server_info"))["state"]
            return state == "LIVE" or Unmet(state)

        eventually(live, within=READY_WITHIN_S, what=f"{self.name} ready")

    def wait_cluster(self, cluster, within=20):
        """Wait until a cluster is in use and has endpoints."""

        def hosts():
            known = json.loads(self.get("/clusters?format=json"))["cluster_statuses"]
            counts = {c["name"]: len(c.get("host_statuses", ())) for c in known}
            return counts.get(cluster) or Unmet(f"{counts}")

        eventually(hosts, within=within, what=f"{cluster} in use in {self.name}")

    def road(self, cluster):
        """The way through this Envoy to a cluster of its."""
        return Road(self._listening("tests"), {"x-cluster": cluster})

    def routed_road(self, listener):
        """The way through a listener whose routes say which cluster."""
        return Road(self._listening(listener))

    def _listening(self, listener):
        known = json.loads(self.get("/listeners?format=json"))["listener_statuses"]
        (found,) = (one for one in known if one["name"] == listener)
        return f"127.0.0.1:{found['local_address']['socket_address']['port_value']}"

    def get(self, path):
        """An admin page."""
        address = self._admin_file.read_text()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
            return answer.read().decode()

    def stat(self, pattern):
        """Counters and gauges whose name fits, by name."""
        stats = json.loads(self.get(f"/stats?format=json&filter={pattern}"))["stats"]
        return {s["name"]: s["value"] for s in stats if "name" in s}

    def active_clusters(self):
        """The clusters from CDS that are in use (not warming), by name."""
        dump = json.loads(self.get("/config_dump?resource=dynamic_active_clusters"))
        return {c["cluster"]["name"]: c["cluster"] for c in dump.get("configs", [])}

    def wait_policy(self, cluster, policy, within=20):
        """Wait until a cluster from CDS is in use with a policy, the first that Envoy knows."""

        def listed():
            found = self.active_clusters()[cluster]["load_balancing_policy"]["policies"]
            types = [p["typed_extension_config"]["typed_config"]["@type"] for p in found]
            return any(t.endswith(f".{policy}") for t in types) or Unmet(f"{types}")

        eventually(listed, within=within, what=f"{cluster} with {policy} in use in {self.name}")

    def assert_rejected_nothing(self):
        rejected = {name: n for name, n in self.stat("update_rejected").items() if n}
        assert not rejected, f"{self.name}: {rejected}\n{self._process.tail()}"

    def stop(self):
        try:
            if self._process.running:
                self.assert_rejected_nothing()
        finally:
            self._process.kill()


def aggregated(name, address, transport, *, zone="", service="tests"):
    """A bootstrap for ADS: clusters from CDS, endpoints from EDS, listeners asked for as well.

    ``zone`` and ``service`` are the Envoy's own.
    """
    source = {"ads": {}, "resource_api_version": "V3"}
    return _bootstrap(
        name,
        address,
        dynamic_resources={
            "ads_config": _api(transport),
            "cds_config": source,
            "lds_config": source,
        },
        zone=zone,
        service=service,
    )


def endpoints_only(name, address, transport, clusters):
    """A bootstrap for the separate EDS service: ``clusters`` maps static names to EDS names."""
    static = [
        {
            "name": cluster,
            "type": "EDS",
            "connect_timeout": "1s",
            "lb_policy": "ROUND_ROBIN",
            "eds_cluster_config": {
                "service_name": eds_name,
                "eds_config": {
                    "resource_api_version": "V3",
                    "api_config_source": _api(transport),
                },
            },
            **_http2(),
        }
        for cluster, eds_name in clusters.items()
    ]
    return _bootstrap(name, address, clusters=static)


def separate_services(name, address, transport, routes=()):
    """A bootstrap without ADS: a stream for each of CDS, EDS, LDS and RDS.

    ``routes`` are names of RouteConfigurations; each gets a listener of that name.
    """
    source = {"resource_api_version": "V3", "api_config_source": _api(transport)}
    listeners = [
        _listener(route, rds={"route_config_name": route, "config_source": source})
        for route in routes
    ]
    return _bootstrap(
        name,
        address,
        listeners=listeners,
        metadata={"trimtab.dev/eds-cluster": "control-plane"},
        dynamic_resources={"cds_config": source, "lds_config": source},
    )


def _api(transport):
    return {
        "api_type": API_TYPE[transport],
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
    }


def _http2():
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    }


def _bootstrap(
    name,
    address,
    *,
    clusters=(),
    listeners=(),
    metadata=None,
    zone="",
    service="tests",
    **more,
):
    host, port = address.rsplit(":", 1)
    control_plane = {
        "name": "control-plane",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "control-plane",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
        },
        **_http2(),
    }
    bootstrap = {
        "node": {
            "id": name,
            "cluster": service,
            "locality": {"zone": zone},
            "metadata": metadata or {},
        },
        "admin": {"address": _address("127.0.0.1", 0)},
        "static_resources": {
            "listeners": [_listener("tests", route_config=_BY_HEADER), *listeners],
            "clusters": [control_plane, *clusters],
        },
        **more,
    }
    return json.dumps(bootstrap)


def _address(host, port):
    return {"socket_address": {"address": host, "port_value": int(port)}}


_BY_HEADER = {
    "virtual_hosts": [
        {
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}}],
        }
    ]
}


def _listener(name, **routes):
    http = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{http}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{http}.http.router.v3.Router"},
            }
        ],
        **routes,
    }
    return {
        "name": name,
        "address": _address("127.0.0.1", 0),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
