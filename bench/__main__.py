"""All benchmarks, one after the other, each in a process of its own: ``python -m bench [names]``.

Ratios are of minima over interleaved rounds of one run; machines differ, ratios less so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run the benchmarks named on the command line, or all; the number that failed is the exit status."""
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    failed = 0
    for name in names:
        print(f"== {name} ==", flush=True)
        failed += subprocess.run([sys.executable, str(HERE / f"{name}.py")], cwd=HERE.parent).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
