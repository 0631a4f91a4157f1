"""How the user can type a command, for usage lines and messages.

A process that was started through a script in ``tools/`` names these scripts, ``python tools/train.py``; every other one names the
console script, ``clipzoo train``: a wheel has no ``tools/``.
"""

import os
import shlex
import sys
from pathlib import Path

_TOOLS = Path(__file__).resolve().parents[1] / "tools"


def typed(command: str) -> str:
    """A command, and what follows it, as the user can type it.

    >>> typed("fewshot predict")
    'clipzoo fewshot predict'
    """
    name, *rest = command.split(" ", 1)
    tools = _tools_typed()
    start = f"clipzoo {name}" if tools is None else f"python {shlex.quote(str(tools / name))}.py"
    return " ".join([start, *rest])


def typed_launch(launcher: str) -> str:
    """How a training in several processes is started, with capitals for what the user fills in.

    >>> typed_launch("pytorch")
    'torchrun --nproc_per_node NUM_PROCESSES -m clipzoo.cli train CONFIG --launcher pytorch'
    """
    tools = _tools_typed()
    if launcher == "pytorch":
        if tools is None:
            return "torchrun --nproc_per_node NUM_PROCESSES -m clipzoo.cli train CONFIG --launcher pytorch"
        return f"bash {shlex.quote(str(tools / 'dist_train.sh'))} CONFIG NUM_PROCESSES"
    if tools is None:
        return "srun --partition PARTITION --ntasks NUM_PROCESSES clipzoo train CONFIG --launcher slurm"
    return f"bash {shlex.quote(str(tools / 'slurm_train.sh'))} PARTITION JOB_NAME CONFIG WORK_DIR"


def _tools_typed() -> Path | None:
    """The clone's ``tools/`` as the user typed it; ``None`` where no script in it started this process."""
    script = sys.argv[0] if sys.argv else ""
    if script.endswith(".py") and os.path.realpath(os.path.dirname(script)) == str(_TOOLS):
        return Path(script).parent
    return None
