"""What all tests share. The shapes of every call are checked while they run: see `--jaxtyping-packages`."""

import os

# Before any test module imports torch: threads that spin starve the other worker.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("WANDB_MODE", "offline")
