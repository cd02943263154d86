"""Models that others wrote: reading their files, what they are here, and comparing the two.

with open_checkpoint("SmolLM2-135M") as checkpoint:      # a Hugging Face folder, or a file in GGUF
    model = read_model(checkpoint)
"""
