"""Workers and clusters: what has no room or does not answer is refused before any work."""

from __future__ import annotations

from tests.faults.campaign import Case
from tests.faults.stored import copied, made_studies

SPACE = """
from search_spaces import Space, one_of
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer

layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=one_of(1, 2)))
space = Space(Decoder(vocab=256, d_model=one_of(8, 16), layers=(layer,)), name="own")
"""
FILES = {"own.py": SPACE}
LONG = "long" * 25
NO_HEAD = "127.0.0.1:1: Connection refused"

SEARCHES = (
    (
        "more workers than CPUs",
        "--workers 1000",
        r"--workers 1000: there is room for \d+ .* this process may use",
    ),
    ("more threads than CPUs", "-w 1 --worker-threads 200", "there is room for 0 with --worker-threads 200"),
    ("more GPUs than there are", "-w 1 --gpu-share 64", "there is room for 0 with .* --gpu-share 64"),
    ("workers below zero", "-w -1", "--workers must be at least 0"),
    ("workers in words", "-w many", "--workers must be a whole number or max, got 'many'"),
    ("as many workers as fit, of too many threads", "-w max --worker-threads 200", "there is room for 0"),
    ("workers beyond all machines", "-w 10000000", "--workers must be at most"),
    ("a worker without threads", "-w 1 --worker-threads 0", "--worker-threads must be at least 1"),
    (
        "messages without candidates",
        "-w 1 --candidates-per-message 0",
        "--candidates-per-message must be at least 1",
    ),
    ("GPUs below zero", "-w 1 --gpu-share -0.5", "--gpu-share must be at least 0"),
    ("one and a half GPUs", "-w 1 --gpu-share 1.5", "a share of one GPU, or a whole number"),
    ("GPUs that are no number", "-w 1 --gpu-share nan", "--gpu-share must be finite"),
    ("a time-out of nothing", "-w 1 --timeout 0", "--timeout must be positive"),
    ("a time-out below zero", "-w 1 --timeout -3", "--timeout must be positive"),
    ("an endless time-out", "-w 1 --timeout inf", "--timeout must be finite"),
    ("a time-out of years", "-w 1 --timeout 1e9", "--timeout must be at most"),
    ("a time-out in this process", "--timeout 5", "--timeout 5.* needs --workers: .* cannot be stopped"),
)
ADDRESSES = (
    ("where nobody listens", "127.0.0.1:1", NO_HEAD),
    ("at port 0", "127.0.0.1:0", "0 is no port"),
    ("at a port beyond all", "127.0.0.1:70000", "70000 is no port"),
    ("without a port", "localhost", "write HOST:PORT"),
    ("by an address of Ray Client", "ray://127.0.0.1:10001", "write HOST:PORT"),
    ("by an address of its dashboard", "http://127.0.0.1:8265", "write HOST:PORT"),
    ("with a path", "127.0.0.1:6379/x", "write HOST:PORT"),
    ("called local", "local", "write HOST:PORT"),
    ("without an address", "''", "write HOST:PORT"),
)
CASES = [
    *(
        Case(name, f"search own.py --name a {options}", says=says, files=FILES)
        for name, options, says in SEARCHES
    ),
    *(
        Case(
            f"a search on a cluster {where}",
            f"search own.py --name a --ray {address}",
            says=says,
            files=FILES,
        )
        for where, address, says in ADDRESSES
        if address not in ("''", "local")  # an option without a value, and a Ray of one's own
    ),
    *(
        Case(f"devices of a cluster {where}", f"devices --ray {address}", says=says)
        for where, address, says in ADDRESSES
    ),
    Case(
        "a search on any cluster, where RAY_ADDRESS leads nowhere",
        "search own.py --name a --ray auto",
        says=rf"{NO_HEAD.partition(':')[0]}:1 \(auto\): Connection refused",
        files=FILES,
        environment={"RAY_ADDRESS": "127.0.0.1:1"},
    ),
    Case(
        "a search on any cluster, where the last was killed",
        "search own.py --name a --ray auto",
        says=r"127.0.0.1:2 \(auto\): Connection refused",
        files={**FILES, "ray/ray_current_cluster": "127.0.0.1:2"},
        environment={"RAY_TMPDIR": "."},
    ),
    Case(
        "a search on any cluster, where there is none",
        "search own.py --name a --ray auto",
        says="none was started on this machine",
        files=FILES,
        environment={"RAY_TMPDIR": "."},
    ),
    Case(
        "a table of a device of a cluster that is gone",
        "profile own.py --time-on far --ray 127.0.0.1:1",
        says=NO_HEAD,
        files=FILES,
    ),
    Case(
        "a validation by more workers than CPUs",
        "validate second -w 1000",
        says="there is room for",
        prepare=copied(made_studies),
        leaves_nothing=False,
    ),
    Case(
        "a supernet by more processes than CPUs",
        "supernet train own.py -o out --processes 1000",
        says="each process needs a CPU of its own",
        files=FILES,
    ),
    Case(
        "a supernet by more processes than GPUs",
        "supernet train own.py -o out --processes 100 --train-on cuda",
        says=r"GPU",
        files=FILES,
    ),
    Case(
        "a supernet by processes on one GPU",
        "supernet train own.py -o out --processes 2 --train-on cuda:0",
        says="each process trains on its own GPU",
        files=FILES,
    ),
    Case(
        "a supernet by more processes than rows",
        "supernet train own.py -o out --processes 2 --train-batch 1",
        says="a batch of 1 rows cannot be shared by 2 processes",
        files=FILES,
    ),
    *(
        Case(
            f"workers of a Ray whose files go {where}",
            "search own.py --name a -w 1",
            says=f"Ray cannot keep its files in .*{says}",
            files={**FILES, "file": "", f"{LONG}/x": ""},
            environment={"RAY_TMPDIR": folder},
        )
        for where, folder, says in (
            ("nowhere", "nowhere", "can be written"),
            ("into a file", "file/x", "can be written"),
            ("too deep", LONG, "too long"),
        )
    ),
]
