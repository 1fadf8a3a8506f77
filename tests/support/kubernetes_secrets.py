"""The Secrets of one namespace as an API server answers them, in a thread: for suites that have no API server."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOKEN = "token-of-a-test"
_running: list[ThreadingHTTPServer] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secrets: ClassVar[dict[tuple[str, str], Mapping[str, str]]] = {}

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"reason": "Unauthorized", "message": "Unauthorized"})
        elif parts[:3] != ["api", "v1", "namespaces"] or parts[4] != "secrets":
            self._answer(404, {"reason": "NotFound", "message": "no such path"})
        elif len(parts) == 5:
            found = [(name, data) for (of, name), data in self.secrets.items() if of == parts[3]]
            items = [_secret(parts[3], name, data) for name, data in found]
            self._answer(200, {"metadata": {"resourceVersion": "1"}, "items": items})
        elif (parts[3], parts[5]) in self.secrets:
            self._answer(200, _secret(parts[3], parts[5], self.secrets[parts[3], parts[5]]))
        else:
            self._answer(404, {"reason": "NotFound", "message": f'secrets "{parts[5]}" not found'})

    def log_message(self, *_words: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Say nothing."""

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _secret(namespace: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": "1"}, "data": encoded}


def serve(folder: Path, namespace: str, secrets: Mapping[str, Mapping[str, str]]) -> Path:
    """Answer with these Secrets from now on; the kubeconfig to use."""
    if not _running:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        _running.append(server)
    _Handler.secrets.update({(namespace, name): data for name, data in secrets.items()})
    return kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{_running[0].server_port}", namespace, TOKEN)


def kubeconfig(file: Path, server: str, namespace: str, token: str) -> Path:
    """Write a kubeconfig with one user of one server, which may be one without TLS."""
    context = {"cluster": "kit", "user": "user", "namespace": namespace}
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "kit", "cluster": {"server": server}}],
                "users": [{"name": "user", "user": {"token": token}}],
                "contexts": [{"name": "kit", "context": context}],
                "current-context": "kit",
            }
        )
    )
    return file


def stop() -> None:
    """End the server, where one was started."""
    while _running:
        server = _running.pop()
        server.shutdown()
        server.server_close()
