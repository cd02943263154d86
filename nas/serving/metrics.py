"""What an engine does, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from nas.serving.engine import Engine

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class EngineCollector(Collector):
    """Counts and gauges, read when they are asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        engine, tally = self.engine, self.engine.tally
        ended = CounterMetricFamily("nas_requests", "Requests by how they ended.", labels=["finish"])
        for finish in ("stop", "length", "cancelled", "error"):
            ended.add_metric([finish], tally.finished[finish])
        yield ended
        for name, value, text in (
            ("nas_requests_refused", tally.refused, "Requests refused because the queue was full."),
            ("nas_prompt_tokens", tally.prompt_tokens, "Tokens of prompts that were read."),
            ("nas_prefix_tokens", tally.prefix_tokens, "Tokens of prompts that earlier ones had read."),
            ("nas_generated_tokens", tally.new_tokens, "Tokens that were written."),
            ("nas_decode_steps", tally.steps, "Steps of the batch."),
            ("nas_decoded_rows", tally.stepped_rows, "Rows of all steps."),
            ("nas_draft_passes", tally.passes, "Passes over what a draft proposed for one row."),
            ("nas_draft_pass_tokens", tally.passed_tokens, "Tokens that those passes have written."),
            ("nas_draft_proposed_tokens", tally.proposed, "Tokens that the draft proposed."),
            ("nas_draft_accepted_tokens", tally.accepted, "Proposed tokens that the network accepted."),
            ("nas_adapter_loads", engine.adapters.loads, "Adapters that were put into a slot."),
            ("nas_preemptions", tally.preempted, "Rows that gave way because memory ran out."),
        ):
            yield CounterMetricFamily(name, text, value=value)
        usage = engine.pool.usage()
        held = GaugeMetricFamily("nas_state_bytes", "Memory of decode states.", labels=["kind"])
        held.add_metric(["held"], usage.held)
        held.add_metric(["used"], usage.used)
        held.add_metric(["prefixes"], engine.prefixes.held)
        held.add_metric(["adapters"], engine.adapters.held)
        yield held
        for name, value, text in (
            ("nas_requests_running", len(engine.running) + bool(engine.reading), "Requests with a slot."),
            ("nas_requests_waiting", len(engine.waiting), "Requests that wait for a slot."),
            ("nas_slots", engine.pool.rows, "Slots of rows."),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class Metrics:
    """The page /metrics of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.registry = engine, CollectorRegistry()
        self.registry.register(EngineCollector(engine))
        self._first = self._histogram("nas_time_to_first_token_seconds", "From arrival to the first token.")
        self._each = self._histogram("nas_time_per_output_token_seconds", "Mean of each answer.")

    def page(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, in the form that a client accepts."""
        tally = self.engine.tally
        for times, histogram in ((tally.first_tokens, self._first), (tally.token_times, self._each)):
            while times:
                histogram.observe(times.popleft())
        encode, kind = choose_encoder(accept)
        return encode(self.registry), kind

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=SECONDS, registry=self.registry)
