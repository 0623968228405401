"""Never run, only type-checked: what users write must pass a strict checker."""

import grpc
import grpc.aio

import trimtab
import trimtab.aio


class OrdersStub:
    """As generated code has it."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None: ...


def threads() -> None:
    stub = OrdersStub(trimtab.insecure_channel("xds:///orders.shop:grpc"))
    with trimtab.secure_channel(
        "xds:///orders.shop:grpc",
        grpc.ssl_channel_credentials(),
        [("grpc.max_receive_message_length", 1 << 24)],
        grpc.Compression.Gzip,
        policy=trimtab.PolicyConfig.of("p2c"),
        retry=trimtab.Retry(attempts=2, on=["UNAVAILABLE"], hedge_quantile=0.95),
        connections=trimtab.Connections(max_age_s=3600, streams=100, most=2),
        bootstrap={"xds_servers": [{"server_uri": "10.0.0.1:18000"}]},
    ) as channel:
        stub = OrdersStub(channel)
    del stub


async def asyncio_program(interceptor: grpc.aio.UnaryUnaryClientInterceptor) -> None:
    stub = OrdersStub(
        trimtab.aio.secure_channel(
            "xds:///orders.shop:grpc", trimtab.tls_credentials("/tls/ca.crt")
        )
    )
    async with trimtab.aio.insecure_channel(
        "orders",
        interceptors=[interceptor],
        policy="round_robin",
        health="orders",
        endpoints=["10.0.0.1:8080", trimtab.Endpoint("10.0.0.2", 8080, weight=2)],
    ) as channel:
        stub = OrdersStub(channel)
        await channel.channel_ready()
    del stub


def values() -> tuple[str, trimtab.Health]:
    endpoint = trimtab.Endpoint("10.0.0.1", 80, locality=trimtab.Locality(zone="a"))
    snapshot = trimtab.Snapshot("orders.shop:80", (endpoint,))
    try:
        trimtab.insecure_channel("dns:///orders")
    except trimtab.ConfigError as error:
        return str(error), endpoint.health
    except trimtab.TrimtabError:
        raise
    return snapshot.version, trimtab.Health.READY
