"""An API server in a thread of the test, for control planes that are processes."""

import asyncio
import threading

import yaml

from fake_api.server import FakeApi


class ApiThread:
    """It serves ``api`` from its start to its end."""

    def __init__(self):
        self.api = FakeApi()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self):
        self._thread.start()
        self.do(self.api.start())
        return self

    def do(self, coroutine):
        """Run it where the API server is, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=20)

    def stop(self):
        self.do(self.api.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=20)
        self._loop.close()

    def kubeconfig(self, path):
        """Write a kubeconfig of it."""
        cluster = {"name": "c", "cluster": {"server": self.api.address}}
        content = {
            "clusters": [cluster],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(content))
