import importlib.util
import json
from pathlib import Path

import pytest

import kube
from trimtab.discovery.manifests import Manifests

_spec = importlib.util.spec_from_file_location("contract", Path(__file__).with_name("contract.py"))
contract = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(contract)


class Directory:
    """A directory of manifests, one file per object."""

    def __init__(self, path):
        self.path = path
        self.problems = []

    def source(self):
        return Manifests(self.path, self.problems.append)

    def _file(self, document):
        return self.path / f"{document['kind']}-{document['metadata']['name']}.json"

    def apply(self, *documents):
        for document in documents:
            draft = self.path / "draft"
            draft.write_text(json.dumps(document))
            draft.replace(self._file(document))

    def delete(self, document):
        self._file(document).unlink()


class OneFile(Directory):
    """A single file with all objects."""

    def __init__(self, path):
        super().__init__(path)
        self.objects = {}
        self._write()

    def source(self):
        return Manifests(self.path / "all.yaml", self.problems.append)

    def _write(self):
        draft = self.path / "draft"
        draft.write_text("\n---\n".join(json.dumps(o) for o in self.objects.values()))
        draft.replace(self.path / "all.yaml")

    def apply(self, *documents):
        for document in documents:
            self.objects[self._file(document)] = document
        self._write()

    def delete(self, document):
        del self.objects[self._file(document)]
        self._write()


@pytest.mark.parametrize("world", [Directory, OneFile])
@pytest.mark.parametrize("promise", contract.PROMISES, ids=lambda f: f.__name__)
async def test_every_source(promise, world, tmp_path):
    await promise(world(tmp_path), kube)
