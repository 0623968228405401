"""What an API server stores: objects by kind and name, every change under a version of its own."""

import copy

PLURALS = {"Pod": "pods", "Service": "services", "EndpointSlice": "endpointslices"}


def key_of(document):
    meta = document["metadata"]
    return meta["namespace"], meta["name"]


class Objects:
    """The objects, and the log of their changes.

    Attributes:
        version: the latest.
        oldest: what is older is compacted away.
    """

    def __init__(self):
        self.version = 100
        self.oldest = 100
        self.log = []  # (version, plural, type, document)

    def put(self, document):
        """Create or replace."""
        plural = PLURALS[document["kind"]]
        there = key_of(document) in self.at(plural)
        return self._note(plural, "MODIFIED" if there else "ADDED", document)

    def delete(self, document):
        return self._note(PLURALS[document["kind"]], "DELETED", document)

    def _note(self, plural, kind, document):
        self.version += 1
        stored = copy.deepcopy(document)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, plural, kind, stored))
        return self.log[-1]

    def at(self, plural, version=None):
        """The objects of one kind at a version."""
        found = {}
        for number, of, kind, document in self.log:
            if of != plural or (version is not None and number > version):
                continue
            if kind == "DELETED":
                found.pop(key_of(document), None)
            else:
                found[key_of(document)] = document
        return found

    def since(self, plural, version):
        """The changes of one kind after a version."""
        return [entry for entry in self.log if entry[1] == plural and entry[0] > version]

    def compact(self):
        self.oldest = self.version

    def restore(self, version):
        """As from a backup: what came after that version never was."""
        self.log = [entry for entry in self.log if entry[0] <= version]
        self.version = version
        self.oldest = min(self.oldest, version)
