"""Peak memory of a network: predicted by tracing on the meta device, and measured."""
