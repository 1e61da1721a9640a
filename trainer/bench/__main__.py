"""One measurement in a process of its own: reads a case, prints what was measured, each as one JSON object.

Libraries that talk do so on stderr. A side is imported when it is asked for: ours need torch and transformers alone.
"""

import json
import sys
from contextlib import redirect_stdout
from importlib import import_module

import torch

from trainer.bench.case import Case

MODULES = {"ours": "steps", "trl": "trl_steps", "fork": "rollouts", "generate": "rollouts", "parity": "parity"}


def main(side: str, told: str) -> None:
    case = Case(**json.loads(told))
    torch.set_num_threads(case.threads)
    with redirect_stdout(sys.stderr):
        measured = import_module(f"trainer.bench.{MODULES.get(side, 'updates')}").run(case, side)
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
