"""The scripted API server beside tests that block, in the place of a real one."""

import asyncio
import threading

import yaml

from fake_api.objects import PLURALS, key_of
from fake_api.server import FakeApi

_ANSWER_WITHIN_S = 10


class ThreadedApi:
    """A ``FakeApi`` on a thread with a loop of its own.

    ``create``, ``merge``, ``delete`` and ``delete_all`` are those of ``harness.kube.api.Api``.
    """

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._api = FakeApi()
        self._run(self._api.start())

    def do(self, act):
        """``act(api)`` on its thread; what that returns."""

        async def acting():
            return act(self._api)

        return self._run(acting())

    def write_kubeconfig(self, path):
        """A kubeconfig that leads here; its path."""
        cluster = {"name": "fake", "cluster": {"server": self._api.address}}
        context = {"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}
        document = {
            "clusters": [cluster],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [context],
            "current-context": "fake",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def create(self, document):
        """Kinds that it doesn't know are nobody's business."""
        if document["kind"] in PLURALS:
            self.do(lambda api: api.put(document))
        return document

    def merge(self, document, patch, *, subresource=""):
        """Top-level fields of the patch replace those of the object."""
        del subresource
        self.do(lambda api: api.put(self._stored(api, document) | patch))

    def delete(self, document, *, grace_s=None):
        del grace_s
        self.do(lambda api: api.delete(self._stored(api, document)))

    def delete_all(self, kind, namespace):
        def act(api):
            stored = api.objects.at(PLURALS[kind]).items()
            api.delete(*(document for (of, _), document in stored if of == namespace))

        self.do(act)

    def stop(self):
        self._run(self._api.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _stored(self, api, document):
        return api.objects.at(PLURALS[document["kind"]])[key_of(document)]

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=_ANSWER_WITHIN_S)
