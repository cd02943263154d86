"""The base of QLoRA in 4 bits, beside that of bitsandbytes."""

from __future__ import annotations

from evaluators.compression.normal_float import stored_normal_float
from nas.modifier_checks.base import Measured, SystemCheck, checks, random

ROWS, INPUTS = 256, 512


@checks.add
class StoredNormalFloatCheck(SystemCheck):
    """Errors beside theirs, both with scales of 8 bits: no more than 1 % larger, in as many bytes."""

    name, reference, tolerance = "qlora (stored)", "bitsandbytes.quantize_4bit, error over its error", 0.01
    counts = "stored bytes"
    needs = ("bitsandbytes",)

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        weight = random(ROWS, INPUTS)
        packed, state = quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
        theirs = dequantize_4bit(packed, state)
        stored = stored_normal_float(weight)
        worse = (stored.values() - weight).norm() / (theirs - weight).norm() - 1
        scales = (state.absmax, state.state2.absmax, state.offset)
        return Measured(float(worse), stored.nbytes, packed.nbytes + sum(part.nbytes for part in scales))
