"""Numbers that make no sense, wherever a command takes one: refused, and nothing is left behind."""

from __future__ import annotations

from tests.faults.campaign import Case

WIDE = "\uff11\uff12"
"""Digits of another script."""

WHOLE = ("-1", "18446744073709551616", "1e3", "nan", "inf", WIDE, "0x10", "1_000", "abc", "9" * 5000)

REAL = ("-1", "1e308", "nan", "inf", WIDE, "0x10", "1_0.0", "abc")

STARTS = (
    ("search laptop --name a", "--seed", WHOLE),
    ("search laptop --name a", "--train-steps", ("0", *WHOLE)),
    ("search laptop --name a", "--trials", ("-5", "1.5", "1e9", "10000000000")),
    ("search laptop --name a", "--train-batch", ("0", "10000000000")),
    ("search laptop --name a", "--window", ("0", "10000000000")),
    ("search laptop --name a", "--finalist-steps", ("0", "-5,3", "3,0", "1,x", WIDE)),
    ("search laptop --name a", "--keep", ("0", "1.1", *REAL)),
    ("search laptop --name a", "--profile-seconds", REAL),
    ("search laptop --name a", "--finalists", ("-1", "1e1")),
    ("search laptop --name a", "--worker-threads", ("0", "100000")),
    ("search laptop --name a", "--gpu-share", ("-0.5", "nan")),
    ("profile laptop", "--profile-seconds", REAL),
    ("profile laptop", "--seed", ("-1", "9223372036854775808")),
    ("supernet train laptop -o out", "--train-steps", ("0", "-1", "nan")),
    ("supernet train laptop -o out", "--seed", ("-1", "9223372036854775808")),
    ("supernet train laptop -o out", "--processes", ("0", "-1", "1e9")),
    ("supernet train laptop -o out", "--accumulate", ("0", "x")),
    ("generate model", "--new-tokens", ("0", "-1", "1e9", WIDE)),
    ("generate model", "--temperature", ("-1", "nan", "inf", "1e308")),
    ("generate model", "--seed", ("-1", "18446744073709551616")),
    ("devices --measure-peaks cpu", "--threads", ("0", "-1", "100000")),
    ("dashboard", "--port", ("0", "-1", "65536", "http")),
    ("validate a", "--scratch-networks", ("2", "-1", "1e308")),
    ("resume a", "--trials", ("-1", "nan")),
)

INSIDE = (
    ("--scenario", "batch=1000000000000", "scenario: batch must be at most"),
    ("--scenario", "batch=0", "scenario: batch must be at least 1"),
    ("--scenario", "threads=100000", "scenario: threads must be at most 1024"),
    ("--scenario", "new_tokens=0", "scenario: new_tokens must be at least 1"),
    ("--scenario", f"prompt={WIDE}", "scenario: prompt must be a whole number"),
    ("--recipe", "rate=-1", "rate must be positive"),
    ("--recipe", "rate=nan", "rate must be finite"),
    ("--recipe", "optimizer.beta1=1", "beta1 must be less than 1"),
    ("--recipe", "schedule.warm_up=0", "warm_up must be at least 1"),
    ("--recipe", "supernet.networks=1e9", "networks must be a whole number"),
    ("--setting", "start=1", "strategy auto: start must be at least 8"),
    ("--setting", "plain=inf", "strategy auto: plain must be finite"),
    ("--engine darts --setting", "guard=maybe", "engine darts: guard must be true or false"),
    ("--engine darts --setting", "targets=1,-1", "engine darts: targets must be positive"),
    ("--engine exact --setting", "least_tau=2", "engine exact: least_tau must be at most 1"),
)

CASES = [
    *(
        Case(
            f"{command.split(' -')[0]} {option} {number[:24]}",
            [*command.split(), f"{option}={number}"],
            says=f"nas: {option} must be ",
        )
        for command, option, numbers in STARTS
        for number in numbers
    ),
    *(
        Case(f"search {option} {given}", f"search laptop --name a {option} {given}", says=says)
        for option, given, says in INSIDE
    ),
]

YEARS = (
    ("steps", "search laptop --name a -o bits_per_byte --train-steps 1000000000", "years"),
    (
        "batch",
        "search laptop --name a -o bits_per_byte --train-batch 1000000000",
        "years and .* TB of memory",
    ),
    ("trials", "search laptop --name a -o params --finalists 0 --trials 1000000000", "days and 4.1 TB"),
    ("trials from scratch", "search laptop --name a -o bits_per_byte --evaluator scratch -c 'params<1e9'"
     " --trials 1000000", "days"),
    ("rungs", "search laptop --name a -o bits_per_byte --finalist-steps 1000000000", "years"),
    ("finalists", "search laptop --name a -o bits_per_byte --finalists 1000000", "days"),
    ("length", "search laptop --name a -o recall_error --window 1000000000", "years and .* TB"),
    ("windows", "search laptop --name a -o recall_error --validation-windows 1000000000", "years and 512 GB"),
    ("networks of a step", "search laptop --name a -o bits_per_byte --train-steps 1000000"
     " --recipe supernet.networks=10000", "years"),
    (
        "steps of gradients",
        "search laptop --name a -o bits_per_byte --engine darts --setting steps=1000000000",
        "years",
    ),
    (
        "alignment",
        "search laptop --name a -o bits_per_byte -o params --engine exact --setting align=1000000000",
        "years",
    ),
    ("prompt of a scenario", "search laptop --name a -o decode_ms --scenario prompt=1000000000", "TB"),
    ("batch of a scenario", "search laptop --name a -o prefill_ms --scenario batch=1000000", "TB"),
    (
        "new tokens of a scenario",
        "search laptop --name a -o decode_ms --scenario new_tokens=1000000000",
        "GB",
    ),
    ("profile for months", "profile laptop --profile-seconds 9999999", "116 days"),
    ("profile of a long prompt", "profile laptop --scenario prompt=1000000000", "years"),
    ("supernet of many steps", "supernet train laptop -o out --train-steps 1000000000", "years"),
    ("supernet of a large batch", "supernet train laptop -o out --train-batch 1000000000", "TB"),
)  # fmt: skip

CASES += [
    Case(f"years of {what}", command, says=f"would take about .*{says}.* or insist with --yes", seconds=10)
    for what, command, says in YEARS
]

BEFORE = (
    ("a device that is none", "--scenario tpu", "unsupported device 'tpu'"),
    ("a device that cannot be timed", "--scenario mps", "unsupported device 'mps'"),
    ("a GPU that is not here", "--scenario cuda:7", "cuda:7"),
    ("more threads than cores", "--scenario cpu,threads=1000", "1000 threads"),
    ("a part of a processor", "--scenario cpu:1", "all cores of a machine are one device"),
    ("no rungs for finalists", "--finalist-steps ''", "finalists need --finalist-steps, or --finalists 0"),
    ("rungs that fall", "--finalist-steps 9,3", "--finalist-steps must be strictly increasing"),
    ("an empty path of text", "--data ''", "--data must not be empty"),
    ("an empty table", "--latency-table ''", "--latency-table must not be empty"),
    ("an empty card", "--roofline ''", "--roofline must not be empty"),
    ("an empty supernet", "--supernet ''", "--supernet must not be empty"),
    ("an empty device of a cluster", "--time-on ''", "--time-on must not be empty"),
    ("an empty length", "--window ''", "--window must be a whole number, got ''"),
    ("favoured that are no genotypes", "--recipe supernet.favoured=xx", "favoured must be genotypes in JSON"),
    ("an engine that takes no strategy", "--engine exact --strategy random", "leave out --strategy random"),
    (
        "an engine without shared weights",
        "--engine exact --evaluator scratch",
        "leave out --evaluator scratch",
    ),
    ("a strategy's setting that is an engine's", "--setting guard=false", "no setting 'guard'"),
)

CASES += [
    Case(f"refused before: {what}", f"search laptop --name a {given}", says=says)
    for what, given, says in BEFORE
]
CASES += [
    Case(
        "a name that is no folder leaves no store", "search laptop --name ../a -o params", says="study's name"
    ),
    Case("an empty name is none", "search laptop --name '' -o params", says="study's name"),
]
