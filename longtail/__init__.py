"""Long-tailed recognition with Vision Transformers: the library behind `stages/`.

Imported, never run: no module here parses a command line or knows where files lie.
"""

import os
import sys

# Before torch loads OpenMP: threads that wait must sleep. Spinning ones, with two runs on two cores, cost up to nine
# times the CPU time for the same work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Figures are files. The backend that a notebook leaves to the commands that it starts cannot draw them; the notebook's
# own process keeps it.
if "ipykernel" not in sys.modules:
    os.environ["MPLBACKEND"] = "Agg"
