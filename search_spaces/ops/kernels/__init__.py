"""Triton kernels, one file for each primitive of `search_spaces.ops` that has one; they need CUDA.

A module has its operators, registered with fake and autograd rules so that `torch.compile` and CUDA graphs
take them, `errors(device)`, which compares them with the plain form, and the `TOLERANCE` for these errors.
`search_spaces.ops.dispatch` decides where they run. Accumulation is in float32. Nothing is summed by atomics,
so results repeat bit for bit on one device.
"""
