"""Decoding: `step`, token by token, computes what `forward` computes, and may take over at any token."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.block_contract.promise import (
    LENGTHS,
    BrokenPromise,
    Subject,
    copied,
    near,
    promise,
    stepped,
)
from search_spaces.blocks.base import Mixer, State
from search_spaces.network.rows import asks_position, step_rows


@promise(quick=True)
@torch.no_grad()
def decode_equals_prefill(subject: Subject) -> None:
    """Outputs of `step` are those of `forward`, for odd lengths, and positions as numbers or tensors."""
    module, x = subject.built(), subject.inputs(3, max(LENGTHS))
    for tensor_position in (False, True):
        empty = module.init_state(3, max(LENGTHS))
        decoded, _ = stepped(module, x, empty, 0, tensor_position=tensor_position)
        kind = "a tensor" if tensor_position else "an int"
        for count in LENGTHS:
            for batch in (1, 3):
                near(
                    decoded[:batch, :count],
                    module(x[:batch, :count]).y,
                    f"step (position: {kind}) and forward differ in a text of {count} [row, token, channel]",
                )


@promise()
@torch.no_grad()
def a_state_is_handed_over_in_mid_sequence(subject: Subject) -> None:
    """`forward`, then `step`, then `forward` from the state: together as one `forward` over everything."""
    if subject.spec.mixes != "sequence":
        return
    module, x = subject.built(), subject.inputs(2, 77)
    whole = module(x).y
    for capacity in (77, 200):
        for tensor in (False, True):
            head = module(x[:, :37], module.init_state(2, capacity), 0)
            middle, state = stepped(module, x[:, 37:45], _given(head.state), 37, tensor_position=tensor)
            tail = module(x[:, 45:65], state, 45)
            last = module(x[:, 65:66], tail.state, 65)
            end, _ = stepped(module, x[:, 66:], _given(last.state), 66, tensor_position=tensor)
            pieces = torch.cat((head.y, middle, tail.y, last.y, end), dim=1)
            what = f"a text read in pieces and as a whole differ (room for {capacity} tokens)"
            near(pieces, whole, f"{what} [batch, token, channel]")


@promise(quick=True)
@torch.no_grad()
def the_state_is_the_one_declared(subject: Subject) -> None:
    """`init_state`, `forward` and `step` give exactly the tensors that `state` declares."""
    spec, module = subject.spec, subject.spec.build(subject.d_model)
    if module.state_shapes != spec.state(subject.d_model):
        raise BrokenPromise(
            f"the module has the state {sorted(module.state_shapes)}, `state` declares"
            f" {sorted(spec.state(subject.d_model))}: pass state(d_model) to Mixer.__init__"
        )
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module = subject.built(dtype)
        exact = torch.promote_types(dtype, torch.float32)
        declared = {
            name: (shape.allocated(2, 70), exact if shape.exact else dtype)
            for name, shape in spec.state(subject.d_model).items()
        }
        state = module.init_state(2, 70)
        _is_declared(state, declared, "init_state")
        state = _given(module(subject.inputs(2, 7, dtype), state, 0).state)
        _is_declared(state, declared, "forward")
        for t in range(7, 9):
            _, state = module.step(subject.inputs(2, 1, dtype, seed=t)[:, 0], state, t)
            _is_declared(state, declared, "step")


@promise(quick=True)
@torch.no_grad()
def a_state_is_finite_and_used(subject: Subject) -> None:
    """After a prefix, every tensor of the state is finite and not all zero."""
    module = subject.built()
    for count in (1, 7, 64, 65):
        for name, part in (module(subject.inputs(2, count), module.init_state(2, 70), 0).state or {}).items():
            if not part.isfinite().all():
                raise BrokenPromise(f"the state {name!r} is not finite after {count} tokens")
            if not part.any():
                raise BrokenPromise(f"the state {name!r} is still zero after {count} tokens")


@promise()
@torch.no_grad()
def a_state_holds_no_more_memory_than_its_own(subject: Subject) -> None:
    """The tensors of a state are not views that keep a whole prompt alive."""
    module = subject.built()
    for name, part in (module(subject.inputs(1, 65), module.init_state(1, 65), 0).state or {}).items():
        if part.untyped_storage().nbytes() > 2 * part.numel() * part.itemsize:
            raise BrokenPromise(
                f"the state {name!r} is a view of {part.untyped_storage().nbytes()} bytes, where its own are"
                f" {part.numel() * part.itemsize}: clone it"
            )


@promise()
@torch.no_grad()
def absorb_remembers_what_step_remembers(subject: Subject) -> None:
    """`absorb` gives the state of `step`, without its output."""
    module, x = subject.built(), subject.inputs(2, 75)
    for count, tensor in ((1, False), (9, True), (65, False), (65, True)):
        before = module(x[:, :count], module.init_state(2, 80), 0).state or {}
        position = torch.tensor(count) if tensor else count
        _, expected = module.step(x[:, count], copied(before), position)
        absorbed = module.absorb(x[:, count], copied(before), position)
        if absorbed.keys() != expected.keys():
            raise BrokenPromise(f"absorb gives the state {sorted(absorbed)}, step {sorted(expected)}")
        for name, part in absorbed.items():
            near(part, expected[name], f"absorb and step leave different states {name!r}")


@promise()
@torch.no_grad()
def rows_of_a_state_may_change_places(subject: Subject) -> None:
    """What beam search does with a state: its rows are picked anew."""
    module, x = subject.built(), subject.inputs(3, 21)
    state = module(x[:, :20], module.init_state(3, 30), 0).state or {}
    expected, _ = module.step(x[:, 20], copied(state), 20)
    order = torch.tensor([1, 1, 2, 0])
    picked = {name: part[order] for name, part in state.items()}
    near(module.step(x[order, 20], picked, 20)[0], expected[order], "a state with its rows in another order")


@promise()
@torch.no_grad()
def rows_stand_at_positions_of_their_own(subject: Subject) -> None:
    """What a server does: one step for rows that have read texts of several lengths is each row's alone."""
    module, lengths = subject.built(), (0, 1, 9, 33, 64)
    x = subject.inputs(len(lengths), 65)
    before = [_read(module, x[i : i + 1, :count]) for i, count in enumerate(lengths)]
    token = torch.stack([x[i, count] for i, count in enumerate(lengths)])
    alone = [module.step(token[i : i + 1], copied(before[i]), count) for i, count in enumerate(lengths)]
    together = {name: torch.cat([state[name] for state in before]) for name in before[0]}
    if asks_position(module.step, token, together):
        y, after = step_rows(module.step, token, together, torch.tensor(lengths))
    else:
        y, after = module.step(token, together, 0)
    near(y, torch.cat([y for y, _ in alone]), "a step of rows at positions of their own [row, channel]")
    for name, part in after.items():
        expected = torch.cat([state[name] for _, state in alone])
        near(part, expected, f"the state {name!r} of rows at positions of their own")


@promise()
@torch.no_grad()
def decoding_in_bfloat16_drifts_no_further_than_prefill(subject: Subject) -> None:
    """Over 300 tokens, rounding in `step` adds at most half to the error of `forward`."""
    if subject.spec.mixes != "sequence":
        return
    exact, rough = subject.built(), subject.built(torch.bfloat16)
    for parameter, rounded in zip(exact.parameters(), rough.parameters(), strict=True):
        parameter.copy_(rounded)
    x = subject.inputs(2, 300, torch.bfloat16)
    expected = exact(x.double()).y
    decoded, _ = stepped(rough, x, rough.init_state(2, 300), 0, tensor_position=False)
    read, drifted = (float((y.double() - expected).square().mean().sqrt()) for y in (rough(x).y, decoded))
    if not drifted < 1.5 * read:
        raise BrokenPromise(
            f"in bfloat16, step errs by {drifted:.2g} after 300 tokens, forward by {read:.2g}:"
            " declare running sums StateShape(..., exact=True)"
        )


def _read(module: Mixer, x: Tensor) -> State:
    """The state after x [B, T, D], with room for 70 tokens."""
    empty = module.init_state(len(x), 70)
    return _given(module(x, empty, 0).state) if x.shape[1] else empty


def _given(state: State | None) -> State:
    """The state that `forward` returned where it was given one."""
    if state is None:
        raise BrokenPromise("forward was given a state and returned none: return Mixed(y, state)")
    return state


def _is_declared(state: State, declared: dict[str, tuple[tuple[int, ...], torch.dtype]], by: str) -> None:
    if state.keys() != declared.keys():
        raise BrokenPromise(f"{by} gives the state {sorted(state)}, declared is {sorted(declared)}")
    for name, part in state.items():
        if (tuple(part.shape), part.dtype) != declared[name]:
            shape, dtype = declared[name]
            raise BrokenPromise(
                f"{by} gives the state {name!r} as {part.dtype} {list(part.shape)}, declared is {dtype}"
                f" {list(shape)}"
            )
