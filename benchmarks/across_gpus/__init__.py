"""Trainings and searches on one, two, four and eight GPUs of one host: one command for each row.

    python -m benchmarks.across_gpus.winner --gpus 1 2        # one network by every parallel method
    python -m benchmarks.across_gpus.supernet --gpus 1 2      # a supernet by data parallelism
    python -m benchmarks.across_gpus.search --gpus 1 2        # candidates an hour, from scratch
    python -m benchmarks.across_gpus.timing --gpus 1 2        # a latency table while the other GPUs train
    python -m benchmarks.across_gpus.end_to_end --gpus 1 2    # `nas search gpu --workers max`, from nothing
    python -m benchmarks.across_gpus.winner --cpu             # a rehearsal: tiny, in processes of this CPU
    python -m benchmarks.across_gpus.page                     # what came of it, as a page of docs/

Every measurement is kept as soon as it is there, and `--seconds` bounds a row as a whole, so what was not
reached is missing and what failed says why.
"""
