"""`python -m benchmarks.profiles`."""

import sys

from benchmarks.profiles.command import main

main(sys.argv[1:])
