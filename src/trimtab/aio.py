"""For asyncio programs: use ``trimtab.aio`` where you use ``grpc.aio``."""

from trimtab.client.grpc_aio import insecure_channel, secure_channel

__all__ = ["insecure_channel", "secure_channel"]
