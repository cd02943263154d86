"""Outputs: shape and type, the past and the future, rows of a batch, views of memory."""

from __future__ import annotations

import torch

from search_spaces.block_contract.promise import BrokenPromise, Subject, copied, near, promise


@promise(quick=True)
@torch.no_grad()
def outputs_have_the_shape_and_type_of_inputs(subject: Subject) -> None:
    """`forward` maps [B, T, D] to [B, T, D], in the type of the weights."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module, x = subject.built(dtype), subject.inputs(2, 5, dtype)
        y = module(x).y
        if y.shape != x.shape or y.dtype != dtype:
            raise BrokenPromise(
                f"forward gives {y.dtype} {list(y.shape)}, where inputs and weights are {dtype}"
                f" {list(x.shape)}"
            )
        if not y.isfinite().all():
            raise BrokenPromise(f"outputs in {dtype} are not finite")


@promise(quick=True)
@torch.no_grad()
def no_token_sees_its_future(subject: Subject) -> None:
    """What comes later changes no earlier output."""
    module, x = subject.built(), subject.inputs(2, 70)
    changed = x.clone()
    changed[:, 41:] += 1
    what = "tokens from 41 on change outputs before them: a token sees its future [batch, token, channel]"
    near(module(changed).y[:, :41], module(x).y[:, :41], what, 1e-12)


@promise()
@torch.no_grad()
def a_text_that_goes_on_does_not_change_what_was_read(subject: Subject) -> None:
    """Outputs of a prefix are those of the whole, at any length."""
    module, x = subject.built(), subject.inputs(1, 130)
    whole = module(x).y
    for count in (1, 7, 63, 64, 65):
        what = f"the outputs of {count} tokens depend on how many follow [batch, token, channel]"
        near(module(x[:, :count]).y, whole[:, :count], what)


@promise(quick=True)
@torch.no_grad()
def a_sequence_mixer_lets_a_token_see_its_past(subject: Subject) -> None:
    """Otherwise it is a channel mixer."""
    if subject.spec.mixes != "sequence":
        return
    module, x = subject.built(), subject.inputs(1, 3)
    changed = x.clone()
    changed[:, 0] += 1
    if torch.allclose(module(x).y[:, 1:], module(changed).y[:, 1:]):
        raise BrokenPromise("no token sees the one before it: set mixes = 'channels', or mend forward")


@promise(quick=True)
@torch.no_grad()
def rows_of_a_batch_do_not_see_each_other(subject: Subject) -> None:
    """A sequence gives the same outputs alone and in any batch."""
    module, x = subject.built().eval(), subject.inputs(3, 33)
    whole = module(x).y
    for row in range(3):
        what = f"row {row} of a batch gives other outputs alone: rows see each other [row, token, channel]"
        near(module(x[row : row + 1]).y, whole[row : row + 1], what)
    order = torch.tensor([2, 0, 1])
    near(module(x[order]).y, whole[order], "rows in another order give other outputs")


@promise(quick=True)
@torch.no_grad()
def inputs_may_be_views_in_any_order_of_memory(subject: Subject) -> None:
    """Inputs need not be contiguous: use `reshape` rather than `view`."""
    module, x = subject.built(), subject.inputs(2, 33)
    width = subject.d_model
    large = torch.full((width + 3, 35, 4), float("nan"), dtype=torch.float64)
    view = large.permute(2, 1, 0)[1:3, 1:34, 2 : width + 2]
    view.copy_(x)
    near(module(view).y, module(x).y, "outputs depend on the order of memory of the inputs")
    state = module.init_state(2, 40)
    stepped = module.step(view[:, 0], copied(state), 0)[0]
    near(stepped, module.step(x[:, 0], state, 0)[0], "step depends on the order of memory of its input")


@promise(quick=True)
@torch.no_grad()
def inputs_stay_as_they_are(subject: Subject) -> None:
    """Neither `forward` nor `step` writes into its input."""
    module, x = subject.built(), subject.inputs(2, 9)
    before = x.clone()
    state = module(x, module.init_state(2, 12), 0).state or {}
    if not torch.equal(x, before):
        raise BrokenPromise("forward writes into its input: other parts of the network still need it")
    module.step(x[:, 0], state, 9)
    if not torch.equal(x, before):
        raise BrokenPromise("step writes into its input")


@promise()
@torch.no_grad()
def bfloat16_is_near_float32(subject: Subject) -> None:
    """Within 5 % of the largest output, for nearly every token."""
    exact, x = subject.built(torch.float32), subject.inputs(2, 70, torch.bfloat16)
    rough = subject.built(torch.bfloat16)
    for parameter, rounded in zip(exact.parameters(), rough.parameters(), strict=True):
        parameter.copy_(rounded)
    expected, got = exact(x.float()).y, rough(x).y
    error = (got.float() - expected).abs()
    # a router may send a token elsewhere for a rounding error: most tokens must be near, not all
    near_share = float((error.amax(-1) < 0.05 * expected.abs().max()).float().mean())
    wanted = 0.9 if subject.spec.mixes == "channels" else 0.999
    if not near_share > wanted:
        raise BrokenPromise(
            f"in bfloat16 only {100 * near_share:.1f} % of the tokens are within 5 % of float32, wanted are"
            f" {100 * wanted:g} %: keep sums, exponentials and decays in float32"
        )
