"""What every block promises, as checks that run on any block, also on one in your own file.

    from search_spaces import check_block
    check_block(EMA)                                    # raises BrokenPromise with one line for each

    @pytest.mark.parametrize("check", block_checks(EMA), ids=str)
    def test_ema(check):
        check()

A promise is a function of a `Subject` (a closed block at one width) that raises `BrokenPromise`. Every module
of this folder adds some; each runs on all examples of a block.
"""

from search_spaces.block_contract.check import block_checks, broken_promises, check_block
from search_spaces.block_contract.promise import BrokenPromise, promises

__all__ = ["BrokenPromise", "block_checks", "broken_promises", "check_block", "promises"]
