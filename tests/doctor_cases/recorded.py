"""A synthetic recording of one host: path -> entry as `doctor capture` writes it, stored as JSON or as a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Tree = dict[str, dict[str, Any]]
SYNTHETIC = "synthetic: made by the tests from published facts, read from no machine"


def put(tree: Tree, path: str, data: str) -> None:
    """A file, and the folders above it; a last newline as sysfs has it, where there is none."""
    _folders(tree, path)
    tree[path] = {"data": data if data.endswith("\n") else data + "\n"}


def put_raw(tree: Tree, path: str, data: str) -> None:
    _folders(tree, path)
    tree[path] = {"data": data}


def put_link(tree: Tree, path: str, target: str) -> None:
    _folders(tree, path)
    tree[path] = {"link": target}


def put_error(tree: Tree, path: str, number: int, text: str) -> None:
    """A file that exists and can't be read: only a JSON recording holds one."""
    _folders(tree, path)
    tree[path] = {"errno": number, "err": text}


def without_links(tree: Tree) -> Tree:
    """Each link a folder of its own, as in a recording made by hand: nothing tells a device's place on the bus."""
    return {path: {"dir": 1} if "link" in entry else entry for path, entry in tree.items()}


def bare(tree: Tree) -> Tree:
    """What a port and its interface say, and nothing else."""
    wanted = (
        "/state",
        "/phys_state",
        "/rate",
        "/mtu",
        "/speed",
        "/carrier",
        "/nccl.conf",
        "/software.json",
        "/product_name",
    )
    return {path: entry for path, entry in without_links(tree).items() if path.endswith(wanted)}


def remove(tree: Tree, prefix: str) -> None:
    for path in [p for p in tree if p == prefix or p.startswith(prefix + "/")]:
        del tree[path]


def _folders(tree: Tree, path: str) -> None:
    parts = path.split("/")[1:-1]
    for depth in range(1, len(parts) + 1):
        tree.setdefault("/" + "/".join(parts[:depth]), {"dir": 1})


def store_json(tree: Tree, file: Path) -> Path:
    file.write_text(json.dumps({"what": SYNTHETIC, "tree": tree}))
    return file


def store_folder(tree: Tree, folder: Path) -> Path:
    """The same as files: links stay links and lead within the folder; what only an errno tells is left out."""
    folder.mkdir(parents=True)
    root = os.path.realpath(folder)
    made: set[str] = set()
    for path in sorted(tree):
        entry, place = tree[path], root + path
        if os.path.dirname(path) not in made:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            made.add(os.path.dirname(path))
        if "link" in entry:
            target = os.path.normpath(os.path.join(os.path.realpath(os.path.dirname(place)), entry["link"]))
            assert target.startswith(root + "/"), f"{path} leads out of the recording"
            os.makedirs(target, exist_ok=True)
            os.symlink(entry["link"], place)
        elif "data" in entry and not os.path.exists(place):  # two links to one folder name its files twice
            with open(place, "w") as out:
                out.write(entry["data"])
    (folder / "SYNTHETIC").write_text(SYNTHETIC + "\n")
    return folder
