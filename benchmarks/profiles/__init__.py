"""Whether latency tables can be believed, and what the tool sees that the literature leads us to expect.

    python -m benchmarks.profiles --part accuracy --device cpu        # or cuda:0
    python -m benchmarks.profiles --part repeat
    python -m benchmarks.profiles --part cost
    python -m benchmarks.profiles --part claims --device cuda:0
    python -m benchmarks.profiles --part draw benchmarks/results/profiles_accuracy_cpu.json

Each part takes minutes, keeps what it has as it goes, and needs torch, numpy, scipy and safetensors only, so
that it runs on a device that has little installed. Without `--part`: all that suit the device.

- accuracy: a table of a space with every registered kind of block is measured; then random networks that
  had no part in it, over all kinds, depths and widths, are built and timed in sessions of their own. Targets
  on a CPU (on a GPU): mean error at most 8 % (5 %), Kendall tau at least 0.9 (0.95), 9 of 10 measurements
  within the stated interval.
- repeat: the same two blocks are profiled in 5 separate processes, alone and beside a busy neighbour: the
  ratio of their times should range over at most 3 % by thread time and 5 % by the wall clock.
- cost: a table of the ready-made hybrid space, in at most 180 s (60 s); using it again; predictions of 10,000
  different networks in under 1 s.
- claims: figures that published systems lead us to expect, on networks of equal width.
- draw: predicted against measured as a picture, and the claims as a table, from what was kept.
"""

from benchmarks.profiles.command import main

__all__ = ["main"]
