"""Serving: many requests decoded in one batch, behind an endpoint that speaks OpenAI's protocol.

    engine = Engine(model, EngineSettings(), vocabulary)
    engine.submit(Request(prompt, Sampling(max_tokens=32), tell=print))
    while engine.iterate():
        ...

The engine (`engine`, `state_pool`, `pages`, `sampling`, `writing`) knows nothing of HTTP; `worker` gives it a
thread, and `app` an endpoint.
"""
