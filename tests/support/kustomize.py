"""Renders the part of kustomize that deploy/k8s uses: resources, namespace, and strategic-merge patches of files.

Anything else in a kustomization is refused, so that no test passes on something that kustomize would render otherwise.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

_MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""How Kubernetes matches the items of a list in a patch. Other lists are replaced."""
_CLUSTER_SCOPED = {"Namespace"}


def render(folder: Path) -> list[Object]:
    """The objects of a base or of an overlay. Raises ValueError for what this does not know."""
    path = folder / "kustomization.yaml"
    content = yaml.safe_load(path.read_text())
    if unknown := set(content) - {"apiVersion", "kind", "namespace", "resources", "patches"}:
        raise ValueError(f"{path}: {', '.join(sorted(unknown))} is not rendered here")
    objects: list[Object] = []
    for resource in content["resources"]:
        target = (folder / resource).resolve()
        objects += render(target) if target.is_dir() else list(yaml.safe_load_all(target.read_text()))
    for patch in content.get("patches", []):
        for change in yaml.safe_load_all((folder / patch["path"]).read_text()):
            _patch(objects, change, path)
    if namespace := content.get("namespace"):
        for one in objects:
            if one["kind"] not in _CLUSTER_SCOPED:
                one["metadata"]["namespace"] = namespace
    return objects


def _patch(objects: list[Object], change: Object, path: Path) -> None:
    found = [
        number
        for number, one in enumerate(objects)
        if (one["kind"], one["metadata"]["name"]) == (change["kind"], change["metadata"]["name"])
    ]
    if len(found) != 1:
        raise ValueError(f"{path}: a patch of {change['kind']} {change['metadata']['name']} fits {len(found)} objects")
    objects[found[0]] = merged(objects[found[0]], change)


def merged(original: Any, change: Any, key: str = "") -> Any:
    """`original` with a strategic-merge patch: null deletes, lists are merged by their key, or replaced."""
    if isinstance(original, dict) and isinstance(change, dict):
        result = {name: value for name, value in original.items() if change.get(name, "") is not None}
        for name, value in change.items():
            if value is not None:
                result[name] = merged(original.get(name), value, name)
        return result
    if isinstance(original, list) and isinstance(change, list) and key in _MERGE_KEYS:
        by = _MERGE_KEYS[key]
        changes = {item[by]: item for item in change}
        kept = [merged(item, changes.pop(item[by], {})) for item in original]
        return kept + [merged({}, item) for item in changes.values()]
    return copy.deepcopy(change)
