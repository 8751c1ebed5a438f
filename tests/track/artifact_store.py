"""As much of W&B's store of artifacts as sending and fetching one needs, for `wandb_server`."""

from typing import Any

PROJECT = {
    "id": "UHJvamVjdA==", "internalId": "UHJvamVjdA==", "name": "deeper",
    "entity": {"name": "someone"},
}  # fmt: skip


class ArtifactStore:
    """Artifacts by name: their versions, with aliases and files.

    Attributes:
        versions: in the order in which they were made, as dicts with name, aliases, metadata,
            digest and whether they are committed.
        files: name of a file in the store -> its content.
        used: ids of the artifacts that runs began with.
    """

    def __init__(self, url: str):
        self._url = url
        self.versions: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.used: list[str] = []

    def named(self, name: str) -> int | None:
        """Return the number of the version with a name and alias, or name and version."""
        name, _, alias = name.partition(":")
        for number in reversed(range(len(self.versions))):
            version = self.versions[number]
            known = (*version["aliases"], f"v{number}", "latest")
            if version["name"] == name and alias in known:
                return number
        return None

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Answer a query; None if it is not about artifacts."""
        operations = {
            "CreateArtifact(": self._create,
            "CreateArtifactManifest(": self._manifest,
            "CreateArtifactFiles(": self._new_files,
            "CommitArtifact(": self._commit,
            "UseArtifact(": self._use,
            "ArtifactType(": self._type,
            "ArtifactMembershipByName(": self._membership,
            "FetchArtifactManifest(": self._manifest_of,
            "GetArtifactMembershipFileUrls(": self._urls,
        }
        head = query.replace(" (", "(").split("{")[0]
        for name, answer in operations.items():
            if f" {name}" in head:
                return answer(variables)
        return None

    def _create(self, variables):
        given = variables["input"]
        number = len(self.versions)
        names = [alias["alias"] for alias in given["aliases"]]
        for version in self.versions:  # an alias moves to the newest
            version["aliases"] = [a for a in version["aliases"] if a not in names]
        self.versions.append(
            {
                "name": given["artifactCollectionName"],
                "aliases": names,
                "metadata": given.get("metadata"),
                "digest": given["digest"],
                "run": given.get("runName"),
                "type": given["artifactTypeName"],
                "committed": False,
            }
        )
        made = {
            "id": f"a{number}",
            "state": "PENDING",
            "artifactSequence": {"latestArtifact": None},
        }
        return {"createArtifact": {"artifact": made}}

    def _manifest(self, variables):
        number = variables["artifactID"]
        file = {
            "id": "f",
            "uploadUrl": f"{self._url}/stored/{number}/manifest",
            "uploadHeaders": [],
        }
        manifest = {"artifactManifest": {"id": f"{number}m", "file": file}}
        return {"createArtifactManifest": manifest}

    def _new_files(self, variables):
        nodes = [
            {
                "storagePath": f"stored/{one['artifactID']}/{one['name']}",
                "uploadUrl": f"{self._url}/stored/{one['artifactID']}/{one['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": one["artifactID"]},
            }
            for one in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit(self, variables):
        version = self.versions[int(variables["artifactID"].removeprefix("a"))]
        version["committed"] = True
        done = {"id": variables["artifactID"], "digest": version["digest"]}
        return {"commitArtifact": {"artifact": done}}

    def _use(self, variables):
        self.used.append(variables["artifactID"])
        return {"useArtifact": {"artifact": {"id": variables["artifactID"]}}}

    def _type(self, variables):
        number = self.named(variables["name"])
        if number is None:
            return {"project": {"artifact": None}}
        return {"project": {"artifact": {"artifactType": {"name": self.versions[number]["type"]}}}}

    def _membership(self, variables):
        number = self.named(variables["name"])
        if number is None:
            return {"project": {"artifactCollectionMembership": None}}
        version = self.versions[number]
        collection = {"__typename": "ArtifactSequence", "name": version["name"], "project": PROJECT}
        aliases = [{"__typename": "ArtifactAlias", "id": a, "alias": a} for a in version["aliases"]]
        artifact = {
            "__typename": "Artifact",
            "id": f"a{number}",
            "artifactSequence": collection,
            "versionIndex": number,
            "artifactType": {"name": version["type"]},
            "description": None,
            "metadata": version["metadata"],
            "ttlDurationSeconds": -1,
            "ttlIsInherited": False,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": 1,
            "digest": version["digest"],
            "commitHash": f"c{number}",
            "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "aliases": [{**alias, "artifactCollection": collection} for alias in aliases],
        }
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": f"m{number}",
            "versionIndex": number,
            "createdAt": "2026-01-01T00:00:00Z",
            "aliases": aliases,
            "artifactCollection": collection,
            "artifact": artifact,
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _manifest_of(self, variables):
        [number] = variables.values()
        file = {"directUrl": f"{self._url}/stored/{number}/manifest"}
        manifest = {"__typename": "ArtifactManifest", "id": f"{number}m", "file": file}
        return {"artifact": {"currentManifest": manifest}}

    def _urls(self, variables):
        number = self.named(f"{variables['collection']}:{variables['alias']}")
        begin = f"a{number}/"
        nodes = [
            {
                "__typename": "File",
                "name": name.removeprefix(begin),
                "directUrl": f"{self._url}/stored/{name}",
            }
            for name in self.files
            if name.startswith(begin) and name != f"{begin}manifest"
        ]
        page = {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}
        files = {"pageInfo": page, "edges": [{"node": node} for node in nodes]}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
        return {"project": {"artifactCollection": collection}}
