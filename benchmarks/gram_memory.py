"""Peak memory and time of a float64 Gram matrix from 60,000 × 784 float32 rows.

    python benchmarks/gram_memory.py

Against casting everything to float64 and multiplying. Each runs in a process of its own, whose peak
is read from the system.
"""

from __future__ import annotations

import json
import subprocess
import sys

from timing import record

CODE = r"""
import json, re, sys, time
from pathlib import Path
import torch
from hessian_spectrum import GramAccumulator
torch.set_num_threads(2)
def peak():
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
torch.manual_seed(0)
x = torch.rand(60000, 784)
warm = GramAccumulator(); warm.update(x[:64]); x[:64].double().mT @ x[:64].double()
before = peak()
start = time.perf_counter()
if sys.argv[1] == "streamed":
    gram = GramAccumulator()
    gram.update(x)
    matrix = gram.result().matrix
else:
    matrix = x.double().mT @ x.double()
seconds = time.perf_counter() - start
above = peak() - before
print(json.dumps({"mib_above_inputs": above, "seconds": seconds, "trace": float(matrix.trace())}))
"""


def main() -> None:
    """Run both and print them."""
    found = {}
    for way in ("streamed", "at once"):
        done = subprocess.run(
            [sys.executable, "-c", CODE, way], check=True, capture_output=True, text=True
        )
        found[way] = json.loads(done.stdout)
        print(
            f"{way:10} {found[way]['mib_above_inputs']:7.1f} MiB above the inputs, "
            f"{found[way]['seconds']:.2f} s"
        )
    assert abs(found["streamed"]["trace"] / found["at once"]["trace"] - 1) < 1e-12
    record("gram_memory", found)


if __name__ == "__main__":
    main()
