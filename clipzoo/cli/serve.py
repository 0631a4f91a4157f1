"""``tools/serve.py CHECKPOINT``: a page to try a model in a browser."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line, model_arguments

if TYPE_CHECKING:
    from clipzoo.inference.classifier import LoadedClassifier
    from clipzoo.inference.clip import LoadedCLIP
    from clipzoo.inference.ensemble import FoldEnsemble
    from clipzoo.serving.neighbours import Neighbours

DESCRIPTION = """Serve a page on this machine to try a model: choose images, write texts in any language, and see probabilities, what speaks
for them, and the nearest training cases. The same as JSON: POST /api/predict with the fields images, texts and explain.

Nothing is stored. The server listens to this machine only; --host opens it to others, without any password."""
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("serve", DESCRIPTION)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=command_line.path_text, help=model_arguments.SOURCE)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=model_arguments.at_least_0, default=8000, help="port (default: 8000; 0 for any free one)")
    help_ = "largest request in MB (default: 32)"
    parser.add_argument("--max-megabytes", type=model_arguments.positive, default=32, metavar="N", help=help_)
    parser.add_argument("--no-neighbours", action="store_true", help="do not encode the training cases")
    parser.add_argument("--lang", choices=["en", "zh"], help="language of the page (default: as the browser asks)")
    model_arguments.add_loading_arguments(parser)
    command_line.run(serve, parser.parse_args(arguments))


def serve(arguments: argparse.Namespace) -> None:
    """Load the model, then answer until Ctrl-C."""
    _require_packages()
    listening = _listen(arguments.host, arguments.port)
    with listening, model_arguments.warnings_in_a_line():
        import uvicorn

        import clipzoo
        from clipzoo.serving.app import make_app
        from clipzoo.serving.service import Limits, Service

        model = clipzoo.load(arguments.checkpoint, **model_arguments.loading(arguments))
        neighbours = None if arguments.no_neighbours else neighbours_of(model, arguments.checkpoint)
        service = Service(model, neighbours, Limits(body_bytes=1_000_000 * arguments.max_megabytes))
        is_local = arguments.host in _LOCAL
        app = make_app(service, hosts=[*_LOCAL] if is_local else ["*"], language=arguments.lang)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_keep_alive=5))
        if not is_local:
            command_line.say(f"warning: anyone who reaches {arguments.host} can use the model: there is no password")
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(arguments.host, arguments.host)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        command_line.show(f"http://{host}:{listening.getsockname()[1]}/   (Ctrl-C ends)")
        sys.stdout.flush()  # who started it through a pipe waits for the address
        server.run(sockets=[listening])


def neighbours_of(model: LoadedCLIP | LoadedClassifier | FoldEnsemble, checkpoint: str) -> Neighbours | None:
    """The training cases of the model's work dir, encoded by it (of several folds, the first's by the first); ``None`` without any."""
    from clipzoo.errors import ClipzooError
    from clipzoo.inference.ensemble import FoldEnsemble
    from clipzoo.serving.neighbours import MOST, Neighbours, training_cases

    path = Path(checkpoint)
    folder, encoder = path if path.is_dir() else path.parent, model
    if isinstance(model, FoldEnsemble):
        fold, encoder = next(iter(model.members.items()))
        folder = path / fold
    try:
        found = training_cases(folder)
        if found is None or not found[1]:
            return None
        data, case_ids = found
        with command_line.progress("training cases", min(len(case_ids), MOST)) as advance:
            return Neighbours(encoder, data, case_ids, advance)
    except ClipzooError as error:  # the data may be elsewhere
        command_line.say(f"note: no nearest training cases: {error}")
        return None


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, before the model is loaded.

    Raises:
        ConfigError: The address is not of this machine, or the port is taken.
    """
    from clipzoo.errors import ConfigError

    if port > 65535:
        raise ConfigError(f"--port: {port} is not a port. Ports are 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()  # who reads the address may connect at once
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: {error.strerror or error}. Choose another port, such as --port 0 for a free one"
        ) from error
    return made


def _require_packages() -> None:
    """Refuse to start without the optional packages.

    Raises:
        ConfigError: One of them is missing.
    """
    import importlib.util

    from clipzoo.errors import ConfigError

    missing = [name for name in ("starlette", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve requires {', '.join(missing)}. Run pip install starlette uvicorn python-multipart")
