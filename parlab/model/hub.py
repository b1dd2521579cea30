"""Models by hub id, through huggingface_hub and its cache."""

from __future__ import annotations

import re
from pathlib import Path

from parlab.errors import UserError

# The same weights again, for other libraries or in other precisions.
_OTHER_FORMATS = ("*.msgpack", "*.h5", "*.ot", "*.onnx", "*.tflite", "*.gguf", "*.fp32*", "onnx/*", "coreml/*")


def looks_like_hub_id(name: str) -> bool:
    """True for ``owner/name`` without a file suffix that a local path would have."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith((".", "/"))


def snapshot(hub_id: str, local: bool = False) -> Path:
    """Fetch a model (or find it in the cache, which needs no network) and return its folder.

    Args:
        local: the name is probably that of a folder, spelt wrong: look in the cache only.

    Raises:
        UserError: it is neither in the cache nor to be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except Exception as error:  # not cached, or only in part: ask the hub
        if local:
            owner, folder = hub_id.split("/")
            raise UserError(
                f"the folder {owner}/ holds no {folder}, expected a model's folder there; check the path (where {hub_id} is "
                "meant as a hub id, run from another folder)"
            ) from error
        try:
            return Path(snapshot_download(hub_id, ignore_patterns=list(_OTHER_FORMATS)))
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"no folder is called {hub_id}, and as a hub id it is neither in the local cache nor to be fetched "
                f"({first[:160]}); check the name or the network, or name a local folder"
            ) from error
