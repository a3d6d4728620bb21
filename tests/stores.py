"""Stores as files and servers hold them, for tests of what lies elsewhere."""

import contextlib
import functools
import http.server
import json
import os
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

LONG_AGO = 1_600_000_000
"""when the files of `write_by_hand` were last modified, s since 1970"""


def write_by_hand(folder: Path) -> Path:
    """A Zarr group whose every byte and date is known, so that its fingerprints are."""
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [12, 2],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
        "attributes": {},
    }
    consolidated = {"kind": "inline", "must_understand": False, "metadata": {"a": array, "ab": array}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": consolidated}
    files = {"zarr.json": json.dumps(group).encode(), "note.txt": b"by hand"}
    for name in ("a", "ab"):
        files[f"{name}/zarr.json"] = json.dumps(array).encode()
        files |= {f"{name}/c/{i}/0": bytes([i, i + 1]) for i in range(11)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        os.utime(folder / name, (LONG_AGO, LONG_AGO))
    return folder


@contextlib.contextmanager
def serve(folder: Path, user: str | None = None, token: str | None = None) -> Iterator[str]:
    """The address of a real HTTP server of a folder, which can't list; it may ask for `user` ("name:password") or `?token=`."""
    basic = f"Basic {b64encode(user.encode()).decode()}" if user else None

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def list_directory(self, path: object) -> None:
            self.send_error(404)

        def send_head(self) -> object:
            given = parse_qs(urlsplit(self.path).query).get("token", [None])[0]
            if (basic and self.headers.get("Authorization") != basic) or (token and given != token):
                self.send_error(401)
                return None
            return super().send_head()

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # type: ignore[arg-type]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
