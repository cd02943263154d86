"""Numbers of few bits: formats of weights, states and activations, and the kernels that compute with them."""
